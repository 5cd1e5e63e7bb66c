"""The loop with a small Dilated-8: dropout, margins and weights to begin with."""

import os
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import voc_smallfov_light
from segadv_jax import checkpoints, evaluate, experiment, history, steps, weights
from segadv_jax.errors import InputError
from segadv_jax.train import train
from tools import convert_weights

CLASSES = 8
SMALL = {
    "init": "scratch",
    "data.name": "synthetic",
    "data.train": "train[:10]",
    "data.validation": "validation[:5]",
    "data.test": "test[:7]",
    "segmenter.width": 1 / 32,
    "segmenter.context": "basic",
    "adversary.width": 1 / 32,
    "alternation.period": 2,
    "train.batch_size": 4,
    "train.crop": 32,
    "train.updates": 5,
    "optimizer.segmenter.learning_rate": 1e-3,
    "evaluate.every": 3,
    "evaluate.batch_size": 4,
    "evaluate.train_images": 0,
    "evaluate.pictures": 1,
}


def config(data_dir, **overrides):
    made = voc_smallfov_light.get_config("product")
    made.update_from_flattened_dict(SMALL | {"data.data_dir": str(data_dir)} | overrides)
    return made


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """The workdir of a finished run of three updates, with weights saved before it."""
    workdir = tmp_path_factory.mktemp("run")
    train(config(data_dir), str(workdir))
    return workdir


def test_a_stopped_run_ends_as_one_never_stopped_bit_for_bit(run, data_dir, tmp_path, monkeypatch):
    """Stopped after three of nine steps, in the middle of the adversary's first two."""
    shard, calls = steps.shard, []

    def counted(batch):
        calls.append(0)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return shard(batch)

    monkeypatch.setattr(steps, "shard", counted)
    with pytest.raises(SystemExit) as stop:
        train(config(data_dir), str(tmp_path))
    assert stop.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    with checkpoints.open_manager(str(tmp_path)) as manager:
        assert manager.latest_step() == 3
    # The weights that it began with are not needed any more.
    train(config(data_dir, init="gone.safetensors"), str(tmp_path))
    assert (run / "history.csv").read_bytes() == (tmp_path / "history.csv").read_bytes()
    assert [row["segmenter_updates"] for row in history.read(run / "history.csv")] == [3, 5]
    for item in ("segmenter", "training"):
        states = []
        for folder in (run, tmp_path):
            with ocp.StandardCheckpointer() as checkpointer:
                states.append(checkpointer.restore(folder / "checkpoints" / "9" / item))
        assert len(jax.tree.leaves(states[0])) > 5
        jax.tree.map(np.testing.assert_array_equal, *states)


def test_an_exported_segmenter_is_what_another_run_begins_with(run, data_dir, tmp_path):
    target = str(tmp_path / "weights.safetensors")
    convert_weights.main([str(run), target])
    fields = config(data_dir, init=target)
    data_set = experiment.load_data(fields)
    _, params, _ = evaluate.restore_best(fields, str(run), data_set)
    state = experiment.initialize(experiment.build(fields, CLASSES), 1, (32, 32), CLASSES, target)
    jax.tree.map(np.testing.assert_array_equal, state.params["segmenter"], params)
    # Or what is evaluated without any training.
    result = evaluate.evaluate(fields, str(tmp_path / "nothing"))
    assert result == evaluate.evaluate(fields, str(run)) | {"step": 0}
    # A classifier's layers only, and the rest as a seed draws it.
    front_end = {name: params[name] for name in params if name.startswith(("conv", "fc"))}
    weights.save(target, front_end)
    parts = experiment.build(fields, CLASSES)
    state = experiment.initialize(parts, 1, (32, 32), CLASSES, f"vgg:{target}")
    drawn = experiment.initialize(parts, 1, (32, 32), CLASSES)
    for name, layer in state.params["segmenter"].items():
        expected = front_end.get(name, drawn.params["segmenter"][name])
        np.testing.assert_array_equal(layer["kernel"], expected["kernel"])


def test_absent_weights_are_an_error_that_claims_no_workdir(data_dir, tmp_path):
    for init, message in (("", "config.init is not set"), ("gone.safetensors", "gone.safetensors")):
        with pytest.raises(InputError, match=message):
            train(config(data_dir, init=init), str(tmp_path))
        assert not os.listdir(tmp_path)
