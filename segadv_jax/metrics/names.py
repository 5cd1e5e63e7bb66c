"""The paper's three measures, as they are named in files and shown to people."""

from collections.abc import Mapping
from typing import Any

PAPER_MEASURES = ("class_accuracy", "pixel_accuracy", "mean_iou")
# Those on the validation split that can select a checkpoint. The best by each is kept.
SELECTING = ("mean_iou", "class_accuracy")


def title(measure: str) -> str:
    """A measure's name as text: "mean IoU"."""
    return measure.replace("_", " ").replace("iou", "IoU")


def percent(fraction: float | None, form: str = ".1f") -> str:
    """A fraction in percent as text; a dash for None, if it is not known or not defined."""
    return "-" if fraction is None else format(100 * fraction, form)


def describe(result: Mapping[str, Any]) -> str:
    """The three measures of a dict that has them, in percent, as text."""
    return ", ".join(f"{title(name)} {percent(result[name])}" for name in PAPER_MEASURES)
