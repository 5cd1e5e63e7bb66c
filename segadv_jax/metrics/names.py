"""The paper's three measures, as they are named in files and shown to people."""

from collections.abc import Mapping
from typing import Any

PAPER_MEASURES = ("class_accuracy", "pixel_accuracy", "mean_iou")
# Those on the validation split that can select a checkpoint. The best by each is kept.
SELECTING = ("mean_iou", "class_accuracy")


def title(measure: str) -> str:
    """A measure's name as text: "mean IoU", "mean BF"."""
    words = {"iou": "IoU", "bf": "BF"}
    return " ".join(words.get(word, word) for word in measure.split("_"))


def percent(fraction: float | None, form: str = ".1f") -> str:
    """A fraction in percent as text; a dash for None, if it is not known or not defined."""
    return "-" if fraction is None else format(100 * fraction, form)


def describe(result: Mapping[str, Any]) -> str:
    """The three measures of a dict that has them, in percent, as text."""
    return ", ".join(f"{title(name)} {percent(result[name])}" for name in PAPER_MEASURES)


def bf_caution(data_set: str, split: str) -> str:
    """Why BF on a split of a data set says little, as a line; empty if there is no reason.

    Luc et al. (2016), Section 4, therefore measure BF on other images.
    """
    if data_set == "image_folder":
        return (
            "BF says how well boundaries match, within 5 pixels; its mean is over images; where "
            "masks leave a border of void around objects it says little"
        )
    drawn_with_void = {"train", "val"} & {part.partition("[")[0] for part in split.split("+")}
    if data_set != "voc_sbd" or not drawn_with_void:
        return ""
    return (
        f"BF on {split} says little: void surrounds the objects there, and a map of nothing but "
        "background scores 61; use val_full, as the paper does"
    )
