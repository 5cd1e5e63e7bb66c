"""Real processes: a stopped run is resumed bit for bit, and two hosts train as one."""

import json
import re
import signal
import socket

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from processes import end_of
from small_runs import start_process

from segadv_jax import cli
from segadv_jax.workdir import Workdir

# Sends a real SIGTERM to its own process after a step, so that the place is exact, and otherwise
# runs main.py as its command line says.
STOPPED = """
import os, signal, sys
sys.path[:0] = [".", "tests"]
from processes import train_until_step
train_until_step({step}, lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


def run(*arguments):
    return cli.run("segadv_jax.commands.train", "train", arguments)


def flags(**settings):
    named = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["--config=tests/small_synthetic.py:adversarial", *named]


def test_a_stopped_run_ends_as_one_never_stopped_bit_for_bit(data_dir, tmp_path):
    settings = {"data.data_dir": data_dir, "alternation.schedule": "slow"}
    settings |= {"alternation.period": 3, "evaluate.every": 5, "optimizer.adversary.decay": "poly"}
    given = flags(**settings, **{"train.updates": 8})
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    # Rounds of three: the eleventh step is the adversary's fifth turn, in the second of its rounds;
    # by then the segmenter has had 6 updates, one into its second epoch of 5.
    command = ["-c", STOPPED.format(step=11), *given, f"--workdir={stopped}"]
    process = start_process(command, ours=())  # As this one: with the same devices, bit for bit.
    run(*given, f"--workdir={whole}")
    status, _, errors = end_of(process)
    assert status == 128 + signal.SIGTERM, errors
    assert "stopped at step 11, update 6 of 8" in errors
    assert not (stopped / "eval" / "test[:7].json").exists()
    run(*given, f"--workdir={stopped}")

    for name in ("history.csv", "eval/test[:7].json"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()
    for item in ("segmenter", "training"):  # Parameters, both momenta, all counts.
        states = []
        for folder in (whole, stopped):
            with ocp.StandardCheckpointer() as checkpointer:
                states.append(checkpointer.restore(folder / "checkpoints" / "14" / item))
        assert len(jax.tree.leaves(states[0])) > 5
        jax.tree.map(np.testing.assert_array_equal, *states)


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
    """What two hosts leave that were stopped and resumed, and one process that did all of it.

    {"one", "two": folder, "stopped", "resumed": (status, output, errors) of each host, "step",
    "saved": whether the stopped ones left its checkpoint}
    """
    folder = tmp_path_factory.mktemp("hosts")
    settings = {"data.data_dir": data_dir, "train.batch_size": 4, "evaluate.every": 1000}
    settings |= {f"optimizer.{player}.decay": "constant" for player in ("segmenter", "adversary")}
    given = [*flags(**settings), f"--workdir={folder / 'two'}"]
    # The second is told to stop, and both stop, a few steps later.
    commands = ["main.py"], ["-c", STOPPED.format(step=2)]
    endless = "--config.train.updates=100000"
    stopped = [end_of(host) for host in start_two(commands, *given, endless)]
    found = re.search(r"stopped at step (\d+), update (\d+)", stopped[0][2])
    assert found, stopped
    saved = (folder / "two" / "checkpoints" / found[1] / "segmenter").is_dir()
    to_the_end = [f"--config.train.updates={int(found[2]) + 2}"]
    hosts = start_two((["main.py"], ["main.py"]), *given, *to_the_end)
    run(*flags(**settings), *to_the_end, f"--workdir={folder / 'one'}")
    resumed = [end_of(host) for host in hosts]
    return {
        **{"one": folder / "one", "two": folder / "two", "step": int(found[1]), "saved": saved},
        **{"stopped": stopped, "resumed": resumed},
    }


def test_a_signal_to_one_host_stops_both(two):
    assert [status for status, *_ in two["stopped"]] == [128 + signal.SIGTERM] * 2
    assert two["saved"]


def test_two_hosts_train_as_one(two):
    assert [status for status, *_ in two["resumed"]] == [0, 0], two["resumed"]
    one, shared = (Workdir(two[name]) for name in ("one", "two"))
    rows = one.history()
    assert len(rows) == 1
    assert rows[0] == pytest.approx(shared.history()[0], rel=1e-3)
    results = [w.result() for w in (one, shared)]
    assert results[0]["images"] == results[1]["images"] == 7
    assert results[0]["mce"] == pytest.approx(results[1]["mce"], rel=1e-3)


def test_the_first_process_says_what_was_found_and_done(two):
    for part in ("stopped", "resumed"):
        (_, _, first), (_, output, second) = two[part]
        found = "devices: process 0 of 2, 1 devices in it, in all 2 x cpu; precision: segmenter "
        assert first.count(f"{found}float32, adversary float32, matrix products default") == 1
        printed = [line for line in output.splitlines() if not line.startswith("[Gloo]")]
        assert not printed and "update" not in second and "devices:" not in second
    resumed = two["resumed"][0]
    assert f"at step {two['step']} of" in resumed[2]
    assert "mean IoU" in resumed[1]
    recorded = json.loads((two["two"] / "environment.json").read_text())
    assert recorded["processes"] == 2 and recorded["devices"] == ["2 x cpu"]


def test_different_tasks_are_refused_and_errors_name_their_process(tmp_path):
    """As two seeds that one `srun` starts, each meant to be trained alone."""
    commands = [["main.py", *flags(seed=seed)] for seed in (0, 1)]
    ends = [end_of(host) for host in start_two(commands, f"--workdir={tmp_path / 'run'}")]
    for index, (status, _, errors) in enumerate(ends):
        assert status == 2
        assert f"error in process {index}: the processes were started with different" in errors
    assert not (tmp_path / "run").exists()
