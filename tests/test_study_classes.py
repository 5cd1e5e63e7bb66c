"""What a study says of each class, recomputed from its file by the standard library alone."""

import dataclasses
import math
import statistics

import pytest
import small_study
from test_study_page import STUDY, T, render, table_of, values_of

from segadv_jax.report import study_classes, study_files


@pytest.fixture
def folder(tmp_path):
    return small_study.write(tmp_path / "results", small_study.made_rows())


def differences(folder, measure):
    ours, theirs = (values_of(folder, "natural", arm, measure) for arm in ("features", "standard"))
    return [100 * (ours[seed] - theirs[seed]) for seed in theirs]


def test_gains_are_given_by_class(folder):
    row = table_of(render(folder), "## Block *natural*", 3)[0]
    assert row["difference"] == "features - standard"
    for kind, title in (("sky", "sky"), ("sea", "*sea*")):
        values = differences(folder, f"iou_{kind}")
        half = T[2] * statistics.stdev(values) / math.sqrt(3)
        assert row[title] == f"{statistics.mean(values):+.2f} ± {half:.2f}"


def test_the_mean_is_given_without_the_rarest_class_as_well(folder):
    row = table_of(render(folder), "## Block *natural*", 1)[0]
    alone = statistics.mean(differences(folder, "iou_sky"))  # The sea has fewer pixels.
    assert row["without the rarest"].startswith(f"{alone:+.2f} (")
    assert row["without the rarest"] != row["mean IoU"]


def test_predicted_pixels_stand_beside_the_true_ones(folder):
    truth, *arms = table_of(render(folder), "## Block *balanced*", 2)
    assert truth == {"arm": "*ground truth*", "sky": "62.5", "*sea*": "37.5"}
    shown = ["standard", "features", "standard_prior", "features_calibrated"]
    assert [row["arm"] for row in arms] == shown
    assert {(row["sky"], row["*sea*"]) for row in arms} == {("25.0", "75.0")}


def test_other_images_have_a_truth_of_their_own():
    block = dataclasses.replace(STUDY.blocks["natural"], splits=("subset_0",), pairs=())
    rows = [row for row in small_study.made_rows() if row["block"] == "natural"]
    elsewhere = {"true_share_sky": 0.125, "true_share_sea": 0.875}
    rows += [row | elsewhere | {"arm": f"{row['arm']}_subset_0"} for row in rows]
    lines = study_classes.render(block, rows).splitlines()
    assert [line for line in lines if "truth*" in line or "truth of" in line] == [
        "| *ground truth* | 62.5 | 37.5 |",
        "| *ground truth of subset_0* | 12.5 | 87.5 |",
    ]
    assert "| arm | *sky* | *sea* |" in lines  # The rarest of either.


def test_classes_that_are_nowhere_count_for_nothing():
    row = {"iou_sky": 0.5, "iou_sea": 0.25, "iou_bus": None}
    row |= {"true_share_sky": 0.9, "true_share_sea": 0.1, "true_share_bus": 0.0}
    assert study_files.rarest(row) == "sea" and study_files.without_rarest(row) == 0.5
    assert study_files.without_rarest({"iou_sky": 0.5, "iou_sea": None}) is None


def test_without_figures_by_class_there_is_no_table(tmp_path):
    rows = [
        {name: value for name, value in row.items() if not name.startswith("true_")}
        for row in small_study.made_rows()
    ]
    page = render(small_study.write(tmp_path / "results", rows))
    assert "by class" not in page and len(STUDY.blocks) == page.count("## Block")
