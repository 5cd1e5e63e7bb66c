"""Trains every point of a grid over learning rates and lambda, and ranks them on the validation.

    python -m tools.grid_search --workdir=runs/grid --config=configs/voc_largefov.py:product \\
        --slr=1e-6,1e-5 --alr=0.1,0.5 --lam=0.00625,0.0625 --seeds=0,1 --processes=2 \\
        -- --config.init=dilation8_pascal_voc.caffemodel --config.data.archives=FOLDER

--slr and --alr are the learning rates of the segmenter and of the adversary, and --lam is
config.loss.lam, all exactly as given; what is left out stays as the configuration has it. The unit
of lambda depends on config.loss.reduction: 0.1 and 1, which the paper tried, we read as weights
between sums, which are 16 times those between means (configs/hyperparameters.py), and with
config.loss.reduction=mean they are --lam=0.00625,0.0625 as above.

A grid chooses hyper-parameters, so it never reads the test split: its runs are trained and measured
with config.data.test set to config.data.validation. What follows "--" holds for all points.

A point is an arm of tools.campaign, in a folder such as slr1e-06_alr0.1_lam1, and all that is said
there holds: stopped or killed, the same command goes on; --table_only shows what there is so far.
At the end: all points on the terminal, those that have all seeds first, by mean IoU; the same in
WORKDIR/grid.csv; WORKDIR/results.csv with a row per run; and the best point with the flags to train
it. The exit status is 0, 1 if a run failed, 2 if the command is wrong, or 128 + signal.
"""

import csv
import itertools
import math
import os
import shlex
import sys

from segadv_jax.errors import InputError
from segadv_jax.measures import MEASURES, percent, title
from tools import campaign, command_line, comparison, pool, results_files, runs

GRID = "grid.csv"
FIELDS = {
    "slr": "config.optimizer.segmenter.learning_rate",
    "alr": "config.optimizer.adversary.learning_rate",
    "lam": "config.loss.lam",
}
SHOWN = ("mean_iou", *MEASURES[:2], "mean_bf")
COLUMNS = ("point", *FIELDS, "seeds")
COLUMNS += tuple(f"{measure}{of}" for measure in SHOWN for of in ("", "_std")) + ("best",)


def parse_values(text, flag):
    """The numbers that ``flag`` gives, "0.1,1", as a list of float.

    Raises:
        InputError: there are none, one of them is no number from 0 on, or comes twice.
    """
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 <= value < math.inf for value in values):
        raise InputError(f"{flag}={text}: give numbers from 0 on, as {flag}=0.1,1")
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise InputError(f"{flag}={text}: {_short(twice[0])} comes twice")
    return values


def _short(value):
    """A number as short as can be without being another one: 1e-06, 0.1, 1."""
    return repr(value).removesuffix(".0")


def points(axes):
    """Every combination of the values.

    Args:
        axes: {"slr", "alr", "lam": list of float}, or some of them.

    Returns:
        {name of the point: {axis: float}}.
    """
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return {"_".join(f"{axis}{_short(p[axis])}" for axis in axes): p for p in grid}


def arms(config, grid, shared):
    """The points as arms of a campaign, measured on the validation split.

    Args:
        config: "FILE" or "FILE:VARIANT".
        grid: of ``points``.
        shared: list of arguments that hold for all of them.

    Returns:
        ({point: tuple of arguments}, the validation split).

    Raises:
        InputError: what campaign.parse_arms and load_config refuse; or an argument of ``shared`` is
            the grid's to set; or the adversary's numbers are varied where there is no adversary.
    """
    axes = list(next(iter(grid.values())))
    ours = {f"--{FIELDS[axis]}": f"--{axis} sets it" for axis in axes}
    ours["--config"] = "give the configuration before --"
    ours["--config.data.test"] = "a grid is measured on config.data.validation"
    for argument in shared:
        name = argument.partition("=")[0]
        if name in ours:
            raise InputError(f"{argument} after --: {ours[name]}; leave it out")
    # The names are those that an error would be reported with.
    (base,) = campaign.parse_arms([f"grid={shlex.join([f'--config={config}'])}"], shared).values()
    loaded = campaign.load_config(base)
    if loaded.alternation.schedule == "standard":
        for axis in ("alr", "lam"):
            if axis in axes:
                raise InputError(
                    f"--{axis}: {config} trains without adversary, as config.alternation.schedule "
                    "is 'standard'; leave it out, or choose another configuration"
                )
    split = loaded.data.validation
    if not split:
        raise InputError(f"--config={config}: config.data.validation is empty; name a split")
    shared = [*base[1:], f"--config.data.test={split}"]
    texts = []
    for name, point in grid.items():
        fields = [f"--{FIELDS[axis]}={_short(value)}" for axis, value in point.items()]
        texts.append(f"{name}={shlex.join([base[0], *fields])}")
    parsed = campaign.parse_arms(texts, shared)
    for arguments in parsed.values():
        campaign.load_config(arguments)
    return parsed, split


