"""Trains and evaluates several arms with several seeds, and compares them over the seeds.

    python -m tools.campaign --workdir=runs/campaign --seeds=0,1,2,3,4 --processes=2 \\
        --arm="standard=--config=configs/synthetic.py:standard" \\
        --arm="adversarial=--config=configs/synthetic.py:adversarial --config.loss.lam=0.1" \\
        --compare=adversarial,standard -- --config.train.updates=600

An arm is a name and arguments of main.py: a configuration and fields of it. What follows "--" holds
for all arms; where an arm sets the same field, the arm's value counts. Each run is a process
"python main.py ... --config.seed=SEED --workdir=WORKDIR/ARM/seed_SEED", whose messages are in that
folder's log.txt.

Stop it with Ctrl-C or SIGTERM at any time, or let the machine fall: the same command goes on with
what is not done. A run that fails is reported, the others go on, and the same command tries it
again. The same command with --table_only shows what there is so far, also from another terminal.

At the end: a table on the terminal, WORKDIR/results.csv with a row per run, and
WORKDIR/summary.json. The exit status is 0, 1 if a run failed, 2 if the command is wrong (then
nothing was started), or 128 + signal.
"""

import csv
import errno
import importlib.machinery
import importlib.util
import json
import os
import platform
import re
import shlex
import sys

from absl import flags
from ml_collections import config_flags

from segadv_jax import console
from segadv_jax.errors import InputError
from tools import command_line, comparison, pool, runs

RESULTS, SUMMARY = "results.csv", "summary.json"


def parse_arms(texts, shared=()):
    """The arms of a command line.

    Args:
        texts: each "NAME=ARGUMENTS", the arguments as in a shell.
        shared: list of arguments that hold for all arms.

    Returns:
        {name: tuple of arguments, --config first}, in the order given.

    Raises:
        InputError: a name is no folder's name or comes twice, or an argument is not --config=FILE
            or --config.FIELD=VALUE.
    """
    shared, arms = _by_field(shared, "after --"), {}
    for text in texts:
        name, equals, arguments = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            raise InputError(
                f"--arm={text}: give NAME=ARGUMENTS, the name of letters, digits, and _ . + -"
            )
        if name in (RESULTS, SUMMARY):
            raise InputError(
                f"--arm={name}=...: a file of the campaign has that name; choose another"
            )
        if name in arms:
            raise InputError(f"--arm={name}=...: there are two arms of that name; rename one")
        try:
            arguments = shlex.split(arguments)
        except ValueError as error:
            raise InputError(f"--arm={text}: {error}") from error
        fields = shared | _by_field(arguments, f"of --arm={name}")
        if "config" not in fields:
            raise InputError(
                f"--arm={name}: give it a configuration, --config=FILE or FILE:VARIANT"
            )
        arms[name] = (fields.pop("config"), *fields.values())
    if not arms:
        raise InputError("--arm: give at least one, as --arm=NAME=ARGUMENTS")
    return arms


def _by_field(arguments, where):
    """{"config" or "config.FIELD": argument}."""
    fields = {}
    for argument in arguments:
        match = re.match(r"--(?:(config)=|(?:no)?(config\.[\w.]+)(?:=|$))", argument)
        if not match:
            raise InputError(
                f"{argument} {where}: a run takes --config=FILE and --config.FIELD=VALUE only; "
                "its folder follows from --workdir, its seed from --seeds"
            )
        field = match[1] or match[2]
        if field == "config.seed":
            raise InputError(f"{argument} {where}: give the seeds of all arms in --seeds")
        fields[field] = argument
    return fields


def parse_seeds(text, flag="--seeds"):
    """The seeds that ``flag`` gives, "0,1,2", as a list of int.

    Raises:
        InputError: there are none, one of them is no number or comes twice.
    """
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise InputError(f"{flag}={text}: give numbers from 0 on, as {flag}=0,1,2")
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise InputError(f"{flag}={text}: {twice[0]} comes twice")
    return seeds


def load_config(arguments):
    """The configuration that ``main.py`` would be given.

    Args:
        arguments: "--config=FILE" or "--config=FILE:VARIANT", then "--config.FIELD=VALUE" ...

    Returns:
        ml_collections.ConfigDict.

    Raises:
        InputError: the file cannot be read, or the configuration has no such field or value.
    """
    first, *overrides = arguments
    path, *variant = first.removeprefix("--config=").split(":", 1)
    try:
        loader = importlib.machinery.SourceFileLoader("campaign_config", path)
        spec = importlib.util.spec_from_file_location("campaign_config", path, loader=loader)
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        config = module.get_config(*variant)
    except Exception as error:  # It is the user's program, and may raise anything.
        what = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{first}: {what}") from error
    try:
        for argument in overrides:  # One by one, to know which of them is wrong.
            argv, values = ["", argument], flags.FlagValues()
            config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
            values(argv)
    except (AttributeError, KeyError) as error:
        raise console.no_such_field(error, [argument]) from error
    except (flags.Error, TypeError, ValueError) as error:
        what = " ".join(str(error).split()).removeprefix(f"flag {argument}: ")
        raise InputError(f"{argument}: {what}") from error
    return config


