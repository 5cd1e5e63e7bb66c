"""The command that writes weights as safetensors, on each of its sources."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file
from small_runs import small_config
from weight_files import (
    DILATED8,
    FRONT_END,
    efficientnet_classifier,
    ours,
    parts_of_a_net,
    random_layers,
    released,
    same,
    torch_file,
    write_dilated8,
    write_vgg,
)

from segadv_jax import cli, configuration, experiment, weights
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.train_state import TrainState
from segadv_jax.weights import description
from segadv_jax.workdir import Workdir

DILATED, VGG = random_layers(DILATED8), random_layers(FRONT_END, seed=3)


def convert(*arguments):
    command = "convert_weights"
    cli.run(f"segadv_jax.commands.{command}", f"segadv_jax {command}", [*map(str, arguments)])


def stored(path):
    return traverse_util.unflatten_dict(load_file(path), sep="/")


def count(layers):
    return sum(kernel.size + bias.size for kernel, bias in layers.values())


def test_dilated8(tmp_path, capsys):
    source = write_dilated8(tmp_path / "dilation8_pascal_voc.caffemodel", DILATED)
    target = tmp_path / "dilated8.safetensors"
    convert(source, target)
    assert capsys.readouterr().out == (
        f"{target}: Dilated-8 of 3 classes: 24 layers, {count(DILATED):,} parameters\n"
    )
    tree, metadata = stored(target), weights.metadata(target)
    same(tree, weights.load(source, ours(DILATED)))
    same(tree, weights.load(target, ours(DILATED)))
    assert metadata == {"format": "segadv_jax", "source": source.name}
    # Once more, from ours to ours.
    again = tmp_path / "again.safetensors"
    convert(target, again)
    same(stored(again), tree)
    assert weights.metadata(again) == metadata


def test_vgg(tmp_path, capsys):
    source, target = write_vgg(tmp_path / "vgg.caffemodel", VGG), tmp_path / "vgg.safetensors"
    convert(source, target)
    said = f"Dilated-8's front end of VGG-16: 15 layers, {count(VGG):,} parameters\n"
    assert capsys.readouterr().out == f"{target}: {said}"
    assert stored(target).keys() == set(FRONT_END)
    initial = ours(DILATED)
    same(weights.load_vgg(target, initial), weights.load_vgg(source, initial))


def test_efficientnet_lite(tmp_path, capsys):
    arrays = efficientnet_classifier()
    source, target = tmp_path / "lite0.pth", tmp_path / "backbone.safetensors"
    source.write_bytes(torch_file(arrays))
    convert(source, target)
    said = "EfficientNet-Lite0's backbone: 48 layers, 2,939,120 parameters\n"
    assert capsys.readouterr().out == f"{target}: {said}"
    initial = {"backbone": stored(target)["backbone"], "decoder": {"bias": np.ones(3, "f4")}}
    same(weights.load_efficientnet_lite(target, initial), initial)
    same(weights.load_efficientnet_lite(source, initial), initial)
    del arrays["_blocks.15._project_conv.weight"]
    source.write_bytes(torch_file(arrays))
    with pytest.raises(InputError, match="not a complete EfficientNet-Lite0: missing .*block16"):
        convert(source, target)


def make_state(value, average=False):
    def tree(value):
        layers = {"conv1": {"kernel": jnp.full((3, 2), value), "bias": jnp.ones(2)}}
        return {"trunk": layers, "classifier": {"bias": jnp.full(3, 1 - value)}}

    params = {"segmenter": tree(value), "adversary": {"judge": tree(-value)}}
    averaged = tree(value / 2) if average else None
    return TrainState(jnp.int32(0), params, optax.sgd(0.1, momentum=0.9).init(params), averaged)


def save(workdir, states):
    """Checkpoints of {step: (state, mean IoU or None)}."""
    with Checkpoints(Workdir(workdir)) as checkpoints:
        for step, (state, mean_iou) in states.items():
            checkpoints.save(state, step, mean_iou and {"mean_iou": mean_iou})


def test_the_best_of_a_run(tmp_path, capsys):
    best = make_state(2.0)
    save(tmp_path, {1: (make_state(1.0), 0.2), 2: (best, 0.5), 3: (make_state(3.0), 0.3)})
    target = tmp_path / "a.safetensors"
    for player in ("segmenter", "adversary"):
        convert(tmp_path, target, f"--player={player}")
        said = f"{player} of step 2, the best: 2 layers, 11 parameters\n"
        assert capsys.readouterr().out == f"{target}: {said}"
        tree, metadata = stored(target), weights.metadata(target)
        same(tree, best.params[player])
        assert (metadata["player"], metadata["step"]) == (player, "2")
        same(weights.load(target, best.params[player]), best.params[player])


def test_the_checkpoint_is_that_of_the_run_or_of_its_fields(tmp_path, capsys, monkeypatch):
    best, latest = make_state(2.0), make_state(3.0)
    save(tmp_path, {2: (best, 0.5), 3: (latest, 0.3)})
    config = small_config("", **{"evaluate.checkpoint": "latest"})
    Workdir(tmp_path).record_config(config.to_dict())
    Workdir(tmp_path).write_classes(["sky"], [[1, 2, 3]])
    target = tmp_path / "a.safetensors"
    read, count = configuration.of_evaluation, []
    monkeypatch.setattr(
        configuration, "of_evaluation", lambda *given: count.append(given) or read(*given)
    )
    convert(tmp_path, target)
    assert len(count) == 1
    assert "segmenter of step 3, the latest:" in capsys.readouterr().out
    same(stored(target), latest.params["segmenter"])
    convert(tmp_path, target, "--config.evaluate.checkpoint=selected")
    assert "segmenter of step 2, the best:" in capsys.readouterr().out
    same(stored(target), best.params["segmenter"])
    with pytest.raises(InputError, match="has no checkpoint 'class_accuracy'; set --config.eval"):
        convert(tmp_path, target, "--config.evaluate.checkpoint=class_accuracy")


def test_the_latest_of_a_run_that_was_never_validated(tmp_path, capsys):
    state = make_state(3.0, average=True)
    save(tmp_path, {1: (make_state(1.0, average=True), None), 3: (state, None)})
    target = tmp_path / "a.safetensors"
    convert(tmp_path, target)
    assert "segmenter of step 3, the latest, none was validated:" in capsys.readouterr().out
    same(stored(target), state.average)  # What is evaluated.


def test_the_weights_of_a_run_say_what_they_are(tmp_path, capsys, monkeypatch):
    """Those of an old run whose data is gone are written without their classes."""
    save(tmp_path, {2: (make_state(2.0), 0.5)})
    workdir, target = Workdir(tmp_path), tmp_path / "a.safetensors"
    config = small_config("")
    workdir.record_config(config.to_dict())

    def gone(_):
        raise InputError("the folder is gone")

    monkeypatch.setattr(experiment, "load_data", gone)
    convert(tmp_path, target)
    assert "classes.json" in (said := capsys.readouterr().err) and "without their classes" in said
    assert "classes" not in weights.metadata(target)
    workdir.write_classes(["sky", "Straße"], [[1, 2, 3], [4, 5, 6]])
    convert(tmp_path, target)
    assert not capsys.readouterr().err
    about = description.read(target)
    assert (about.class_names, about.step) == (("sky", "Straße"), 2)
    assert about.palette.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert about.config == json.loads(workdir.config_path.read_text())
    same(weights.load(target, make_state(0.0).params["segmenter"]), stored(target))
    convert(tmp_path, target, "--player=adversary")
    assert json.loads(weights.metadata(target)["adversary"]) == about.config["adversary"]
    # Of which only the checkpoint can be chosen.
    convert(tmp_path, target, "--player=adversary", "--config.evaluate.checkpoint=latest")
    assert "the latest" in capsys.readouterr().out
    with pytest.raises(InputError, match="evaluate.tile=8: only the segmenter of a run takes"):
        convert(tmp_path, target, "--player=adversary", "--config.evaluate.tile=8")


def test_a_network_that_is_not_complete(tmp_path):
    layers = dict(DILATED) | {"conv2_1": (np.ones((5, 3, 3, 3), "f4"), DILATED["conv2_1"][1])}
    layers |= {"ct_final": VGG["fc7"], "upsample": VGG["conv1_1"]}
    layers.pop("ct_fc1")
    source = tmp_path / "a.caffemodel"
    source.write_bytes(b"".join(parts_of_a_net(released(layers))))
    with pytest.raises(InputError) as error:
        convert(source, tmp_path / "a.safetensors")
    assert str(error.value) == (
        f"{source} is not a complete Dilated-8: missing ct_fc1/kernel, ct_fc1/bias; not of this "
        "network: upsample/bias, upsample/kernel; conv2_1/kernel is 3x3x3x5, not 3x3x4x5; "
        "ct_final/kernel is 1x1x9x10, not 1x1x?x3; ct_final/bias is 10, not 3; give a whole file"
    )
    weights.save(tmp_path / "front.safetensors", {"conv1_1": ours(VGG)["conv1_1"]})
    with pytest.raises(
        InputError, match=r"not a complete VGG-16: missing conv1_2/kernel, .*fc7/bias"
    ):
        convert(tmp_path / "front.safetensors", tmp_path / "b.safetensors")
    save_file({"a/scale": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(
        InputError, match=r"other.safetensors was not written by segadv_jax: a/scale"
    ):
        convert(tmp_path / "other.safetensors", tmp_path / "b.safetensors")
    assert not (tmp_path / "a.safetensors").exists() and not (tmp_path / "b.safetensors").exists()


def test_a_network_of_ours_may_have_no_context_module(tmp_path, capsys):
    tree = ours({name: DILATED[name] for name in (*FRONT_END, "final")})
    weights.save(tmp_path / "a.safetensors", tree)
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "Dilated-8 of 3 classes: 16 layers" in capsys.readouterr().out
    same(stored(tmp_path / "b.safetensors"), tree)


def test_kernels_and_biases_of_a_wrong_size(tmp_path):
    tree = ours(VGG)
    tree["fc6"]["kernel"] = tree["fc6"]["kernel"][:5]
    tree["fc7"]["bias"] = np.ones(3)
    weights.save(tmp_path / "a.safetensors", tree)
    wrong = r"fc6/kernel is 5x7x8x9, not 7x7x8x9; fc7/bias is 3, not 10;"
    with pytest.raises(InputError, match=wrong):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_what_cannot_be_asked_for(tmp_path):
    source = str(write_vgg(tmp_path / "vgg.caffemodel", VGG))
    target = str(tmp_path / "vgg.safetensors")
    convert(source, target)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    link = tmp_path / "link.safetensors"
    link.symlink_to(target)
    for arguments, reason in (
        ([source, source], "vgg.caffemodel: the target's name must end in .safetensors"),
        ([target, target], "vgg.safetensors is the source itself"),
        ([target, str(link)], "link.safetensors is the source itself"),
        ([source, str(tmp_path / "folder.safetensors")], "folder.safetensors is a folder"),
        ([source, target, "--player=adversary"], "vgg.caffemodel is not the workdir of a run"),
        ([source, target, "--config.seed=1"], "--config.seed=1: only the segmenter of a run"),
        ([source, target, "--player=both"], "invalid choice: 'both'"),
        ([source], "required: target"),
        ([str(tmp_path), target], "holds no checkpoint; give the workdir"),
        ([str(tmp_path / "run"), target], "holds no checkpoint; give the workdir"),
        ([str(tmp_path / "none.h5"), target], "none.h5: there is no such file"),
    ):
        with pytest.raises(InputError, match=reason):
            convert(*arguments)
    assert stored(target).keys() == set(FRONT_END)


def test_a_damaged_checkpoint(tmp_path):
    save(tmp_path, {1: (make_state(1.0), 0.2)})
    item = tmp_path / "checkpoints" / "1" / "segmenter"
    for path in sorted(item.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
    with pytest.raises(InputError, match=r"the checkpoint .*checkpoints/1.* cannot be read"):
        convert(tmp_path, tmp_path / "a.safetensors")
