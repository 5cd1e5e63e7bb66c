"""The adversary of strided convolutions against its paper, TensorFlow and its own geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import tensorflow as tf

from segadv_jax import VOID, losses
from segadv_jax.models import ADVERSARIES
from segadv_jax.models.geometry import count_cells

STRIDE = 8


def adversary(**fields):
    few = {"features": (4, 5), "stride": STRIDE}
    return ADVERSARIES["fully_convolutional"](**few | fields)


def inputs(cells, channels=3, n=1):
    """(label map f32[n,h,w,C], image, sizes i32[n,2]) of maps whose cells are all true.

    The image has a single pixel: this adversary does not look at it.
    """
    label_map = np.random.RandomState(0).normal(size=(n, *cells, channels)).astype(np.float32)
    return label_map, np.zeros((n, 1, 1, 3), np.float32), np.tile(np.int32(cells) * STRIDE, (n, 1))


def predict(module, params, label_map, size):
    image = np.zeros((len(label_map), 1, 1, 3), np.float32)
    return jax.jit(module.apply)({"params": params}, label_map, image, size)


@pytest.mark.parametrize(
    ("features", "count"), [((64, 128, 256, 512), 2_783_169), ((64, 128), 154_817)]
)
def test_parameters_are_those_of_the_paper_and_of_the_small_one(features, count):
    """Section 3: 4x4 kernels and {64, 128, 256, 512, 1} channels, here on 21 classes."""
    module = adversary(features=features)
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs((64, 64), 21))["params"]
    shapes = [layer["kernel"].shape for _, layer in sorted(params.items())]
    maps = (21, *features, 1)
    assert shapes == [(4, 4, i, o) for i, o in zip(maps[:-1], maps[1:], strict=True)]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize(("features", "block"), [((4,), 4), ((4, 5), 8), ((4, 5, 6, 7), 32)])
def test_a_prediction_is_made_for_each_block(features, block):
    module = adversary(features=features)
    assert module.block == block
    for cells in ((64, 96), (50, 33), (1, 7)):
        logits, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), *inputs(cells))
        assert logits.shape == (1, *(count_cells(side, block) for side in cells), 1)


@pytest.mark.parametrize("axis", [0, 1])
def test_field_of_view_is_22_label_cells(axis):
    side, prediction = 48, 2
    label_map, image, size = inputs((side, side))
    params = small.parameters(adversary(), label_map, image, size)
    changed = label_map.repeat(side + 1, 0)
    # Map p has another row (or column) of cells p; the last one is as it was.
    lines = np.moveaxis(changed, 1 + axis, 1)
    lines[range(side), range(side)] += np.random.RandomState(1).normal(0, 9, (side, 3))
    result = predict(adversary(), params, changed, size.repeat(side + 1, 0))
    result = result[:, prediction, prediction, 0]
    seen = np.flatnonzero(np.abs(result[:-1] - result[-1:]) > 1e-6)
    # Seven cells on each side of its block, the cells 8i to 8i + 7.
    np.testing.assert_array_equal(seen, np.arange(22) + 8 * prediction - 7)


@pytest.mark.parametrize("leak", [0.2, 0.0])
@pytest.mark.parametrize("cells", [(24, 32), (21, 19)])
def test_logits_are_those_of_an_independent_network(cells, leak):
    label_map, image, size = inputs(cells, n=2)
    params = small.parameters(adversary(), label_map, image, size)
    x = tf.constant(label_map)
    for number in (1, 2, 3):
        layer = jax.tree.map(np.asarray, params[f"conv{number}"])
        pads = [(0, 0), *((1, 1 + side % 2) for side in x.shape[1:3]), (0, 0)]
        x = tf.nn.conv2d(tf.pad(x, pads), layer["kernel"], 2, "VALID") + layer["bias"]
        x = x if number == 3 else tf.nn.leaky_relu(x, leak)
    assert np.std(x) > 0.05
    got = predict(adversary(leak=leak), params, label_map, size)
    np.testing.assert_allclose(got, x, atol=1e-5)


def test_predictions_do_not_depend_on_the_canvas():
    """Logits and weights of an image alone and in a batch on a larger canvas full of garbage."""
    sizes, canvas = [(37, 26), (23, 40)], (48, 45)
    random = np.random.RandomState(0)
    label = np.full((2, *canvas), VOID, np.uint8)
    label[:, ::11, ::9] = 0
    label_map = random.normal(0, 9, (2, *canvas, 3)).astype(np.float32)
    size = np.int32(sizes) * STRIDE - [[3, 0]]
    params = small.parameters(adversary(), *inputs(canvas))
    for row, (high, wide) in enumerate(sizes):
        label[row, high:], label[row, :, wide:] = VOID, VOID
        label[row, 8:16, 8:16] = VOID  # A block without a label, whose prediction does not count.

    def judge(label_map, label, size):
        logits = predict(adversary(), params, label_map, size)
        labels = adversary().apply({}, jnp.asarray(label), size, method="block_labels")
        return np.asarray(logits), np.asarray(losses.prediction_weights(labels, adversary().block))

    all_logits, all_weights = judge(label_map, label, size)
    assert all_weights.shape == all_logits.shape[:3]
    total = 0
    for row, (high, wide) in enumerate(sizes):
        part = slice(row, row + 1), slice(high), slice(wide)
        logits, weights = judge(label_map[part], label[part], size[row : row + 1])
        assert weights[0, 1, 1] == 0 and weights[0, 0, 0] == 1
        h, w = weights.shape[1:]
        np.testing.assert_array_equal(all_weights[row, :h, :w], weights[0])
        np.testing.assert_allclose(all_logits[row, :h, :w], logits[0], atol=1e-4)
        total += weights.sum()
    assert all_weights.sum() == total


def test_spectral_norm_bounds_the_slope():
    label_map, image, size = inputs((16, 16))
    normed = adversary(spectral_norm=True)
    params = small.parameters(normed, label_map, image, size)
    large = {name: layer | {"kernel": 100 * layer["kernel"]} for name, layer in params.items()}
    logits = predict(normed, params, label_map, size)
    np.testing.assert_allclose(predict(normed, large, label_map, size), logits, atol=1e-4)
    assert np.max(np.abs(predict(adversary(), params, label_map, size) - logits)) > 1e-3


@pytest.mark.parametrize("leak", [-0.1, 1.0, float("nan")])
def test_a_slope_out_of_range_is_refused(leak):
    with pytest.raises(ValueError, match=f"leak is {leak}: set it from 0 to below 1"):
        adversary(leak=leak)
