"""A page's curves: SVG within it, in the page's colour of text, each run in one of its own."""

import io
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segadv_jax.conditions import History
from segadv_jax.report import course
from segadv_jax.report.html_parts import Html, element, join

# Okabe and Ito's, told apart by the colour-blind and on white as on black; the lines differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (6, 2, 2, 2), (10, 3), (1, 3))
_INK = "#010203"  # Stands for the page's colour of text.


class Plot(NamedTuple):
    """What is drawn of the histories against the updates; plots of one `group` have one scale."""

    column: str
    title: str
    group: str
    percent: bool = False


PLOTS = (
    Plot("train_mce", "Cross-entropy, training images", "mce"),
    Plot("validation_mce", "Cross-entropy, validation images", "mce"),
    Plot("train_mean_iou", "Mean IoU, training images, %", "iou", True),
    Plot("validation_mean_iou", "Mean IoU, validation images, %", "iou", True),
    Plot("accuracy_real", "Adversary right on ground truth, %", "accuracy", True),
    Plot("accuracy_synthetic", "Adversary right on predictions, %", "accuracy", True),
    Plot("grad_norm_mce", "Gradient of the segmenter's own loss", "norm"),
    Plot("grad_norm_adversarial", "Gradient of the adversarial term", "norm"),
)


def curves(histories: Mapping[str, Sequence[History]]) -> Html:
    """The plots of {arm: the histories of its seeds}: their mean, and a band from least to most."""
    points = {plot: _points(histories, plot) for plot in PLOTS}
    shown = {plot: lines for plot, lines in points.items() if any(lines.values())}
    if not shown:
        return Html()
    places = {name: i for i, name in enumerate(histories)}
    updates = [x for lines in shown.values() for line in lines.values() for x, *_ in line]
    reach = min(updates), max(updates)
    figures = []
    for plot, lines in shown.items():
        group = [each for other, each in shown.items() if other.group == plot.group]
        values = [v for each in group for line in each.values() for _, *vs in line for v in vs]
        drawn = _draw(plot, {places[name]: line for name, line in lines.items()}, values, reach)
        figures.append(element("figure", drawn))
    return join(_legend([*histories]), element("div", *figures, class_="plots"))


def _points(histories, plot):
    """{arm: [(updates, mean, least, most)]} of one column."""
    found = {}
    for name, seeds in histories.items():
        factor = 100 if plot.percent else 1
        values = course.values_at(seeds, "segmenter_updates", plot.column)
        by_update = {x: [factor * value for value in v] for x, v in values.items()}
        found[name] = [(x, statistics.mean(v), min(v), max(v)) for x, v in by_update.items()]
    return found


def _draw(
    plot: Plot,
    lines: Mapping[int, Sequence[Any]],
    values: Sequence[float],
    reach: tuple[float, float],
) -> Html:
    """One plot of {place of the arm: points}; its scales hold all `values` and all updates."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive
    from matplotlib.ticker import LogLocator, NullFormatter

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": plot.column,
        "font.family": "sans-serif",
        "font.size": 10,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
        ),
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.4, 2.8), layout="constrained")
        axes = figure.subplots()
        for place, line in lines.items():
            if not line:
                continue
            x, mean, least, most = zip(*line, strict=True)
            colour, dashes = _look(place)
            (drawn,) = axes.plot(x, mean, color=colour, linewidth=1.8)
            if dashes:
                drawn.set_dashes(dashes)
            if len(x) < 30:  # A single point is not seen otherwise.
                drawn.set_marker("o")
                drawn.set_markersize(3)
            if least != most:
                axes.fill_between(x, least, most, color=colour, alpha=0.15, linewidth=0)
        axes.set_title(plot.title, fontsize=10, loc="left")
        axes.set_xlabel("updates of the segmenter")
        margin = 0.04 * (reach[1] - reach[0]) or 1
        axes.set_xlim(reach[0] - margin, reach[1] + margin)
        if plot.group == "accuracy":
            axes.set_ylim(-3, 103)
        elif plot.group == "norm" and min(values) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylim(min(values) / 1.5, max(values) * 1.5)
        else:
            room = 0.06 * (max(values) - min(values)) or 0.1
            axes.set_ylim(min(values) - room, max(values) + room)
        axes.grid(alpha=0.2, color=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _inline(file.getvalue(), plot)


def _inline(svg: str, plot: Plot) -> Html:
    """An SVG file's markup as an element of a page, which names no namespace."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href").replace(_INK, "currentColor")
    # Names are of the whole page: each figure keeps its own.
    svg = re.sub(r'\bid="', f'id="{plot.column}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{plot.column}-", svg)
    return Html(svg.replace("<svg", f'<svg role="img" aria-label="{plot.title}"', 1))


def _legend(names: Sequence[str]) -> Html:
    if len(names) < 2:
        return Html()
    entries = []
    for place, name in enumerate(names):
        colour, dashes = _look(place)
        dash = " ".join(str(1.8 * each) for each in dashes) or None
        line = element(
            "path",
            d="M0 5H36",
            stroke=colour,
            **{"stroke-width": 2.5, "stroke-dasharray": dash},
        )
        entries.append(element("span", element("svg", line, width=36, height=10), name))
    return element("div", *entries, class_="legend")


def _look(place: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes of the arm at a place, none of which another of the first 36 has."""
    turn, index = divmod(place, len(COLOURS))
    return COLOURS[index], DASHES[(index + turn) % len(DASHES)]
