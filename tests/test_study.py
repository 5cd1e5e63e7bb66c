"""The stages of a study, with a stand-in for the training: what they run, refuse and record."""

import dataclasses
import json
import shutil
import sys

import pytest
import small_study
import study_stages
from small_runs import git
from study_stages import arguments_of, choices_of, study

from segadv_jax import cli
from segadv_jax.campaign import pool
from segadv_jax.errors import InputError
from segadv_jax.report import study_definition

STUDY = small_study.STUDY
small, corrections = study_stages.small, study_stages.corrections
tuned, trained = study_stages.tuned, study_stages.trained


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


def test_what_is_done_is_not_done_again(trained, corrections):
    before = {path: path.stat().st_mtime_ns for path in (trained / "runs").glob("**/starts")}
    asked = list(corrections)
    assert study(trained, "train") == 0
    assert {p: p.stat().st_mtime_ns for p in (trained / "runs").glob("**/starts")} == before
    assert corrections == asked and len(asked) == 4


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


def test_another_machine_tunes_the_arms_that_are_left(tuned, tmp_path):
    shutil.copytree(tuned / "results", tmp_path / "results")
    git(tmp_path, "init", "-q")
    path, before = tmp_path / "results" / "small_choices.json", choices_of(tmp_path)
    lacking = {name: dict(arms) for name, arms in before["blocks"].items()}
    del lacking["natural"]["both"]
    path.write_text(json.dumps(before | {"blocks": lacking}))
    assert study(tmp_path, "tune", "--blocks=natural", "--arms=both") == 0
    assert choices_of(tmp_path)["blocks"] == before["blocks"]
    assert {p.name for p in (tmp_path / "runs" / "tuning" / "natural").glob("*")} == {"both"}


def test_what_lies_between_arms_that_are_tuned_again_is_kept(tuned, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(tuned / "results", results, ignore=shutil.ignore_patterns(".git"))
    before = choices_of(tmp_path)["blocks"]
    assert study(tmp_path, "tune", "--blocks=natural", "--arms=standard,both") == 0
    assert choices_of(tmp_path)["blocks"] == before
    found = (tmp_path / "runs" / "tuning" / "natural").glob("*")
    assert {path.name for path in found} == {"standard", "both"}


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
        (
            ["small", "tune", "--workdir=W", "--blocks=fold_1", "--arms=both"],
            "--blocks: fold_1 has none of --arms=both; leave it out",
        ),
        (
            ["small", "tune", "--workdir=W", "--blocks=fold_1", "--arms=standard,both"],
            "--arms: both is in none of --blocks=fold_1",
        ),
        (["small", "tune", "--workdir=W", "--seeds=0"], "--seeds: the stage tune does not take it"),
        (["small", "report", "--blocks=natural"], "--blocks: the stage report does not take it"),
        (["small", "report", "--arms=standard"], "--arms: the stage report does not take it"),
        (["small", "report", "--seeds=0"], "--seeds: the stage report does not take it; leave it"),
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


def test_what_was_inherited_from_an_arm_with_another_grid_is_not_kept(tuned, tmp_path, monkeypatch):
    """Though another arm alone is tuned now: the choice that it began with is gone."""
    results = tmp_path / "results"
    shutil.copytree(tuned / "results", results, ignore=shutil.ignore_patterns(".git"))
    arms = dict(small_study.ARMS)
    grid = {"slow": {"loss.lam": 0.0}, "fast": {"loss.lam": 0.01}}
    arms["standard"] = study_definition.Arm(grid)
    other = small_study.make(natural=dataclasses.replace(STUDY.blocks["natural"], arms=arms))
    monkeypatch.setattr(sys.modules["segadv_jax.report.studies.small"], "STUDY", other)
    assert study(tmp_path, "tune", "--blocks=balanced", "--arms=standard") == 0
    assert choices_of(tmp_path)["blocks"].keys() == {"balanced"}


def test_where_no_run_ends_the_choices_are_left_alone(tuned, tmp_path, capsys):
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
    assert "not tuned yet" not in capsys.readouterr().err  # All were chosen before.


def test_archives_that_are_not_there_are_noticed_once_before_any_run(tmp_path):
    arguments = ["small", "tune", f"--workdir={tmp_path / 'runs'}", f"--results={tmp_path}"]
    arguments += [f"--archives={tmp_path / 'none'}", f"--data_dir={tmp_path / 'data'}"]
    with pytest.raises(InputError, match="none"):
        cli.run("tools.study", "study", arguments)
    assert not (tmp_path / "runs" / "tuning").exists()
