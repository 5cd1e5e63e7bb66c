"""Real processes: killed and stopped runs are resumed bit for bit, and two hosts train as one."""

import json
import re
import shutil
import signal
import socket
import sys

import pytest
from processes import call_after_step, end_of
from small_runs import start_process, told, trace_once

from segadv_jax import cli, evaluate, experiment
from segadv_jax.errors import InputError
from segadv_jax.signals import signals_raised
from segadv_jax.training_run import TrainingRun
from segadv_jax.validation import Validator
from segadv_jax.workdir import Workdir
from tools import kill

# Sends a real signal to its own process after a step, so that the place is exact, and otherwise
# runs main.py as its command line says.
SIGNALLED = """
import os, signal, sys
sys.path[:0] = [".", "tests"]
from processes import train_until_step
train_until_step({step}, lambda: os.kill(os.getpid(), signal.{signal}))
"""


def run(*arguments):
    return cli.run("segadv_jax.commands.train", "train", arguments)


def flags(**settings):
    named = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["--config=tests/small_synthetic.py:adversarial", *named]


@pytest.fixture(scope="module")
def in_peace(data_dir, tmp_path_factory):
    """(what is given to a training, the folder of one that nobody disturbed)"""
    settings = {"data.data_dir": data_dir, "alternation.schedule": "slow"}
    settings |= {"alternation.period": 3, "evaluate.every": 5}
    settings |= {f"optimizer.{player}.decay": "poly" for player in ("segmenter", "adversary")}
    given = flags(**settings, **{"train.updates": 8, "train.checkpoint_every": 1})
    folder = tmp_path_factory.mktemp("in_peace") / "run"
    run(*given, f"--workdir={folder}")
    return given, folder


def test_a_run_killed_three_times_ends_as_one_left_in_peace_bit_for_bit(in_peace, tmp_path):
    given, whole = in_peace
    moments = iter(
        [
            {"moment": "writing", "number": 6},  # In the middle of the first checkpoint.
            {"moment": "written"},  # An older one is to be deleted.
            {"moment": "validated"},  # The row is there and its checkpoint is not.
        ]
    )
    command = [sys.executable, "main.py", *given, f"--workdir={tmp_path / 'run'}"]
    kills, wrong = kill.kill_until_done(command, tmp_path / "run", lambda: next(moments), 3)
    assert not wrong
    assert [moment for moment, *_ in kills] == ["writing", "written", "validated"]
    assert not kill.differences(whole, tmp_path / "run")


