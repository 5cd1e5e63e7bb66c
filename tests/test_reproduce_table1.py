"""The stages of Table 1, with a stand-in for the training: what they run, refuse and record."""

import csv
import json

import pytest
from small_runs import ROOT, git

from segadv_jax import cli
from segadv_jax.errors import InputError
from segadv_jax.report import pictures, table1_page, table1_runs

STAND_IN = f"--program={ROOT / 'tests' / 'stand_in.py'}"


def table1(*arguments):
    """The exit status of a command line."""
    return cli.run("tools.reproduce_table1", "python -m tools.reproduce_table1", arguments)


def call(folder, stage, *more):
    return table1(
        stage,
        f"--workdir={folder / 'runs'}",
        f"--results={folder / 'results'}",
        STAND_IN,
        "--seeds=0,1",
        "--fraction_seeds=0",
        "--fraction_updates=1",
        "--fresh_seeds=7",
        "--tuning_seeds=5",
        "--processes=2",
        *more,
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with the stage tune behind it. A run's measures grow with its lambda."""
    folder = tmp_path_factory.mktemp("table1")
    (folder / "results").mkdir()
    git(folder, "init", "-q")
    assert call(folder, "tune", "--", "--config.segmenter.shrink=2") == 0
    return folder


@pytest.fixture(scope="module")
def trained(tuned):
    """The same folder with the choices committed and the stages train and confirm done."""
    with pytest.raises(InputError, match="choices.json is not committed"):
        call(tuned, "train")
    assert not (tuned / "runs" / "all").exists()
    git(tuned, "add", ".")
    git(tuned, "commit", "-q", "-m", "choices")
    with pytest.raises(InputError, match="standard/seed_0 is not done; finish the stage train"):
        call(tuned, "confirm")
    assert call(tuned, "train") == 0
    assert call(tuned, "confirm") == 0
    return tuned


def test_both_arms_are_tuned_with_as_many_points():
    points = {arm: len(grid) for arm, grid in table1_runs.GRID.items()}
    assert set(points) == {"standard", "tuned"} and len(set(points.values())) == 1
    for grid in table1_runs.GRID.values():
        for fields in grid.values():
            assert any(f.startswith("--config.optimizer.segmenter.learning_rate=") for f in fields)


def test_tuning_reads_the_validation_subset_only(tuned):
    evaluations = list((tuned / "runs" / "tuning").glob("*/seed_5/eval/*.json"))
    assert len(evaluations) == 8
    assert {path.name for path in evaluations} == {"subset_7.json"}


def test_the_best_point_is_chosen_and_recorded(tuned):
    choices = json.loads((tuned / "results" / "choices.json").read_text())
    assert choices["shared"] == ["--config.segmenter.shrink=2"]
    best = max(choices["grid"]["tuned"].values(), key=lambda point: point["mean_iou"])
    assert choices["chosen"]["tuned"] == best["fields"]
    assert "--config.loss.lam=0.03" in best["fields"]  # The largest lambda of the grid.
    assert choices["chosen"]["printed"] == choices["chosen"]["standard"]


def test_every_arm_runs_with_its_settings_on_every_part(trained):
    runs = {
        path.relative_to(trained / "runs").parts: json.loads(path.read_text())
        for path in (trained / "runs").glob("*/*/seed_*/arguments.json")
        if "tuning" not in path.parts
    }
    for folder, fraction in (("all", "1.0"), ("half", "0.5"), ("eighth", "0.125")):
        for seed in (0, 1) if folder == "all" else (0,):
            for arm in ("standard", "printed", "tuned"):
                arguments = runs[folder, arm, f"seed_{seed}", "arguments.json"]
                assert f"--config.data.fraction={fraction}" in arguments
                assert "--config.segmenter.shrink=2" in arguments
                variant = "standard" if arm == "standard" else "printed"
                assert f"--config=configs/stanford.py:{variant}" in arguments
                assert ("--config.encoding=scaling" in arguments) == (arm == "tuned")
                assert not any("data.test" in argument for argument in arguments)
                assert ("--config.train.updates=1" in arguments) == (folder != "all")
    # The fresh seed with one part of the images, and of the best arm alone.
    fresh = [parts[:2] for parts in runs if parts[2] == "seed_7"]
    assert len({folder for folder, _ in fresh}) == 1
    assert sorted(arm for _, arm in fresh) == ["control", "standard", "tuned"]


def test_changed_choices_are_refused(trained):
    path = trained / "results" / "choices.json"
    before = path.read_text()
    path.write_text(before.replace("lam=0.03", "lam=0.04"))
    with pytest.raises(InputError, match="choices.json is not committed"):
        call(trained, "train")
    git(trained, "commit", "-q", "-a", "-m", "other choices")  # Nor do committed ones pass.
    for stage in ("train", "report"):
        with pytest.raises(InputError, match="made with other arguments: --config.loss.lam=0.03"):
            call(trained, stage)
    path.write_text(before)
    git(trained, "commit", "-q", "-a", "-m", "the first choices")


def test_later_stages_know_the_seeds_of_the_earlier_ones(trained):
    """A fresh pair more would be trained if the part were chosen anew or its budget forgotten."""
    before = sorted((trained / "runs").glob("*/*/seed_*"))
    folders = [f"--workdir={trained / 'runs'}", f"--results={trained / 'results'}"]
    assert table1("confirm", *folders, STAND_IN) == 0
    assert sorted((trained / "runs").glob("*/*/seed_*")) == before


@pytest.fixture(scope="module")
def reported(trained):
    """(the same folder with the stage report done, what was drawn of predictions)."""
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "predict", lambda runs, rows: (sorted(runs), list(rows)))
        for name in ("draw_labels", "draw_probabilities"):
            patch.setattr(pictures, name, lambda path, *args, **kwargs: drawn.append(args))
        assert call(trained, "report") == 0
    return trained, drawn