def check_pairs(texts, configs):
    """The pairs of arms to compare.

    Args:
        texts: each "ARM,OTHER".
        configs: {arm: configuration}.

    Returns:
        [(arm, other)].

    Raises:
        InputError: an arm is not known, or the two are evaluated on different images.
    """
    pairs = []
    for text in texts:
        pair = text.split(",")
        if len(pair) != 2 or pair[0] == pair[1]:
            raise InputError(
                f"--compare={text}: name two arms, as in --compare=adversarial,standard"
            )
        for name in pair:
            if name not in configs:
                known = ", ".join(configs)
                raise InputError(f"--compare={text}: there is no arm {name}; known: {known}")
        for field in ("name", "test"):
            one, other = (configs[name].data[field] for name in pair)
            if one != other:
                raise InputError(
                    f"--compare={text}: config.data.{field} is {one!r} in one and {other!r} in the "
                    "other, whose results cannot be compared"
                )
        pairs.append(tuple(pair))
    return pairs


def plan(workdir, arms, seeds):
    """The runs of all arms with all seeds, seed by seed, so that pairs are complete early.

    Args:
        workdir: folder of the campaign.
        arms: {name: tuple of arguments of main.py}.
        seeds: list of int.

    Returns:
        [runs.Run].
    """
    return [
        runs.Run(arm, seed, os.path.join(workdir, arm, f"seed_{seed}"), tuple(arguments))
        for seed in seeds
        for arm, arguments in arms.items()
    ]


def write(workdir, rows, summary):
    """Writes ``results.csv``, a row per row, and ``summary.json``; returns their paths."""
    paths = tuple(os.path.join(workdir, name) for name in (RESULTS, SUMMARY))
    part = f".{os.getpid()}.part"  # Another process may write the same table.
    with open(paths[0] + part, "w", newline="") as file:
        writer = csv.DictWriter(file, runs.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with open(paths[1] + part, "w") as file:
        json.dump(summary, file, indent=2)
    for path in paths:
        os.replace(path + part, path)
    return paths


def check_processes(processes):
    """Raises an InputError if no run could ever start."""
    if processes < 1:
        raise InputError(f"--processes={processes}: set it to 1 or more")


def make_folder(workdir):
    """Makes the folder of a campaign; raises an InputError if it cannot be made or written."""
    try:
        os.makedirs(workdir, exist_ok=True)
        if not os.access(workdir, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission to write")
    except OSError as error:
        raise InputError(f"--workdir={workdir}: {error.strerror}") from error


def run_all(options, planned):
    """``pool.run_all`` as the command line has it: what failed, as [(run, why)]."""
    # By machine: what is compiled for one processor need not run on another.
    cache = os.path.join(options.workdir, ".compiled", platform.node())
    return pool.run_all(planned, options.processes, options.program, cache)


def carry_out(options, planned):
    """``run_all``, or nothing with --table_only; what failed, as [(run, why)].

    Raises:
        InputError: the workdir cannot be used, or holds runs that were made with other arguments.
    """
    if options.table_only and not os.path.isdir(options.workdir):
        raise InputError(f"--workdir={options.workdir}: no such folder; there is no table to show")
    make_folder(options.workdir)
    if not options.table_only:
        return run_all(options, planned)
    for run in planned:
        runs.check_arguments(run)
    return []


def report_failures(failures):
    """Says on stderr which runs failed, why, and what to do."""
    for run, why in failures:
        print(f"failed: {run.name}, {why}; see {run.log}", file=sys.stderr)
    if failures:
        print("the same command tries the failed runs again", file=sys.stderr)


def _parse(argv):
    """(options, arguments after "--")."""
    parser = command_line.Parser("tools.campaign", __doc__)
    parser.add_argument("--workdir", required=True, help="folder of the campaign")
    parser.add_argument("--seeds", required=True, help="as 0,1,2: a run of each arm with each")
    parser.add_argument(
        "--arm", action="append", required=True, metavar="NAME=ARGUMENTS", help="for each arm"
    )
    parser.add_argument(
        "--compare", action="append", default=[], metavar="ARM,OTHER", help="for each comparison"
    )
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    parser.add_argument("--table_only", action="store_true", help="start nothing, show the table")
    parser.add_argument("--program", default=pool.MAIN, help="what to run instead of main.py")
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end]), argv[end + 1 :]


def main(argv):
    """Runs the command line ``argv``, without the program's name; returns the exit status."""
    options, shared = _parse(argv)
    check_processes(options.processes)
    seeds = parse_seeds(options.seeds)
    arms = parse_arms(options.arm, shared)
    configs = {arm: load_config(arms[arm]) for arm in arms}
    for arm, config in configs.items():
        if not config.data.test:
            raise InputError(
                f"--arm={arm}=...: config.data.test is empty; name a split to evaluate"
            )
    pairs = check_pairs(options.compare, configs)
    planned = plan(options.workdir, arms, seeds)
    failures = carry_out(options, planned)
    rows = runs.results(planned)
    summary = comparison.summarize(rows, list(arms), pairs)
    paths = write(options.workdir, rows, summary)
    print(f"\n{comparison.table(summary)}\n\nRuns:    {paths[0]}\nSummary: {paths[1]}", flush=True)
    report_failures(failures)
    return 1 if failures else 0


if __name__ == "__main__":
    command_line.run(main)
