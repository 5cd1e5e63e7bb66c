"""The loop with a small Dilated-8: dropout, margins and weights to begin with."""

import functools
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import small
from small_runs import trace_once

from configs import voc_smallfov_light
from segadv_jax import (
    cli,
    devices,
    evaluate,
    experiment,
    initialize,
    losses,
    prediction,
    predictor,
    weights,
)
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.metrics import boundary
from segadv_jax.metrics.boundary import Tolerance
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.train import train
from segadv_jax.workdir import UPDATES, End, Workdir

CLASSES = 8
SMALL = {
    "init": "scratch",
    "data.name": "synthetic",
    "data.train": "train[:10]",
    "data.validation": "validation[:5]",
    "data.test": "test[:7]",
    "segmenter.width": 1 / 32,
    "segmenter.context": "basic",
    "segmenter.padding": "same",  # Patches without a margin: quicker.
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
    "evaluate.tile": 0,
    "evaluate.split": "test[:7]",
}


def config(data_dir, **overrides):
    made = voc_smallfov_light.get_config("product")
    made.update_from_flattened_dict(SMALL | {"data.data_dir": str(data_dir)} | overrides)
    return made


def convert_weights(*arguments):
    cli.run("segadv_jax.commands.convert_weights", "convert_weights", arguments)


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """The workdir of a finished run of five updates."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    train(config(data_dir), str(workdir))
    return workdir


def test_a_stopped_run_ends_as_one_never_stopped_bit_for_bit(run, data_dir, tmp_path, monkeypatch):
    """Stopped after three of nine steps, in the middle of the adversary's first two."""
    trace_once(monkeypatch)
    shard, calls = devices.shard, []

    def counted(batch):
        calls.append(0)
        if len(calls) == 4:  # The next step's batch is on its way already.
            os.kill(os.getpid(), signal.SIGTERM)
        return shard(batch)

    with monkeypatch.context() as patch:
        patch.setattr(devices, "shard", counted)
        with pytest.raises(SystemExit) as stop:
            train(config(data_dir), str(tmp_path))
    assert stop.value.code == 128 + signal.SIGTERM
    stopped = Workdir(tmp_path)
    with Checkpoints(stopped) as checkpoints:
        assert checkpoints.latest_step() == 3
    assert stopped.end() is None
    # The weights that it began with are not needed any more.
    train(config(data_dir, init="gone.safetensors"), str(tmp_path))
    assert run.history_path.read_bytes() == stopped.history_path.read_bytes()
    assert [row["segmenter_updates"] for row in run.history()] == [3, 5]
    best = max(reversed(run.history()), key=lambda row: row["validation_mean_iou"])
    assert run.end() == stopped.end() == End(UPDATES, 9, best["step"])
    for item in ("segmenter", "training"):
        states = []
        for workdir in (run, stopped):
            with ocp.StandardCheckpointer() as checkpointer:
                states.append(checkpointer.restore(workdir.checkpoints_path / "9" / item))
        assert len(jax.tree.leaves(states[0])) > 5
        jax.tree.map(np.testing.assert_array_equal, *states)


def test_an_exported_segmenter_is_what_another_run_begins_with(run, data_dir, tmp_path):
    target = str(tmp_path / "weights.safetensors")
    convert_weights(str(run), target)
    fields = config(data_dir, init=target)
    params = predictor.load(config(data_dir), str(run)).params
    setup = experiment.build(fields, CLASSES).setup
    draw = functools.partial(initialize.initialize, setup, 1, (32, 32), CLASSES)
    state = draw(target)
    jax.tree.map(np.testing.assert_array_equal, state.params["segmenter"], params)
    # Or what is evaluated without any training.
    result = evaluate.evaluate(fields, str(tmp_path / "nothing"), "validation[:5]")
    best = max(row["validation_mean_iou"] for row in run.history())
    assert result["step"] == 0 and result["mean_iou"] == pytest.approx(best, abs=1e-3)
    assert "accuracy_real" not in result
    # A classifier's layers only, and the rest as a seed draws it.
    front_end = {name: params[name] for name in params if name.startswith(("conv", "fc"))}
    weights.save(target, front_end)
    state, drawn = draw(f"vgg:{target}"), draw()
    for name, layer in state.params["segmenter"].items():
        expected = front_end.get(name, drawn.params["segmenter"][name])
        np.testing.assert_array_equal(layer["kernel"], expected["kernel"])


