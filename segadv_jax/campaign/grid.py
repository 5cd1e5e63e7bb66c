"""The points of a grid over learning rates and lambda: as arms of a campaign, and ranked."""

import itertools
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segadv_jax import files
from segadv_jax.campaign import comparison, text
from segadv_jax.campaign.arms import Arms, load_config, parse_arms
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES, title

FIELDS = {
    "slr": "config.optimizer.segmenter.learning_rate",
    "alr": "config.optimizer.adversary.learning_rate",
    "lam": "config.loss.lam",
}
SHOWN = ("mean_iou", *PAPER_MEASURES[:2], "mean_bf")
COLUMNS = ("point", *FIELDS, "seeds")
COLUMNS += tuple(f"{measure}{of}" for measure in SHOWN for of in ("", "_std")) + ("best",)

GRID = "grid.csv"

Axes = Mapping[str, Sequence[float]]
Grid = Mapping[str, Mapping[str, float]]


def parse_values(text: str, flag: str) -> list[float]:
    """The numbers that `flag` gives, as "0.1,1".

    Raises:
        InputError: there are none, one of them is not a number from 0 on, or comes twice.
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


def _short(value: float) -> str:
    """The shortest text that stands for this number and no other: 1e-06, 0.1, 1."""
    return repr(value).removesuffix(".0")


def points(axes: Axes) -> Grid:
    """Every combination of the values.

    Args:
        axes: {"slr", "alr", "lam": numbers}, or some of them.

    Returns:
        {name of the point: {axis: number}}.
    """
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return {"_".join(f"{axis}{_short(p[axis])}" for axis in axes): p for p in grid}


def arms(config: str, grid: Grid, shared: Iterable[str]) -> tuple[Arms, str]:
    """The points as arms of a campaign, measured on the validation split.

    Args:
        config: "NAME" or "NAME:VARIANT".
        grid: of `points`.
        shared: arguments that hold for all of them.

    Returns:
        ({point: tuple of arguments}, the validation split).

    Raises:
        InputError: what `parse_arms` and `load_config` refuse; or an argument of `shared` is the
            grid's to set; or the adversary's numbers are varied where there is no adversary.
    """
    shared, axes = list(shared), list(next(iter(grid.values())))
    _check_shared(shared, axes)
    # The name is the one that an error is reported with.
    (base,) = parse_arms([f"grid={shlex.join([f'--config={config}'])}"], shared).values()
    loaded = load_config(base)
    _check_axes(axes, config, loaded)
    split = loaded.data.validation
    if not split:
        raise InputError(f"--config={config}: config.data.validation is empty; name a split")
    texts = []
    for name, point in grid.items():
        fields = [f"--{FIELDS[axis]}={_short(value)}" for axis, value in point.items()]
        texts.append(f"{name}={shlex.join([base[0], *fields])}")
    parsed = parse_arms(texts, [*base[1:], f"--config.data.test={split}"])
    for arguments in parsed.values():
        load_config(arguments)
    return parsed, split


def _check_shared(shared: Iterable[str], axes: Iterable[str]) -> None:
    ours = {f"--{FIELDS[axis]}": f"--{axis} sets it" for axis in axes}
    ours["--config"] = "give the configuration before --"
    ours["--config.data.test"] = "a grid is measured on config.data.validation"
    for argument in shared:
        name = argument.partition("=")[0]
        if name in ours:
            raise InputError(f"{argument} after --: {ours[name]}; leave it out")


def _check_axes(axes: Iterable[str], name: str, config: ConfigDict) -> None:
    if config.alternation.schedule != "standard":
        return
    for axis in axes:
        if axis in ("alr", "lam"):
            raise InputError(
                f"--{axis}: {name} trains without adversary, as config.alternation.schedule is "
                "'standard'; leave it out, or choose another configuration"
            )


def rank(grid: Grid, rows: Iterable[comparison.Row], seeds: Iterable[int]) -> list[dict[str, Any]]:
    """The points from the best to the worst.

    Means over some of the seeds cannot be compared with means over all of them: points that lack
    seeds come last, and the best is one that has all.

    Args:
        grid: of `points`.
        rows: dicts with "arm", "seed", "split" and the measures `SHOWN`.
        seeds: those that each point should have.

    Returns:
        dicts with the keys `COLUMNS`: the axes and the measures, as fractions, None where there is
        none; "seeds" as text, those that are done; "best" is "yes" for one or no point.
    """
    rows, expected = list(rows), sorted(seeds)
    result: list[tuple[bool, float, dict[str, Any]]] = []
    for name, point in grid.items():
        spread = comparison.spread((row for row in rows if row["arm"] == name), SHOWN)
        line: dict[str, Any] = {"point": name} | {axis: point.get(axis) for axis in FIELDS}
        line["seeds"] = " ".join(map(str, spread["seeds"]))
        for measure in SHOWN:
            line[measure], line[f"{measure}_std"] = spread[measure].values()
        score = -1 if line["mean_iou"] is None else line["mean_iou"]
        result.append((spread["seeds"] == expected, score, line))
    result.sort(key=lambda entry: entry[:2], reverse=True)
    for i, (complete, score, line) in enumerate(result):
        line["best"] = "yes" if i == 0 and complete and score >= 0 else ""
    return [line for _, _, line in result]


def write(workdir: files.PathLike, ranked: Iterable[Mapping[str, Any]]) -> Path:
    """Writes the points of `rank` as `grid.csv`; returns its path."""
    path = Path(workdir, GRID)
    files.write_csv(path, COLUMNS, ranked)
    return path


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
    titles = [title(measure).replace("bf", "BF") for measure in shown]
    lines = [(f"on {split}, in %, mean +- std", "seeds", *titles)]
    for line in ranked:
        cells = [comparison.mean_and_std({"mean": line[m], "std": line[f"{m}_std"]}) for m in shown]
        lines.append((line["point"], line["seeds"] or "-", *cells))
    return text.table(lines)
