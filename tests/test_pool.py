"""Runs as processes: what is done is skipped, what was stopped is resumed, nothing runs twice.

The runs are of a stand-in for `segadv_jax train`, tests/stand_in.py.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import end_of, wait_until
from small_runs import ROOT, start_process

from segadv_jax.campaign import display, pool, runs
from segadv_jax.errors import InputError

PROGRAM = str(ROOT / "tests" / "stand_in.py")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(pool, "POLL", 0.02)


def make_run(tmp_path, arm="arm", seed=0, *arguments):
    return runs.Run(arm, seed, str(tmp_path / "w" / arm / f"seed_{seed}"), arguments)


def starts(run):
    """What each process of a run says of itself: [[id, environment variable, number of cores]]."""
    path = Path(run.folder) / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def updates(run):
    """The segmenter's updates at the validations so far."""
    path = Path(run.folder) / "history.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    # The last one may not be written to its end yet.
    return [int(line.split(",")[1]) for line in lines[1:] if line.count(",") == lines[0].count(",")]


def start_pool(*everything):
    """`pool.run_all` in a process of its own."""
    code = "import sys; from segadv_jax.campaign import pool, runs; pool.POLL = 0.02; "
    code += f"everything = [runs.Run(*run) for run in {[tuple(run) for run in everything]}]; "
    code += f"sys.exit(bool(pool.run_all(everything, program={PROGRAM!r})))"
    return start_process(["-c", code])


def on_saying(monkeypatch, words, action):
    """Calls `action()` whenever the display says something with these words."""
    say = display.Line.say

    def say_and_act(self, text):
        say(self, text)
        if words in text:
            action()

    monkeypatch.setattr(display.Line, "say", say_and_act)


def test_an_evaluation_on_the_way_does_not_make_a_run_done(tmp_path):
    run = make_run(tmp_path)
    folder = Path(run.folder)
    assert pool.run_all([run], program=PROGRAM) == []
    assert [row["mean_iou"] for row in runs.results([run])] == [0.2]
    ended = (folder / "ended.json").read_text()
    (folder / "ended.json").write_text(ended.replace('"selected_step": 20', '"selected_step": 10'))
    assert runs.results([run]) == []  # Another checkpoint was evaluated.
    (folder / "ended.json").unlink()
    assert runs.results([run]) == []  # There is more to train.
    assert pool.run_all([run], program=PROGRAM) == []
    assert len(starts(run)) == 2 and len(runs.results([run])) == 1


def test_other_arguments_are_refused_before_anything_starts(tmp_path):
    run = make_run(tmp_path, "arm", 1, "--config.train.updates=2", "--config.loss.lam=1")
    pool.run_all([run], program=PROGRAM)
    again = run._replace(arguments=run.arguments[::-1])  # The order does not matter.
    assert pool.run_all([again], program=PROGRAM) == []
    changed = run._replace(arguments=("--config.train.updates=3", "--config.loss.lam=1"))
    first = make_run(tmp_path, "arm", 0)
    message = r"arm/seed_1 was made with other arguments: --config.train.updates=2 there, "
    message += r"--config.train.updates=3 here; choose another --workdir, or delete .*arm/seed_1"
    with pytest.raises(InputError, match=message):
        pool.run_all([first, changed], program=PROGRAM)
    with pytest.raises(InputError, match="--config.loss.lam=1 there, no --config.loss.lam here"):
        pool.run_all([first, run._replace(arguments=run.arguments[:1])], program=PROGRAM)
    (Path(run.folder) / "arguments.json").unlink()
    with pytest.raises(InputError, match="holds a run without arguments.json"):
        pool.run_all([first, run], program=PROGRAM)
    assert not os.path.exists(first.folder) and len(starts(run)) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("history.csv", None, "history.csv is damaged .*it has no row of step 20.*; mend"),
        ("history.csv", "step,segmenter_updates\n", "history.csv is damaged .*it has no row"),
        ("history.csv", f"step,mce\n20,2{'0' * 200_000}\n", "history.csv is damaged .*field"),
        ("history.csv", "step,mce\n20,x\n", "history.csv is damaged .*float"),
        ("eval/test.json", "{}", "test.json is damaged .*class_accuracy.*; delete"),
        ("eval/test.json", "nan", "test.json is damaged"),
        ("config.json", "{", "config.json is damaged"),
        ("ended.json", "{}", "ended.json is damaged .*it lacks reason"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, says):
    run = make_run(tmp_path)
    assert pool.run_all([run], program=PROGRAM) == []
    path = Path(run.folder, name)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=says):
        runs.results([run])


