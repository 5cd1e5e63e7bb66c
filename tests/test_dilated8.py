"""Dilated-8 against its published figures and against TensorFlow's own convolutions."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import tensorflow as tf

from segadv_jax import prediction
from segadv_jax.models import dilated8
from segadv_jax.models.dilated8 import MEAN_RGB, Dilated8
from segadv_jax.resampling import reflect_border

CLASSES = 3
SMALL = {"width": 1 / 32, "dropout": 0.0}
# The published definition, not the package's table: name, dilation, ReLU; None is a 2x2 pooling.
FRONT_END = [
    *(("conv1_1", 1, True), ("conv1_2", 1, True), None),
    *(("conv2_1", 1, True), ("conv2_2", 1, True), None),
    *(("conv3_1", 1, True), ("conv3_2", 1, True), ("conv3_3", 1, True), None),
    *(("conv4_1", 1, True), ("conv4_2", 1, True), ("conv4_3", 1, True)),
    *(("conv5_1", 2, True), ("conv5_2", 2, True), ("conv5_3", 2, True)),
    *(("fc6", 4, True), ("fc7", 1, True), ("final", 1, False)),
]
CONTEXT = [
    *(("ct_conv1_1", 1, True), ("ct_conv1_2", 1, True), ("ct_conv2_1", 2, True)),
    *(("ct_conv3_1", 4, True), ("ct_conv4_1", 8, True), ("ct_conv5_1", 16, True)),
    *(("ct_fc1", 1, True), ("ct_final", 1, False)),
]


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(module, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    size = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return jax.eval_shape(module.init_with_output, jax.random.key(0), image, size)


def parameters(module, seed=0):
    params = shapes(module, 8 + 2 * module.margin)[1]["params"]
    random = np.random.RandomState(seed)

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 1
        return random.normal(0, (2 / fan_in) ** 0.5, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, params)


def photograph(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def reference(params, layers, x, padding="VALID"):
    """TensorFlow's answer for f32[n,H,W,C]."""
    x = tf.constant(x)
    for layer in layers:
        if layer is None:
            x = tf.nn.max_pool2d(x, 2, 2, padding)
            continue
        name, dilation, relu = layer
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        x = tf.nn.conv2d(x, kernel, 1, padding, dilations=dilation) + bias
        x = tf.nn.relu(x) if relu else x
    return x.numpy()


def published(params, image, context=True):
    """The released program for one image u8[H,W,3]: class logits at the pixels 8i."""
    height, width = image.shape[:2]
    below, right = -height % 8, -width % 8
    border = [(186, 186 + below), (186, 186 + right), (0, 0)]
    x = np.pad(image.astype(np.float32), border, mode="reflect")
    x = reference(params, FRONT_END, (x - np.float32(MEAN_RGB))[None])
    if context:
        x = reference(params, CONTEXT, np.pad(x, [(0, 0), (33, 33), (33, 33), (0, 0)]))
    return x[0]


@pytest.mark.parametrize(
    ("context", "added"), [("none", 0), ("basic", 28_392), ("large", 6_803_139)]
)
def test_published_network_has_its_parameters(context, added):
    logits, variables = shapes(Dilated8(21, context=context), 900)
    assert count(variables["params"]) == 134_346_581 + added
    assert logits.shape == (1, 66, 66, 21)


