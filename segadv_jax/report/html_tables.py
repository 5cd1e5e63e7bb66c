"""A page's tables: what runs measured, class by class, and what is taken for what."""

import statistics
from collections.abc import Sequence

import numpy as np

from segadv_jax.metrics.names import percent, title
from segadv_jax.report import compared, summary
from segadv_jax.report.compared import MEASURES, Arm
from segadv_jax.report.html_parts import Html, element, join, listed, paragraph, table

TITLES = {"ece": "calibration error", "nll": "negative log-likelihood"}
LARGEST = 30  # Classes up to which a table of confusions can be read.


def results(arms: Sequence[Arm], split: str, apart: str) -> Html:
    """A row for each arm: mean and spread of each measure, and the difference to the first arm.

    Differences and the best in bold are left out if the arms cannot be compared, which `apart`
    explains.
    """
    shown = [name for name in MEASURES if any(compared.values(arm, name) for arm in arms)]
    heads = [TITLES.get(name, title(name)) + ("" if name == "nll" else ", %") for name in shown]
    seeds = any(len(arm.runs) > 1 for arm in arms)
    best = {name: None if apart else _best(arms, name) for name in shown}
    rows = []
    for arm in arms:
        other = None if apart or arm is arms[0] else arms[0]
        cells = [_measure(arm, other, name, best[name]) for name in shown]
        rows.append([arm.name, *([len(arm.results)] if seeds else []), *cells])
    said = f"On the split {split}"
    if len(arms) > 1 and not apart:
        said += f"; small: the difference to {arms[0].name}; bold: the best"
    if seeds:
        said += "; ± is the standard deviation over seeds"
        said += ", and differences are over those in common" if len(arms) > 1 and not apart else ""
    return table(["", *(["seeds"] if seeds else []), *heads], rows, f"{said}.")


def _form(name: str, value: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    text = format(value, f"{sign}.3f") if name == "nll" else percent(value, f"{sign}.1f")
    # A difference that is nothing has no sign.
    return text.replace("-", "−") if text.strip("+-0.") else text.strip("+-")


def _best(arms: Sequence[Arm], name: str) -> str | None:
    """The best figure as it is shown; None if all are, or if nobody knows which is better."""
    found = [value for arm in arms if (value := compared.mean(arm, name)) is not None]
    if MEASURES[name] is None or len({_form(name, value) for value in found}) < 2:
        return None
    return _form(name, max(found) if MEASURES[name] else min(found))


def _measure(arm, other, name, best):
    values, mean = compared.values(arm, name), compared.mean(arm, name)
    text = _form(name, mean)
    shown = element("b", text) if best is not None and text == best else text
    spread = f" ± {_form(name, statistics.stdev(values))}" if len(values) > 1 else ""
    return element("td", shown, spread, _difference(name, arm, other))


def _difference(name, arm, other, class_name=None):
    value = compared.difference(arm, other, name, class_name) if other else None
    return "" if value is None else element("small", _form(name, value, "+"))


def classes(arms: Sequence[Arm]) -> Html:
    """A row for each class: share of the pixels, IoU and BF of each arm.

    Of several arms, those rows are first in which the others gain most over the first arm; of one,
    those with the lowest IoU.
    """
    measured = [arm for arm in arms if arm.results]
    first = measured[0]
    names = [
        name
        for name in compared.class_names(first)
        if any(compared.mean(arm, "iou", name) is not None for arm in measured)
    ]
    kinds = [k for k in ("iou", "bf") if any(isinstance(r.get(k), dict) for r in first.results)]
    several = len(measured) > 1

    def rank(name):
        gains = [compared.difference(arm, first, "iou", name) for arm in measured[1:]]
        known = [gain for gain in gains if gain is not None]
        own = compared.mean(first, "iou", name)
        if own is None or (several and not known):
            return (1, 0.0)  # One that does not occur comes last.
        return (0, -statistics.mean(known) if several else own)

    heads: list[object] = ["class", "% of pixels"]
    for kind in kinds:
        heads += [f"{title(kind)}, {arm.name}" if several else title(kind) for arm in measured]
    rows = []
    for name in sorted(names, key=rank):
        cells: list[object] = [percent(compared.mean(first, "histogram_true", name))]
        for kind in kinds:
            for arm in measured:
                value = compared.mean(arm, kind, name)
                other = None if arm is first else first
                said = _difference(kind, arm, other, name)
                cells.append(element("td", _form(kind, value), said))
        rows.append([name, *cells])
    order = "Sorted by IoU, the lowest first, in %."
    if several:
        order = f"Sorted by the gain in IoU over {first.name}, in %; small: the difference to it."
    return table(heads, rows, order)


def confusion(arm: Arm) -> Html:
    """What part of each class's pixels is taken for which, in percent; empty if not recorded."""
    names = compared.class_names(arm)
    found = [result["confusion"] for result in arm.results if result.get("confusion")]
    if not found or np.shape(found[0]) != (len(names),) * 2:
        return Html()
    counts = np.sum([np.array(each, np.float64) for each in found], axis=0)
    said = summary.confusions(names, counts)
    # Without the classes that are neither there nor predicted.
    met = np.flatnonzero(counts.sum(0) + counts.sum(1))
    few = [names[i] for i in met]
    heat = _heat(few, counts[np.ix_(met, met)]) if len(few) <= LARGEST else ""
    lead = paragraph("The most frequent ones, by pixels:") if said else ""
    return join(element("h3", arm.name), heat, lead, listed(said) if said else "")


def _heat(names, counts):
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, share in enumerate(shares[i]):
            text = "" if not counts[i].sum() else percent(share, ".0f") if share >= 0.005 else "·"
            # Pale enough for the page's colour of text to be read on it.
            style = f"background: rgba(var(--heat), {0.55 * share:.3f})"
            label = f"{name} taken for {names[j]}: {percent(share)} %"
            cells.append(element("td", text, style=style, title=label))
        rows.append([name, *cells])
    made = table(["truth ↓, prediction →", *names], rows, "Percent of each true class's pixels.")
    return element("div", made, class_="heat")
