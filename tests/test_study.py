"""The stages of a study, with a stand-in for the training: what they run, refuse and record."""

import csv
import dataclasses
import itertools
import json
import shutil
import sys
import types

import numpy as np
import pytest
import small_study
from PIL import Image
from small_runs import ROOT, git

from segadv_jax import cli, evaluate
from segadv_jax.campaign import pool
from segadv_jax.errors import InputError
from segadv_jax.report import pictures, study_definition, study_page
from segadv_jax.workdir import Workdir

STAND_IN = f"--program={ROOT / 'tests' / 'stand_in_study.py'}"


@pytest.fixture(scope="module", autouse=True)
def small():
    """The small study is known by the name "small", and its processes are looked at often."""
    module = types.ModuleType("small")
    module.STUDY = small_study.make(turns=small_study.TURNS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "segadv_jax.report.studies.small", module)
        patch.setattr(pool, "POLL", 0.02)
        yield


@pytest.fixture(scope="module", autouse=True)
def prior():
    """In place of the network's passes: alpha 0.5, which gains 0.05; for seed 1 alpha 0."""
    asked = []

    def choose(config, folder, split, alphas):
        asked.append((folder, split))
        assert (min(alphas), max(alphas), len(alphas)) == (-1, 1, 9)
        return (0.0 if folder.endswith("seed_1") else 0.5), []

    def measure(config, folder, split):
        if config.evaluate.checkpoint == "latest":
            result = Workdir(folder).evaluation(split)
            changed = {"mean_iou": result["mean_iou"] - 0.25}
            return Workdir(folder).write_evaluation(f"{split}_latest", result | changed)
        assert config.evaluate.prior_shift == 0.5
        result = Workdir(folder).evaluation(split)
        return result | {"mean_iou": result["mean_iou"] + 0.05}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "choose_prior_shift", choose, raising=False)
        patch.setattr(evaluate, "evaluate", measure)
        yield asked


def study(folder, stage, *more, runs="runs", name="small"):
    """The exit status of a command line."""
    arguments = [name, stage, f"--workdir={folder / runs}", f"--results={folder / 'results'}"]
    arguments += [STAND_IN, "--processes=2", *more]
    return cli.run("tools.study", "python -m tools.study", arguments)


def choices_of(folder):
    return json.loads((folder / "results" / "small_choices.json").read_text())


def arguments_of(folder, run):
    return json.loads((folder / "runs" / run / "arguments.json").read_text())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with the stage tune behind it, which was called for a part first."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "results").mkdir()
    git(folder, "init", "-q")
    assert study(folder, "tune", "--blocks=natural", "--arms=standard,both") == 1
    assert choices_of(folder)["blocks"].keys() == {"natural"}
    assert choices_of(folder)["blocks"]["natural"].keys() == {"standard"}
    assert study(folder, "tune") == 0
    return folder


@pytest.fixture(scope="module")
def trained(tuned):
    """The same folder with the choices committed and the stage train done."""
    with pytest.raises(InputError, match="small_choices.json is not committed"):
        study(tuned, "train")
    assert not (tuned / "runs" / "natural").exists()
    git(tuned, "add", ".")
    git(tuned, "commit", "-q", "-m", "choices")
    assert study(tuned, "train", "--seeds=0", "--blocks=natural") == 0
    assert {path.name for path in (tuned / "runs").glob("natural/*/*")} == {"seed_0"}
    assert study(tuned, "train") == 0
    return tuned


def test_tuning_reads_validation_images_only(tuned):
    evaluations = list((tuned / "runs" / "tuning").glob("*/*/*/seed_*/eval/*.json"))
    assert len(evaluations) == 6 + 2 * 4
    assert {path.name for path in evaluations} == {"subset_7.json"}


