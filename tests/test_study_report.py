"""What a study makes of its runs, with a stand-in for the training: files, pages, a repetition."""

import csv
import dataclasses
import datetime
import itertools
import json
import os
import shutil
import sys

import numpy as np
import pytest
import small_study
import study_stages
from PIL import Image
from study_stages import study

from segadv_jax import cli
from segadv_jax.errors import InputError
from segadv_jax.report import pictures, study_definition, study_page
from segadv_jax.workdir import Workdir

small, corrections = study_stages.small, study_stages.corrections
tuned, trained = study_stages.tuned, study_stages.trained


@pytest.fixture(scope="module")
def reported(trained):
    assert study(trained, "report") == 0
    return trained


def rows_of(folder):
    with open(folder / "results" / "small.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_has_a_row_for_every_run(reported):
    rows = rows_of(reported)
    assert len(rows) == 9 + 4 + 2 + 2 + 1 + 4 + 4 + 4
    first = rows[0]
    assert (first["block"], first["arm"], first["seed"]) == ("natural", "standard", "0")
    assert (first["fraction"], first["balance"], first["fold"]) == ("1.0", "0.0", "0")
    assert (first["mean_iou"], first["mean_bf_3_pixels"]) == ("0.6", "0.30000000000000004")
    assert (first["iou_sky"], first["iou_tree"], first["share_tree"]) == ("0.6", "", "0.25")
    assert (first["accuracy_real"], first["prior_alpha"], first["segmenter_updates"]) == (
        *("", ""),
        "2",
    )
    assert (first["images"], first["std_bf"]) == ("7", "")
    assert not any(row["hours"] for row in rows)  # The stand-in does not say when it began.
    shifted = {row["seed"]: row for row in rows if row["arm"] == "standard_prior"}
    plain = {row["seed"]: row for row in rows if row["arm"] == "standard"}
    assert {n: row["prior_alpha"] for n, row in shifted.items()} == {"0": "0.5", "1": "0.0"}
    assert float(shifted["0"]["mean_iou"]) == pytest.approx(0.65)
    assert shifted["1"]["mean_iou"] == plain["1"]["mean_iou"] and shifted["1"]["balance"] == "1.0"
    calibrated = {row["seed"]: row for row in rows if row["arm"] == "features_calibrated"}
    plain = {row["seed"]: row for row in rows if row["arm"] == "features"}
    assert {n: row["temperature"] for n, row in calibrated.items()} == {"0": "1.5", "1": "1.0"}
    assert float(calibrated["0"]["ece"]) == pytest.approx(float(plain["0"]["ece"]) / 2)
    assert calibrated["1"]["ece"] == plain["1"]["ece"]
    assert [row["fold"] for row in rows if row["block"] == "fold_1"] == ["1"]
    turns = [row for row in rows if row["block"] == "turns" and row["seed"] == "0"]
    beside = ["standard_latest", "fast_latest", "standard_subset_0", "fast_subset_0"]
    assert [row["arm"] for row in turns] == ["standard", "fast", *beside]
    values = [float(row["mean_iou"]) for row in turns]
    assert values[2:4] == [value - 0.25 for value in values[:2]]
    assert values[4:] == [value + 0.125 for value in values[:2]]


def test_the_report_says_how_long_a_run_took(reported, tmp_path):
    for part in ("runs", "results"):
        shutil.copytree(reported / part, tmp_path / part)
    workdir = Workdir(tmp_path / "runs" / "balanced" / "standard" / "seed_1")
    workdir.write_environment({"started": "2026-11-30T12:52:50+00:00"})
    ended = datetime.datetime(2026, 11, 30, 14, 22, 50, tzinfo=datetime.UTC).timestamp()
    os.utime(workdir.evaluation_path("test"), (ended, ended))
    assert study(tmp_path, "report") == 0
    hours = {
        (row["block"], row["arm"], row["seed"]): float(row["hours"])
        for row in rows_of(tmp_path)
        if row["hours"]
    }
    assert hours == {("balanced", "standard", "1"): pytest.approx(1.5)}


def test_the_report_shows_how_training_went_where_it_is_told_to(reported):
    results, page = reported / "results", (reported / "small_study.md").read_text()
    with open(results / "small_histories.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    place = [(row["block"], row["arm"], row["seed"], row["segmenter_updates"]) for row in rows]
    names = itertools.product(["turns"], ["standard", "fast"], "01", ["1.0", "2.0"])
    assert place == list(names)
    assert {row["validation_mce"] for row in rows} == {"1.5"}
    assert (results / "small_turns.png").stat().st_size > 10_000
    assert "![Training and validation](results/small_turns.png)" in page
    assert "| fast | 2 | 2.0 | 2 | 60.0 / 50.0 / 10.0 | - / 20.0 / - | - / 1.500 |" in page


def test_the_page_needs_the_files_only(reported):
    page = (reported / "small_study.md").read_text()
    study_small = study_definition.load("small")
    assert page == study_page.render(reported / "results", "small", study_small)
    assert "All runs of the study are done." in page
    without = ["small", "report", f"--results={reported / 'results'}"]
    (reported / "small_study.md").unlink()
    assert cli.run("tools.study", "python -m tools.study", without) == 0
    assert (reported / "small_study.md").read_text() == page


def test_a_report_needs_not_the_folders_of_the_data(reported, tmp_path, capsys):
    """A copy of the runs, elsewhere, is as good."""
    shutil.copytree(reported / "runs", tmp_path / "runs")
    shutil.copytree(reported / "results", tmp_path / "results")
    assert study(tmp_path, "report", "--archives=elsewhere") == 0
    assert rows_of(tmp_path) == rows_of(reported)
    path = tmp_path / "runs" / "natural" / "both" / "seed_0" / "arguments.json"
    path.write_text(path.read_text().replace("loss.lam=0.1", "loss.lam=0.2"))
    with pytest.raises(InputError, match="made with other arguments: --config.loss.lam=0.2"):
        study(tmp_path, "report")
    shutil.rmtree(tmp_path / "runs" / "natural")
    shutil.rmtree(tmp_path / "runs" / "balanced" / "standard" / "seed_1")
    (tmp_path / "results" / "small.csv").unlink()
    assert study(tmp_path, "report") == 0
    page = (tmp_path / "small_study.md").read_text()
    said = f"small.csv lacks runs of {page.count(' lacks seeds ')} arms, as "
    assert said in capsys.readouterr().err
    assert "**This study is not complete:**" in page and "natural/both lacks seeds 0, 1, 2" in page
    assert "balanced/standard_prior lacks seeds 1" in page
    assert "**No run of this block is done.**" in page
    assert "| standard | 1 of 2 |" in page and "| features - standard | 1 of 2 |" in page
    table = tmp_path / "results" / "small.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="small.csv.*it has no rows"):
        study(tmp_path, "report")
    assert (tmp_path / "small_study.md").read_text() == page


def test_several_machines_share_a_study(reported, tmp_path):
    """The rows of one stay when the other writes its own; what both have is the latter's."""
    shutil.copytree(reported / "results", tmp_path / "results")
    for machine, missing in (("first", "balanced"), ("second", "natural")):
        shutil.copytree(reported / "runs", tmp_path / machine)
        shutil.rmtree(tmp_path / machine / missing)
    campaign = tmp_path / "first" / "campaign.json"
    how = json.loads(campaign.read_text())
    campaign.write_text(json.dumps(how | {"commits": ["1234567"]}))
    files = ("small.csv", "small_histories.csv")
    for name in (*files, "small_campaign.json"):
        (tmp_path / "results" / name).unlink()
    assert study(tmp_path, "report", runs="first") == 0
    assert {row["block"] for row in rows_of(tmp_path)} == {"natural", "fold_1", "turns"}
    evaluation = tmp_path / "second" / "fold_1" / "standard" / "seed_0" / "eval"
    path = evaluation / "test[71:]+subset_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mean_iou": 0.125}))
    assert study(tmp_path, "report", runs="second") == 0
    for row, before in zip(rows_of(tmp_path), rows_of(reported), strict=True):
        assert row == before | ({"mean_iou": "0.125"} if row["block"] == "fold_1" else {})
    histories = [(folder / "results" / files[1]).read_text() for folder in (tmp_path, reported)]
    assert histories[0] == histories[1]
    merged = json.loads((tmp_path / "results" / "small_campaign.json").read_text())
    assert merged["commits"] == ["1234567", *how["commits"]]
    assert merged["commands"] == how["commands"]


