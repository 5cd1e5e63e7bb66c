"""Charts of finished runs: curves, the adversary's accuracy, confusion, differences by class.

Lines have the colours of Okabe and Ito, which the colour-blind tell apart, and differ in dashes and
markers as well, for print in grey. matplotlib is imported when it is needed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.metrics import names as measure_names
from segadv_jax.report import course

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES, MARKERS = ("-", "--", "-.", ":"), "os^DvPX"
PIXELS = 150  # Of an inch.

History = Sequence[Mapping[str, Any]]
UPDATES = "segmenter_updates"
_NAMES = {"mce": "cross-entropy (mce)", "nll": "negative log-likelihood"}


def style(number: int) -> dict[str, Any]:
    """How the line of an arm is drawn, the first being 0."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
    }


def draw_curves(
    path: PathLike,
    arms: Mapping[str, Sequence[History]],
    measures: Sequence[str] = ("class_accuracy", "mean_iou", "mce"),
    x: str = UPDATES,
) -> None:
    """The paper's Figure 4: measures on training (left) and validation images (right).

    A line is the mean over an arm's runs, up to where most of them got, the band around it a
    standard deviation to each side.

    Args:
        path: the picture to write.
        arms: {name: the rows of each run's history.csv}; empty values are skipped.
        measures: a row of charts each.
        x: what they are drawn against: "segmenter_updates", "epoch" or "step".

    Raises:
        InputError: no run has a value for one of the measures.
    """
    columns = [f"{split}_{measure}" for measure in measures for split in ("train", "validation")]
    figure, charts = _charts(len(measures), 2, sharey="row")
    for chart, column in zip(charts, columns, strict=True):
        split, _, measure = column.partition("_")
        drawn = _lines(chart, arms, column, x)
        if split == "validation" and not drawn:  # Training images need not be measured.
            raise InputError(f"no run has {column} in its history.csv: choose another measure")
        label = _NAMES.get(measure, measure_names.title(measure))
        label += ", %" if _is_fraction(measure) else ""
        chart.set(title=split, xlabel=x.replace("_", " "), ylabel=label)
    charts[1].legend()
    save(figure, path)


def draw_game(path: PathLike, arms: Mapping[str, Sequence[History]], x: str = UPDATES) -> None:
    """How often the adversary is right over time: on real maps (left), on synthetic ones (right).

    Raises:
        InputError: no run has an adversary.
    """
    figure, charts = _charts(1, 2, sharey="row")
    kinds = {"accuracy_real": "on ground truth", "accuracy_synthetic": "on predictions"}
    drawn = []  # The schedules fast and slow never measure the first.
    for chart, (column, where) in zip(charts, kinds.items(), strict=True):
        drawn += [chart] if _lines(chart, arms, column, x) else []
        chart.axhline(50, color="0.5", linewidth=1)
        chart.annotate("chance", (1, 50), xycoords=("axes fraction", "data"), ha="right", va="top")
        chart.set(title=where, xlabel=x.replace("_", " "), ylabel="adversary right, %")
        chart.set_ylim(-3, 103)
    if not drawn:
        raise InputError("none of these runs had an adversary: name one that did")
    drawn[0].legend()
    save(figure, path)


def draw_confusion(
    path: PathLike, counts: Integer[np.ndarray, "C C"], class_names: Sequence[str], title: str = ""
) -> None:
    """What each class is taken for, in percent of its pixels.

    Args:
        path: the picture to write.
        counts: pixels by true (row) and predicted class.
        class_names: C texts.
        title: whose they are.
    """
    number, total = len(class_names), counts.sum(1, keepdims=True)
    shares = 100 * counts / np.maximum(total, 1)
    figure = _figure((0.5 * number + 3, 0.5 * number + 2))
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(shares >= 0.5):
        value = shares[row, column]
        shade = "white" if value > 55 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=shade, fontsize=9)
    rows = zip(class_names, total, strict=True)
    axes.set_xticks(range(number), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(number), [name if n else f"{name} (absent)" for name, n in rows])
    axes.set(xlabel="predicted", ylabel="true", title=title)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("% of the true class's pixels")
    save(figure, path)


def draw_difference(
    path: PathLike,
    differences: Mapping[str, Sequence[float]],
    names: tuple[str, str],
    measure: str,
) -> None:
    """By how much the second of two arms is better, class by class, the largest gain on top.

    A bar is the mean over seeds, its whisker a standard deviation to each side, each dot a seed.

    Args:
        path: the picture to write.
        differences: {class: points in percent, one a seed}; classes without any are left out.
        names: of the two arms.
        measure: what is compared, in words.
    """
    known = {name: np.array(values) for name, values in differences.items() if len(values)}
    known = dict(sorted(known.items(), key=lambda item: item[1].mean()))
    figure = _figure((7.5, 0.36 * len(known) + 1.6))
    axes = figure.subplots()
    for place, values in enumerate(known.values()):
        mean, better = values.mean(), values.mean() >= 0
        colour, hatch = (COLOURS[0], "") if better else (COLOURS[1], "///")
        axes.barh(place, mean, color=colour, hatch=hatch, edgecolor="white", height=0.75)
        if len(values) > 1:
            axes.errorbar(mean, place, xerr=values.std(ddof=1), color="black", capsize=3)
            axes.plot(values, [place] * len(values), "o", color="0.4", markersize=3.5)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(known)), list(known))
    seeds = max(map(len, known.values()), default=0)
    over = f"\n{seeds} seeds, whiskers a standard deviation" if seeds > 1 else ""
    axes.set(xlabel=f"{measure}, points: {names[1]} minus {names[0]}{over}")
    axes.grid(alpha=0.3, axis="x")
    axes.margins(y=0.02)
    save(figure, path)


def save(figure: Any, path: PathLike) -> None:
    """Writes a figure; makes the folder if needed. The suffix of `path` chooses the format."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=PIXELS)


def _lines(chart, arms, column, x):
    """Draws a column of histories, a line for each arm that has it; returns their number."""
    drawn, factor = 0, 100 if _is_fraction(column) else 1
    for number, (name, runs) in enumerate(arms.items()):  # An arm's style is its place.
        points = course.values_at(runs, x, column)
        if not points:
            continue
        at, values = np.array(list(points)), points.values()
        mean = factor * np.array([np.mean(v) for v in values])
        spread = factor * np.array([np.std(v, ddof=1) if len(v) > 1 else 0 for v in values])
        label = f"{name} ({len(runs)} runs)" if len(runs) > 1 else name
        every = max(1, len(at) // 12)
        chart.plot(at, mean, label=label, markevery=every, **style(number))
        if spread.any():
            colour = style(number)["color"]
            chart.fill_between(at, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
        drawn += 1
    return drawn


def _is_fraction(measure):
    """Whether a measure is shown in percent: all are, but losses, and numbers of regions."""
    return not measure.endswith(("mce", "nll", "regions", "specks")) and "norm" not in measure


def _charts(rows, columns, **sharing):
    figure = _figure((4.6 * columns, 3.2 * rows))
    charts = figure.subplots(rows, columns, squeeze=False, **sharing).ravel()
    for chart in charts:
        chart.grid(alpha=0.3)
        chart.tick_params(labelleft=True)
    return figure, charts


def _figure(inches):
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    return Figure(figsize=inches, layout="constrained")
