"""Writes one page, an HTML file, about one run or several side by side.

    segadv_jax report runs/mine --out=report.html
    segadv_jax report standard=runs/a adversarial=runs/b --out=report.html
    segadv_jax report runs/campaign/standard runs/campaign/adversarial

A RUN is a run's folder or an arm's, whose seeds are in seed_0, seed_1 and so on; NAME=RUN gives it
a name. The others are compared with the first. The page has the results, the health of the game in
plain words, curves, example predictions, classes, confusions, the configuration, and the commands
that train the runs again. It holds all that it shows: it opens without a network, and can be sent.

Example predictions need the data set and the checkpoints; where they lie elsewhere now, say so, as
in --config.data.archives=FOLDER. Without them, or with --images=0, the page does without.
"""

import argparse
from pathlib import Path

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.report import compared, html_page

MOST = 100  # Images on a page.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or NAME=FOLDER")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="page to write")
    parser.add_argument("--split", default="", help="instead of the first run's config.data.test")
    parser.add_argument("--images", type=int, default=6, metavar="N", help="examples to show; 6")


def main(options: argparse.Namespace) -> None:
    if not 0 <= options.images <= MOST:
        raise InputError(f"--images={options.images}: give a number from 0 to {MOST}")
    path = Path(options.out)
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out={options.out}: name a file that ends in .html")
    arms, split = compared.read(options.runs, options.split)
    files.writable_folder(path.parent, "--out")
    text = html_page.write(arms, split, options.images, options.overrides)
    try:
        with files.replacing(path) as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"--out={path} cannot be written: {error}") from error
    for arm in arms[1:]:
        if not compared.why_apart(arms) and (said := compared.finding(arm, arms[0], split)):
            print(said)
    print(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
