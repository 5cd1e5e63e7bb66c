"""The adversaries for PASCAL VOC 2012 against the supplement's Table 1 and against TensorFlow."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import tensorflow as tf

from segadv_jax import VOID, losses
from segadv_jax.models import ADVERSARIES
from segadv_jax.models.adversary import FieldOfView

# Table 1 once more, as printed, column by column: kernel, channels in, channels out; None: a pool.
TABLE_1 = {
    "largefov_light": [
        *((3, None, 96), (3, 96, 128), (3, 128, 128), None),
        *((3, 128, 128), (3, 128, 128), None, (3, 128, 256), (3, 256, 2)),
    ],
    "largefov": [
        *((3, None, 96), (3, 96, 128), (3, 128, 128), None),
        *((3, 128, 256), (3, 256, 256), None, (3, 256, 512), (3, 512, 2)),
    ],
    "smallfov_light": [
        *((3, None, 96), (1, 96, 128), None),
        *((3, 128, 128), (1, 128, 128), None, (3, 128, 256), (1, 256, 2)),
    ],
    "smallfov": [
        *((3, None, 96), (1, 96, 128), None),
        *((3, 128, 256), (1, 256, 256), None, (3, 256, 512), (1, 512, 2)),
    ],
}
# The paper prints 8.7e5, 2.4e6, 4.9e5 for the first three with C channels, and 9.1e5, 2.4e6 for
# LargeFOV's with 3C. What it prints for SmallFOV (2.4e6) and for the SmallFOVs with 3C repeats
# LargeFOV's numbers and cannot be right: even with all kernels 3x3 SmallFOV would have 2.20e6.
PARAMETERS = {
    ("largefov_light", 21): 871_490,
    ("largefov", 21): 2_351_170,
    ("smallfov_light", 21): 490_434,
    ("smallfov", 21): 1_572_802,
    ("largefov_light", 63): 907_778,
    ("largefov", 63): 2_387_458,
    ("smallfov_light", 63): 526_722,
    ("smallfov", 63): 1_609_090,
}
VIEWS = {
    "largefov": [3, 5, 7, 8, 12, 16, 18, 26, 34],
    "smallfov": [3, 3, 4, 8, 8, 10, 18, 18],
}
VIEWS |= {f"{name}_light": views for name, views in VIEWS.items()}
STRIDE = 8


def inputs(cells, channels, n=1):
    """(label map f32[n,h,w,C'], an image, sizes i32[n,2]) of maps whose cells are all true.

    The image has a single pixel: these adversaries do not look at it.
    """
    label_map = np.random.RandomState(0).normal(size=(n, *cells, channels)).astype(np.float32)
    return label_map, np.zeros((n, 1, 1, 3), np.float32), np.tile(np.int32(cells) * STRIDE, (n, 1))


def few(name, **fields):
    return ADVERSARIES[name](**{"width": 1 / 16} | fields)


def predict(module, params, label_map, size):
    image = np.zeros((len(label_map), 1, 1, 3), np.float32)
    return jax.jit(module.apply)({"params": params}, label_map, image, size)


@pytest.mark.parametrize("name", sorted(TABLE_1))
@pytest.mark.parametrize("channels", [21, 63])
def test_networks_are_those_of_the_table(name, channels):
    module = ADVERSARIES[name]()
    logits, variables = jax.eval_shape(
        module.init_with_output, jax.random.key(0), *inputs((40, 33), channels)
    )
    assert logits.shape == (1, 10, 9, 1) and logits.dtype == jnp.float32
    kernels = [
        variables["params"][f"conv{i}"]["kernel"].shape
        for i in range(1, 8)
        if f"conv{i}" in variables["params"]
    ]
    expected = [(k, k, i or channels, o) for k, i, o in filter(None, TABLE_1[name])]
    assert kernels == expected
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    assert count == PARAMETERS[name, channels]


@pytest.mark.parametrize("name", sorted(TABLE_1))
def test_field_of_view_grows_layer_by_layer(name):
    """Without padding as many cells as a layer sees give one value, and one cell less none."""
    for number, view in enumerate(VIEWS[name], 1):
        stages = [[]]
        for layer in TABLE_1[name][:number]:
            if layer is None:
                stages.append([])
            else:
                stages[-1].append((layer[0], 2))
        stages[-1] = stages[-1] or [(1, 2)]
        module = FieldOfView(stages, padding="valid", width=1 / 16)
        shape = functools.partial(jax.eval_shape, module.init_with_output, jax.random.key(0))
        assert shape(*inputs((view, view), 4))[0].shape == (1, 1, 1, 1)
        assert module.field_of_view == view
        with pytest.raises(ValueError, match=f"too small .* sees {view}x{view}"):
            shape(*inputs((view, view - 1), 4))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("name", "view"), [("largefov", 34), ("smallfov", 18)])
def test_field_of_view_is_that_of_the_name(name, view, axis):
    side, prediction = 52, 6
    module = few(name)
    label_map, image, size = inputs((side, side), 3)
    params = small.parameters(module, label_map, image, size)
    changed = label_map.repeat(side + 1, 0)
    # Map p has another row (or column) of cells p; the last one is as it was.
    lines = np.moveaxis(changed, 1 + axis, 1)
    lines[range(side), range(side)] += np.random.RandomState(1).normal(0, 9, (side, 3))
    result = predict(module, params, changed, size.repeat(side + 1, 0))
    result = result[:, prediction, prediction, 0]
    seen = np.flatnonzero(np.abs(result[:-1] - result[-1:]) > 1e-6)
    # Prediction i pools the cells 4i to 4i + 3: its view is centred at 4i + 1.5.
    np.testing.assert_array_equal(seen, np.arange(view) + 4 * prediction + 1.5 - (view - 1) / 2)


def reference(name, params, label_map, padding):
    """TensorFlow's logit: that of "ground truth" under a softmax over two classes."""
    x, number = tf.constant(label_map), 0
    for layer in TABLE_1[name]:
        if layer is None:
            x = tf.nn.max_pool2d(x, 2, 2, padding)
            continue
        number += 1
        kernel, bias = params[f"conv{number}"]["kernel"], params[f"conv{number}"]["bias"]
        x = tf.nn.conv2d(x, np.asarray(kernel), 1, padding) + np.asarray(bias)
        if layer[2] > 2:
            x = tf.nn.relu(x)
    probability = tf.nn.softmax(x)[..., 1].numpy()
    return np.log(probability) - np.log1p(-probability)


@pytest.mark.parametrize("cells", [(40, 48), (39, 45)])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("name", sorted(TABLE_1))
def test_logits_are_those_of_an_independent_network(name, padding, cells):
    module = few(name, padding=padding)
    label_map, image, size = inputs(cells, 5)
    params = small.parameters(module, label_map, image, size)
    got = predict(module, params, label_map, size)
    expected = reference(name, params, label_map, padding.upper())
    assert got.shape == (*expected.shape, 1)
    assert np.std(expected) > 0.005
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_predictions_do_not_depend_on_the_canvas(padding):
    """Logits and weights of an image alone and in a batch on a larger canvas full of garbage."""
    module, sizes, canvas = few("smallfov", padding=padding), [(37, 26), (23, 40)], (48, 44)
    random = np.random.RandomState(0)
    label = random.choice(np.array([0, 1, VOID], np.uint8), (2, *canvas), p=[0.2, 0.1, 0.7])
    label[:, ::9] = VOID
    label_map = random.normal(0, 9, (2, *canvas, 3)).astype(np.float32)
    size = np.int32(sizes) * STRIDE - [[3, 0]]
    params = small.parameters(module, *inputs(canvas, 3))
    for row, (high, wide) in enumerate(sizes):
        label[row, high:], label[row, :, wide:] = VOID, VOID

    def judge(label_map, label, size):
        logits = predict(module, params, label_map, size)
        labels = module.apply({}, jnp.asarray(label), size, method="block_labels")
        return np.asarray(logits), np.asarray(losses.prediction_weights(labels, module.block))

    all_logits, all_weights = judge(label_map, label, size)
    assert all_weights.shape == all_logits.shape[:3]
    total = 0
    for row, (high, wide) in enumerate(sizes):
        part = slice(row, row + 1), slice(high), slice(wide)
        logits, weights = judge(label_map[part], label[part], size[row : row + 1])
        h, w = weights.shape[1:]
        np.testing.assert_array_equal(all_weights[row, :h, :w], weights[0])
        np.testing.assert_allclose(all_logits[row, :h, :w], logits[0], atol=1e-3)
        total += weights.sum()
    assert all_weights.sum() == total > 0


def test_without_padding_a_prediction_is_weighed_by_the_block_that_it_pools():
    """LargeFOV makes one prediction of 34 cells, for the block of 4 in their middle."""
    module = ADVERSARIES["largefov"](padding="valid")
    size = np.array([(34 * STRIDE, 34 * STRIDE)], np.int32)
    for outside, inside, expected in ((VOID, 0, 1), (0, VOID, 0)):
        label = np.full((1, 34, 34), outside, np.uint8)
        label[:, 15:19, 15:19] = inside
        labels = module.block_labels(jnp.asarray(label), size)
        weights = losses.prediction_weights(labels, module.block)
        assert weights.shape == (1, 1, 1) and weights[0, 0, 0] == expected


def test_options_leave_the_network_as_it_is():
    label_map, image, size = inputs((24, 24), 3)
    params = small.parameters(few("largefov"), label_map, image, size)
    logits = predict(few("largefov"), params, label_map, size)
    rough = predict(few("largefov", dtype="bfloat16"), params, label_map, size)
    assert rough.dtype == jnp.float32
    assert 0 < np.max(np.abs(rough - logits)) < 0.1 * np.max(np.abs(logits))
    leaky = predict(few("largefov", leak=0.2), params, label_map, size)
    assert np.max(np.abs(leaky - logits)) > 1e-3
    normed = few("largefov", spectral_norm=True)
    its_params = small.parameters(normed, label_map, image, size)
    assert jax.tree.structure(its_params) == jax.tree.structure(params)
    assert np.max(np.abs(predict(normed, params, label_map, size) - logits)) > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"padding": "reflect"}, "padding is 'reflect'; known: same, valid"),
        ({"dtype": "half"}, "dtype is 'half'; known: float32, bfloat16"),
        ({"width": -1.0}, "width is -1.0: set it above 0"),
        ({"leak": 1.0}, "leak is 1.0: set it from 0 to below 1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ADVERSARIES["smallfov"](**fields)