def test_a_file_in_place_of_a_run_is_named(tmp_path):
    run = make_run(tmp_path)
    Path(run.folder).parent.mkdir(parents=True)
    Path(run.folder).write_text("")
    with pytest.raises(InputError, match=r"seed_0/ended.json cannot be read: .* is a file"):
        runs.results([run])


def test_failures_are_reported_and_the_others_continue(tmp_path, capsys):
    failing = make_run(tmp_path, "failing", 0, "--config.fail=-1")
    dying = make_run(tmp_path, "dying", 0, "--config.die=1", "--config.train.updates=4")
    good = make_run(tmp_path, "good", 0)
    everything = [failing, dying, good]
    assert pool.run_all(everything, program=PROGRAM) == [
        (failing, "exit status 1: error: config.fail is -1"),
        (dying, "killed by SIGKILL"),
    ]
    assert [r["arm"] for r in runs.results(everything)] == ["good"]
    said = capsys.readouterr().err
    assert (
        f"failing/seed_0: failed, exit status 1: error: config.fail is -1; see {failing.log}"
        in said
    )
    assert "good/seed_0: done, test in %: class accuracy 0.0, pixel accuracy 10.0" in said
    # Nothing had been made by the one that refused its arguments, so that they may change.
    mended = failing._replace(arguments=("--config.loss.lam=1",))
    (Path(dying.folder) / "mended").touch()
    assert pool.run_all([mended, dying, good], program=PROGRAM) == []
    assert (
        "dying/seed_0: resumes, 1 of 4 updates, validation mean IoU 10.0 %"
        in capsys.readouterr().err
    )
    assert len(starts(dying)) == 2 and len(starts(good)) == 1
    log = Path(failing.log).read_text()
    assert log.count("$ ") == 2 and "config.fail is -1" in log and "--config.loss.lam=1" in log


def test_a_run_that_ends_without_a_result_has_failed(tmp_path):
    program = tmp_path / "nothing.py"
    program.write_text("raise SystemExit(0)")
    run = make_run(tmp_path)
    failures = pool.run_all([run], program=str(program))
    assert failures == [(run, "ended without an evaluation on its test split")]
    program.write_text("import this_module_is_not_there")
    ((_, why),) = pool.run_all([run], program=str(program))
    assert why == "exit status 1: ModuleNotFoundError: No module named 'this_module_is_not_there'"