def test_a_repeated_seed_agrees_or_says_so(reported, capsys):
    with pytest.raises(InputError, match="holds the runs that were recorded"):
        study(reported, "repeat")
    assert study(reported, "repeat", "--seeds=1", runs="again") == 0
    assert {p.name for p in (reported / "again").glob("*")} >= {"natural"}
    assert not (reported / "again" / "balanced").exists()
    # What was repeated is never taken for what is recorded.
    for stage in ("train", "report"):
        with pytest.raises(InputError, match="again holds runs of the stage repeat"):
            study(reported, stage, runs="again")
    assert not (reported / "again" / "campaign.json").exists()
    said = capsys.readouterr().out
    assert said.count(", seed 1: largest difference 0.0000 %") == len(small_study.ARMS)
    assert "agrees within 0.1 %" in said
    with pytest.raises(InputError, match="--seeds: no block has the seed 7; known: .0, 1, 2."):
        study(reported, "repeat", "--seeds=7", runs="refused")
    assert not (reported / "refused").exists()
    table = reported / "results" / "small.csv"
    before = table.read_text()
    lines = before.splitlines(keepends=True)
    table.write_text("".join(x for x in lines if not x.startswith("natural,both,1")))
    with pytest.raises(InputError, match="small.csv has no run of natural/both/seed_1; choose"):
        study(reported, "repeat", "--seeds=1", runs="again")
    table.write_text(before.replace("0.601", "0.611"))
    assert table.read_text() != before
    assert study(reported, "repeat", "--seeds=1", runs="again") == 1
    said = capsys.readouterr().out
    assert "largest difference 1.0000 %, in mean IoU\n" in said
    assert "DOES NOT AGREE" in said and "This is: " in said
    recorded = json.loads((reported / "results" / "small_campaign.json").read_text())
    assert f"Recorded on: {recorded['machine']['processor']}, " in said
    table.write_text(before)
    path = reported / "results" / "small_choices.json"
    chosen = path.read_text()
    lacking = json.loads(chosen)
    del lacking["blocks"]["natural"]["both"]
    path.write_text(json.dumps(lacking))
    with pytest.raises(InputError, match="natural/both is not tuned, so there is nothing to rep"):
        study(reported, "repeat", "--arms=both", runs="refused")
    path.write_text(chosen)


