"""YUV, Laplacian pyramid and local contrast normalisation against NumPy and SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from scipy import ndimage

from segadv_jax.models.preprocessing import (
    expand,
    laplacian_pyramid,
    local_contrast_normalize,
    rgb_to_yuv,
)

SIZES = [(40, 56), (33, 47), (23, 37), (9, 5)]
CANVAS = (40, 56)
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
normalize = jax.jit(local_contrast_normalize)
pyramid_of = jax.jit(laplacian_pyramid)


def garbage_images(seed=0):
    """Smooth noise of mean 0.5 inside the true size, much larger garbage outside."""
    random = np.random.RandomState(seed)
    image = random.uniform(-50, 50, (len(SIZES), *CANVAS, 3))
    for row, (h, w) in enumerate(SIZES):
        noise = ndimage.gaussian_filter(random.normal(size=(h, w, 3)), (1, 1, 0))
        image[row, :h, :w] = 0.5 + noise
    return image.astype(np.float32), np.array(SIZES, np.int32)


def true_images(image):
    return [image[row, :h, :w].astype(np.float64) for row, (h, w) in enumerate(SIZES)]


def masked(smooth, x):
    """A filter of f64[H,W] without the weights outside the image, the others renormalised."""
    return smooth(x) / smooth(np.ones_like(x))


def per_channel(function, x):
    return np.stack([function(x[..., c]) for c in range(x.shape[-1])], -1)


def binomial(x):
    for axis in (0, 1):
        x = ndimage.convolve1d(x, BINOMIAL, axis, mode="constant")
    return x


def reference_expand(level, shape):
    """Zeros between the coarse pixels, then the binomial filter: Burt and Adelson's EXPAND."""
    spread, ones = np.zeros(shape), np.zeros(shape)
    spread[::2, ::2], ones[::2, ::2] = level, 1
    return binomial(spread) / binomial(ones)


def reference_normalize(x):
    """NETWORKS: v = x - w*x, y = v / max(sqrt(w*v^2), its mean over the image, 1e-4)."""

    def window(z):
        return ndimage.gaussian_filter(z, 3.75, radius=7, mode="constant")

    centred = x - masked(window, x)
    deviation = np.sqrt(masked(window, centred**2))
    return centred / np.maximum(np.maximum(deviation, deviation.mean()), 1e-4)


def test_yuv_is_bt601():
    rgb = np.random.RandomState(0).uniform(size=(1, 5, 7, 3)).astype(np.float32)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = np.stack([luma, 0.492 * (blue - luma), 0.877 * (red - luma)], -1)
    np.testing.assert_allclose(rgb_to_yuv(rgb), expected, atol=5e-4)


def test_grey_has_no_colour():
    grey = np.linspace(0, 1, 11, dtype=np.float32)[:, None].repeat(3, 1)
    yuv = rgb_to_yuv(grey)
    np.testing.assert_allclose(yuv[:, 0], grey[:, 0], atol=1e-6)
    np.testing.assert_allclose(yuv[:, 1:], 0, atol=2e-5)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_pyramid_adds_up_to_its_image(levels):
    image, size = garbage_images()
    pyramid = laplacian_pyramid(jnp.asarray(image), size, levels)
    assert len(pyramid) == levels
    result, result_size = pyramid[-1]
    for level, level_size in reversed(pyramid[:-1]):
        result = level + expand(result, result_size, level.shape[1:3])
        result_size = level_size
    np.testing.assert_array_equal(result_size, size)
    for (h, w), got, expected in zip(SIZES, result, true_images(image), strict=True):
        np.testing.assert_allclose(got[:h, :w], expected, atol=1e-5)


def test_pyramid_is_that_of_burt_and_adelson():
    image, size = garbage_images()
    pyramid = pyramid_of(image, size)
    assert len(pyramid) == 3
    for row, x in enumerate(true_images(image)):
        for number, (level, level_size) in enumerate(pyramid):
            h, w = x.shape[:2]
            np.testing.assert_array_equal(level_size[row], (h, w))
            smaller = per_channel(lambda z: masked(binomial, z)[::2, ::2], x)
            assert smaller.shape[:2] == ((h + 1) // 2, (w + 1) // 2)
            back = per_channel(lambda z, shape=(h, w): reference_expand(z, shape), smaller)
            expected = x - back if number < 2 else x
            np.testing.assert_allclose(level[row, :h, :w], expected, atol=2e-6)
            x = smaller


def test_a_constant_image_has_no_detail():
    size = np.array(SIZES, np.int32)
    *details, (residual, residual_size) = pyramid_of(
        np.full((4, *CANVAS, 3), 0.7, np.float32), size
    )
    for row in range(len(SIZES)):
        for level, (h, w) in ((level, level_size[row]) for level, level_size in details):
            np.testing.assert_allclose(level[row, :h, :w], 0, atol=1e-6)
        h, w = residual_size[row]
        np.testing.assert_allclose(residual[row, :h, :w], 0.7, atol=1e-6)


def test_contrast_is_normalised_as_documented():
    image, size = garbage_images()
    result = normalize(image, size)
    for (h, w), got, x in zip(SIZES, result, true_images(image), strict=True):
        np.testing.assert_allclose(got[:h, :w], per_channel(reference_normalize, x), atol=2e-4)


def test_nothing_is_left_outside_the_true_size():
    result = np.array(normalize(*garbage_images()))
    for row, (h, w) in enumerate(SIZES):
        result[row, :h, :w] = 0
    assert np.all(result == 0)


@pytest.mark.parametrize("value", [0, 1 / 255, 0.5, 1])
def test_a_constant_image_becomes_zero(value):
    """But for rounding, a few 6e-8 over the floor of 1e-4; a contrast of 1/255 would give 1."""
    image = np.full((4, *CANVAS, 3), value, np.float32)
    assert np.max(np.abs(normalize(image, np.array(SIZES, np.int32)))) < 5e-3


def test_contrast_does_not_depend_on_brightness_or_gain():
    image, size = garbage_images()
    np.testing.assert_allclose(normalize(image, size), normalize(3 * image + 1, size), atol=2e-3)


def test_channels_are_normalised_on_their_own():
    image, size = garbage_images()
    other = image.copy()
    other[..., 1] *= image[..., 0]
    result, changed = normalize(image, size), normalize(other, size)
    np.testing.assert_array_equal(result[..., ::2], changed[..., ::2])
    assert np.max(np.abs(result[..., 1] - changed[..., 1])) > 0.1


def test_filters_of_byte_images_are_precise():
    """On images in 0..1 with sharp edges, as the networks get them."""
    image, size = small.images(SIZES, CANVAS)
    result = normalize(image / 255, size)
    for (h, w), got, x in zip(SIZES, result, true_images(image / 255), strict=True):
        np.testing.assert_allclose(got[:h, :w], per_channel(reference_normalize, x), atol=1e-4)
