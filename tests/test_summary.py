"""The lines that end an evaluation."""

import numpy as np

from segadv_jax.metrics import confusion
from segadv_jax.report.summary import describe

COUNTS = [[600, 100, 20, 0], [100, 60, 0, 0], [5, 4, 11, 0], [0, 0, 0, 0]]
NAMES = ("sky", "tree", "person", "boat")


def by_class(values):
    return {name: None if np.isnan(x) else float(x) for name, x in zip(NAMES, values, strict=True)}


def result():
    counts = np.array(COUNTS)
    measured = confusion.measures(counts)
    shares = {name: by_class(values) for name, values in confusion.shares(counts).items()}
    measured |= {"iou": by_class(measured["iou"])}
    return measured | shares | {"confusion": COUNTS, "mean_bf": 0.5, "bf": by_class([0.25] * 4)}


def test_classes_measures_and_confusions_are_said():
    assert (
        describe(result())
        == """
class   % of pixels   IoU    BF
sky            80.0  72.7  25.0
tree           17.8  22.7  25.0
person          2.2  27.5  25.0
neither there nor predicted: boat

mean IoU 41.0, pixel accuracy 74.6, class accuracy 58.6, mean BF 50.0 %
sky is taken for tree: 13.9 % of its pixels
tree is taken for sky: 62.5 % of its pixels
sky is taken for person: 2.8 % of its pixels
person is taken for sky: 25.0 % of its pixels
person is taken for tree: 20.0 % of its pixels"""
    )


def test_bf_that_says_little_is_marked():
    caution = "BF on val says little"
    assert caution in describe(result(), "voc_sbd", "val")
    assert caution not in describe(result(), "voc_sbd", "val_full")
    assert caution not in describe(result() | {"mean_bf": None}, "voc_sbd", "val")


def test_only_the_most_frequent_confusions_are_named():
    counts = np.full((4, 4), 1) + np.diag([9] * 4)
    counts[2, 0] = 5
    lines = describe(result() | {"confusion": counts.tolist()}).split("\n")
    named = [line for line in lines if "taken for" in line]
    assert len(named) == 5 and named[0].startswith("person is taken for sky: ")


def test_evaluations_of_older_versions_can_be_read():
    lines = describe({"iou": {"sky": 0.5, "tree": None}, "mean_iou": 0.5}).split("\n")
    assert lines == [
        "",
        "class   IoU",
        "sky    50.0",
        "neither there nor predicted: tree",
        "",
        "mean IoU 50.0 %",
    ]