@pytest.mark.parametrize("missing", ["campaign", "prediction"])
def test_a_report_that_fails_leaves_the_files_as_they_were(
    reported, tmp_path, monkeypatch, missing
):
    shutil.copytree(reported / "runs", tmp_path / "runs")
    shutil.copytree(reported / "results", tmp_path / "results")
    path = tmp_path / "runs/fold_1/standard/seed_0/eval/test[71:]+subset_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mean_iou": 0.125}))
    if missing == "campaign":
        (tmp_path / "runs" / "campaign.json").unlink()
    else:
        module = sys.modules["segadv_jax.report.studies.small"]
        pictured = dataclasses.replace(module.STUDY, pictured=("standard",))
        monkeypatch.setattr(module, "STUDY", pictured)  # The stand-in names no data.
    before = {path: path.read_bytes() for path in (tmp_path / "results").glob("small*")}
    with pytest.raises(InputError, match="campaign.json is missing|no data set is called"):
        study(tmp_path, "report")
    assert {path: path.read_bytes() for path in (tmp_path / "results").glob("small*")} == before


def test_the_picture_is_of_the_named_arms_at_fixed_places(reported, monkeypatch):
    asked = []
    batch = {"image": np.zeros((1, 8, 8, 3), np.uint8), "label": np.zeros((1, 8, 8), np.uint8)}
    batch |= {"size": np.array([[8, 8]])}

    def predict(runs, rows):
        asked.append(({arm: folder for arm, (_, folder) in runs.items()}, rows))
        return None, batch, {arm: np.ones((1, 8, 8, 2)) / 2 for arm in runs}

    monkeypatch.setattr(pictures, "predict", predict)
    study_of = sys.modules["segadv_jax.report.studies.small"].STUDY
    pictured = dataclasses.replace(study_of, pictured=("standard", "features"))
    monkeypatch.setattr(sys.modules["segadv_jax.report.studies.small"], "STUDY", pictured)
    assert study(reported, "report") == 0
    folders = {arm: str(reported / f"runs/natural/{arm}/seed_0") for arm in pictured.pictured}
    assert asked == [(folders, (0, 28, 56, 84, 112))]
    # Image and truth make the picture wider, and are not published.
    public, private = (reported / where / "small.png" for where in ("results", "runs"))
    with Image.open(public) as predictions, Image.open(private) as all_of_it:
        assert predictions.width < all_of_it.width
    page = (reported / "small_study.md").read_text()
    assert "(results/small.png)" in page
    assert "as *standard*, *features* see them (block *natural*, seed 0)" in page
