"""Real processes: a stopped run is resumed bit for bit, and two hosts train as one."""

import json
import signal
import socket

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from processes import end_of
from small_runs import start_process

from segadv_jax.workdir import Workdir

# Sends a real SIGTERM to its own process at the n-th batch, so that the place is exact, and
# otherwise runs main.py as its command line says.
STOPPED = """
import os, signal, sys
sys.path[:0] = [".", "tests"]
from processes import train_until
train_until({call}, lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


def test_a_stopped_run_ends_as_one_never_stopped_bit_for_bit(data_dir, tmp_path):
    settings = {"data.data_dir": data_dir, "alternation.schedule": "slow"}
    settings |= {"alternation.period": 3, "evaluate.every": 5, "optimizer.adversary.decay": "poly"}
    flags = ["--config=tests/small_synthetic.py:adversarial"]
    flags += [f"--config.{name}={value}" for name, value in settings.items()]

    whole = start_process(["main.py", *flags, f"--workdir={tmp_path / 'whole'}"])
    # Rounds of three: the eleventh step is the adversary's fifth turn, in the second of its rounds;
    # by then the segmenter has had 6 updates, one into its second epoch of 5. The fifth update was
    # validated on the way, which takes 4 batches.
    command = [*flags, f"--workdir={tmp_path / 'stopped'}"]
    stopped = ["-c", STOPPED.format(call=11 + 4), *command]
    status, _, errors = end_of(start_process(stopped))
    assert status == 128 + signal.SIGTERM, errors
    assert "stopped at step 11" in errors
    assert not (tmp_path / "stopped" / "eval" / "test[:7].json").exists()
    status, _, errors = end_of(start_process(["main.py", *command]))
    assert status == 0, errors
    assert f"resuming {tmp_path / 'stopped'} at step 11 of 21" in errors
    status, _, errors = end_of(whole)
    assert status == 0, errors

    for name in ("history.csv", "eval/test[:7].json"):
        files = [(tmp_path / run / name).read_bytes() for run in ("whole", "stopped")]
        assert files[0] == files[1]
    for item in ("segmenter", "training"):  # Parameters, both momenta, all counts.
        states = []
        for name in ("whole", "stopped"):
            path = tmp_path / name / "checkpoints" / "21" / item
            with ocp.StandardCheckpointer() as checkpointer:
                states.append(checkpointer.restore(path))
        assert len(jax.tree.leaves(states[0])) > 5
        jax.tree.map(np.testing.assert_array_equal, *states)


TWO_HOSTS = """
import runpy, sys
import jax
jax.distributed.initialize("127.0.0.1:" + sys.argv[1], 2, int(sys.argv[2]))
sys.argv[:] = ["main.py", *sys.argv[3:]]
runpy.run_path("main.py", run_name="__main__")
"""


def test_two_hosts_train_as_one(data_dir, tmp_path):
    settings = {"data.data_dir": data_dir, "train.updates": 4, "evaluate.every": 2}
    flags = ["--config=tests/small_synthetic.py:adversarial"]
    flags += [f"--config.{name}={value}" for name, value in settings.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    two = [f"--workdir={tmp_path / 'two'}", *flags]
    hosts = [start_process(["-c", TWO_HOSTS, port, str(rank), *two]) for rank in (0, 1)]
    one = start_process(["main.py", f"--workdir={tmp_path / 'one'}", *flags])
    for process in (one, *hosts):
        status, _, errors = end_of(process)
        assert status == 0, errors
    rows = [Workdir(tmp_path / name).history() for name in ("one", "two")]
    assert len(rows[0]) == 2
    for single, shared in zip(*rows, strict=True):
        assert single == pytest.approx(shared, rel=1e-3)
    results = [
        json.loads((tmp_path / n / "eval/test[:7].json").read_text()) for n in ("one", "two")
    ]
    assert results[0]["images"] == results[1]["images"] == 7
    assert results[0]["mce"] == pytest.approx(results[1]["mce"], rel=1e-3)