def test_evaluation_measures_boundaries_and_the_adversary(run, data_dir):
    """Against the same measures of the predictions that the public functions give."""
    fields = config(data_dir)
    result = evaluate.evaluate(fields, str(run), "validation[:5]")
    trained = predictor.load(fields, str(run))
    segmenter, params = trained.segmenter, trained.params
    split = trained.data_set.read("validation[:5]")
    (batch,) = split.eval_batches(batch_size=5, canvas=split.canvas())
    image, label, size = (jnp.asarray(batch[name]) for name in ("image", "label", "size"))
    predicted = jnp.argmax(prediction.predict(params, image, size, segmenter), -1)
    tolerance = Tolerance.of(split.sizes)
    for border, suffix in (("outside", ""), ("ignore", "_ignoring_border")):
        fields_of_f = {"num_classes": CLASSES, "tolerance": tolerance, "border": border}
        f = jax.jit(functools.partial(boundary.boundary_f, **fields_of_f))(predicted, label, size)
        means = np.nanmean(np.asarray(f), 1)
        assert result[f"mean_bf{suffix}"] == pytest.approx(np.mean(means), abs=1e-3)
        assert result[f"std_bf{suffix}"] == pytest.approx(np.std(means), abs=1e-3)
        by_class = np.nanmean(np.where(np.isnan(f), np.nan, f)[:, 0])
        assert result[f"bf{suffix}"]["sky"] == pytest.approx(by_class, abs=1e-3)
    assert result["bf_theta"] * tolerance.smallest**0.5 == pytest.approx(5)

    # The adversary's verdicts on both maps of whole images.
    setup = experiment.build(fields, CLASSES).setup
    with Checkpoints(run) as checkpoints:
        adversary = checkpoints.restore_player("adversary", trained.step)
    cell_label = downsample_labels(label, segmenter.stride, segmenter.offset)
    window = image.astype(jnp.float32)
    logits = prediction.segment(params, image, size, segmenter)
    colours = segmenter.apply({}, window, size, method="colours")
    weights = losses.prediction_weights(cell_label, 4)
    maps = setup.encode(jax.nn.softmax(logits), cell_label, colours)
    for kind, label_map in zip(("real", "synthetic"), maps, strict=True):
        verdict = setup.adversary.apply({"params": adversary}, label_map, window, size)[..., 0]
        right = np.sum(((verdict > 0) == (kind == "real")) * weights) / np.sum(weights)
        assert result[f"accuracy_{kind}"] == pytest.approx(float(right), abs=0.02)


def test_an_adversary_that_sees_more_than_the_images_have_is_left_out(
    run, data_dir, tmp_path, monkeypatch
):
    """As one without padding does on small images; its parameters are those of one with it."""
    copy = Workdir(shutil.copytree(str(run), tmp_path / "run"))
    fields = config(data_dir, **{"adversary.padding": "valid", "train.crop": 144})
    copy.config_path.write_text(fields.to_json())
    said = []
    monkeypatch.setattr(evaluate.logging, "warning", lambda *text: said.append(text[0] % text[1:]))
    result = evaluate.evaluate(fields, str(copy), "validation[:5]")
    assert result["mean_iou"] is not None and "accuracy_real" not in result
    assert any("sees 144 pixels at once, more than any image has" in text for text in said)


def test_other_weights_than_the_runs_own_are_not_silently_passed_over(run, data_dir, tmp_path):
    path = str(tmp_path / "weights.safetensors")
    convert_weights(str(run), path)
    with pytest.raises(InputError, match="holds checkpoints of its own, which would be evaluated"):
        evaluate.evaluate(config(data_dir, init=path), str(run))
    predictor.load(config(data_dir, init=""), str(run))  # As one who trained from scratch may.
    empty, other = tmp_path / "empty", str(tmp_path / "other.safetensors")
    shutil.copy(path, other)
    predictor.load(config(data_dir, init=path), empty)
    with pytest.raises(InputError, match=r"other.safetensors', but .* was begun with '.*/weights"):
        predictor.load(config(data_dir, init=other), empty)
    predictor.load(config(data_dir, init=os.path.relpath(path)), empty)
    # Without weights there is nothing to mistake for others.
    with pytest.raises(InputError, match=r"holds no checkpoint; .*--workdir=EMPTY_FOLDER"):
        predictor.load(config(data_dir, init=""), empty)
    # Weights know how they were padded.
    padded = config(data_dir, init=path, **{"segmenter.padding": "reflect"})
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(initialize.logging, "warning", lambda *text: said.append(text[0] % text[1:]))
        predictor.load(padded, str(tmp_path / "evaluated"))
    assert said == [
        "config.init: these weights were trained with config.segmenter.padding=same, this "
        "segmenter pads with 'reflect'"
    ]
    convert_weights(str(run), path, "--player=adversary")
    with pytest.raises(InputError, match="weights.safetensors is an adversary; export the segment"):
        evaluate.evaluate(config(data_dir, init=path), str(tmp_path / "adversary"))
    assert not (tmp_path / "adversary").exists()


def test_evaluation_refuses_what_it_cannot_do(run, data_dir):
    for overrides, message in (
        ({"evaluate.scales": (0.0,)}, r"config.evaluate.scales is \(0.0,\)"),
        ({"evaluate.tile": -1}, "config.evaluate.tile is -1"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate.evaluate(config(data_dir, **overrides), str(run))
    with pytest.raises(InputError, match="config.evaluate.tile is 4, but this segmenter takes who"):
        experiment.in_tiles(small.segmenter(), 4)


def test_absent_weights_are_an_error_that_claims_no_workdir(data_dir, tmp_path):
    for init, message in (("", "config.init is not set"), ("gone.safetensors", "gone.safetensors")):
        with pytest.raises(InputError, match=message):
            train(config(data_dir, init=init), str(tmp_path))
        assert not os.listdir(tmp_path)
