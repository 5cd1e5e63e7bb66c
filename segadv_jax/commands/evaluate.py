"""Evaluates the checkpoint that the validation selected, and writes WORKDIR/eval/SPLIT.json.

    segadv_jax evaluate --config=stanford:standard --workdir=W
    segadv_jax evaluate --config=voc_largefov --workdir=W --config.evaluate.split=val_full
    segadv_jax evaluate --config=voc_baseline --config.init=WEIGHTS --workdir=EMPTY_FOLDER

The last evaluates published or exported weights without training.
"""

import argparse

from segadv_jax import commands
from segadv_jax.evaluate import evaluate

add_arguments = commands.add_run_arguments


def main(options: argparse.Namespace) -> None:
    evaluate(commands.begin_run(options), options.workdir)