def test_the_best_point_is_chosen_and_inherited(tuned):
    content = choices_of(tuned)
    assert content["settings_tried"] == 10
    natural = content["blocks"]["natural"]
    assert natural["standard"]["chosen"] == "fast"
    # A larger lambda has the lower IoU and the larger sum of IoU and BF.
    assert natural["features"]["chosen"] == "heavy"
    heavy, light = (natural["features"]["points"][name] for name in ("heavy", "light"))
    assert heavy["mean_iou"] < light["mean_iou"] and heavy["score"] > light["score"]
    assert heavy["score"] == pytest.approx(heavy["mean_iou"] + heavy["mean_bf"])
    rate = "optimizer.segmenter.learning_rate"
    assert natural["features"]["fields"] == {rate: 0.004, "loss.lam": 0.1}
    assert natural["both"]["fields"] == {rate: 0.004, "loss.lam": 0.1, "loss.start": 10}
    # The grid of an arm is tried with what it inherits.
    arguments = arguments_of(tuned, "tuning/natural/both/other/seed_100")
    for expected in ("loss.lam=0.1", "loss.start=20", "encoding=scaling", f"{rate}=0.004"):
        assert f"--config.{expected}" in arguments
    # Two tuning seeds: the mean of both.
    point = content["blocks"]["balanced"]["standard"]["points"]["fast"]
    assert point["mean_iou"] == pytest.approx(0.6 + 0.1005)
    assert content["tuning_seeds"] == {"natural": [100], "balanced": [100, 101]}
    assert content["commands"] and content["commits"]


def test_every_arm_runs_with_its_settings_in_every_block(trained):
    found = {
        "/".join(path.relative_to(trained / "runs").parts[:3])
        for path in (trained / "runs").glob("*/*/seed_*/ended.json")
    }
    expected = {f"natural/{arm}/seed_{n}" for arm in small_study.ARMS for n in (0, 1, 2)}
    expected |= {f"balanced/{arm}/seed_{n}" for arm in ("standard", "features") for n in (0, 1)}
    # The block "turns" shares the folder of the block "natural".
    expected |= {f"natural/fast/seed_{n}" for n in (0, 1)}
    assert found == expected | {"fold_1/standard/seed_0"}
    fast, like = (
        set(arguments_of(trained, f"natural/{arm}/seed_0")) for arm in ("fast", "features")
    )
    assert fast - like == {"--config.alternation.schedule=fast"} and like < fast
    fold = arguments_of(trained, "fold_1/standard/seed_0")
    assert "--config.optimizer.segmenter.learning_rate=0.004" in fold
    assert "--config.data.test=test[71:]+subset_0" in fold
    evaluation = trained / "runs/fold_1/standard/seed_0/eval/test[71:]+subset_0.json"
    assert evaluation.exists()
    balanced = arguments_of(trained, "balanced/features/seed_1")
    assert balanced[0] == "--config=configs/stanford_light.py:adversarial"
    assert "--config.loss.balance=1.0" in balanced
    assert f"--config.init={trained / 'runs' / 'start'}" in balanced


def test_what_is_done_is_not_done_again(trained, prior):
    before = {path: path.stat().st_mtime_ns for path in (trained / "runs").glob("**/starts")}
    asked = list(prior)
    assert study(trained, "train") == 0
    assert {p: p.stat().st_mtime_ns for p in (trained / "runs").glob("**/starts")} == before
    assert prior == asked and len(asked) == 2


def test_changed_choices_and_grids_are_refused(trained, monkeypatch):
    path = trained / "results" / "small_choices.json"
    before = path.read_text()
    try:
        path.write_text(before.replace('"chosen": "heavy"', '"chosen": "light"'))
        with pytest.raises(InputError, match="small_choices.json is not committed"):
            study(trained, "train")
    finally:
        path.write_text(before)
    arm = study_definition.Arm({"a": {"loss.lam": 1.0}, "b": {}})
    block = study_definition.Block("Other.", {"standard": arm}, (0,), (), tuning_seeds=(100,))
    other = small_study.make(natural=block)
    monkeypatch.setattr(sys.modules["segadv_jax.report.studies.small"], "STUDY", other)
    with pytest.raises(InputError, match="the grid of natural/standard is another one"):
        study(trained, "train")


@pytest.fixture(scope="module")
def reported(trained):
    assert study(trained, "report") == 0
    return trained


