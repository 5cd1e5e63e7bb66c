"""Which checkpoints are kept, and that all of a state comes back."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from segadv_jax import devices
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.train_state import TrainState
from segadv_jax.workdir import Workdir


def make_state(value, average=None):
    params = {"segmenter": {"w": jnp.full((3, 2), value)}, "adversary": {"w": jnp.full(4, -value)}}
    opt_state = optax.sgd(0.1, momentum=0.9).init(params)
    opt_state = jax.tree.map(lambda x: x + value, opt_state)
    return devices.replicate(TrainState(jnp.int32(value), params, opt_state, average))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_twenty_saves_leave_exactly_the_latest_and_the_best(tmp_path):
    # Half of the saves carry no measure, as those of a stopped run; the best is step 7.
    scores = {
        step: None if step % 2 == 0 else {"mean_iou": 0.1 * (step == 7) + 0.001 * step}
        for step in range(20)
    }
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        for step in range(10):
            checkpoints.save(make_state(step), step, scores[step])
        checkpoints.wait()
        assert checkpoints.steps() == [7, 9]
    with Checkpoints(Workdir(tmp_path)) as checkpoints:  # Also after a restart.
        assert (checkpoints.best_step(), checkpoints.latest_step()) == (7, 9)
        for step in range(10, 19):
            checkpoints.save(make_state(step), step, scores[step])
        checkpoints.wait()
        assert checkpoints.steps() == [7, 18]  # The latest has no measure.
        checkpoints.save(make_state(19), 19, scores[19])
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        assert checkpoints.steps() == [7, 19]
        assert checkpoints.best_step() == 7
    on_disk = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert on_disk == ["19", "7"]


def test_reading_leaves_alone_what_a_training_is_writing(tmp_path):
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(make_state(1), 1, {"mean_iou": 0.1})
        checkpoints.save(make_state(2), 2, {"mean_iou": 0.9})
    unfinished = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with Checkpoints(Workdir(tmp_path), to_read=True) as checkpoints:
        assert (checkpoints.best_step(), checkpoints.best_step("mean_iou")) == (2, 2)
        assert checkpoints.latest_step() == 2
        assert checkpoints.restore_player("segmenter", 2)["w"][0, 0] == 2
    assert unfinished.exists()
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        while unfinished.exists():  # A resumed training clears it away, in the background.
            time.sleep(0.01)
        assert checkpoints.latest_step() == 2


def test_the_best_by_either_measure_is_kept_and_the_first_selects(tmp_path):
    measured = {1: (0.5, 0.1), 2: (0.4, 0.9), 3: (0.3, 0.2), 4: (0.2, 0.3)}
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        for step, (class_accuracy, mean_iou) in measured.items():
            scores = {"class_accuracy": class_accuracy, "mean_iou": mean_iou}
            checkpoints.save(make_state(step), step, scores)
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        assert checkpoints.steps() == [1, 2, 4]
        assert checkpoints.best_step() == checkpoints.best_step("class_accuracy") == 1
        assert checkpoints.best_step("mean_iou") == 2
        assert checkpoints.selected_by() == "class_accuracy"


def test_what_is_still_being_written_counts(tmp_path, monkeypatch):
    """Patience would count from the best by the other measure: the one before is gone by then."""
    read = ocp.CheckpointManager.metrics

    def written(self, step):
        return read(self, step) if step < 3 else None

    monkeypatch.setattr(ocp.CheckpointManager, "metrics", written)
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        for step in (1, 2, 3):
            scores = {"mean_iou": 0.1 * step, "class_accuracy": -0.1 * step}
            checkpoints.save(make_state(step), step, scores)
        assert checkpoints.best_step() == 3 and checkpoints.best_step("class_accuracy") == 1
        assert checkpoints.selected_by() == "mean_iou"


def test_a_run_of_one_measure_has_no_best_by_the_other(tmp_path):
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(make_state(1), 1, {"mean_iou": 0.5})
        checkpoints.wait()
        assert (checkpoints.best_step(), checkpoints.best_step("class_accuracy")) == (1, None)


def test_the_whole_state_comes_back(tmp_path):
    saved = make_state(5)
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(saved, 5)
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        same(checkpoints.restore(make_state(0), 5), saved)


def test_the_segmenter_is_restored_without_knowing_the_rest(tmp_path):
    saved = make_state(5)
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(saved, 5)
    shapes = make_state(0).params["segmenter"]
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        same(checkpoints.restore_segmenter(shapes, 5), saved.params["segmenter"])


def test_a_checkpoint_that_is_there_is_left_alone(tmp_path):
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(make_state(5), 5, {"mean_iou": 0.5})
        checkpoints.wait()
        checkpoints.save(make_state(5), 5)
        checkpoints.wait()
        assert checkpoints.best_step() == 5


def test_an_average_is_what_is_evaluated_and_the_rest_comes_back_too(tmp_path):
    saved = make_state(5, {"w": jnp.full((3, 2), 7.0)})
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(saved, 5)
        checkpoints.wait()
        same(checkpoints.restore(make_state(0, {"w": jnp.zeros((3, 2))}), 5), saved)
        same(checkpoints.restore_segmenter(saved.average, 5), saved.average)
        same(checkpoints.restore_player("segmenter", 5), saved.average)
        same(checkpoints.restore_player("adversary", 5), saved.params["adversary"])


def test_a_workdir_knows_whether_it_has_checkpoints(tmp_path):
    workdir = Workdir(tmp_path / "run")
    assert not workdir.has_checkpoints()
    with Checkpoints(workdir) as checkpoints:
        assert not workdir.has_checkpoints()
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (None, None)
        checkpoints.save(make_state(5), 5)
    assert workdir.has_checkpoints()


def test_a_checkpoint_that_cannot_be_read_is_named_with_what_to_do(tmp_path):
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(make_state(5), 5)
        checkpoints.wait()
        for item in ("segmenter", "training"):
            path = tmp_path / "checkpoints" / "5" / item / "_METADATA"
            path.write_bytes(path.read_bytes()[:50])
        remedy = "if it is damaged delete that folder: an earlier one is .* begins anew"
        for read in (
            lambda: checkpoints.restore(make_state(0), 5),
            lambda: checkpoints.restore_segmenter(make_state(0).params["segmenter"], 5),
            lambda: checkpoints.restore_player("adversary", 5),
        ):
            with pytest.raises(InputError, match=f"checkpoints/5.* cannot be read .*{remedy}"):
                read()


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(make_state(5), 5)
        checkpoints.wait()
        wider = {"w": jnp.zeros((3, 4))}
        with pytest.raises(InputError, match=r"its w has the shape \(3, 2\), here it is \(3, 4\)"):
            checkpoints.restore_segmenter(wider, 5)
        state = make_state(0)
        other = state._replace(params=state.params | {"adversary": {"w": jnp.zeros(9)}})
        with pytest.raises(InputError, match=r"its adversary/w has the shape"):
            checkpoints.restore(other, 5)


def test_permissions_are_no_damage(tmp_path, monkeypatch):
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(make_state(5), 5)
    with Checkpoints(Workdir(tmp_path), to_read=True) as checkpoints:

        def denied(*_, **__):
            raise PermissionError("denied")

        monkeypatch.setattr(checkpoints._manager, "restore", denied)
        with pytest.raises(InputError, match=r"cannot be read \(denied\); see to the permissions"):
            checkpoints.restore_segmenter(make_state(0).params["segmenter"], 5)
