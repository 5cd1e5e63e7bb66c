"""What happens to an image before the first convolution: YUV, Laplacian pyramid, contrast.

All filters know the true size of an image on its canvas: weights that would fall outside are left
out and the others renormalised, so that neither padding nor an assumed border leaks in.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from segadv_jax.models.geometry import Maps, count_cells, filter_axes, inside
from segadv_jax.shapes import AnyArray, Sizes

# ITU-R BT.601 luma and the analogue colour differences, as Torch's image.rgb2yuv has them.
RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]], np.float32
)
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16  # Burt and Adelson (1983), a = 3/8.


def rgb_to_yuv(image: Float[AnyArray, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """RGB to YUV of the same range (Y in 0..1 if RGB is)."""
    return jnp.einsum("...c,yc->...y", image, RGB_TO_YUV, precision="highest")


def gaussian(sigma: float, radius: int) -> Float32[np.ndarray, " taps"]:
    """The weights of a Gaussian window of 2 * radius + 1 pixels; they add up to 1."""
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _window_means(taps, offsets, true_length):
    """Weighted means along one axis as matrices f32[n,outputs,inputs].

    `offsets` are those of the inputs from the middle of each output's window, whose symmetric
    weights are `taps`; inputs beyond `true_length` i32[n] take no part. A mean over a
    two-dimensional window of a rectangle is the product of two such matrices: on every platform two
    matrix products beat a depthwise convolution.
    """
    radius = len(taps) // 2
    weights = np.where(np.abs(offsets) <= radius, taps[np.clip(offsets + radius, 0, 2 * radius)], 0)
    exists = jnp.arange(offsets.shape[1])[None] < true_length[:, None]
    present = jnp.multiply(weights[None].astype(np.float32), exists[:, None])
    return present / jnp.maximum(jnp.sum(present, -1, keepdims=True), 1e-6)


def _reduce(level, size):
    """Smooths a level of true `size` and keeps its even pixels."""

    def along(length, true_length):
        kept = np.arange(0, length, 2)[:, None]
        return _window_means(BINOMIAL, np.arange(length)[None] - kept, true_length)

    return filter_axes(level, *(along(level.shape[a + 1], size[:, a]) for a in (0, 1)))


def expand(level: Maps, level_size: Sizes, shape: Sequence[int]) -> Float[Array, "n _ _ C"]:
    """Interpolates a level of true `level_size` to the next finer canvas of `shape` (H, W)."""

    def along(length, coarse_length, true_length):
        place = 2 * np.arange(coarse_length)[None]  # Of each coarse pixel on the finer level.
        return _window_means(BINOMIAL, place - np.arange(length)[:, None], true_length)

    lengths = zip(shape, level.shape[1:3], level_size.T, strict=True)
    return filter_axes(level, *(along(*axis) for axis in lengths))


def laplacian_pyramid(
    image: Maps, size: Sizes, levels: int = 3
) -> list[tuple[Float[AnyArray, "n _ _ C"], Sizes]]:
    """Laplacian pyramid of Burt and Adelson (1983); its last level is the low-pass residual.

    Level k + 1 is level k smoothed and sampled at its even pixels, so `m` pixels become
    ceil(m / 2). Adding up the levels, each expanded to the next finer one, gives the image again.

    Returns:
        Each level and its true sizes, finest first; what lies outside them has no meaning.
    """
    pyramid = []
    for _ in range(levels - 1):
        smaller, smaller_size = _reduce(image, size), count_cells(size, 2)
        pyramid.append((image - expand(smaller, smaller_size, image.shape[1:3]), size))
        image, size = smaller, smaller_size
    return [*pyramid, (image, size)]


def local_contrast_normalize(
    image: Maps, size: Sizes, sigma: float = 3.75, radius: int = 7, floor: float = 1e-4
) -> Float[Array, "n H W C"]:
    """Local contrast normalisation over a 15x15 Gaussian window, each channel on its own.

    With the window `w` and `*` for convolution, `v = x - w * x` and
    `y = v / max(sqrt(w * v^2), mean of that root over the image, floor)`; `w` is renormalised at
    the true border. Farabet et al. (2013, Section 3.1) print the 15x15 window; `sigma` is ours. A
    constant image becomes 0, except for rounding, and so does what lies outside the true size.

    Args:
        image: in units in which a contrast of `floor` is negligible (RGB / 255, or its YUV).
        size: true sizes.
        sigma: standard deviation of the window in pixels.
        radius: of the window in pixels.
        floor: least deviation that is divided by.
    """
    mask = inside(size, image.shape[1:3]).astype(image.dtype)
    taps = gaussian(sigma, radius)
    offsets = [np.arange(m)[None] - np.arange(m)[:, None] for m in image.shape[1:3]]
    window = [_window_means(taps, offsets[a], size[:, a]) for a in (0, 1)]
    centred = jnp.multiply(image - filter_axes(image, *window), mask)
    deviation = jnp.sqrt(filter_axes(jnp.square(centred), *window))
    mean = jnp.sum(deviation * mask, (1, 2), keepdims=True) / jnp.sum(mask, (1, 2), keepdims=True)
    return centred / jnp.maximum(jnp.maximum(deviation, mean), floor)
