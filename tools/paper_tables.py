"""The tables of the paper (Luc et al., 2016, and its supplement): what is printed, and which cells.

Printed figures are text, not numbers: the digits are the paper's. Those of Table 1 are in
tools/results_page.py, those of the supplement's Table 2 in configs/hyperparameters.py.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from configs import hyperparameters
from segadv_jax.measures import MEASURES, title
from segadv_jax.models import ADVERSARIES
from tools import results_page

# How many images the paper's figures are of.
STANFORD_TEST = ("test", 142)
VOC_VAL = ("val", 1_449)
VOC_TEST = ("test", 1_456)
# "to measure the mean BF, we use the 1,103 images ... which were annotated on all pixels".
VOC_VAL_FULL = ("val_full", 1_103)

ADVERSARY_TITLES = {
    "largefov": "LargeFOV",
    "smallfov": "SmallFOV",
    "largefov_light": "LargeFOV-light",
    "smallfov_light": "SmallFOV-light",
}


def _by_pair(text):
    """{(adversary, encoding): words}, as many words for each, row by row."""
    words = text.split()
    pairs = list(hyperparameters.SELECTED)
    count = len(words) // len(pairs)
    return {pair: words[count * i : count * (i + 1)] for i, pair in enumerate(pairs)}


# Table 2, mean IoU and mean BF in %; the baseline's are in the text (Section 4).
TABLE_2 = {"baseline": ["71.8", "47.4"]} | _by_pair("""
    72.0 47.2  72.0 47.7  72.0 47.9
    72.0 47.6  71.9 46.4  71.9 47.1
    72.0 47.0  72.0 47.7  72.0 47.4
    71.9 47.2  71.9 47.4  72.0 46.9
