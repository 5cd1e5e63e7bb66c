"""Trains and evaluates several arms with several seeds, and compares them over the seeds.

    segadv_jax campaign --workdir=runs/campaign --seeds=0,1,2,3,4 --processes=2 \\
        --arm="standard=--config=synthetic:standard" \\
        --arm="adversarial=--config=synthetic:adversarial --config.loss.lam=0.1" \\
        --compare=adversarial,standard -- --config.train.updates=600

An arm is a name and arguments of `segadv_jax train`: a configuration and fields of it. What follows
"--" holds for all arms; if an arm sets the same field, the arm's value counts. Each run is a
process "segadv_jax train ... --config.seed=SEED --workdir=WORKDIR/ARM/seed_SEED", whose messages
are in that folder's log.txt.

It can be stopped by Ctrl-C or SIGTERM at any time, and the machine may fail: the same command
resumes what is not done. A run that fails is reported, the others continue, and the same command
tries it again. The same command with --table_only shows what there is so far, also from another
terminal.

At the end: a table on the terminal, WORKDIR/results.csv with a row per run, and
WORKDIR/summary.json. The exit status is 0, 1 if a run failed, 2 if the command is wrong (then
nothing was started), or 128 + signal.
"""

import argparse

from segadv_jax import files
from segadv_jax.campaign import arms, command_line, comparison
from segadv_jax.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command_line.add_arguments(parser)
    add = parser.add_argument
    add("--arm", action="append", required=True, metavar="NAME=ARGUMENTS", help="for each arm")
    add("--compare", action="append", default=[], metavar="ARM,OTHER", help="for each comparison")


def main(options: argparse.Namespace) -> int:
    seeds = arms.parse_seeds(options.seeds)
    parsed = arms.parse_arms(options.arm, options.overrides)
    configs = {arm: arms.load_config(arguments) for arm, arguments in parsed.items()}
    for arm, config in configs.items():
        if not config.data.test:
            raise InputError(f"--arm={arm}=...: config.data.test is empty; name a split")
    pairs = arms.check_pairs(options.compare, configs)
    _, summary, failures = command_line.carry_out(options, parsed, seeds, pairs)
    folder = files.to_path(options.workdir)
    print(f"\n{comparison.table(summary)}\n\nRuns:    {folder / arms.RESULTS}")
    print(f"Summary: {folder / arms.SUMMARY}", flush=True)
    return command_line.report_failures(failures)
