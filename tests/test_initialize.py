"""The state before the first step: what draws it, and what it refuses to begin with."""

import jax
import numpy as np
import pytest

from configs import synthetic as synthetic_config
from configs import voc_baseline, voc_largefov
from segadv_jax import experiment
from segadv_jax.errors import InputError
from segadv_jax.initialize import check_init, initialize, names_a_network, pretrained, shapes

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
    (tmp_path / "a.h5").write_bytes(b"weights")
    with pytest.raises(InputError, match="a.h5', but only the segmenter 'dilated8' has a front"):
        pretrained(f"vgg:{tmp_path / 'a.h5'}", {"trunk": {}})
    with pytest.raises(InputError, match="weights.safetensors"):
        pretrained("weights.safetensors", {"conv1_1": {}})


def test_a_classifier_is_no_network():
    """What can be evaluated as it is, and what training has to begin with."""
    assert names_a_network("dilated8.safetensors")
    assert not any(map(names_a_network, ("", "scratch", "vgg:vgg16.h5")))


def test_without_padding_whole_images_may_be_too_small():
    config = voc_largefov.get_config()
    config.train.crop, config.adversary.padding = 0, "valid"
    config.segmenter.width = config.adversary.width = 1 / 32
    config.segmenter.update({"context": "none", "padding": "same"})  # Quick to compile.
    setup = experiment.build(config, 3).setup
    with pytest.raises(InputError, match="canvas of 128x400 pixels is too small .* 34 label cells"):
        initialize(setup, 0, (128, 400), 3)
