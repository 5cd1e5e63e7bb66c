"""Trains the standard and the adversarial arm of a configuration and compares their test results.

    segadv_jax compare --config=synthetic --workdir=runs/synthetic

Both arms start from the same segmenter and see the same images in the same order. The same command
resumes a comparison that was stopped. Fields of the configuration are set as for `segadv_jax train`
and hold for both arms. One seed shows that it works and what it looks like; which arm is better
takes many.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segadv_jax import configuration, visualize
from segadv_jax.campaign import text
from segadv_jax.commands import say_devices
from segadv_jax.errors import InputError
from segadv_jax.evaluate import evaluate
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title
from segadv_jax.report import pictures
from segadv_jax.train import train
from segadv_jax.workdir import Workdir

ARMS = ("standard", "adversarial")
PICTURES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="NAME", help="file or name")
    parser.add_argument("--workdir", default="runs/synthetic", help="folder for a run of each arm")


def main(options: argparse.Namespace) -> None:
    if ":" in options.config:
        raise InputError(
            f"--config={options.config}: give it without a variant; both arms are trained"
        )
    configs = {
        arm: configuration.load(f"{options.config}:{arm}", options.overrides) for arm in ARMS
    }
    say_devices()
    results = {}
    for arm, config in configs.items():
        folder = os.path.join(options.workdir, arm)
        print(f"\n{arm}: {folder}", flush=True)
        train(config, folder)
        results[arm] = evaluate(config, folder, config.data.test)
    drawn = draw(configs, options.workdir)
    images = results[ARMS[0]]["images"]
    print(f"\nTest split of {config.data.name}, {images} images, one seed, in %:\n")
    print(table(results))
    print(f"\nPredictions: {drawn[0]}\nCurves:      {drawn[1]}")


def table(results: dict[str, dict[str, Any]]) -> str:
    """The test measures {arm: {name: fraction}} in percent."""
    rows = [[arm, *(percent(r[name]) for name in PAPER_MEASURES)] for arm, r in results.items()]
    return text.table([["", *map(title, PAPER_MEASURES)], *rows])


def draw(configs: dict[str, ConfigDict], workdir: str) -> tuple[Path, Path]:
    """Draws test images with both arms' predictions, and both histories; returns the two paths."""
    paths = Path(workdir, "comparison.png"), Path(workdir, "curves.png")
    runs = {arm: (config, os.path.join(workdir, arm)) for arm, config in configs.items()}
    pictures.draw_labels(paths[0], *pictures.predict(runs, PICTURES))
    histories = {arm: Workdir(folder).history() for arm, (_, folder) in runs.items()}
    keys = ("train_class_accuracy", "validation_class_accuracy", "validation_mean_iou")
    visualize.curves(histories, paths[1], keys)
    return paths
