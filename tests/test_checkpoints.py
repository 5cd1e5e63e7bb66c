"""Which checkpoints are kept, and that all of a state comes back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segadv_jax import checkpoints, steps
from segadv_jax.errors import InputError
from segadv_jax.train_state import TrainState


def make_state(value):
    params = {"segmenter": {"w": jnp.full((3, 2), value)}, "adversary": {"w": jnp.full(4, -value)}}
    opt_state = optax.sgd(0.1, momentum=0.9).init(params)
    opt_state = jax.tree.map(lambda x: x + value, opt_state)
    return steps.replicate(TrainState(jnp.int32(value), params, opt_state))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_twenty_saves_leave_exactly_the_latest_and_the_best(tmp_path):
    # Half of the saves carry no measure, as those of a stopped run; the best is step 7.
    scores = {
        step: None if step % 2 == 0 else 0.1 * (step == 7) + 0.001 * step for step in range(20)
    }
    with checkpoints.open_manager(tmp_path) as manager:
        for step in range(10):
            checkpoints.save(manager, make_state(step), step, scores[step])
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [7, 9]
    with checkpoints.open_manager(tmp_path) as manager:  # Also after a restart.
        assert (manager.best_step(), manager.latest_step()) == (7, 9)
        for step in range(10, 19):
            checkpoints.save(manager, make_state(step), step, scores[step])
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [7, 18]  # The latest has no measure.
        checkpoints.save(manager, make_state(19), 19, scores[19])
    with checkpoints.open_manager(tmp_path) as manager:
        assert sorted(manager.all_steps()) == [7, 19]
        assert manager.best_step() == 7
    on_disk = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert on_disk == ["19", "7"]


def test_the_whole_state_comes_back(tmp_path):
    saved = make_state(5)
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, saved, 5)
    with checkpoints.open_manager(tmp_path) as manager:
        same(checkpoints.restore(manager, make_state(0), 5), saved)


def test_the_segmenter_is_restored_without_knowing_the_rest(tmp_path):
    saved = make_state(5)
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, saved, 5)
    shapes = make_state(0).params["segmenter"]
    with checkpoints.open_manager(tmp_path) as manager:
        same(checkpoints.restore_segmenter(manager, shapes, 5), saved.params["segmenter"])


def test_a_checkpoint_that_is_there_is_left_alone(tmp_path):
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, make_state(5), 5, 0.5)
        manager.wait_until_finished()
        checkpoints.save(manager, make_state(5), 5)
        manager.wait_until_finished()
        assert manager.best_step() == 5


def test_config_is_recorded_and_compared(tmp_path):
    config = {"seed": 0, "segmenter": {"widths": (4, 8), "hidden": 3}, "train": {"updates": 5}}
    identity = ("segmenter",)
    assert checkpoints.record_config(tmp_path, config, identity) == []
    recorded = json.loads((tmp_path / "config.json").read_text())
    assert recorded == {
        "seed": 0,
        "segmenter": {"widths": [4, 8], "hidden": 3},
        "train": {"updates": 5},
    }
    assert checkpoints.record_config(tmp_path, config, identity) == []
    longer = config | {"train": {"updates": 9}}
    assert checkpoints.record_config(tmp_path, longer, identity) == ["train.updates"]
    # A field that the run could not know yet.
    newer = config | {"segmenter": {"widths": (4, 8), "hidden": 3, "shrink": 1}}
    added = {"segmenter.shrink": 1}
    assert checkpoints.record_config(tmp_path, newer, identity, added) == []
    # Nor one that this network does not have.
    assert checkpoints.record_config(tmp_path, config, identity, added) == []
    newer["segmenter"]["shrink"] = 2
    with pytest.raises(InputError, match=r"config.segmenter.shrink is 1, this one's 2"):
        checkpoints.record_config(tmp_path, newer, identity, added)
    other = config | {"segmenter": {"widths": (4, 8), "hidden": 4}}
    with pytest.raises(InputError, match=r"config.segmenter.hidden is 3, this one's 4"):
        checkpoints.record_config(tmp_path, other, identity)
