"""The points of a grid over learning rates and lambda: as arms of a campaign, and ranked."""

import itertools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import comparison, text
from segadv_jax.campaign.arms import Arms, load_config, parse_arms, short
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES, title

FIELDS = {
    "slr": "config.optimizer.segmenter.learning_rate",
    "alr": "config.optimizer.adversary.learning_rate",
    "lam": "config.loss.lam",
}
SHOWN = ("mean_iou", *PAPER_MEASURES[:2], "mean_bf")
GRID = "grid.csv"
COLUMNS = ("point", *FIELDS, "seeds")
COLUMNS += tuple(f"{measure}{of}" for measure in SHOWN for of in ("", "_std")) + ("best",)

Grid = Mapping[str, Mapping[str, float]]  # {name of a point: {axis of FIELDS: number}}.


def points(axes: Mapping[str, Sequence[float]]) -> Grid:
    """Every combination of the values of some of the axes."""
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return {"_".join(f"{axis}{short(p[axis])}" for axis in axes): p for p in grid}


def arms(config: str, grid: Grid, shared: Sequence[str]) -> tuple[Arms, str]:
    """The points as arms of a campaign, measured on the validation split; and that split.

    `config` is "NAME" or "NAME:VARIANT", `shared` are arguments that hold for all points. Raises an
    InputError if one of these is the grid's to set, or if there is no adversary to be varied.
    """
    axes = list(next(iter(grid.values())))
    ours = {f"--{FIELDS[axis]}": f"--{axis} sets it" for axis in axes}
    ours["--config"] = "give the configuration before --"
    ours["--config.data.test"] = "a grid is measured on config.data.validation"
    for argument in shared:
        name = argument.partition("=")[0]
        if name in ours:
            raise InputError(f"{argument} after --: {ours[name]}; leave it out")
    texts = []
    for name, point in grid.items():
        fields = [f"--{FIELDS[axis]}={short(value)}" for axis, value in point.items()]
        texts.append(f"{name}={shlex.join([f'--config={config}', *fields])}")
    loaded = [load_config(arguments) for arguments in parse_arms(texts, shared).values()][0]
    for axis in axes:
        if axis in ("alr", "lam") and loaded.alternation.schedule == "standard":
            why = f"{config} trains without adversary, as config.alternation.schedule is 'standard'"
            raise InputError(f"--{axis}: {why}; leave it out, or choose another configuration")
    split = loaded.data.validation
    if not split:
        raise InputError(f"--config={config}: config.data.validation is empty; name a split")
    return parse_arms(texts, [*shared, f"--config.data.test={split}"]), split


def rank(grid: Grid, rows: Sequence[comparison.Row], seeds: Iterable[int]) -> list[dict[str, Any]]:
    """The points from the best to the worst.

    Means over some of the seeds cannot be compared with means over all of them: points that lack
    seeds come last, and the best is one that has all.

    `seeds` are those that each point should have. Returns dicts with the keys `COLUMNS`: the axes
    and the measures, as fractions, None where there is none; "seeds" as text, those that are done;
    "best" is "yes" for one or no point.
    """
    result = []
    for name, point in grid.items():
        spread = comparison.spread((row for row in rows if row["arm"] == name), SHOWN)
        line: dict[str, Any] = {"point": name} | {axis: point.get(axis) for axis in FIELDS}
        line |= {"seeds": " ".join(map(str, spread["seeds"])), "best": ""}
        for measure in SHOWN:
            line[measure], line[f"{measure}_std"] = spread[measure].values()
        result.append(line)
    expected = " ".join(map(str, sorted(seeds)))

    def standing(line):
        return line["seeds"] == expected, -1 if line["mean_iou"] is None else line["mean_iou"]

    result.sort(key=standing, reverse=True)
    if standing(result[0]) >= (True, 0):
        result[0]["best"] = "yes"
    return result


def best_of(workdir: files.PathLike) -> tuple[str, int]:
    """The best point of a grid's folder, and the number of its points, from `grid.csv`.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is damaged, or no point is done with all seeds.
    """
    path = os.path.join(workdir, GRID)
    lines = files.read_csv(path, "make it again with segadv_jax grid_search", COLUMNS)
    best = [line["point"] for line in lines if line["best"]]
    if not best:
        raise InputError(f"{path}: no point is done with all seeds; resume segadv_jax grid_search")
    return best[0], len(lines)


def table(ranked: Sequence[Mapping[str, Any]], split: str) -> str:
    """The points as text, in percent; a dash stands for what is not known."""
    shown = [m for m in SHOWN if m != "mean_bf" or any(line[m] is not None for line in ranked)]
    titles = [title(measure) for measure in shown]
    lines = [(f"on {split}, in %, mean +- std", "seeds", *titles)]
    for line in ranked:
        cells = [comparison.mean_and_std(line[m], line[f"{m}_std"]) for m in shown]
        lines.append((line["point"], line["seeds"] or "-", *cells))
    return text.table(lines)
