"""Padded convolutions, pooling, connection tables and initialisers against SciPy and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import tensorflow as tf
from scipy import signal

from segadv_jax.models.dilated8 import identity_init
from segadv_jax.models.layers import Conv, SparseConv, max_pool, random_table, zero_outside

SIZES = [(12, 10), (9, 7), (1, 3)]
CANVAS = (12, 10)
SIZE = np.array(SIZES, np.int32)


def features(channels, seed=0):
    """Random f32[3,12,10,channels] with large garbage outside the true sizes."""
    random = np.random.RandomState(seed)
    x = random.normal(size=(len(SIZES), *CANVAS, channels))
    garbage = random.normal(0, 1e3, x.shape)
    for row, (h, w) in enumerate(SIZES):
        garbage[row, :h, :w] = x[row, :h, :w]
    return garbage.astype(np.float32)


def convolved(x, kernel, bias):
    """Zero-padded cross-correlation of f64[H,W,I] with f64[k,k,I,O] by SciPy, map by map."""
    maps = [
        sum(
            signal.correlate2d(x[..., i], kernel[..., i, o], mode="same")
            for i in range(x.shape[-1])
        )
        for o in range(kernel.shape[-1])
    ]
    return np.stack(maps, -1) + bias


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_convolution_pads_the_true_image_with_zeros(kernel):
    x, module = features(3), Conv(4, kernel)
    params = small.parameters(module, x, SIZE)
    assert params["kernel"].shape == (kernel, kernel, 3, 4) and params["bias"].shape == (4,)
    result = module.apply({"params": params}, x, SIZE)
    assert result.shape == (3, *CANVAS, 4)
    for row, (h, w) in enumerate(SIZES):
        # The canvas's zero padding is cut off again: SciPy's "same" wants the larger image first.
        padded = np.pad(x[row, :h, :w].astype(float), [(0, 8), (0, 8), (0, 0)])
        expected = convolved(padded, *map(np.asarray, (params["kernel"], params["bias"])))[:h, :w]
        np.testing.assert_allclose(result[row, :h, :w], expected, atol=1e-5)


def test_zero_outside_keeps_the_true_image_only():
    x = features(2)
    x[0, 0, 0], x[1, 11, 0] = 5, np.nan
    expected = np.zeros_like(x)
    for row, (h, w) in enumerate(SIZES):
        expected[row, :h, :w] = x[row, :h, :w]
    np.testing.assert_array_equal(zero_outside(x, SIZE), expected)


def test_pooling_takes_the_largest_of_four_inside_the_image():
    x = features(2) - 3  # Below zero: padding with zeros would win.
    result = max_pool(x, SIZE)
    assert result.shape == (3, 6, 5, 2)
    for row, (h, w) in enumerate(SIZES):
        for i in range((h + 1) // 2):
            for j in range((w + 1) // 2):
                block = x[row, 2 * i : min(2 * i + 2, h), 2 * j : min(2 * j + 2, w)]
                np.testing.assert_array_equal(result[row, i, j], block.max((0, 1)))


def test_pooling_keeps_a_last_odd_row_and_column_of_the_canvas():
    x = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    result = max_pool(x, np.array([(3, 5)], np.int32))
    np.testing.assert_array_equal(result[0, ..., 0], [[6, 8, 9], [11, 13, 14]])


def test_gradient_of_pooling_goes_to_the_largest():
    x = features(1)

    def total(x):
        pooled = max_pool(x, SIZE)
        return jnp.sum(jnp.where(pooled > -1e30, pooled, 0))

    gradient = jax.grad(total)(x)
    for row, (h, w) in enumerate(SIZES):
        for i in range(0, h, 2):
            for j in range(0, w, 2):
                block, here = x[row, i : min(i + 2, h), j : min(j + 2, w), 0], gradient[row, ..., 0]
                here = here[i : min(i + 2, h), j : min(j + 2, w)]
                np.testing.assert_array_equal(here, block == block.max())
        outside = np.array(gradient[row])
        outside[:h, :w] = 0
        assert np.all(outside == 0)


def test_sparse_convolution_is_a_dense_one_with_zeros():
    table = random_table(6, 2, 5, seed=1)
    x, module = features(6), SparseConv({"kernel": table}, 3)
    params = small.parameters(module, x, SIZE)
    assert params["kernel"].shape == (3, 3, 2, 5)
    kernel = np.zeros((3, 3, 6, 5), np.float32)
    for o in range(5):
        for i, seen in enumerate(table[:, o]):
            kernel[:, :, seen, o] = params["kernel"][:, :, i, o]
    dense = {"kernel": jnp.asarray(kernel), "bias": params["bias"]}
    expected = Conv(5, 3).apply({"params": dense}, x, SIZE)
    result = module.apply({"params": params}, x, SIZE)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_initial_weights_fit_the_maps_that_are_seen():
    """The variance is one over the true fan-in, of a sparse layer too."""
    x, size = np.zeros((1, 4, 4, 64), np.float32), np.array([(4, 4)], np.int32)
    for module, fan_in in (
        (Conv(256, 3), 9 * 64),
        (SparseConv({"kernel": random_table(64, 8, 256, seed=0)}, 3), 9 * 8),
    ):
        params = module.init(jax.random.key(0), x, size)["params"]
        np.testing.assert_allclose(np.std(params["kernel"]), fan_in**-0.5, rtol=0.02)
        assert np.all(params["bias"] == 0)


def test_table_lists_distinct_maps():
    table = random_table(16, 8, 64, seed=2)
    assert table.shape == (8, 64)
    assert table.min() == 0 and table.max() == 15
    assert np.all(np.diff(table, axis=0) > 0)
    assert len({tuple(column) for column in table.T}) > 32


def test_tables_are_part_of_the_architecture():
    """They never change: a checkpoint of one version would be another network in the next."""
    second, third = random_table(16, 8, 64, seed=2), random_table(64, 32, 256, seed=3)
    np.testing.assert_array_equal(second[:, 0], [0, 1, 3, 4, 5, 9, 10, 12])
    np.testing.assert_array_equal(third[:6, 255], [1, 3, 6, 7, 8, 9])


def test_identity_initialisation_passes_maps_on():
    """Yu and Koltun, Eqs. 4 and 5: in groups of the same class, through any multiple of maps."""
    classes, sizes = 4, [4, 8, 8, 16, 4]
    x = np.random.RandomState(0).uniform(size=(1, 9, 9, classes)).astype(np.float32)
    y = x
    for number, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        init = identity_init(classes, deviation=0.0)
        kernel = init(jax.random.key(number), (3, 3, inputs, outputs))
        y = tf.nn.relu(tf.nn.conv2d(y, np.asarray(kernel), 1, "SAME"))
    np.testing.assert_allclose(y, x, rtol=1e-6)


def test_identity_initialisation_is_noise_beside_the_centre_taps():
    kernel = np.array(identity_init(5)(jax.random.key(0), (3, 3, 10, 20)))
    group = np.arange(10)[:, None] // 2 == np.arange(20)[None] // 4
    assert np.all(kernel[1, 1][group] == 5 / 20)
    kernel[1, 1][group] = np.nan
    noise = kernel[~np.isnan(kernel)]
    assert noise.size == 1800 - group.sum()
    assert np.std(noise) == pytest.approx(0.01 * 5 / 20, rel=0.1) and abs(np.mean(noise)) < 3e-4
