"""Trains a segmenter, resumes one that was stopped, and evaluates it on its test split.

    segadv_jax train --config=synthetic --workdir=runs/synthetic
    segadv_jax train --config=stanford:standard --config.data.archives=FOLDER --workdir=W
    segadv_jax train --config=configs/mine.py:variant --workdir=W --config.train.batch_size=8

A configuration is a file, or the name of one that comes with the package. Any of its fields is set
as in --config.train.batch_size=8. `segadv_jax check` tells beforehand what it will cost.
"""

import argparse

from segadv_jax import commands
from segadv_jax.evaluate import evaluate_run
from segadv_jax.report import summary
from segadv_jax.signals import signals_raised
from segadv_jax.train import train

add_arguments = commands.add_run_arguments


def main(options: argparse.Namespace) -> None:
    config = commands.begin_run(options)
    train(config, options.workdir)
    # The test split is read here and nowhere before.
    with signals_raised():  # Of several processes too, whose signals JAX has caught until now.
        result = evaluate_run(config, options.workdir)
    print(summary.describe(result, config.data.name, config.data.test))
