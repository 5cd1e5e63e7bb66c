"""Where label cells lie: the one place that relates a segmenter's output cells to image pixels.

A segmenter predicts one distribution per *label cell*. Its `stride` and `offset` (pixels) place
cell `i` at pixel `stride * i + offset` of the image, along both axes; an image of `H` pixels
has `ceil(H / stride)` cells. Images of different sizes share a static canvas, padded at the
bottom and on the right: everything here depends on an image's true `size` and never on the
canvas.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray, CellMaps, Sizes

Maps = Float[AnyArray, "n H W C"]
Pixels = TypeVar("Pixels", int, AnyArray)


def count_cells(pixels: Pixels, stride: int) -> Pixels:
    """Number of label cells along `pixels`: ceil(pixels / stride)."""
    return -(-pixels // stride)


def inside(size: Sizes, shape: Sequence[int]) -> Bool[Array, "n H W 1"]:
    """True where a canvas of `shape` (H, W) holds the image of true `size`."""
    height, width = shape
    rows = jnp.arange(height)[None, :] < size[:, :1]
    columns = jnp.arange(width)[None, :] < size[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def shrink(image: Maps, size: Sizes, factor: int) -> tuple[Float[Array, "n h w C"], Sizes]:
    """Area means over blocks of `factor` x `factor` pixels, and their true sizes.

    Only pixels in the true image count; a block outside it is 0.
    """
    if factor == 1:
        return jnp.asarray(image), size
    mask = inside(size, image.shape[1:3]).astype(image.dtype)

    def sums(x):
        below, right = (-x.shape[axis] % factor for axis in (1, 2))
        x = jnp.pad(x, [(0, 0), (0, below), (0, right), (0, 0)])
        n, height, width, channels = x.shape
        x = x.reshape(n, height // factor, factor, width // factor, factor, channels)
        return jnp.sum(x, (2, 4))

    return sums(image * mask) / jnp.maximum(sums(mask), 1), count_cells(size, factor)


def window_means(weights: Sequence[AnyArray], size: Sizes) -> list[Float[AnyArray, "n out in"]]:
    """Means along each image axis as two matrices for `filter_axes`.

    Of the weights f32[1,out,in] those beyond the true `size` are left out and the others
    renormalised.
    """
    matrices = []
    for axis, weight in enumerate(weights):
        true_pixels = size[:, axis]
        exists = jnp.arange(weight.shape[2])[None] < true_pixels[:, None]
        present = weight * exists[:, None]
        matrices.append(present / jnp.maximum(jnp.sum(present, -1, keepdims=True), 1e-6))
    return matrices


def filter_axes(x: Maps, rows: AnyArray, columns: AnyArray) -> Float[Array, "n h w C"]:
    """Applies a matrix f32[n,out,in] along each image axis.

    A mean over a two-dimensional window of a rectangle is the product of two such matrices: on
    every platform two matrix products beat a depthwise convolution.
    """
    x = jnp.einsum("nhk,nkwc->nhwc", rows, x, precision="highest")
    return jnp.einsum("nwk,nhkc->nhwc", columns, x, precision="highest")


def cell_means(image: Maps, size: Sizes, stride: int, offset: float) -> Float[Array, "n h w C"]:
    """Area means of the image over the label cells, each `stride` pixels wide.

    A pixel that a cell covers in part, as where cells are centred on pixels (offset 0), counts in
    part; what lies outside the true image does not count. A cell outside the image is 0.
    """

    def covered(pixels):
        centre = stride * np.arange(count_cells(pixels, stride))[:, None] + offset
        distance = np.abs(np.arange(pixels) - centre)
        return np.clip((stride + 1) / 2 - distance, 0, 1).astype(np.float32)

    weights = [covered(pixels)[None] for pixels in image.shape[1:3]]
    return filter_axes(image, *window_means(weights, size))


def nearest_pixels(pixels: int, stride: int, offset: float) -> Int[np.ndarray, " cells"]:
    """The pixel nearest to each label cell along `pixels`; halfway between two, the later one.

    The pixel of the last cell may lie beyond the last pixel.
    """
    cells = np.arange(count_cells(pixels, stride))
    return np.floor(stride * cells + offset + 0.5).astype(int)


def downsample_labels(
    label: UInt8[AnyArray, "n H W"], stride: int, offset: float
) -> UInt8[Array, "n h w"]:
    """The label at every label cell: that of the nearest pixel, as `nearest_pixels` has it.

    Labels are never interpolated. A cell whose pixel falls outside the canvas is void, as padding
    is.
    """
    cells = jnp.asarray(label)
    for axis in (1, 2):
        pixels = label.shape[axis]
        nearest = nearest_pixels(pixels, stride, offset)
        cells = jnp.take(cells, np.minimum(nearest, pixels - 1), axis=axis)
        beyond = (nearest >= pixels).reshape([-1 if a == axis else 1 for a in range(3)])
        cells = jnp.where(beyond, jnp.uint8(VOID), cells)
    return cells


def upsample(
    cells: CellMaps, size: Sizes, shape: Sequence[int], stride: int, offset: float, scale: float = 1
) -> Float[Array, "n H W C"]:
    """Bilinear interpolation of a map over label cells at every pixel of a canvas of `shape`.

    Pixel `p` lies at cell coordinate `(p - offset) / stride`; before the first and after the
    last cell of the true image the border value is held. This differs from `jax.image.resize`,
    which assumes that cell i is centred at `stride * i + (stride - 1) / 2` of a canvas of exactly
    h * stride. Values outside the true size have no meaning.

    The stride, offset and size are in pixels of an image `scale` times as large as the one at
    whose pixels the map is wanted.
    """

    def along(x, pixels, true_pixels, axis):
        last = count_cells(true_pixels, stride) - 1
        pixel = (np.arange(pixels) + 0.5) * scale - 0.5
        position = jnp.clip(jnp.asarray(pixel - offset, jnp.float32) / stride, 0, last)
        low = jnp.floor(position).astype(jnp.int32)
        weight = (position - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = jnp.minimum(low + 1, last)
        return jnp.take(x, low, axis) * (1 - weight) + jnp.take(x, high, axis) * weight

    def one(x, true_size):
        x = along(x, shape[0], true_size[0], 0)
        return along(x, shape[1], true_size[1], 1)

    return jax.vmap(one)(cells, size)
