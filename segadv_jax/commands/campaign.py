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

from segadv_jax.campaign import command_line, comparison, runs
from segadv_jax.campaign.arms import check_pairs, load_config, parse_arms, parse_seeds, plan
from segadv_jax.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command_line.add_arguments(parser)
    parser.add_argument(
        "--arm", action="append", required=True, metavar="NAME=ARGUMENTS", help="for each arm"
    )
    parser.add_argument(
        "--compare", action="append", default=[], metavar="ARM,OTHER", help="for each comparison"
    )


def main(options: argparse.Namespace) -> int:
    seeds = parse_seeds(options.seeds)
    arms = parse_arms(options.arm, options.overrides)
    configs = {arm: load_config(arguments) for arm, arguments in arms.items()}
    for arm, config in configs.items():
        if not config.data.test:
            raise InputError(
                f"--arm={arm}=...: config.data.test is empty; name a split to evaluate"
            )
    pairs = check_pairs(options.compare, configs)
    planned = plan(options.workdir, arms, seeds)
    failures = command_line.carry_out(options, planned)
    rows = runs.results(planned)
    summary = comparison.summarize(rows, arms, pairs)
    paths = command_line.write_results(options.workdir, rows, summary)
    print(f"\n{comparison.table(summary)}\n\nRuns:    {paths[0]}\nSummary: {paths[1]}", flush=True)
    return command_line.report_failures(failures)
