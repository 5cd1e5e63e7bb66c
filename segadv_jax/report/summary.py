"""What an evaluation measured, as text: class by class, in all, and what is taken for what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segadv_jax.campaign import text
from segadv_jax.metrics.names import bf_caution, percent, title

MEASURES = ("mean_iou", "pixel_accuracy", "class_accuracy", "mean_bf", "mean_boundary_iou")
CONFUSIONS = 5  # The most frequent ones are named.


def describe(result: Mapping[str, Any], data_set: str = "", split: str = "") -> str:
    """The lines that end an evaluation.

    Args:
        result: as `evaluate.evaluate` returns it; one of an older version may lack "confusion".
        data_set: its name, and that of the split: on some BF says little.
    """
    lines = ["", text.table(_classes(result)), ""]
    measured = [name for name in MEASURES if result.get(name) is not None]
    lines.append(", ".join(f"{title(name)} {percent(result[name])}" for name in measured) + " %")
    if result.get("mean_bf") is not None and bf_caution(data_set, split):
        lines.append(bf_caution(data_set, split))
    counts = result.get("confusion")
    return "\n".join(
        lines if counts is None else [*lines, *confusions(list(result["iou"]), counts)]
    )


def _classes(result):
    """A row for each class: its share of the labelled pixels, its IoU, and BF if measured.

    A class that is neither there nor predicted has no row, but is named below.
    """
    columns = {"% of pixels": "histogram_true", "IoU": "iou", "BF": "bf"}
    columns = {name: key for name, key in columns.items() if key in result}
    rows: list[Sequence[str]] = [["class", *columns]]
    for name, iou in result["iou"].items():
        if iou is not None:
            rows.append([name, *(percent(result[key].get(name)) for key in columns.values())])
    absent = [name for name, iou in result["iou"].items() if iou is None]
    return [*rows, [f"neither there nor predicted: {', '.join(absent)}"]] if absent else rows


def confusions(names: Sequence[str], counts: Any) -> list[str]:
    """A line for each of the most frequent confusions, by pixels.

    Args:
        names: of the classes.
        counts: [C, C] pixels, by true class (rows) and predicted class.
    """
    counts = np.array(counts)
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    lines = []
    for flat in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]:
        true, predicted = np.unravel_index(flat, wrong.shape)
        if wrong[true, predicted]:
            share = percent(wrong[true, predicted] / counts[true].sum())
            lines.append(f"{names[true]} is taken for {names[predicted]}: {share} % of its pixels")
    return lines
