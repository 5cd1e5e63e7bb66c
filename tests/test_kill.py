"""The harness that kills trainings: what it sees, and that nothing which differs escapes it."""

import sys

import jax.numpy as jnp
import optax
import pytest

from segadv_jax import devices
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.train_state import TrainState
from segadv_jax.workdir import Workdir
from tools import kill

ROW = {"step": 4, "segmenter_updates": 4, "epoch": 0.5, "validation_mean_iou": 0.25}


def state(value):
    params = {"segmenter": {"w": jnp.full((3, 2), value)}, "adversary": {"w": jnp.full(4, -value)}}
    opt_state = optax.sgd(0.1, momentum=0.9).init(params)
    return devices.replicate(TrainState(jnp.int32(4), params, opt_state))


def make(folder, value=1.0, step=4):
    """What a run leaves in short."""
    workdir = Workdir(folder)
    workdir.make()
    workdir.record_config({"seed": 0})
    workdir.cut_history(0)
    workdir.add_validation(ROW)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(state(value), step, {"mean_iou": 0.25})
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole") / "run")


def test_two_runs_that_are_the_same_have_no_differences(whole, tmp_path):
    other = make(tmp_path / "run")
    for name in ("events.out.tfevents.1", "environment.json"):  # Of this start alone.
        (other / name).write_text("anything")
    assert not kill.differences(whole, other)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda folder: Workdir(folder).add_validation(ROW), ["history.csv"]),
        (lambda folder: (folder / ".12.host.71.part").touch(), [".12.host.71.part"]),
        (lambda folder: (folder / "config.json").unlink(), ["config.json"]),
        (
            lambda folder: (folder / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(),
            ["checkpoints: 5.orbax-checkpoint-tmp is there in one only"],
        ),
    ],
)
def test_a_file_that_differs_is_named(whole, tmp_path, change, found):
    other = make(tmp_path / "run")
    change(other)
    assert kill.differences(whole, other) == found


def test_a_parameter_that_differs_in_its_last_bit_is_named(whole, tmp_path):
    found = kill.differences(whole, make(tmp_path / "run", jnp.nextafter(1.0, 2.0)))
    assert len(found) == 2 and all(each.startswith("checkpoint 4: ") for each in found)
    assert "segmenter" in found[0] and "adversary" in found[1]


def test_another_last_step_is_named(whole, tmp_path):
    found = kill.differences(whole, make(tmp_path / "run", step=5))
    assert found == ["checkpoints: 4, 5 is there in one only"]


def test_the_latest_checkpoint_must_be_readable(tmp_path):
    assert kill.latest(tmp_path) is None
    folder = make(tmp_path / "run")
    assert kill.latest(folder) == 4
    (folder / "checkpoints" / "4" / "training" / "_METADATA").unlink()
    with pytest.raises(InputError, match="checkpoints/4 cannot be read"):
        kill.latest(folder)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("10:00:00 compiling the training step ...\n", 0),
        ("10:00:00 resuming runs/a at step 12 of 80\n10:00:00 compiling ...", 12),
        ("10:00:00 synthetic: 22 images to train on\n", None),
    ],
)
def test_a_start_says_where_it_began(said, step):
    assert kill.begun_at(said) == step


def test_a_process_that_ends_first_is_not_killed(tmp_path):
    ended = kill.kill([sys.executable, "-c", "raise SystemExit('no')"], tmp_path / "run", "written")
    assert ended == (False, 1, "no\n")
    crashing = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
    crashed = kill.kill(crashing, tmp_path / "run", "any")
    assert not crashed.killed and crashed.status == -11
    make_folder = "import os, time; os.makedirs('{}'); time.sleep(999)"
    code = make_folder.format(tmp_path / "run" / "checkpoints" / "2")
    assert kill.kill([sys.executable, "-c", code], tmp_path / "run", "written").killed