""")

# The supplement's Table 1: parameters for C and for 3C channels, C being VOC's 21 classes.
CLASSES = 21
PARAMETERS = {
    "largefov_light": ("8.7e5", "9.1e5"),
    "largefov": ("2.4e6", "2.4e6"),
    "smallfov_light": ("4.9e5", "9.1e5"),
    "smallfov": ("2.4e6", "2.4e6"),
}
_REPEATED = (
    "A misprint: the cell repeats that of {} and does not fit the layers of the same column{}."
)
MISPRINTED_PARAMETERS = {
    ("smallfov", 0): _REPEATED.format(
        "LargeFOV", "; even with every kernel 3x3 they would have 2.20e6"
    ),
    ("smallfov", 1): _REPEATED.format("LargeFOV", ""),
    ("smallfov_light", 1): _REPEATED.format("LargeFOV-light", ""),
}

# The supplement's Table 3: IoU of each class on VOC's test set in %, and its mean.
TABLE_3_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep"),
    *("sofa", "train", "tv monitor"),
)
TABLE_3 = {
    "baseline": (
        "92.9 87.2 38.2 84.5 62.3 69.7 88.0 82.3 86.4 34.6 80.5 60.5 81.0 86.3 83.0 82.7 53.6 83.9 "
        "54.5 79.3 63.7"
    ).split(),
    ("largefov", "product"): (
        "93.0 87.1 38.5 84.9 63.2 69.7 88.0 82.5 86.8 34.5 80.3 61.5 80.9 85.8 83.3 82.6 55.0 83.5 "
        "54.7 79.7 62.9"
    ).split(),
    ("largefov", "scaling"): (
        "94.9 87.1 38.3 84.8 63.3 69.8 88.1 82.2 87.0 34.7 80.4 60.4 81.0 86.1 83.1 82.7 54.5 83.4 "
        "53.9 79.5 63.4"
    ).split(),
}
TABLE_3_MEAN = {
    "baseline": "73.1",
    ("largefov", "product"): "73.3",
    ("largefov", "scaling"): "73.2",
}


def mean_of_row(key, background=None):
    """Mean of a row of Table 3 as printed, in %, or with another background."""
    first, *rest = map(float, TABLE_3[key])
    values = [first if background is None else background, *rest]
    return sum(values) / len(values)


def doubtful_background():
    """What is odd about the background of LargeFOV-Scaling in Table 3, as text."""
    key, other = ("largefov", "scaling"), TABLE_3["largefov", "product"][0]
    printed, mean = TABLE_3[key][0], TABLE_3_MEAN[key]
    return (
        f"Doubtful: the other rows have {TABLE_3['baseline'][0]} and {other}. The printed cells of "
        f"this row have a mean of {mean_of_row(key):.3f}, which does not round to the printed "
        f"{mean}; with {other} in place of {printed} it is {mean_of_row(key, float(other)):.3f}, "
        f"which does. The other two rows agree with their means ({mean_of_row('baseline'):.3f} and "
        f"{mean_of_row(('largefov', 'product')):.3f}). It is no proof: the rounding of 21 cells "
        f"could make up for {mean_of_row(key) - float(mean) - 0.05:.3f}, though that is unlikely."
    )


class Table(NamedTuple):
    """A table of the paper.

    Attributes:
        file: name without its ending.
        title: heading.
        text: what is to be said of it; may be empty.
        cells: list of Cell, row by row.
        labels: (split, number of its images) that the paper's measures are of; None if of none.
        boundaries: the same of BF.
    """

    file: str
    title: str
    text: str
    cells: list
    labels: tuple[str, int] | None = None
    boundaries: tuple[str, int] | None = None


class Cell(NamedTuple):
    """A figure of the paper and ours.

    Attributes:
        row, column: their titles.
        paper: as printed.
        ours, std: numbers in the unit of ``paper``; None where there is none.
        form: how to show ours.
        note: what is to be said of the printed figure.
        arm: tools.tables.Arm that ours is of; None if it is of none.
    """

    row: str
    column: str
    paper: str
    ours: Any = None
    std: Any = None
    form: str = ".1f"
    note: str = ""
    arm: Any = None


def tables(arms, others=()):
    """All tables.

    Args:
        arms: {cell: tools.tables.Arm}, the keys those of tools.tables.place.
        others: list of such arms for which the paper has no cell.

    Returns:
        list of Table; that of the others comes last, if there are any.
    """
    voc, val = "PASCAL VOC 2012", (VOC_VAL, VOC_VAL_FULL)
    sigma = (
        "Sigma is the standard deviation of BF over images. Lambda stands between sums: ours is "
        "config.loss.lam, times 16 where config.loss.reduction is 'mean' "
        "(configs/hyperparameters.py)."
    )
    counted = "Ours are counted from the shapes of the networks; no run is needed."
    hidden = "The labels of the test set are not public: ours are of another split."
    first, second, third = (f"Supplement, Table {number}:" for number in (1, 2, 3))
    contents = (
        ("table1", "Table 1: Stanford Background, test set, %", "", _table_1(arms), STANFORD_TEST),
        ("table2", f"Table 2: {voc}, validation set, %", "", _table_2(arms), *val),
        ("supplement_table1", f"{first} parameters for C = {CLASSES}", counted, _supplement_1()),
        (
            "supplement_table2",
            f"{second} {voc}, validation set, %",
            sigma,
            _supplement_2(arms),
            *val,
        ),
        (
            "supplement_table3",
            f"{third} {voc}, test set, IoU, %",
            hidden,
            _supplement_3(arms),
            VOC_TEST,
        ),
    )
    result = [
        Table(file, heading, text, list(cells), *images)
        for file, heading, text, cells, *images in contents
    ]
    if others:
        heading = "Runs for which the paper has no cell, %"
        result.append(Table("other_runs", heading, "", list(_others(others))))
    return result


def _figure(arm, measure, form=".1f"):
    """Our part of a Cell: a measure in percent."""
    value = arm.values.get(measure, {"mean": None, "std": None}) if arm else {"mean": None}
    percents = {k: None if v is None else 100 * v for k, v in value.items()}
    return {"ours": percents["mean"], "std": percents.get("std"), "form": form, "arm": arm}


def _row(key):
    """The title of a row: of "baseline" or of (adversary, encoding)."""
    return key if key == "baseline" else f"{ADVERSARY_TITLES[key[0]]}, {key[1]}"


def _table_1(arms):
    for row, printed in results_page.PAPER.items():
        for measure, paper in printed.items():
            yield Cell(row, title(measure), str(paper), **_figure(arms.get(row), measure))


def _table_2(arms):
    for key, (iou, bf) in TABLE_2.items():
        yield Cell(_row(key), "mIoU", iou, **_figure(arms.get(key), "mean_iou"))
        yield Cell(_row(key), "mBF", bf, **_figure(arms.get(key), "mean_bf"))


def _supplement_1():
    for adversary, printed in PARAMETERS.items():
        for i, (column, channels) in enumerate((("C' = C", CLASSES), ("C' = 3C", 3 * CLASSES))):
            note = MISPRINTED_PARAMETERS.get((adversary, i), "")
            ours = count_parameters(adversary, channels)
            row = ADVERSARY_TITLES[adversary]
            yield Cell(row, column, printed[i], ours, form=",", note=note)


def count_parameters(adversary, channels):
    """The parameters of an adversary for label maps of so many channels, from shapes alone."""
    module = ADVERSARIES[adversary](stride=8)

    def init():
        label_map, size = jnp.zeros((1, 40, 40, channels)), jnp.full((1, 2), 320)
        return module.init(jax.random.key(0), label_map, None, size)["params"]

    return sum(math.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(init)))


def _supplement_2(arms):
    selected = {"baseline": hyperparameters.BASELINE} | hyperparameters.SELECTED
    for key, printed in selected.items():
        row, arm = _row(key), arms.get(key)
        for column, measure, paper in (
            ("mIoU", "mean_iou", printed.mean_iou),
            ("mBF", "mean_bf", printed.mean_bf),
            ("sigma", "std_bf", printed.sigma),
        ):
            yield Cell(row, column, f"{paper:.2f}", **_figure(arm, measure, ".2f"))
        settings = _settings(arm.config) if arm else (None, None, None)
        for column, paper, ours in zip(
            ("slr", "alr", "lambda"), printed[3:], settings, strict=True
        ):
            paper = "-" if paper is None else f"{paper:g}"
            ours = None if paper == "-" else ours  # The baseline has no adversary.
            yield Cell(row, column, paper, ours, form="g", arm=arm)


def _settings(config):
    """A run's slr, alr and lambda, the last between sums, as the paper's is read."""
    rates = (config["optimizer"][player]["learning_rate"] for player in ("segmenter", "adversary"))
    loss = config["loss"]
    return *rates, loss["lam"] * (16 if loss["reduction"] == "mean" else 1)


def _supplement_3(arms):
    """Turned on its side: a row for each class."""
    for i, name in enumerate(TABLE_3_CLASSES):
        for key, printed in TABLE_3.items():
            doubtful = (key, name) == (("largefov", "scaling"), "background")
            note = doubtful_background() if doubtful else ""
            figure = _figure(arms.get(key), f"iou {name}")
            yield Cell(name, _row(key), printed[i], note=note, **figure)
    for key, paper in TABLE_3_MEAN.items():
        yield Cell("mIoU", _row(key), paper, **_figure(arms.get(key), "mean_iou"))


def _others(others):
    for arm in others:
        for measure in (*MEASURES, "mean_bf"):
            name = title(measure).replace("bf", "BF")
            yield Cell(arm.name, name, "-", **_figure(arm, measure))
