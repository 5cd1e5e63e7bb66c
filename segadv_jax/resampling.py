"""Resampling of images on their canvas: reflected borders, bilinear, nearest, mirrored, resized.

Everything depends on the true size of an image and never on the canvas. Beyond its border an image
is reflected without repeating the border pixel.

On a CPU pixels are picked one by one. A TPU is made for products of matrices and picks pixels
slowly: where the rows of all columns are the same, both axes are such products there (of a batch of
32 patches of 256x256 they read 0.2 GB instead of 147, as its compiler counts).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, Real, Shaped, UInt8

from segadv_jax import VOID
from segadv_jax.models.geometry import filter_axes
from segadv_jax.shapes import AnyArray, Sizes

# Rows or columns in the source, between pixels; one column of rows and one row of columns will do.
Places = Float[AnyArray, "#h #w"]
Size = Integer[AnyArray, "2"]  # The true (height, width) of one image.


def reflect(index: Real[AnyArray, "*s"], length: Integer[AnyArray, ""]) -> Array:
    """Index or place reflected into 0 .. length - 1 without repeating the border.

    The period is 2 (length - 1).
    """
    period = jnp.maximum(2 * (length - 1), 1)
    index = jnp.mod(index, period)
    # Of a single pixel the period would leave fractions.
    return jnp.minimum(jnp.minimum(index, period - index), length - 1)


def reflect_border(
    image: Shaped[AnyArray, "n H W c"], size: Sizes, margin: int, multiple: int
) -> Shaped[AnyArray, "n h w c"]:
    """The image with its reflection around it, by index: "reflect-101", of the true image.

    Args:
        image, size: the images on their canvas, and their true sizes.
        margin: pixels on each side. Farther out than the image is long, it is reflected again.
        multiple: H and W are rounded up to a multiple of it, with more of the reflection.

    Returns:
        [n,H'+2*margin,W'+2*margin,c]; the image itself where the margin is 0.
    """
    if not margin:
        return image
    rows, columns = (
        np.arange(-margin, -(-pixels // multiple) * multiple + margin)
        for pixels in np.shape(image)[1:3]
    )

    def one(image, size):
        return image[reflect(rows, size[0])][:, reflect(columns, size[1])]

    return jax.vmap(one)(image, size)


def nearest(
    label: UInt8[AnyArray, "H W"], rows: Places, columns: Places, size: Size
) -> UInt8[Array, "h w"]:
    """The label map of true `size` at places, the nearest label; void beyond its border."""
    rows, columns = (jnp.round(x).astype(jnp.int32) for x in (rows, columns))
    within = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])

    def pick(label, rows, columns):
        height, width = label.shape
        return label[jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)]

    def multiply(label, rows, columns):
        weights = (
            (x.reshape(-1, 1) == jnp.arange(side)[None]).astype(jnp.float32)
            for x, side in zip((rows, columns), label.shape, strict=True)
        )
        return _along_axes(label[..., None], *weights)[..., 0].astype(label.dtype)

    picked = _by_platform(pick, multiply)(jnp.asarray(label), rows, columns)
    return jnp.where(within, picked, VOID)


def bilinear(
    image: Shaped[AnyArray, "H W c"], rows: Places, columns: Places, size: Size
) -> Float[Array, "h w c"]:
    """The image of true `size` at places, interpolated bilinearly, reflected beyond its border."""

    def pick(image, rows, columns):
        top, left = jnp.floor(rows), jnp.floor(columns)
        down, right = (rows - top)[..., None], (columns - left)[..., None]

        def at(row, column):
            row, column = (
                reflect(x.astype(jnp.int32), s) for x, s in ((row, size[0]), (column, size[1]))
            )
            return image[row, column].astype(jnp.float32)

        upper = at(top, left) * (1 - right) + at(top, left + 1) * right
        lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
        return upper * (1 - down) + lower * down

    def multiply(image, rows, columns):
        places = (reflect(x.reshape(-1, 1), s) for x, s in ((rows, size[0]), (columns, size[1])))
        weights = (
            jnp.maximum(1 - jnp.abs(place - jnp.arange(side)[None]), 0)
            for place, side in zip(places, image.shape[:2], strict=True)
        )
        return _along_axes(image, *weights)

    return _by_platform(pick, multiply)(jnp.asarray(image), rows, columns)


def _by_platform(pick, multiply):
    """`pick` on a CPU and where each pixel has its own place; `multiply` otherwise."""

    def apply(image, rows, columns):
        if rows.shape[1] > 1 or columns.shape[0] > 1:
            return pick(image, rows, columns)
        return lax.platform_dependent(image, rows, columns, cpu=pick, default=multiply)

    return apply


def _along_axes(image, down, right):
    """Sums over the rows and columns of an image [H,W,c] with weights f32[h,H] and f32[w,W]."""
    return filter_axes(image[None].astype(jnp.float32), down[None], right[None])[0]


def mirror(x: Shaped[AnyArray, "n H W c"], size: Sizes) -> Shaped[Array, "n H W c"]:
    """Images or maps flipped left to right within their true `size`."""

    def one(x, width):
        columns = jnp.arange(x.shape[1])
        return x[:, jnp.where(columns < width, width - 1 - columns, columns)]

    return jax.vmap(one)(x, size[:, 1])


def resize(
    image: Shaped[AnyArray, "n H W c"], size: Sizes, scale: float
) -> tuple[Shaped[AnyArray, "n h w c"], Sizes]:
    """Images `scale` times as large and their true sizes; bilinear, centres on centres.

    The canvas is rounded up to a multiple of 16 pixels.
    """
    if scale == 1:
        return image, size
    places = (
        ((np.arange(-(-round(side * scale) // 16) * 16) + 0.5) / scale - 0.5).astype(np.float32)
        for side in np.shape(image)[1:3]
    )
    rows, columns = np.ix_(*places)
    scaled = jax.vmap(lambda x, true_size: bilinear(x, rows, columns, true_size))(image, size)
    return scaled, jnp.maximum(jnp.round(size * scale).astype(jnp.int32), 1)