def test_field_of_view_is_380_pixels_and_67_cells():
    """908 pixels in all: a cell more for every 8 pixels beyond 380."""
    assert shapes(Dilated8(21, context="none"), 380)[0].shape == (1, 1, 1, 21)
    assert shapes(Dilated8(21, context="none"), 388)[0].shape == (1, 2, 2, 21)
    with pytest.raises(ValueError, match=r"8k \+ 372 pixels.*got 379x379"):
        shapes(Dilated8(21, context="none"), 379)
    # The cells of the front end to which the middle one of the context module's three reacts. With
    # nothing below zero all ReLUs are open.
    cells = np.random.RandomState(0).uniform(size=(1, 69, 69, CLASSES)).astype(np.float32)
    module = Context(CLASSES, context="basic")
    shapes_only = jax.eval_shape(module.init, jax.random.key(0), cells)["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes_only)
    slope = jax.grad(lambda x: jnp.sum(module.apply({"params": params}, x)[0, 1, 1]))(cells)
    for axis in (1, 2):
        seen = np.any(np.asarray(slope) > 0, tuple({1, 2, 3} - {axis}))[0]
        np.testing.assert_array_equal(np.flatnonzero(seen), np.arange(1, 68))


class Context(Dilated8):
    """The context module alone."""

    @nn.compact
    def __call__(self, cells):
        return dilated8._refine(self, cells, np.array([(8, 8)], np.int32))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_cell_sees_380_pixels_around_pixel_8i_and_three_and_a_half(axis):
    module = Dilated8(CLASSES, context="none", **SMALL)
    params = jax.tree.map(np.abs, parameters(module))
    image = np.random.RandomState(0).uniform(300, 400, (1, 396, 396, 3)).astype(np.float32)
    size = np.array([(24, 24)], np.int32)

    def predict(image):
        return jnp.sum(module.apply({"params": params}, image, size)[0, 1, 1])

    slope = np.asarray(jax.jit(jax.grad(predict))(image))[0]
    seen = np.flatnonzero(np.any(slope != 0, (1 - axis, 2)))
    assert (seen[0], seen[-1]) == (8, 8 + 379)
    assert np.mean([seen[0], seen[-1]]) - module.margin == 8 * 1 + 3.5


@pytest.mark.parametrize(
    ("context", "shape"),
    [("none", (37, 21)), ("basic", (24, 40)), ("basic", (37, 21)), ("large", (37, 21))],
)
def test_logits_are_those_of_the_published_program(context, shape):
    module = Dilated8(CLASSES, context=context, **SMALL)
    params, image = parameters(module), photograph(*shape)
    size = np.array([shape], np.int32)
    with_border = reflect_border(jnp.asarray(image[None]), size, module.margin, module.stride)
    got = jax.jit(module.apply)({"params": params}, with_border.astype(jnp.float32), size)
    expected = published(params, image, context != "none")
    assert got.shape[1:] == expected.shape == (-(-shape[0] // 8), -(-shape[1] // 8), CLASSES)
    scale = np.std(expected)
    assert scale > 0
    np.testing.assert_allclose(got[0], expected, atol=2e-5 * np.abs(expected).max())
    # Any wrong layer would miss this independent answer by far.
    assert np.abs(got[0] - np.roll(expected, 1, 0)).max() > 0.1 * scale


def test_a_map_of_the_deployed_size_comes_back_at_the_published_pixels():
    """Feature i at pixel 8i, bilinear in the probabilities; the loop is the released one's."""
    module = Dilated8(CLASSES, context="basic", **SMALL)
    params, image = parameters(module), photograph(37, 29)
    params["ct_final"]["kernel"] /= 50  # Probabilities between 0 and 1.
    size = np.array([(37, 29)], np.int32)
    cells = np.asarray(jax.nn.softmax(published(params, image)))
    predict = jax.jit(functools.partial(prediction.predict, segmenter=module))
    got = np.asarray(predict(params, image[None], size))[0]
    assert np.std(cells) > 0.05
    for h, w in np.ndindex(32, 24):  # Up to the last cell's pixel.
        (r, rt), (c, ct) = divmod(h, 8), divmod(w, 8)
        rt, ct = rt / 8, ct / 8
        left = rt * cells[r + 1, c] + (1 - rt) * cells[r, c]
        right = rt * cells[r + 1, c + 1] + (1 - rt) * cells[r, c + 1]
        np.testing.assert_allclose(got[h, w], (1 - ct) * left + ct * right, atol=1e-4)


@pytest.mark.parametrize("shape", [(32, 40), (37, 21)])
def test_padded_variant_pads_every_layer_at_the_true_border(shape):
    module = Dilated8(CLASSES, padding="same", **SMALL)
    params, image = parameters(module), photograph(*shape)
    canvas = np.random.RandomState(1).uniform(0, 255, (1, 48, 48, 3)).astype(np.float32)
    canvas[0, : shape[0], : shape[1]] = image
    got = jax.jit(module.apply)({"params": params}, canvas, np.array([shape], np.int32))
    x = (image.astype(np.float32) - np.float32(MEAN_RGB))[None]
    expected = reference(params, FRONT_END + CONTEXT, x, "SAME")[0]
    h, w = expected.shape[:2]
    assert (h, w) == (-(-shape[0] // 8), -(-shape[1] // 8))
    np.testing.assert_allclose(got[0, :h, :w], expected, atol=2e-5 * np.abs(expected).max())
    assert (module.stride, module.offset, module.margin) == (8, 3.5, 0)


def test_context_module_changes_little_at_first():
    """If the front end's maps are positive: the module's first ReLU cuts off what is below zero."""
    side = 396
    module = Dilated8(CLASSES, context="large", **SMALL)
    image = photograph(side, side).astype(np.float32)[None]
    size = np.array([(24, 24)], np.int32)
    params = jax.jit(module.init)(jax.random.key(0), image, size)["params"]
    params["final"]["kernel"] = jnp.abs(params["final"]["kernel"])
    alone = module.clone(context="none")
    front_end, refined = (
        jax.jit(x.apply)({"params": params}, image, size) for x in (alone, module)
    )
    assert np.min(front_end) > 0
    np.testing.assert_allclose(refined, front_end, rtol=0.3)


@pytest.fixture(scope="module")
def example():
    """(image, size, params) for networks of any numerics."""
    module = Dilated8(CLASSES, context="basic", width=1 / 32)
    image = np.stack([photograph(388, 396, seed) for seed in (0, 1)]).astype(np.float32)
    return image, np.array([(16, 24), (13, 20)], np.int32), parameters(module)


@functools.cache
def network(**fields):
    """A jitted function (params, image, size, keys) to ((loss, logits), gradient)."""
    module = Dilated8(CLASSES, context="basic", **{"width": 1 / 32} | fields)

    def loss(params, image, size, keys):
        logits = module.apply({"params": params}, image, size, keys)
        return jnp.mean(jnp.square(logits)), logits

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def run(example, keys=None, **fields):
    """(logits, gradient of the mean of their squares)."""
    image, size, params = example
    (_, logits), gradient = network(**fields)(params, image, size, keys)
    return np.asarray(logits), gradient


def test_rematerialisation_changes_nothing_but_memory(example):
    keys = jax.random.split(jax.random.key(0), 2)
    logits, gradient = run(example, keys)
    again, its_gradient = run(example, keys, remat=True)
    np.testing.assert_allclose(again, logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max())
    small.assert_close(its_gradient, gradient, 1e-4)


def test_bfloat16_computes_less_exactly_with_float32_parameters(example):
    logits, gradient = run(example, dropout=0.0)
    rough, its_gradient = run(example, dropout=0.0, dtype="bfloat16")
    assert logits.dtype == rough.dtype == np.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(its_gradient))
    error = np.abs(rough - logits).max() / np.abs(logits).max()
    assert 1e-4 < error < 0.1
    flat, its_flat = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in (gradient, its_gradient)
    )
    assert np.corrcoef(flat, its_flat)[0, 1] > 0.97


def test_dropout_has_a_mask_of_its_own_for_each_example_and_none_in_evaluation(example):
    keys = jax.random.split(jax.random.key(0), 2)
    evaluated, dropped = run(example)[0], run(example, keys)[0]
    np.testing.assert_array_equal(evaluated, run(example, dropout=0.0)[0])
    scale = np.max(np.abs(dropped))
    image, size, params = example
    # The same image twice: each example has its own mask.
    twice = run((image[[0, 0]], size[[0, 0]], params), keys)[0]
    for logits in (evaluated[0], twice[1]):
        assert np.max(np.abs(dropped[0] - logits)) > 0.01 * scale
    # An example's mask goes with its key, wherever it stands in the batch.
    swapped = run((image[::-1], size[::-1], params), keys[::-1])[0][::-1]
    np.testing.assert_allclose(swapped, dropped, atol=1e-5 * scale)


def test_product_shows_mean_centred_colours_of_the_area_around_pixel_8i():
    image = photograph(29, 43).astype(np.float32)
    canvas = np.full((1, 32, 48, 3), 1e3, np.float32)
    canvas[0, :29, :43] = image
    size = np.array([(29, 43)], np.int32)
    got = np.asarray(Dilated8(CLASSES).apply({}, canvas, size, method="colours"))
    assert got.shape == (1, 4, 6, 3)
    for i, j in np.ndindex(4, 6):
        total, area = np.zeros(3), 0.0
        for row, column in np.ndindex(29, 43):
            # The overlap of a pixel's unit square with the cell's square of side 8.
            high, wide = (
                max(0, min(p + 0.5, 8 * c + 4) - max(p - 0.5, 8 * c - 4))
                for p, c in ((row, i), (column, j))
            )
            total += high * wide * (image[row, column] - np.array(MEAN_RGB))
            area += high * wide
        np.testing.assert_allclose(got[0, i, j], total / area, atol=1e-3)
    sampled = Dilated8(CLASSES, sampled_colours=True).apply({}, canvas, size, method="colours")
    np.testing.assert_allclose(sampled[0], image[::8, ::8] - np.float32(MEAN_RGB), atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context": "huge"}, "context is 'huge'; known: large, basic, none"),
        ({"padding": "valid"}, "padding is 'valid'; known: reflect, same"),
        ({"dtype": "float16"}, "dtype is 'float16'; known: float32, bfloat16"),
        ({"width": 0.0}, "width is 0.0: set it above 0"),
        ({"dropout": 1.0}, "dropout is 1.0: set it from 0 to below 1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Dilated8(CLASSES, **fields)
