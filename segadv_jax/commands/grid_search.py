"""Trains every point of a grid over learning rates and lambda, and ranks them on the validation.

    segadv_jax grid_search --workdir=runs/grid --config=voc_largefov:product \\
        --slr=1e-6,1e-5 --alr=0.1,0.5 --lam=0.00625,0.0625 --seeds=0,1 --processes=2 \\
        -- --config.init=dilation8_pascal_voc.caffemodel --config.data.archives=FOLDER

--slr and --alr are the learning rates of the segmenter and of the adversary, and --lam is
config.loss.lam, all exactly as given; what is left out stays as the configuration has it. The unit
of lambda depends on config.loss.reduction: 0.1 and 1, which the paper tried, we read as weights
between sums, which are 16 times those between means (configs/hyperparameters.py), and with
config.loss.reduction=mean they are --lam=0.00625,0.0625 as above.

A grid chooses hyper-parameters, so it never reads the test split: its runs are trained and measured
with config.data.test set to config.data.validation. What follows "--" holds for all points.

A point is an arm of `segadv_jax campaign`, in a folder such as slr1e-06_alr0.1_lam1, and all that
is said there holds: how a grid is resumed, --table_only, the files and the exit status. At the end
there are also all points on the terminal, those that have all seeds first, by mean IoU; the same in
WORKDIR/grid.csv; and the best point with the command to train it.
"""

import argparse
import shlex

from segadv_jax import files
from segadv_jax.campaign import arms, command_line, grid
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import bf_caution


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command_line.add_arguments(parser)
    parser.add_argument("--config", required=True, metavar="NAME[:VARIANT]", help="file or name")
    for axis, field in grid.FIELDS.items():
        parser.add_argument(f"--{axis}", help=f"as 0.1,1: values of {field}")


def main(options: argparse.Namespace) -> int:
    seeds = arms.parse_seeds(options.seeds)
    given = {axis: getattr(options, axis) for axis in grid.FIELDS}
    axes = {
        axis: arms.parse_numbers(text, f"--{axis}", float, "0.1,1")
        for axis, text in given.items()
        if text is not None
    }
    if not axes:
        raise InputError("there is no grid; give --slr, --alr or --lam, as --lam=0.1,1")
    points = grid.points(axes)
    parsed, split = grid.arms(options.config, points, options.overrides)
    rows, _, failures = command_line.carry_out(options, parsed, seeds)
    ranked, path = grid.rank(points, rows, seeds), files.to_path(options.workdir) / grid.GRID
    files.write_csv(path, grid.COLUMNS, ranked)
    print(f"\n{grid.table(ranked, split)}\n\nGrid: {path}")
    data_set = arms.load_config(next(iter(parsed.values()))).data.name
    if any(line["mean_bf"] is not None for line in ranked) and bf_caution(data_set, split):
        print(f"Note: {bf_caution(data_set, split)}")
    if ranked[0]["best"]:
        best = ranked[0]["point"]
        kept = [a for a in parsed[best] if not a.startswith("--config.data.test=")]
        command = shlex.join(["segadv_jax", "train", *kept])
        print(f"Best: {best}, to be trained with\n  {command} --workdir=FOLDER", flush=True)
    else:
        print("Best: not known, as no point is done with all seeds", flush=True)
    return command_line.report_failures(failures)
