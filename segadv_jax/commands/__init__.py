"""The commands of the console program.

Each is a module with a docstring, which its --help shows, `add_arguments(parser)` and
`main(options)`, which returns the exit status. A new one needs a line in `cli.COMMANDS`.
"""
