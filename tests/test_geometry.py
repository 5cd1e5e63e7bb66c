"""Label cells: where they lie, and that nothing shifts on the way there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from scipy import ndimage

from segadv_jax import VOID
from segadv_jax.models.geometry import (
    cell_means,
    count_cells,
    downsample_labels,
    inside,
    shrink,
    upsample,
)

GEOMETRIES = [(4, 1.5), (8, 0.0)]  # MultiScale's and Dilated-8's (stride, offset).


def ramps(height, width):
    """Row and column indices i64[H,W] of every pixel."""
    return np.mgrid[:height, :width]


@pytest.mark.parametrize(("pixels", "stride", "cells"), [(320, 4, 80), (53, 4, 14), (1, 4, 1)])
def test_an_image_has_as_many_cells_as_strides_have_begun(pixels, stride, cells):
    assert count_cells(pixels, stride) == cells
    assert count_cells(np.array([pixels]), stride) == [cells]


def test_inside_is_the_true_rectangle():
    expected = np.zeros((2, 5, 6, 1), bool)
    expected[0, :5, :6], expected[1, :2, :3] = True, True
    np.testing.assert_array_equal(inside(jnp.array([(5, 6), (2, 3)]), (5, 6)), expected)


@pytest.mark.parametrize(("stride", "offset"), GEOMETRIES)
def test_labels_are_those_of_the_nearest_pixel(stride, offset):
    rows, columns = ramps(41, 57)
    for axis, ramp in ((0, rows), (1, columns)):
        label = downsample_labels(jnp.asarray(ramp[None], jnp.uint8), stride, offset)
        label = np.moveaxis(np.asarray(label[0], float), axis, 0)
        place = stride * np.arange(len(label))[:, None] + offset
        known = label != VOID
        assert np.all(np.abs(label - place)[known] <= 0.5)
        # Void are exactly the cells whose centre lies beyond the last pixel.
        last = ramp.shape[axis] - 1
        np.testing.assert_array_equal(known.any(1), place[:, 0] <= last)


@pytest.mark.parametrize(("stride", "offset"), GEOMETRIES)
def test_labels_are_picked_never_mixed(stride, offset):
    label = np.random.RandomState(0).choice(np.array([0, 7, 100, VOID], np.uint8), (2, 45, 51))
    cells = downsample_labels(jnp.asarray(label), stride, offset)
    assert cells.dtype == jnp.uint8
    assert cells.shape == (2, count_cells(45, stride), count_cells(51, stride))
    assert set(np.unique(cells)) == {0, 7, 100, VOID}


def test_a_void_pixel_makes_its_cell_void_and_only_that():
    label = np.zeros((1, 16, 16), np.uint8)
    label[0, 6, 10] = VOID  # The pixel of cell (1, 2), at 4i + 1.5, the later one of two.
    void = np.argwhere(np.asarray(downsample_labels(jnp.asarray(label), 4, 1.5)) == VOID)
    np.testing.assert_array_equal(void, [(0, 1, 2)])


@pytest.mark.parametrize("offset", [1.5, 0.0])
def test_cells_are_void_where_the_padding_is(offset):
    batch = small.batch([(22, 29)], (32, 48), void=0)
    cells = np.asarray(downsample_labels(jnp.asarray(batch["label"]), 4, offset))[0]
    tight = np.asarray(downsample_labels(jnp.asarray(batch["label"][:, :22, :29]), 4, offset))[0]
    np.testing.assert_array_equal(cells[:6, :8], tight)
    assert np.all(cells[6:] == VOID) and np.all(cells[:, 8:] == VOID)


@pytest.mark.parametrize(("stride", "offset"), GEOMETRIES)
def test_a_ramp_comes_back_without_a_shift(stride, offset):
    """Cells that hold their own pixel coordinate give every pixel its coordinate again."""
    shape = (45, 61)
    size = jnp.array([shape], jnp.int32)
    ramp = np.stack(ramps(*shape), -1)
    h, w = (count_cells(s, stride) for s in shape)
    image = np.stack(ramps(h, w), -1) * stride + offset
    label = np.stack(
        [
            downsample_labels(jnp.asarray(r[None], jnp.uint8), stride, offset)[0]
            for r in ramps(*shape)
        ],
        -1,
    )
    # Between the first centre and the last one with a label; a label is at most half a pixel off.
    first = int(np.ceil(offset))
    inner = slice(first, int(stride * (min(h, w) - 2) + offset))
    for cell_map, tolerance in ((image, 1e-4), (label, 0.5 if offset % 1 else 1e-4)):
        back = upsample(jnp.asarray(cell_map[None], jnp.float32), size, shape, stride, offset)[0]
        assert np.max(np.abs(back - ramp)[inner, inner]) <= tolerance


@pytest.mark.parametrize(("stride", "offset"), GEOMETRIES)
def test_upsampling_is_bilinear_and_holds_the_border(stride, offset):
    random = np.random.RandomState(0)
    shape, sizes = (40, 56), [(40, 56), (21, 35), (9, 3)]
    h, w = (count_cells(s, stride) for s in shape)
    cell_map = random.normal(size=(len(sizes), h, w, 2)).astype(np.float32)
    result = jax.jit(upsample, static_argnums=(2, 3, 4))(
        cell_map, np.array(sizes, np.int32), shape, stride, offset
    )
    for row, (height, width) in enumerate(sizes):
        place = (ramps(height, width) - offset) / stride
        true = cell_map[row, : count_cells(height, stride), : count_cells(width, stride)]
        for channel in range(2):
            expected = ndimage.map_coordinates(
                true[..., channel].astype(float), place, order=1, mode="nearest"
            )
            np.testing.assert_allclose(result[row, :height, :width, channel], expected, atol=2e-5)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_shrink_takes_the_mean_of_what_a_block_has_of_the_true_image(factor):
    sizes, canvas = [(7, 10), (12, 5)], (13, 11)
    image = np.random.RandomState(0).uniform(0, 255, (2, *canvas, 3)).astype(np.float32)
    small_image, small_size = shrink(jnp.asarray(image), jnp.array(sizes), factor)
    assert small_image.shape == (2, -(-13 // factor), -(-11 // factor), 3)
    for n, (height, width) in enumerate(sizes):
        rows, columns = -(-height // factor), -(-width // factor)
        assert small_size[n].tolist() == [rows, columns]
        for i, j in np.ndindex(rows, columns):
            block = image[n, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            block = block[: height - i * factor, : width - j * factor]
            np.testing.assert_allclose(small_image[n, i, j], block.mean((0, 1)), rtol=1e-5)


def test_a_ramp_survives_shrink_and_upsample_without_a_shift():
    """With a network's cells of 4 pixels on the image at half size: 8 pixels, the first at 3.5."""
    rows, columns = ramps(64, 80)
    image = np.stack([rows, columns], -1)[None].astype(np.float32)
    size = jnp.array([(64, 80)])
    cells, _ = shrink(*shrink(jnp.asarray(image), size, 2), 4)
    module = small.segmenter(shrink=2)
    assert (module.stride, module.offset) == (8, 3.5)
    back = np.asarray(upsample(cells, size, (64, 80), module.stride, module.offset))[0]
    np.testing.assert_allclose(back[4:-4, 4:-4], image[0, 4:-4, 4:-4], atol=1e-3)


@pytest.mark.parametrize(("stride", "offset"), [*GEOMETRIES, (8, 3.5)])
def test_a_ramp_survives_cell_means_and_upsample_without_a_shift(stride, offset):
    shape = (64, 88)
    image = np.stack(ramps(*shape), -1)[None].astype(np.float32)
    size = jnp.array([shape])
    cells = cell_means(jnp.asarray(image), size, stride, offset)
    back = np.asarray(upsample(cells, size, shape, stride, offset))[0]
    # The cells at the border are cut off, and their mean is not at their centre.
    inner = slice(stride + 4, -stride - 4)
    np.testing.assert_allclose(back[inner, inner], image[0, inner, inner], atol=1e-3)


def test_cell_means_of_whole_blocks_are_those_of_shrink():
    sizes, canvas = [(21, 30), (32, 9)], (32, 33)
    image = np.random.RandomState(0).uniform(0, 255, (2, *canvas, 3)).astype(np.float32)
    size = jnp.array(sizes)
    expected = np.asarray(shrink(jnp.asarray(image), size, 4)[0])
    np.testing.assert_allclose(cell_means(jnp.asarray(image), size, 4, 1.5), expected, atol=1e-3)