def rows_of(folder):
    with open(folder / "results" / "small.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_has_a_row_for_every_run(reported):
    rows = rows_of(reported)
    assert len(rows) == 9 + 4 + 2 + 1 + 4 + 4
    first = rows[0]
    assert (first["block"], first["arm"], first["seed"]) == ("natural", "standard", "0")
    assert (first["fraction"], first["balance"], first["fold"]) == ("1.0", "0.0", "0")
    assert (first["mean_iou"], first["mean_bf_3_pixels"]) == ("0.6", "0.30000000000000004")
    assert (first["iou_sky"], first["iou_tree"], first["share_tree"]) == ("0.6", "", "0.25")
    assert (first["accuracy_real"], first["prior_alpha"], first["segmenter_updates"]) == (
        *("", ""),
        "2",
    )
    shifted = {row["seed"]: row for row in rows if row["arm"] == "standard_prior"}
    plain = {row["seed"]: row for row in rows if row["arm"] == "standard"}
    assert {n: row["prior_alpha"] for n, row in shifted.items()} == {"0": "0.5", "1": "0.0"}
    assert float(shifted["0"]["mean_iou"]) == pytest.approx(0.65)
    assert shifted["1"]["mean_iou"] == plain["1"]["mean_iou"] and shifted["1"]["balance"] == "1.0"
    assert [row["fold"] for row in rows if row["block"] == "fold_1"] == ["1"]
    turns = [row for row in rows if row["block"] == "turns" and row["seed"] == "0"]
    assert [row["arm"] for row in turns] == ["standard", "fast", "standard_latest", "fast_latest"]
    values = [float(row["mean_iou"]) for row in turns]
    assert values[2] == values[0] - 0.25 and values[3] == values[1] - 0.25


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


def test_a_report_needs_not_the_folders_of_the_data(reported, tmp_path):
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
    assert study(tmp_path, "report") == 0
    page = (tmp_path / "small_study.md").read_text()
    assert "**This study is not complete:**" in page and "natural/both lacks seeds 0, 1, 2" in page
    assert "balanced/standard_prior lacks seeds 1" in page
    assert "**No run of this block is done.**" in page
    assert "| standard | 1 of 2 |" in page and "| features - standard | 1 of 2 |" in page


def test_a_repeated_seed_agrees_or_says_so(reported, capsys):
    with pytest.raises(InputError, match="holds the runs that were recorded"):
        study(reported, "repeat")
    assert study(reported, "repeat", "--seeds=1", runs="again") == 0
    assert {p.name for p in (reported / "again").glob("*")} >= {"natural"}
    assert not (reported / "again" / "balanced").exists()
    said = capsys.readouterr().out
    assert said.count(", seed 1: largest difference 0.0000 %") == len(small_study.ARMS)
    assert "agrees within 0.05 %" in said
    with pytest.raises(InputError, match="--seeds: no block has the seed 7; known: .0, 1, 2."):
        study(reported, "repeat", "--seeds=7", runs="again")
    table = reported / "results" / "small.csv"
    before = table.read_text()
    lines = before.splitlines(keepends=True)
    table.write_text("".join(x for x in lines if not x.startswith("natural,both,1")))
    with pytest.raises(InputError, match="small.csv has no run of natural/both/seed_1; choose"):
        study(reported, "repeat", "--seeds=1", runs="again")
    table.write_text(before.replace("0.601", "0.611"))
    assert table.read_text() != before
    assert study(reported, "repeat", "--seeds=1", runs="again") == 1
    assert "DOES NOT AGREE" in capsys.readouterr().out
    table.write_text(before)


def test_a_failed_run_leaves_the_rest(tmp_path, monkeypatch, capsys):
    """And what depends on it is named."""
    (tmp_path / "results").mkdir()
    arms = dict(small_study.ARMS)
    grid = {"a": {"loss.lam": 0.1}, "b": {"loss.lam": 0.1}}
    arms["features"] = study_definition.Arm(grid, ("standard",))
    block = study_definition.Block("B.", arms, (0,), (), tuning_seeds=(100,))
    monkeypatch.setattr(
        sys.modules["segadv_jax.report.studies.small"], "STUDY", small_study.make(natural=block)
    )
    # A folder that was left by another program.
    bad = tmp_path / "runs/tuning/natural/features/a/seed_100/history.csv"
    bad.mkdir(parents=True)
    assert study(tmp_path, "tune", "--blocks=natural") == 1
    assert "not tuned yet: natural/features, natural/both" in capsys.readouterr().err
    assert choices_of(tmp_path)["blocks"]["natural"].keys() == {"standard"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small", "tune"], "--workdir: the stage tune needs a folder"),
        (["smal", "tune"], "smal is no study; known: .*light"),
        (["small", "tun"], "invalid choice: 'tun'"),
        (["small", "tune", "--workdir=W", "--blocks=x"], "--blocks: there is no x; known: natural"),
        (["small", "tune", "--workdir=W", "--arms=x"], "--arms: there is no x; known: standard"),
        (["small", "tune", "--workdir=W", "--blocks=fold_1"], "take the choices of another block"),
        (["small", "tune", "--workdir=W", "--blocks=fold_1", "--arms=both"], "none is in --blocks"),
        (["small", "train", "--workdir=W", "--config.loss.lam=1"], "the fields are those of the"),
        (["small", "train", "--workdir=W"], "small_choices.json is missing"),
        (["small", "report"], "small.csv is missing"),
    ],
)
def test_a_wrong_command_is_refused(arguments, message, tmp_path):
    arguments = [x.replace("--workdir=W", f"--workdir={tmp_path}") for x in arguments]
    with pytest.raises(InputError, match=message):
        cli.run("tools.study", "", [*arguments, f"--results={tmp_path / 'results'}"])


