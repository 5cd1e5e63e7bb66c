"""Where label cells lie: the one place that relates a segmenter's output cells to image pixels.

A segmenter predicts one distribution per *label cell*. Its ``stride`` and ``offset`` (pixels) place
cell ``i`` at pixel ``stride * i + offset`` of the image, along both axes; an image of ``H`` pixels
has ``ceil(H / stride)`` cells. Images of different sizes share a static canvas, padded at the
bottom and on the right: everything here depends on an image's true ``size`` and never on the
canvas.
"""

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID


def count_cells(pixels, stride):
    """Number of label cells along ``pixels``, an int or an integer array: ceil(pixels / stride)."""
    return -(-pixels // stride)


def inside(size, shape):
    """True where a canvas of ``shape`` (H, W) holds the image of true ``size`` i32[n,2].

    Returns:
      bool[n,H,W,1].
    """
    height, width = shape
    rows = jnp.arange(height)[None, :] < size[:, :1]
    columns = jnp.arange(width)[None, :] < size[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def shrink(image, size, factor):
    """Area means over blocks of ``factor`` x ``factor`` pixels; of those of the true image only.

    Args:
      image: f32[n,H,W,C].
      size: i32[n,2] true sizes.
      factor: side of a block, 1 or more.

    Returns:
      (f32[n,ceil(H/factor),ceil(W/factor),C], 0 where a block lies outside the image; its true
      sizes i32[n,2]).
    """
    if factor == 1:
        return image, size
    mask = inside(size, image.shape[1:3]).astype(image.dtype)

    def sums(x):
        below, right = (-x.shape[axis] % factor for axis in (1, 2))
        x = jnp.pad(x, [(0, 0), (0, below), (0, right), (0, 0)])
        n, height, width, channels = x.shape
        x = x.reshape(n, height // factor, factor, width // factor, factor, channels)
        return jnp.sum(x, (2, 4))

    return sums(image * mask) / jnp.maximum(sums(mask), 1), count_cells(size, factor)


def cell_means(image, size, stride, offset):
    """Area means of the image over the label cells, each ``stride`` pixels wide.

    A pixel that a cell covers in part, as where cells are centred on pixels (offset 0), counts in
    part; what lies outside the true image does not count.

    Args:
      image: f32[n,H,W,C].
      size: i32[n,2] true sizes.
      stride: pixels from one cell to the next.
      offset: pixel of cell 0.

    Returns:
      f32[n,ceil(H/stride),ceil(W/stride),C]; 0 where a cell lies outside the image.
    """

    def along(pixels, true_pixels):
        centre = stride * np.arange(count_cells(pixels, stride))[:, None] + offset
        distance = np.abs(np.arange(pixels) - centre)
        covered = np.clip((stride + 1) / 2 - distance, 0, 1).astype(np.float32)
        exists = jnp.arange(pixels)[None] < true_pixels[:, None]
        weights = covered[None] * exists[:, None]
        return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-6)

    rows, columns = (along(image.shape[axis + 1], size[:, axis]) for axis in (0, 1))
    image = jnp.einsum("nhk,nkwc->nhwc", rows, image, precision="highest")
    return jnp.einsum("nwk,nhkc->nhwc", columns, image, precision="highest")


def nearest_pixels(pixels, stride, offset):
    """The pixel nearest to each label cell along ``pixels``, the later of two: i64[cells].

    That of a last cell may lie beyond the last pixel.
    """
    cells = np.arange(count_cells(pixels, stride))
    return np.floor(stride * cells + offset + 0.5).astype(int)


def downsample_labels(label, stride, offset):
    """The label at every label cell: that of the pixel nearest to the cell's centre.

    Labels are never interpolated. A centre halfway between two pixels (offset 1.5) takes the later
    one; a cell whose pixel falls outside the canvas is void, as padding is.

    Args:
      label: u8[n,H,W] with 255 = void, also outside the image.
      stride: pixels from one cell to the next.
      offset: pixel of cell 0.

    Returns:
      u8[n,h,w], h = ceil(H / stride), w = ceil(W / stride).
    """
    for axis in (1, 2):
        pixels = label.shape[axis]
        nearest = nearest_pixels(pixels, stride, offset)
        label = jnp.take(label, np.minimum(nearest, pixels - 1), axis=axis)
        beyond = (nearest >= pixels).reshape([-1 if a == axis else 1 for a in range(3)])
        label = jnp.where(beyond, jnp.uint8(VOID), label)
    return label


def upsample(cell_map, size, shape, stride, offset, scale=1.0):
    """Bilinear interpolation of a map over label cells at every pixel of the canvas.

    Pixel ``p`` lies at cell coordinate ``(p - offset) / stride``; before the first and after the
    last cell of the true image the border value is held. Differs from ``jax.image.resize``, which
    assumes that cell i is centred at ``stride * i + (stride - 1) / 2`` of a canvas of exactly
    h * stride.

    Args:
      cell_map: f32[n,h,w,C].
      size: i32[n,2] true image sizes in pixels.
      shape: (H, W) of the canvas.
      stride: pixels from one cell to the next.
      offset: pixel of cell 0.
      scale: stride, offset and size are in pixels of an image this many times as large as the one
        at whose pixels the map is wanted.

    Returns:
      f32[n,H,W,C]; what lies outside the true size has no meaning.
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

    return jax.vmap(one)(cell_map, size)
