"""Trains a segmenter, resumes one that was stopped, and evaluates it on its test split.

    segadv_jax train --config=synthetic --workdir=runs/synthetic
    segadv_jax train --config=stanford:standard --config.data.archives=FOLDER --workdir=W
    segadv_jax train --config=configs/mine.py:variant --workdir=W --config.train.batch_size=8

A configuration is a file, or the name of one that comes with the package. Any of its fields is set
as in --config.train.batch_size=8.
"""

import argparse

import jax
from absl import logging

from segadv_jax import configuration
from segadv_jax.evaluate import evaluate
from segadv_jax.train import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="NAME[:VARIANT]", help="file or name")
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument(
        "--multihost", action="store_true", help="this is one of several hosts, as of a TPU pod"
    )


def main(options: argparse.Namespace) -> None:
    config = configuration.load(options.config, options.overrides)
    say_devices(options.multihost)
    train(config, options.workdir)
    # The test split is read here, once, and nowhere before.
    evaluate(config, options.workdir, config.data.test)


def say_devices(multihost: bool) -> None:
    """Says what the program runs on, after joining the other hosts if there are some."""
    if multihost:
        jax.distributed.initialize()
    logging.info("devices: %s", ", ".join(map(str, jax.devices())))