def test_a_field_that_there_is_not_is_found_before_anything_runs(tmp_path, monkeypatch):
    block = study_definition.Block(
        "B.", small_study.ARMS, (0,), (), {"loss.lamb": 1}, tuning_seeds=(100,)
    )
    module = sys.modules["segadv_jax.report.studies.small"]
    monkeypatch.setattr(module, "STUDY", small_study.make(natural=block))
    with pytest.raises(InputError, match="--config.loss.lamb: the configuration has no such field"):
        study(tmp_path, "tune")
    assert not list((tmp_path / "runs").iterdir())


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


def test_choices_of_other_arms_are_kept_and_those_of_changed_ones_are_not(tuned, tmp_path):
    """A second workdir tunes one arm again."""
    results = tmp_path / "results"
    shutil.copytree(tuned / "results", results, ignore=shutil.ignore_patterns(".git"))
    before = json.loads((results / "small_choices.json").read_text())
    part = ("tune", "--blocks=natural", "--arms=standard")
    assert study(tmp_path, *part) == 0
    again = choices_of(tmp_path)
    assert again["blocks"] == before["blocks"]
    # Had another point been chosen before, what was inherited from it would no longer hold.
    chosen = before["blocks"]["natural"]["standard"]
    chosen["chosen"], chosen["fields"] = "slow", chosen["points"]["slow"]["fields"]
    (results / "small_choices.json").write_text(json.dumps(before))
    assert study(tmp_path, *part) == 0
    again = choices_of(tmp_path)["blocks"]
    assert (
        again["natural"].keys() == {"standard"}
        and again["balanced"] == before["blocks"]["balanced"]
    )


def test_where_no_run_ends_the_choices_are_left_alone(tuned, tmp_path, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(tuned / "results", results, ignore=shutil.ignore_patterns(".git"))
    before = (results / "small_choices.json").read_text()
    failing = tmp_path / "fails.py"
    failing.write_text("raise SystemExit(2)")
    arguments = ["small", "tune", f"--workdir={tmp_path / 'runs'}", f"--results={results}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "POLL", 0.02)
        assert cli.run("tools.study", "study", [*arguments, f"--program={failing}"]) == 1
    assert (results / "small_choices.json").read_text() == before


def test_archives_that_are_not_there_are_noticed_once_before_any_run(tmp_path):
    arguments = ["small", "tune", f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path}"]
    arguments += [f"--archives={tmp_path / 'none'}", f"--data_dir={tmp_path / 'data'}"]
    with pytest.raises(InputError, match="none"):
        cli.run("tools.study", "study", arguments)
    assert not (tmp_path / "runs" / "tuning").exists()
