"""The paper's tables with your figures beside the printed ones, in Markdown and CSV.

    segadv_jax tables --out=docs/tables baseline=runs/voc/baseline grid=runs/grid ...
    segadv_jax tables --out=docs/tables voc=docs/results/voc.csv

Each NAME=WORKDIR is the folder of a run, of an arm of `segadv_jax campaign` with its seeds, of a
whole campaign, or of `segadv_jax grid_search`, whose best point is taken. NAME=STUDY.csv takes the
rows of a study of `tools/study.py`, beside which its choices lie; STUDY.csv:BLOCK those of one of
its blocks, and STUDY.csv:BLOCK/ARM those of one arm, where several fill the same cell. The cell
that each arm fills is read from its configuration; runs that fill none are in a table of their own.
Cells without a run show the paper's figure and "-" for yours. FOLDER/tables.md has all tables, and
FOLDER/*.csv one each.

Figures are those of WORKDIR/eval/SPLIT.json, in the paper's units: mean and standard deviation over
the seeds that are done. SPLIT is config.data.test of the run, or --split. As in the paper, mean BF
on PASCAL VOC is that of val_full if the run was evaluated there (segadv_jax evaluate
--config.evaluate.split=val_full ...), otherwise that of SPLIT.

A dagger marks figures of runs whose network, starting weights, training or images are not those of
the paper's row, a double dagger BF on images whose objects have a border of void. A line under the
table, and the column "warning" of the CSV file, say what differs.
"""

import argparse
import itertools
import re
import sys
import textwrap

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.report import measured, measured_study, tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--split", default="", help="instead of each run's config.data.test")
    parser.add_argument("named", nargs="*", metavar="NAME=WORKDIR|STUDY.csv")


def main(options: argparse.Namespace) -> None:
    if options.overrides:
        raise InputError(f"{options.overrides[0]}: the configurations are those of the runs")
    named: dict[str, list[measured.Arm]] = {}
    for text in options.named:
        name, equals, workdir = text.partition("=")
        is_folder = files.is_folder(workdir)
        known = is_folder or measured_study.PLACE.fullmatch(workdir)
        if not equals or not known or not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f"{text}: give NAME=WORKDIR, the workdir a folder that holds runs, or "
                "NAME=STUDY.csv, NAME=STUDY.csv:BLOCK, NAME=STUDY.csv:BLOCK/ARM"
            )
        if name in named:
            raise InputError(f"{text}: there are two of that name; rename one")
        read = measured.read if is_folder else measured_study.read
        named[name] = read(name, workdir, options.split)
    contents = tables.tables(*measured.by_row(itertools.chain(*named.values())))
    page = tables.write(options.out, contents)
    for table in contents:
        for (_, text), (first, *others) in tables.warnings(table).items():
            arms = first + (f" and {len(others)} more" if others else "")
            rest = f" ... ({page.name} has the rest)"
            short = textwrap.shorten(f"{arms}: {text}", 240, placeholder=rest)
            print(f"warning: {table.title}: {short}", file=sys.stderr)
    print(f"Tables: {page}\nCSV:    {', '.join(f'{table.file}.csv' for table in contents)}")
