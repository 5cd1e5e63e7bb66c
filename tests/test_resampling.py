"""Resampling within an image's true size: reflected borders, mirrored, resized, interpolated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax import VOID
from segadv_jax.resampling import bilinear, mirror, nearest, reflect, reflect_border, resize


@pytest.mark.parametrize("length", [1, 2, 5])
def test_an_index_is_reflected_without_repeating_the_border(length):
    index = np.arange(-12, 13)
    places = np.arange(length)
    around = [(12, 13 - length)]
    expected = np.pad(places, around, mode="reflect" if length > 1 else "edge")
    np.testing.assert_array_equal(reflect(index, np.array(length)), expected)


@pytest.mark.parametrize("multiple", [1, 8])
def test_border_is_the_reflection_of_the_true_image(multiple):
    sizes, margin = [(61, 84), (30, 13)], 50
    canvas = np.random.RandomState(1).randint(0, 256, (2, 64, 85, 3)).astype(np.uint8)
    got = reflect_border(canvas, np.array(sizes, np.int32), margin, multiple)
    high, wide = (-(-side // multiple) * multiple for side in (64, 85))
    assert got.shape == (2, high + 2 * margin, wide + 2 * margin, 3) and got.dtype == np.uint8
    for row, (height, width) in enumerate(sizes):
        border = [(margin, high + margin - height), (margin, wide + margin - width), (0, 0)]
        expected = np.pad(canvas[row, :height, :width], border, mode="reflect")
        np.testing.assert_array_equal(got[row], expected)


def test_without_a_margin_the_image_stays_as_it_is():
    image, size = np.zeros((1, 61, 84, 3), np.uint8), np.array([(61, 84)], np.int32)
    assert reflect_border(image, size, 0, 8) is image


def test_mirroring_stays_within_the_true_image():
    sizes, canvas = np.array([(5, 7), (6, 4)], np.int32), (6, 9)
    x = np.random.RandomState(0).normal(size=(2, *canvas, 2))
    got = np.asarray(mirror(jnp.asarray(x), sizes))
    for row, (height, width) in enumerate(sizes):
        np.testing.assert_allclose(got[row, :height, :width], x[row, :height, :width][:, ::-1])


def test_a_resized_image_has_the_size_that_it_is_said_to_have():
    image = jnp.zeros((2, 64, 96, 3), jnp.uint8)
    scaled, size = resize(image, np.array([(61, 90), (48, 37)], np.int32), 0.5)
    assert scaled.shape == (2, 32, 48, 3)
    np.testing.assert_array_equal(size, [(30, 45), (24, 18)])  # Half a pixel, to the even one.
    same, size = resize(image, np.array([(61, 90), (48, 37)], np.int32), 1.0)
    assert same is image


def test_places_between_pixels_and_beyond_the_border():
    """Of the true image: the canvas goes on, full of something else."""
    size = jnp.array([3, 4])
    label = np.full((5, 6), 9, np.uint8)
    label[:3, :4] = np.arange(12).reshape(3, 4)
    image = np.stack([label * 10.0] * 3, -1).astype(np.float32)
    # Between four pixels; on the last one; half a pixel beyond it, on both axes.
    rows, columns = np.float32([[0.5, 2.0, 2.6]]), np.float32([[1.25, 3.0, 3.0]])
    np.testing.assert_array_equal(nearest(label, rows, columns, size), [[1, 11, VOID]])
    got = np.asarray(bilinear(image, rows, columns, size))[..., 0]
    # Beyond the last row the one before it is seen again.
    expected = [[32.5, 110, 0.4 * 110 + 0.6 * 70]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_products_of_matrices_give_what_picked_pixels_give(monkeypatch):
    """What is compiled for GPUs and TPUs; of an image smaller than its canvas, far beyond it."""
    random, size = np.random.RandomState(0), jnp.array([9, 14])
    image = random.randint(0, 256, (12, 17, 3)).astype(np.uint8)
    label = random.randint(0, 21, (12, 17)).astype(np.uint8)
    rows = np.float32([-21, -3.25, -0.5, 0, 0.49, 3.7, 8, 8.6, 30])[:, None]
    columns = np.float32([-40.5, -1, 0, 2.2, 13, 13.4, 14, 25])[None]
    picked = bilinear(image, rows, columns, size), nearest(label, rows, columns, size)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    np.testing.assert_allclose(bilinear(image, rows, columns, size), picked[0], atol=1e-3)
    np.testing.assert_array_equal(nearest(label, rows, columns, size), picked[1])
    # What shows whole pixels shows them exactly.
    whole = np.arange(-4, 12, dtype=np.float32)
    exact = bilinear(image, whole[:, None], whole[None], size)
    assert np.array_equal(exact, np.round(exact))


def test_a_single_row_is_seen_beyond_its_border_too(monkeypatch):
    """What is compiled for GPUs and TPUs takes nothing of the canvas."""
    image = np.zeros((4, 6, 1), np.uint8)
    image[0] = 200
    rows, columns = np.float32([-0.3, 0.4])[:, None], np.arange(6, dtype=np.float32)[None]
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    got = bilinear(image, rows, columns, jnp.array([1, 6]))
    np.testing.assert_allclose(got, np.full((2, 6, 1), 200), atol=1e-3)
