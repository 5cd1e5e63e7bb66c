"""Tries an experiment before it is trained: what it is made of, what it costs, what looks wrong.

    segadv_jax check --config=folder --config.data.archives=FOLDER
    segadv_jax check --config=stanford:adversarial --config.data.archives=FOLDER --workdir=W

Reads the configuration, the data and the weights, and makes a few steps of each turn and of an
evaluation. Nothing is written to the workdir, which need not be given. The exit status is 0 if the
training can begin, also with warnings, and 2 if it cannot.
"""

import argparse
import functools

from segadv_jax import commands
from segadv_jax.report.check import check
from segadv_jax.workdir import Workdir

add_arguments = functools.partial(commands.add_run_arguments, workdir=False)


def main(options: argparse.Namespace) -> None:
    config = commands.begin_run(options)
    workdir = Workdir(options.workdir) if options.workdir is not None else None
    warnings = check(config, workdir, lambda paragraph: print(f"\n{paragraph}", flush=True))
    print()
    for warning in warnings:
        print(f"warning: {warning}")
    counted = {0: "nothing looks wrong", 1: "one warning"}
    print(f"check: {counted.get(len(warnings), f'{len(warnings)} warnings')}; training can begin")
