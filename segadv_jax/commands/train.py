"""Trains a segmenter, resumes one that was stopped, and evaluates it on its test split.

    segadv_jax train --config=synthetic --workdir=runs/synthetic
    segadv_jax train --config=stanford:standard --config.data.archives=FOLDER --workdir=W
    segadv_jax train --config=configs/mine.py:variant --workdir=W --config.train.batch_size=8

A configuration is a file, or the name of one that comes with the package. Any of its fields is set
as in --config.train.batch_size=8.
"""

import argparse

from segadv_jax import commands
from segadv_jax.evaluate import evaluate, plain
from segadv_jax.train import train

add_arguments = commands.add_run_arguments


def main(options: argparse.Namespace) -> None:
    config = commands.begin_run(options)
    train(config, options.workdir)
    # The test split is read here and nowhere before. What other views and checkpoints measure comes
    # on top: a run without the plain measurement would not be done.
    evaluate(plain(config), options.workdir, config.data.test)
    if config != plain(config):
        evaluate(config, options.workdir, config.data.test)
