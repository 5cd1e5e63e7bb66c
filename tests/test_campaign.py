"""Campaigns: the command line, and a real one that is stopped and killed on the way."""

import json
import signal

import pytest
from processes import end_of
from small_runs import ROOT, start_process

from segadv_jax import cli, files
from segadv_jax.campaign import arms, command_line, pool, runs
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES

STAND_IN = f"--program={ROOT / 'tests' / 'stand_in.py'}"
CONFIG = "--config=configs/synthetic.py"


def campaign(*arguments):
    """The exit status of a command line."""
    return cli.run("segadv_jax.commands.campaign", "segadv_jax campaign", arguments)


def test_arms_and_what_holds_for_all():
    parsed = arms.parse_arms(
        [f"a={CONFIG}:x --config.loss.lam=0.1 '--config.train.scale=(1, 2)'", "b=--noconfig.flip"],
        [CONFIG, "--config.loss.lam=0.5", "--config.flip"],
    )
    scale = "--config.train.scale=(1, 2)"
    assert parsed == {
        "a": (f"{CONFIG}:x", "--config.loss.lam=0.1", "--config.flip", scale),
        "b": (CONFIG, "--config.loss.lam=0.5", "--noconfig.flip"),
    }


def test_the_configuration_is_that_of_the_run():
    config = arms.load_config(
        [f"{CONFIG}:standard", "--config.train.scale=(0.5,2)", "--noconfig.train.flip"]
    )
    assert config.alternation.schedule == "standard"
    assert config.train.scale == (0.5, 2.0) and config.train.flip is False


def test_runs_are_planned_seed_by_seed():
    planned = arms.plan("w", {"a": ("--x=1",), "b": ()}, [0, 7])
    assert [run.name for run in planned] == ["a/seed_0", "b/seed_0", "a/seed_7", "b/seed_7"]
    assert planned[2] == runs.Run("a", 7, "w/a/seed_7", ("--x=1",))


ARM = f"--arm=a={CONFIG}:standard"
OTHER = f"--arm=b={CONFIG} --config.data.test=validation"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=0"], "required: --arm"),
        ([ARM], "required: --seeds"),
        (["--seeds=0", ARM, "--sedes=1"], "--sedes=1"),
        (["--seeds=0", ARM, "--processes=0"], "--processes: 0 is not a number from 1 on"),
        (["--seeds=", ARM], "--seeds=: give numbers from 0 on"),
        (["--seeds=0,x", ARM], "--seeds=0,x: give numbers"),
        (["--seeds=-1", ARM], "--seeds=-1: give numbers"),
        (["--seeds=1,2,1", ARM], "--seeds=1,2,1: 1 comes twice"),
        (["--seeds=0", "--arm=a"], "--arm=a: give NAME=ARGUMENTS"),
        (["--seeds=0", f"--arm=../a={CONFIG}"], "--arm=../a=.*: give NAME=ARGUMENTS"),
        (["--seeds=0", f"--arm=.a={CONFIG}"], "--arm=.a=.*: give NAME=ARGUMENTS"),
        (["--seeds=0", ARM, ARM], "--arm=a=...: there are two arms of that name"),
        (["--seeds=0", f"--arm=results.csv={CONFIG}"], "--arm=results.csv=...: a file of the camp"),
        (["--seeds=0", ARM, "--", "--config.data.test="], "--arm=a=...: config.data.test is empty"),
        (["--seeds=0", f"--arm=a={CONFIG} '"], "--arm=a=.*: No closing quotation"),
        (["--seeds=0", "--arm=a=--config.seed=1"], "--config.seed=1 of --arm=a: .* in --seeds"),
        (["--seeds=0", "--arm=a=--config.loss.lam=1"], "--arm=a: give it a configuration"),
        (["--seeds=0", f"--arm=a={CONFIG} --workdir=w"], "--workdir=w of --arm=a: a run takes"),
        (["--seeds=0", ARM, "--", "updates=3"], "updates=3 after --: a run takes"),
        (["--seeds=0", "--arm=a=--config=no.py"], "--config=no.py: there is no file no.py"),
        (["--seeds=0", f"--arm=a={CONFIG}:odd"], "odd: the arm is one of 'standard', "),
        (["--seeds=0", ARM, "--", "--config.train.updaets=3"], "updaets: .*; did you mean updates"),
        (["--seeds=0", ARM, "--", "--config.trian.updates=3"], "no such field; did you mean train"),
        (["--seeds=0", ARM, "--", "--config.train.updates=x"], "updates=x: the field takes"),
        (["--seeds=0", ARM, "--compare=a,c"], "--compare=a,c: there is no arm c; known: a"),
        (["--seeds=0", ARM, "--compare=a"], "--compare=a: name two arms"),
        (["--seeds=0", ARM, "--compare=a,a"], "--compare=a,a: name two arms"),
        (["--seeds=0", ARM, OTHER, "--compare=a,b"], "config.data.test is 'test' in one and 'val"),
    ],
)
def test_wrong_commands_are_refused_before_anything_starts(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    workdir = tmp_path / "w"
    with pytest.raises(InputError, match=message) as error:
        campaign(f"--workdir={workdir}", STAND_IN, *arguments)
    assert "\n" not in str(error.value)
    assert not workdir.exists()


def test_a_file_in_place_of_the_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "w").touch()
    with pytest.raises(InputError, match=r"--workdir=.*w is not a folder .*File exists"):
        campaign(f"--workdir={tmp_path / 'w'}", STAND_IN, "--seeds=0", ARM)


