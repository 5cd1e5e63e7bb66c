"""What happens to an image before the first convolution: YUV, Laplacian pyramid, contrast.

All filters know the true size of an image on its canvas: weights that would fall outside are left
out and the others renormalised, so that neither padding nor an assumed border leaks in.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segadv_jax.models.geometry import Maps, count_cells, filter_axes, inside, window_means
from segadv_jax.shapes import AnyArray, Sizes

# ITU-R BT.601 luma and the analogue colour differences, as Torch's image.rgb2yuv has them.
RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]], np.float32
)
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16  # Burt and Adelson (1983), a = 3/8.
# Farabet et al. (2013, Section 3.1) print a 15x15 Gaussian window; its deviation in pixels is ours.
_gaussian = np.exp(-0.5 * (np.arange(-7, 8) / 3.75) ** 2)
WINDOW = (_gaussian / _gaussian.sum()).astype(np.float32)
LEAST_CONTRAST = 1e-4


def rgb_to_yuv(image: Float[AnyArray, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """RGB to YUV of the same range (Y in 0..1 if RGB is)."""
    return jnp.einsum("...c,yc->...y", image, RGB_TO_YUV, precision="highest")


def _window(taps, offset):
    """The symmetric weights `taps` by the offset of an input from the middle of an output."""
    radius = len(taps) // 2
    return np.where(np.abs(offset) <= radius, taps[np.clip(offset + radius, 0, 2 * radius)], 0)


def expand(level: Maps, level_size: Sizes, shape: Sequence[int]) -> Float[Array, "n _ _ C"]:
    """Interpolates a level of true `level_size` to the next finer canvas of `shape` (H, W)."""
    # Pixel i of the level lies at pixel 2i of the finer one.
    sides = zip(level.shape[1:3], shape, strict=True)
    offsets = [2 * np.arange(side) - np.arange(finer)[None, :, None] for side, finer in sides]
    weights = [_window(BINOMIAL, offset) for offset in offsets]
    return filter_axes(level, *window_means(weights, level_size))


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
        pixels = [np.arange(side) for side in image.shape[1:3]]
        weights = [_window(BINOMIAL, p - p[None, ::2, None]) for p in pixels]
        smaller = filter_axes(image, *window_means(weights, size))
        smaller_size = count_cells(size, 2)
        pyramid.append((image - expand(smaller, smaller_size, image.shape[1:3]), size))
        image, size = smaller, smaller_size
    return [*pyramid, (image, size)]


def local_contrast_normalize(image: Maps, size: Sizes) -> Float[Array, "n H W C"]:
    """Local contrast normalisation over `WINDOW`, each channel on its own.

    With the window `w` and `*` for convolution, `v = x - w * x` and
    `y = v / max(sqrt(w * v^2), mean of that root over the image, LEAST_CONTRAST)`, which is
    negligible in the units of RGB / 255 or its YUV; `w` is renormalised at the true border. A
    constant image becomes 0, except for rounding, and so does what lies outside the true size.
    """
    mask = inside(size, image.shape[1:3]).astype(image.dtype)
    pixels = [np.arange(side) for side in image.shape[1:3]]
    weights = [_window(WINDOW, p - p[None, :, None]) for p in pixels]
    window = window_means(weights, size)
    centred = jnp.multiply(image - filter_axes(image, *window), mask)
    deviation = jnp.sqrt(filter_axes(jnp.square(centred), *window))
    mean = jnp.sum(deviation * mask, (1, 2), keepdims=True) / jnp.sum(mask, (1, 2), keepdims=True)
    return centred / jnp.maximum(jnp.maximum(deviation, mean), LEAST_CONTRAST)