def test_the_report_holds_every_run_and_makes_the_page(reported):
    folder, drawn = reported[0] / "results", reported[1]
    with open(folder / "table1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (2 + 3) + 3
    control = next(row for row in rows if row["arm"] == "control")
    assert (control["encoding"], control["lambda"], control["seed"]) == ("", "0.0", "7")
    tuned = next(row for row in rows if row["arm"] == "tuned")
    assert (tuned["encoding"], tuned["lambda"]) == ("scaling", "0.03")
    page = (reported[0] / "results.md").read_text()
    assert page == table1_page.render(folder)
    assert "mean IoU +0.03 (" in page and "## The largest gain, with fresh seeds" in page
    first = list(range(table1_page.SHOWN))
    assert drawn == [(["printed", "standard", "tuned"], first)] * 4
    for name in ("figure4.png", "gain.png"):
        assert (folder / name).stat().st_size > 5000


def test_a_repeated_seed_agrees_or_says_so(reported, capsys):
    trained, _ = reported
    with pytest.raises(InputError, match="holds the runs that were recorded"):
        call(trained, "repeat", "--seeds=1")
    again = [f"--workdir={trained / 'again'}", "--seeds=1"]
    assert call(trained, "repeat", *again) == 0
    assert "agrees within 0.01 %" in capsys.readouterr().out
    # A part has the budget that it was given before, whatever is said now.
    eighth = [f"--workdir={trained / 'eighth'}", f"--results={trained / 'results'}", "--seeds=0"]
    assert table1("repeat", *eighth, STAND_IN, "--part=0.125") == 0
    arguments = trained / "eighth" / "eighth" / "tuned" / "seed_0" / "arguments.json"
    assert "--config.train.updates=1" in json.loads(arguments.read_text())
    with pytest.raises(InputError, match="table1.csv has no run of standard/seed_9"):
        call(trained, "repeat", *again, "--seeds=9")
    table = trained / "results" / "table1.csv"
    before = table.read_text()
    table.write_text(before.replace("0.3003", "0.3103"))
    assert table.read_text() != before
    assert call(trained, "repeat", *again) == 1
    assert "DOES NOT AGREE" in capsys.readouterr().out
    table.write_text(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune"], "--workdir: the stage tune needs a folder"),
        (["train", "--workdir=W", "--", "--config.x=1"], "--config.x=1: fields of all runs"),
        (["train", "--workdir=W", "--seeds=a"], "--seeds=a: give numbers"),
        (["trane", "--workdir=W"], "invalid choice: 'trane'"),
        (["train", "--workdir=W", "--processes=0"], "--processes: 0 is not a number from 1 on"),
        (["train", "--workdir=/dev/null"], "--workdir=/dev/null is not a folder .*File exists"),
        (
            ["tune", "--workdir=W", "--", "--config.los.lam=1"],
            "--config.los.lam: the configuration has no such field",
        ),
        (["report", "--", "--config.x=1"], "--config.x=1: fields of all runs"),
        (["train", "--workdir=W", "--fresh_seeds=4"], "--fresh_seeds: 4 is in --seeds too"),
        (["train", "--workdir=W", "--seeds=100"], "--tuning_seeds: 100 is in --seeds too"),
        (["train", "--workdir=W", "--fraction_updates=-1"], "--fraction_updates=-1: set it"),
        (["report", "--results=/nonexistent"], "table1.csv is missing"),
    ],
)
def test_a_wrong_command_is_refused(arguments, message, tmp_path):
    arguments = [x.replace("--workdir=W", f"--workdir={tmp_path}") for x in arguments]
    with pytest.raises(InputError, match=message):
        table1(*arguments)