def test_processes_share_the_cores_and_leave_memory_to_each_other(tmp_path, monkeypatch):
    cores = len(os.sched_getaffinity(0))
    everything = [make_run(tmp_path, "arm", seed) for seed in range(3)]
    pool.run_all(everything[:2], processes=2, program=PROGRAM)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    pool.run_all(everything, processes=1, program=PROGRAM)
    share = str(max(1, cores // 2))
    said = [starts(run)[0][1:] for run in everything]
    assert said == [["false", share], ["false", share], ["true", str(cores)]]
    assert len(os.sched_getaffinity(0)) == cores


def test_cores_of_the_slots(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 6, 7, 8}, raising=False)
    assert [pool._cores(slot, 2) for slot in (0, 1)] == [[3, 4], [6, 7]]
    assert [pool._cores(slot, 6) for slot in range(6)] == [[3], [4], [6], [7], [8], [3]]
    assert pool._cores(0, 1) == [3, 4, 6, 7, 8]


def test_progress_is_said_where_there_is_no_terminal(tmp_path, monkeypatch, capsys):
    for name in ("LOOK", "SAY"):
        monkeypatch.setattr(display, name, 0.0)
    run = make_run(tmp_path, "arm", 0, "--config.wait=1")
    on_saying(monkeypatch, "1 of 2 updates", (tmp_path / "w/arm/seed_0/go").touch)
    assert pool.run_all([run], program=PROGRAM) == []
    lines = [line.split(": ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines[:2] == ["starts", "1 of 2 updates, validation mean IoU 10.0 %"]


def test_a_folder_in_which_a_process_works_is_waited_for(tmp_path, monkeypatch, capsys):
    before, taken = make_run(tmp_path, "before"), make_run(tmp_path, "taken")

    def work_and_release():
        assert not starts(taken)
        command = [sys.executable, PROGRAM, "--config.seed=0", f"--workdir={taken.folder}"]
        subprocess.run(command, check=True, env={"XLA_PYTHON_CLIENT_PREALLOCATE": ""})
        runs_like_it = Path(taken.folder) / "arguments.json"
        runs_like_it.write_text('["--config.seed=0"]')
        holder.close()

    with contextlib.ExitStack() as holder:
        assert holder.enter_context(runs.locked(taken.folder)) is not None
        on_saying(monkeypatch, "waits for process", work_and_release)
        assert pool.run_all([before, taken], program=PROGRAM) == []
    assert len(starts(taken)) == 1  # By the other process; none came on top.
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert [line.split(",")[0] for line in said] == [
        "taken/seed_0: waits for process ",
        "taken/seed_0: done",
        "before/seed_0: starts",
        "before/seed_0: done",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_campaign_is_resumed(number, tmp_path):
    waiting, later = (
        make_run(tmp_path, "waiting", 0, "--config.wait=1"),
        make_run(tmp_path, "later"),
    )
    process = start_pool(waiting, later)
    history = Path(waiting.folder) / "history.csv"
    wait_until(lambda: history.exists() and updates(waiting) == [1], process)
    process.send_signal(number)
    status, _, errors = end_of(process)
    assert status == 128 + number
    said = [line.split(" ", 1)[-1] for line in errors.splitlines()]
    assert said[:2] == ["waiting/seed_0: starts", "waiting/seed_0: stopped"]
    assert errors.splitlines()[2:] == ["stopped; the same command resumes"]
    (Path(waiting.folder) / "go").touch()
    assert pool.run_all([waiting, later], program=PROGRAM) == []
    assert updates(waiting) == [1, 2] and len(starts(waiting)) == 2 and len(starts(later)) == 1


def test_a_second_signal_ends_a_run_at_once(tmp_path):
    run = make_run(tmp_path, "arm", 0, "--config.deaf=1")
    process = start_pool(run)
    wait_until(lambda: (Path(run.folder) / "history.csv").exists(), process)
    process.terminate()
    wait_until(lambda: "caught" in Path(run.log).read_text(), process)
    process.terminate()
    status, _, errors = end_of(process)
    assert status == 128 + signal.SIGTERM, errors
    assert runs.worker(run.folder) is None


def test_no_second_process_while_one_outlives_a_killed_campaign(tmp_path):
    run = make_run(tmp_path, "arm", 0, "--config.wait=1")
    killed = start_pool(run)
    wait_until(lambda: (Path(run.folder) / "history.csv").exists(), killed)
    killed.kill()
    end_of(killed)
    ((alive, *_),) = starts(run)
    assert runs.worker(run.folder) == alive
    process = start_pool(run)
    said = process.stderr.readline()
    assert f"arm/seed_0: waits for process {alive}, which is at work in {run.folder}" in said
    process.terminate()  # Stopped while it waits, it leaves the other's process alone.
    _, _, errors = end_of(process)
    assert f"the same command resumes (still at work: arm/seed_0, process {alive})" in errors
    process = start_pool(run)
    assert "waits for process" in process.stderr.readline()
    (Path(run.folder) / "go").touch()
    status, _, errors = end_of(process)
    assert status == 0 and "done, test in %" in errors
    assert len(starts(run)) == 1 and updates(run) == [1, 2]