def rank(grid, rows, seeds):
    """The points from the best to the worst.

    Means over some of the seeds cannot be compared with means over all of them: points that lack
    seeds come last, and the best is one that has all.

    Args:
        grid: of ``points``.
        rows: dicts with "arm", "seed", "split" and the measures ``SHOWN``.
        seeds: those that each point should have.

    Returns:
        list of dicts with the keys ``COLUMNS``: the axes and the measures, as fractions, None where
        there is none; "seeds" as text, those that are done; "best" is "yes" for one or no point.
    """
    result = []
    for name, point in grid.items():
        spread = comparison.spread([row for row in rows if row["arm"] == name], SHOWN)
        line = {"point": name} | {axis: point.get(axis) for axis in FIELDS}
        line["seeds"] = " ".join(map(str, spread["seeds"]))
        for measure in SHOWN:
            line[measure], line[f"{measure}_std"] = spread[measure].values()
        score = -1 if line["mean_iou"] is None else line["mean_iou"]
        result.append((spread["seeds"] == sorted(seeds), score, line))
    result.sort(key=lambda entry: entry[:2], reverse=True)
    for place, (complete, score, line) in enumerate(result):
        line["best"] = "yes" if place == 0 and complete and score >= 0 else ""
    return [line for _, _, line in result]


def best_of(workdir):
    """The best point of a grid's folder, and the number of its points, from ``grid.csv``.

    Raises:
        InputError: the file is damaged, or no point is done with all seeds.
    """
    path = os.path.join(workdir, GRID)
    try:
        with open(path, newline="") as file:
            lines = list(csv.DictReader(file))
        best = [line["point"] for line in lines if line["best"]]
    except (csv.Error, KeyError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged; make it again with tools.grid_search") from error
    if not best:
        raise InputError(f"{path}: no point is done with all seeds; let tools.grid_search go on")
    return best[0], len(lines)


def table(ranked, split):
    """The points as text, in percent; a dash stands for what is not known."""
    shown = [m for m in SHOWN if m != "mean_bf" or any(line[m] is not None for line in ranked)]
    names = [line["point"] for line in ranked]
    head = f"on {split}, in %, mean +- std"
    wide = max(map(len, [*names, head]))
    few = max([len(line["seeds"]) for line in ranked] + [5])
    titles = "".join(f"{title(m).replace('bf', 'BF'):>18}" for m in shown)
    lines = [f"{head:<{wide}}  {'seeds':>{few}}{titles}"]
    for line in ranked:
        cells = (f"{percent(line[m], '.2f')} +- {percent(line[f'{m}_std'], '.2f')}" for m in shown)
        cells = "".join(f"{cell:>18}" for cell in cells)
        lines.append(f"{line['point']:<{wide}}  {line['seeds'] or '-':>{few}}{cells}")
    return "\n".join(lines)


def _parse(argv):
    """(options, arguments after "--")."""
    parser = command_line.Parser("tools.grid_search", __doc__)
    parser.add_argument("--workdir", required=True, help="folder of the grid")
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]")
    for axis, field in FIELDS.items():
        parser.add_argument(f"--{axis}", help=f"as 0.1,1: values of {field}")
    parser.add_argument("--seeds", required=True, help="as 0,1,2: a run of each point with each")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    parser.add_argument("--table_only", action="store_true", help="start nothing, show the table")
    parser.add_argument("--program", default=pool.MAIN, help="what to run instead of main.py")
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end]), argv[end + 1 :]


def main(argv):
    """Runs the command line ``argv``, without the program's name; returns the exit status."""
    options, shared = _parse(argv)
    campaign.check_processes(options.processes)
    seeds = campaign.parse_seeds(options.seeds)
    given = {axis: getattr(options, axis) for axis in FIELDS}
    axes = {a: parse_values(text, f"--{a}") for a, text in given.items() if text is not None}
    if not axes:
        raise InputError("there is no grid; give --slr, --alr or --lam, as --lam=0.1,1")
    grid = points(axes)
    chosen, split = arms(options.config, grid, shared)
    planned = campaign.plan(options.workdir, chosen, seeds)
    failures = campaign.carry_out(options, planned)
    rows = runs.results(planned)
    campaign.write(options.workdir, rows, comparison.summarize(rows, list(grid)))
    for row in rows:
        row["mean_bf"] = runs.read_result(row["path"]).get("mean_bf")
    ranked = rank(grid, rows, seeds)
    path = os.path.join(options.workdir, GRID)
    results_files.write_csv(path, COLUMNS, ranked)
    print(f"\n{table(ranked, split)}\n\nGrid: {path}")
    if ranked[0]["best"]:
        kept = [a for a in chosen[ranked[0]["point"]] if not a.startswith("--config.data.test=")]
        command = shlex.join(["python", "main.py", *kept])
        print(f"Best: {ranked[0]['point']}, to be trained with\n  {command} --workdir=FOLDER")
    else:
        print("Best: not known, as no point is done with all seeds")
    sys.stdout.flush()
    campaign.report_failures(failures)
    return 1 if failures else 0


if __name__ == "__main__":
    command_line.run(main)