def test_a_campaign_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pool, "POLL", 0.02)
    workdir = tmp_path / "w"
    command = [f"--workdir={workdir}", STAND_IN, "--seeds=1,2", "--processes=2"]
    command += [f"--arm=a={CONFIG}:standard", f"--arm=b={CONFIG}", "--compare=b,a"]
    command[5] += " --config.loss.lam=1"
    command += ["--", "--config.data.test=test[:7]", "--config.train.updates=3"]
    with pytest.raises(InputError, match="no such folder; there is no table"):
        campaign("--table_only", *command)
    workdir.mkdir()
    assert campaign("--table_only", *command) == 0
    assert not (workdir / "a").exists()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["a", "-", "0", *["-", "+-", "-"] * 3] for line in lines)
    assert campaign(*command) == 0
    table = capsys.readouterr().out.splitlines()
    assert any(line.split()[:6] == ["b", "test[:7]", "2", "16.00", "+-", "7.07"] for line in table)
    assert "mean IoU by seed: 1: +1.00, 2: +1.00" in table
    rows = files.read_csv(workdir / "results.csv", "", command_line.COLUMNS)
    assert [(r["arm"], r["seed"]) for r in rows] == [(a, s) for s in "12" for a in "ab"]
    expected = {"split": "test[:7]", "class_accuracy": "0.11", "mce": "1.5", "step": "30"}
    expected |= {"segmenter_updates": "3", "validation_mean_iou": "0.3", "images": "7"}
    assert expected.items() <= rows[1].items()
    assert rows[1]["path"] == str(workdir / "b" / "seed_1")
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["comparisons"][0]["mean_iou"]["mean"] == pytest.approx(0.01)
    # Done: the same command starts nothing and shows the same.
    assert campaign(*command) == 0
    assert capsys.readouterr().out.splitlines() == table
    counts = [len(path.read_text().splitlines()) for path in workdir.glob("*/*/starts")]
    assert counts == [1] * 4


# The program, but that one arm's run sends its campaign a signal: SIGTERM after its third update,
# when the other arm is done, and after its fifth SIGKILL, to die as well when a new campaign has
# found it at work.
STOPPING = """
import os, pathlib, signal, sys
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"  # As in conftest.py.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
sys.path[:0] = {paths!r}
from processes import call_after_step, train_until_step, wait_until
folder = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
def first_time(action):
    def act():
        here = folder / action.__name__
        if folder.parent.name == "a" and not here.exists():
            here.touch()
            action()
    return act
def stop():
    other = folder.parents[1] / "b" / "seed_0" / "eval"
    wait_until(lambda: list(other.glob("*.json")))
    os.kill(os.getppid(), signal.SIGTERM)
    wait_until(lambda: signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)  # It has come back.
def kill():
    os.kill(os.getppid(), signal.SIGKILL)
    wait_until((folder / "found").exists)
    os.kill(os.getpid(), signal.SIGKILL)
call_after_step(5, first_time(kill))  # The second was validated, and the fourth.
train_until_step(3, first_time(stop))
"""


def test_a_campaign_stopped_and_killed_ends_as_one_left_alone(data_dir, tmp_path):
    # The two arms are the same, and so have the same results, unless it matters that "a" was
    # stopped and killed, and "b" never.
    program, workdir = tmp_path / "stopping.py", tmp_path / "w"
    program.write_text(STOPPING.format(paths=[str(ROOT), str(ROOT / "tests")]))
    settings = {"train.updates": 6, "evaluate.every": 2, "data.data_dir": data_dir}
    settings |= {"evaluate.train_images": 0, "evaluate.pictures": 1}
    command = ["-m", "segadv_jax", "campaign", f"--workdir={workdir}", f"--program={program}"]
    command += ["--seeds=0", "--processes=2", "--compare=a,b"]
    command += [f"--arm={name}=--config=tests/small_synthetic.py:standard" for name in "ab"]
    command += ["--", *(f"--config.{name}={value}" for name, value in settings.items())]

    status, _, errors = end_of(start_process(command))
    assert status == 128 + signal.SIGTERM, errors
    assert "b/seed_0: done" in errors and "a/seed_0: stopped" in errors
    assert "stopped at step 3" in (workdir / "a" / "seed_0" / "log.txt").read_text()

    status, _, errors = end_of(start_process(command))
    assert status == -signal.SIGKILL, errors
    assert "a/seed_0: resumes, 2 of 6 updates" in errors

    killed = workdir / "a" / "seed_0"
    found = f"a/seed_0: waits for process {runs.worker(killed)}, which is at work in {killed}"
    process = start_process(command)
    while found not in (line := process.stderr.readline()):
        assert line, "it ended without waiting"
    (killed / "found").touch()
    status, output, errors = end_of(process)
    assert status == 0, errors
    assert "a/seed_0: resumes, 4 of 6 updates" in errors
    assert "at step 4 of 6" in (killed / "log.txt").read_text()

    for name in ("history.csv", "eval/test[:7].json"):
        stopped, alone = ((workdir / arm / "seed_0" / name).read_bytes() for arm in "ab")
        assert stopped == alone
    rows = files.read_csv(workdir / "results.csv", "")
    assert [row["arm"] for row in rows] == ["a", "b"]
    assert all(0 < float(row[name]) < 1 for row in rows for name in PAPER_MEASURES)
    assert "mean IoU by seed: 0: +0.00" in output.splitlines()
