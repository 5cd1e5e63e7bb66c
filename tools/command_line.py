"""What the command lines of the tools share."""

import argparse
import sys

from segadv_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """Reports what is wrong as an InputError.

    Args:
        program: name of the module that was started.
        description: its docstring, shown by --help as it is written.
    """

    def __init__(self, program, description):
        super().__init__(
            prog=f"python -m {program}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message):
        raise InputError(message)


def run(main):
    """Calls ``main(arguments)`` and exits with what it returns; an InputError is one line and 2."""
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)
