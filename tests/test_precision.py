"""Arithmetic in bfloat16: what stays in float32, and that training goes as in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import encodings, optimizers
from segadv_jax.losses import Objective
from segadv_jax.models import ADVERSARIES, SEGMENTERS
from segadv_jax.scene import Setup
from segadv_jax.train_step import train_step

SEGMENTER_FIELDS = {
    "multiscale": {"widths": (4, 6, 8), "hidden": 8},
    "dilated8": {"width": 1 / 32, "context": "basic"},
    "efficientnet_lite0": {"decoder_width": 4},
}
ADVERSARY_FIELDS = {
    "two_branch": {"label_features": 4, "image_features": (3, 4), "fused_features": (4, 5, 6)},
    "fully_convolutional": {"features": (4,)},
}
FIELD_OF_VIEW = {"width": 1 / 16}
UPDATES = 30


def segmenter(name, **fields):
    return SEGMENTERS[name](small.CLASSES, **SEGMENTER_FIELDS[name] | fields)


def adversary(name, **fields):
    own = ADVERSARY_FIELDS.get(name, FIELD_OF_VIEW)
    return ADVERSARIES[name](stride=4, **own | fields)


def apply(module, params, *args):
    return jax.jit(lambda params: module.apply({"params": params}, *args))(params)


def check(make, params, *args):
    """What the network returns in both precisions."""
    exact, coarse = (apply(make(dtype=each), params, *args) for each in ("float32", "bfloat16"))
    assert exact.dtype == coarse.dtype == jnp.float32
    size = np.max(np.abs(exact))
    assert 0 < np.max(np.abs(coarse - exact)) < 0.05 * size
    shapes = jax.eval_shape(make(dtype="bfloat16").init, jax.random.key(0), *args)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    # Most numbers on the way are halves: bfloat16 is not merely the last layer's.
    text = jax.jit(make(dtype="bfloat16").apply).lower({"params": params}, *args).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions and all("bf16>" in line.rsplit("->")[-1] for line in convolutions)


@pytest.mark.parametrize("name", sorted(SEGMENTERS))
def test_segmenters_compute_in_bfloat16(name):
    make = functools.partial(segmenter, name)
    margin = make().margin
    image = np.random.RandomState(0).uniform(0, 255, (1, 32 + 2 * margin, 48 + 2 * margin, 3))
    image, size = image.astype(np.float32), np.array([[32, 48]], np.int32)
    params = small.parameters(make(), image, size)
    check(make, params, image, size)


@pytest.mark.parametrize("name", sorted(ADVERSARIES))
def test_adversaries_compute_in_bfloat16(name):
    make = functools.partial(adversary, name)
    image, size = small.images(small.SIZES[:1], small.CANVAS)
    label_map = np.random.RandomState(1).uniform(0, 1, (1, *small.cells(small.CANVAS), 3))
    check(make, small.adversary_parameters(make()), label_map.astype(np.float32), image, size)


def gradient(name, remat, **fields):
    """(the gradient of a loss as a function of the parameters, these)."""
    module = segmenter(name, remat=remat, **fields)
    image = np.full((1, *(side + 2 * module.margin for side in small.CANVAS), 3), 99, np.float32)
    image[:, ::3, ::5] = 200
    arguments = image, np.array([small.CANVAS], np.int32)

    def loss(params):
        return jnp.sum(jnp.square(module.apply({"params": params}, *arguments)))

    return jax.grad(loss), small.parameters(module, *arguments)


@pytest.mark.parametrize("name", ["multiscale", "efficientnet_lite0", "dilated8"])
def test_every_segmenter_can_be_rematerialised(name):
    fields = {"freeze": "none"} if name == "efficientnet_lite0" else {}
    for remat in (False, True):
        slope, params = gradient(name, remat, **fields)
        assert ("remat" in str(jax.make_jaxpr(slope)(params))) == remat


def test_rematerialisation_changes_no_gradient():
    (slope, params), (again, _) = gradient("multiscale", False), gradient("multiscale", True)
    small.assert_close(jax.jit(again)(params), jax.jit(slope)(params), 1e-4)


@functools.cache
def curve(dtype):
    """The losses of a small game."""
    segmenter = small.segmenter(dtype=dtype, levels=1)
    adversary = small.adversary(dtype=dtype)
    optimizer = optimizers.alternate(
        optimizers.player("sgd", 0.05, 0.9), optimizers.player("sgd", 0.01)
    )
    setup = Setup(segmenter, adversary, encodings.basic, optimizer, Objective(lam=0.1))
    step = jax.jit(functools.partial(train_step, setup=setup), static_argnums=3)
    state, rows = small.state(segmenter, adversary, optimizer), []
    for number in range(UPDATES):
        state, metrics = step(state, small.batch(), jax.random.key(number), "both")
        rows.append([metrics["mce"], metrics["bce_real"] + metrics["bce_synthetic"]])
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))}
    return np.array(rows), dtypes


def test_training_curves_stay_together():
    exact, _ = curve("float32")
    coarse, dtypes = curve("bfloat16")
    assert jnp.dtype("bfloat16") not in dtypes
    assert exact[-1, 0] < 0.7 * exact[0, 0]  # It learns,
    assert 0 < np.max(np.abs(coarse - exact)) < 0.05 * exact[0, 0]  # and so does the other.