def test_a_signal_in_any_phase_saves_what_is_done_and_ends_with_its_status(
    in_peace, tmp_path, monkeypatch
):
    given, whole = in_peace
    trace_once(monkeypatch)

    def when_called(owner, name, action):
        """Calls `action` before the next call of owner.name."""
        function, done = getattr(owner, name), []

        def first(*arguments, **named):
            if not done:  # A second signal would kill.
                done.append(name)
                action()
            return function(*arguments, **named)

        patch.setattr(owner, name, first)

    def terminate():
        signal.raise_signal(signal.SIGTERM)

    # Rounds of three: the eleventh step is the adversary's fifth turn, in the second of its rounds;
    # by then the segmenter has had 6 updates, one into its second epoch of 5.
    phases = [
        (lambda: when_called(experiment, "load_data", terminate), None),
        (lambda: when_called(TrainingRun, "next_inputs", terminate), 1),  # The step is compiled.
        (lambda: when_called(Validator, "measure", terminate), 8),  # It is finished.
        (lambda: call_after_step(11, terminate, patch.setattr), 11),
        (lambda: when_called(TrainingRun, "end", terminate), 14),
        (lambda: when_called(evaluate, "_measure", terminate), 14),
    ]
    for prepare, step in phases:
        with monkeypatch.context() as patch:
            prepare()
            with pytest.raises(SystemExit) as end, signals_raised(), told() as lines:
                run(*given, f"--workdir={tmp_path / 'run'}")
        assert end.value.code == 128 + signal.SIGTERM
        assert kill.latest(tmp_path / "run") == step
        assert any(f"stopped at step {step}, " in line for line in lines) == (step in (1, 8, 11))
        assert not (tmp_path / "run" / "eval").exists()
    run(*given, f"--workdir={tmp_path / 'run'}")
    assert not kill.differences(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "recorded", "said"),
    [
        (
            {"data.name": "voc_sbd"},
            None,
            "a run of another architecture, .* its config.data.name is 'synth",
        ),
        (
            {"segmenter.hidden": 9},
            None,
            "a run of another architecture, .* its config.segmenter.hidden is 8",
        ),
        (
            {"encoding": "scaling"},
            None,
            "a run of another architecture, .* its config.encoding is ",
        ),
        ({}, ["sky", "sea"], "a run of 2 other classes .sky, sea., the data have 8 .sky, building"),
    ],
)
def test_a_folder_of_another_experiment_is_refused_and_left_alone(
    in_peace, tmp_path, settings, recorded, said
):
    given, whole = in_peace
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    if recorded:
        Workdir(folder).write_classes(recorded, [[0, 0, 0], [9, 9, 9]])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    more = flags(**settings, **{"train.updates": 99})[1:]
    with pytest.raises(InputError, match=f"--workdir={folder} holds {said}") as error:
        run(*given, *more, f"--workdir={folder}")
    assert "choose another --workdir" in str(error.value) and "\n" not in str(error.value)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start_two(command, *arguments):
    """Two processes as two hosts that are named by hand."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    return [
        start_process([*command[rank], f"--multihost={address},2,{rank}", *arguments])
        for rank in (0, 1)
    ]


@pytest.fixture(scope="module")
def two(data_dir, tmp_path_factory):
    """One run on four devices, one device, four, and then two hosts, and one in a single start.

    {"one", "shared": folder, "step": at which the hosts were stopped, "saved": whether they left
    its checkpoint, "ends": {how: [(status, output, errors) of each host]}, of "stopped", of "lost",
    where the second was killed, "bereft", where the first was, and "resumed"}
    """
    folder = tmp_path_factory.mktemp("hosts")
    settings = {"data.data_dir": data_dir, "train.batch_size": 4, "evaluate.every": 1000}
    settings |= {f"optimizer.{player}.decay": "constant" for player in ("segmenter", "adversary")}
    settings |= {"train.checkpoint_every": 1}

    def given(name, updates):
        return [*flags(**settings, **{"train.updates": updates}), f"--workdir={folder / name}"]

    def end_of_two(updates, *commands):
        return [end_of(host) for host in start_two(commands, *given("shared", updates))]

    def when(step, sent):
        return ["-c", SIGNALLED.format(step=step, signal=sent)]

    whole = ["main.py"]
    run(*given("shared", 1))
    alone = end_of(start_process([*whole, *given("shared", 2)]))
    assert alone[0] == 0, alone
    run(*given("shared", 3))
    # The second is told to stop, and both stop, a few steps later.
    ends = {"stopped": end_of_two(100000, whole, when(5, "SIGTERM"))}
    found = re.search(r"stopped at step (\d+), update (\d+)", ends["stopped"][0][2])
    assert found, ends
    step, updates = int(found[1]), int(found[2])
    saved = (folder / "shared" / "checkpoints" / found[1] / "segmenter").is_dir()
    ends["lost"] = end_of_two(100000, whole, when(step + 3, "SIGKILL"))
    ends["bereft"] = end_of_two(100000, when(step + 6, "SIGKILL"), whole)
    ends["resumed"] = end_of_two(updates + 8, whole, whole)
    run(*given("one", updates + 8))
    return {
        **{"one": folder / "one", "shared": folder / "shared", "step": step, "saved": saved},
        "ends": ends,
    }


def test_a_signal_to_one_host_stops_both(two):
    assert [status for status, *_ in two["ends"]["stopped"]] == [128 + signal.SIGTERM] * 2
    assert two["saved"]


@pytest.mark.parametrize(("how", "survivor"), [("lost", 0), ("bereft", 1)])
def test_a_host_that_loses_another_ends_with_one_line(two, how, survivor):
    ends = two["ends"][how]
    assert ends[1 - survivor][0] == -signal.SIGKILL
    status, _, errors = ends[survivor]
    assert status == -signal.SIGABRT  # In a shell 134.
    wrong = [line for line in errors.splitlines() if not re.match(r"\d\d:\d\d:\d\d |\[Gloo", line)]
    assert len(wrong) == 1, errors
    assert wrong[0].startswith(f"error in process {survivor}: another process has ended or cannot ")
    assert "Start all of them again with the same command" in wrong[0]


def test_hosts_go_on_from_the_last_checkpoint(two):
    begun = [kill.begun_at(two["ends"][how][0][2]) for how in ("lost", "bereft", "resumed")]
    assert begun[0] == two["step"]
    # Each step is saved, and a save begins when the one before is done: the last may not be.
    assert begun[1] - two["step"] in (1, 2)
    assert begun[2] - two["step"] in (4, 5)


def test_two_hosts_train_as_one(two):
    """And so do four devices, one device and four of them, one after the other."""
    assert [status for status, *_ in two["ends"]["resumed"]] == [0, 0], two["ends"]["resumed"]
    one, shared = (Workdir(two[name]) for name in ("one", "shared"))
    assert len(one.history()) == 1
    assert one.history()[0] == pytest.approx(shared.history()[-1], rel=1e-3)


def test_two_hosts_evaluate_as_one(two, tmp_path):
    """What both wrote at the end, again by one process."""
    shared = Workdir(two["shared"]).result()
    shutil.copytree(two["shared"], tmp_path / "run")
    given = [f"--workdir={tmp_path / 'run'}", "--config.evaluate.split=test[:7]"]
    cli.run("segadv_jax.commands.evaluate", "evaluate", given)
    one = Workdir(tmp_path / "run").result()
    assert one["images"] == shared["images"] == 7 and one["step"] == shared["step"]
    assert one["mce"] == pytest.approx(shared["mce"], rel=1e-4)


def test_the_first_process_says_what_was_found_and_done(two):
    for part in ("stopped", "resumed"):
        (_, _, first), (_, output, second) = two["ends"][part]
        found = "devices: process 0 of 2, 1 devices in it, in all 2 x cpu; precision: segmenter "
        assert first.count(f"{found}float32, adversary float32, matrix products default") == 1
        printed = [line for line in output.splitlines() if not line.startswith("[Gloo]")]
        assert not printed and "update" not in second and "devices:" not in second
    assert "mean IoU" in two["ends"]["resumed"][0][1]
    recorded = json.loads((two["shared"] / "environment.json").read_text())
    assert recorded["processes"] == 1 and recorded["devices"] == ["4 x cpu"]


def test_different_tasks_are_refused_and_errors_name_their_process(tmp_path):
    """As two seeds that one `srun` starts, each meant to be trained alone."""
    commands = [["main.py", *flags(seed=seed)] for seed in (0, 1)]
    ends = [end_of(host) for host in start_two(commands, f"--workdir={tmp_path / 'run'}")]
    for index, (status, _, errors) in enumerate(ends):
        assert status == 2
        assert f"error in process {index}: the processes were started with different" in errors
    assert not (tmp_path / "run").exists()
