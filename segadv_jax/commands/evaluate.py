"""Evaluates the checkpoint that the validation selected, and writes WORKDIR/eval/SPLIT.json.

    segadv_jax evaluate --workdir=W
    segadv_jax evaluate --workdir=W --config.evaluate.split=val_full --config.evaluate.bf
    segadv_jax evaluate --workdir=W --config.data.archives=FOLDER
    segadv_jax evaluate --config=voc_baseline --config.init=WEIGHTS --workdir=EMPTY_FOLDER

The configuration is that of the run. Set what is to be measured and how, config.evaluate.*, and
where the data lies now: config.data.archives, data_dir and allow_partial. The last line evaluates
published or exported weights without training: there is no run yet, and --config says what they
are.
"""

import argparse
import functools

from segadv_jax import commands
from segadv_jax.evaluate import evaluate
from segadv_jax.report import summary
from segadv_jax.signals import signals_raised

add_arguments = functools.partial(commands.add_run_arguments, config=False)


def main(options: argparse.Namespace) -> None:
    config = commands.begin_run(options)
    with signals_raised():  # Of several processes too, whose signals JAX has caught until now.
        result = evaluate(config, options.workdir)
    print(summary.describe(result, config.data.name, config.evaluate.split))
