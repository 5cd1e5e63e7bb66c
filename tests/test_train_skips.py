"""Steps that are left out because their batch was bad: the run goes back to its last checkpoint."""

import re
import signal
import sys

import jax
import numpy as np
import pytest
from small_runs import small_config, told, trace_once

from segadv_jax import preparation
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.soundness import UnsoundError
from segadv_jax.train import train
from segadv_jax.workdir import Workdir


@pytest.fixture
def struck(monkeypatch):
    """The parameters that a step begins with are lost, as by a bad batch before: {step: times}."""
    left, prepare = {}, preparation.prepare

    def prepared(*arguments):
        run, state = prepare(*arguments)
        play, steps = (
            run.train_step,
            (s for s in range(run.start, run.total) if s + 1 not in run.skipped),
        )

        def step(state, *inputs):
            number = next(steps)
            if left.get(number):
                left[number] -= 1
                state = state._replace(params=jax.tree.map(lambda x: np.nan * x, state.params))
            return play(state, *inputs)

        object.__setattr__(run, "train_step", step)
        return run, state

    monkeypatch.setattr(sys.modules[train.__module__], "prepare", prepared)
    return left


def test_a_run_goes_back_and_leaves_out_a_bad_batch(data_dir, tmp_path, struck, monkeypatch):
    struck[5] = 1
    trace_once(monkeypatch)
    config = small_config(data_dir, "standard", **{"train.skips": 1, "train.updates": 8})
    with told() as said:
        train(config, str(tmp_path / "struck"))
    text = "the cross-entropy is nan at step 6 .*; the checkpoint of step 4 is kept: going back"
    assert any(re.match(text, line) for line in said)
    for name in ("spared", "struck"):  # Both leave out the same step.
        workdir = Workdir(tmp_path / name)
        workdir.make()
        workdir.write_skipped([6])
        train(config, str(workdir))
        assert workdir.skipped() == [6]
        assert [row["step"] for row in workdir.history()] == [4, 8]
    spared, again = (Workdir(tmp_path / name) for name in ("spared", "struck"))
    assert spared.history_path.read_bytes() == again.history_path.read_bytes()
    played = small_config(data_dir, "standard", **{"train.updates": 8})
    train(played, str(tmp_path / "played"))
    assert Workdir(tmp_path / "played").history() != spared.history()


def test_a_signal_in_a_step_that_is_not_sound_is_not_forgotten(data_dir, tmp_path, monkeypatch):
    """What was caught is of the start that went back."""
    runs = []

    def loop(run, state):
        runs.append(run)
        run.caught.append(signal.SIGTERM)
        raise UnsoundError(3, "the cross-entropy is nan at step 3")

    monkeypatch.setattr(sys.modules[train.__module__], "_loop", loop)
    config = small_config(data_dir, "standard", **{"train.skips": 1})
    with pytest.raises(SystemExit) as stopped:
        train(config, str(tmp_path))
    assert stopped.value.code == 128 + signal.SIGTERM and len(runs) == 1
    assert Workdir(tmp_path).skipped() == [3]


@pytest.mark.parametrize(("skips", "said"), [(0, "config.train.skips=1 leaves"), (1, "1 batch")])
def test_a_run_that_may_not_leave_out_more_ends_and_keeps_its_checkpoint(
    data_dir, tmp_path, struck, monkeypatch, skips, said
):
    struck |= dict.fromkeys((5, 6), 2)
    trace_once(monkeypatch)
    config = small_config(data_dir, "standard", **{"train.skips": skips, "train.updates": 8})
    message = rf"is nan at step {6 + skips} .*; the checkpoint of step 4 is kept; .*{said}"
    with pytest.raises(UnsoundError, match=message):
        train(config, str(tmp_path))
    with Checkpoints(Workdir(tmp_path), to_read=True) as checkpoints:
        assert checkpoints.steps() == [4]
        leaves = jax.tree.leaves(checkpoints.restore_player("segmenter", 4))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
