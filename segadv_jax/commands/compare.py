"""Trains the standard and the adversarial arm of a configuration and compares their test results.

    segadv_jax compare --config=synthetic --workdir=runs/synthetic

Both arms start from the same segmenter and see the same images in the same order. The same command
resumes a comparison that was stopped. Fields of the configuration are set as for `segadv_jax train`
and hold for both arms. One seed shows that it works and what it looks like; which arm is better
takes many.
"""

import argparse
from pathlib import Path

from segadv_jax import compilation, configuration, files
from segadv_jax.campaign import text
from segadv_jax.commands import say_devices
from segadv_jax.errors import InputError
from segadv_jax.evaluate import evaluate_run
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title
from segadv_jax.report import figures, pictures
from segadv_jax.train import train
from segadv_jax.workdir import Workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="NAME", help="file or name")
    parser.add_argument("--workdir", required=True, help="folder for a run of each arm")


def main(options: argparse.Namespace) -> None:
    name, workdir = options.config, Path(options.workdir)
    if ":" in name:
        raise InputError(f"--config={name}: give it without a variant; both arms are trained")
    if files.is_remote(options.workdir):
        what = "pictures are drawn beside the runs"
        raise InputError(f"--workdir={options.workdir}: {what}; name a folder of this machine")
    runs = {
        arm: (configuration.load(f"{name}:{arm}", options.overrides), str(workdir / arm))
        for arm in ("standard", "adversarial")
    }
    compilation.keep(runs["standard"][0].compilation_cache)
    say_devices()
    rows = [["", *map(title, PAPER_MEASURES)]]
    for arm, (config, folder) in runs.items():
        print(f"\n{arm}: {folder}", flush=True)
        train(config, folder)
        result = evaluate_run(config, folder)
        rows.append([arm, *(percent(result[measure]) for measure in PAPER_MEASURES)])
    pictures.draw_labels(workdir / "comparison.png", *pictures.predict(runs, range(6)))
    histories = {arm: [Workdir(folder).history()] for arm, (_, folder) in runs.items()}
    figures.draw_curves(workdir / "curves.png", histories)
    images = result["images"]
    print(f"\nTest split of {config.data.name}, {images} images, one seed, in %:\n")
    print(text.table(rows))
    print(f"\nPredictions: {workdir / 'comparison.png'}\nCurves:      {workdir / 'curves.png'}")
