"""What happens to an image before the first convolution: YUV, Laplacian pyramid, contrast.

All filters know the true size of an image on its canvas: weights that would fall outside are left
out and the others renormalised, so that neither padding nor an assumed border leaks in.
"""

import jax.numpy as jnp
import numpy as np

from segadv_jax.models.geometry import count_cells, inside

# ITU-R BT.601 luma and the analogue colour differences, as Torch's image.rgb2yuv has them.
RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]], np.float32
)
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16  # Burt and Adelson (1983), a = 3/8.


def rgb_to_yuv(image):
    """RGB f32[...,3] to YUV f32[...,3] of the same range (Y in 0..1 where RGB is)."""
    return jnp.einsum("...c,yc->...y", image, RGB_TO_YUV, precision="highest")


def gaussian(sigma, radius):
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _window_means(taps, offsets, true_length):
    """Weighted means along one axis as a matrix: row = output, column = input pixel.

    Args:
      taps: weights of a symmetric window.
      offsets: i[outputs,inputs], each input's place relative to the middle of each output's window.
      true_length: i32[n]; pixels from there on take no part, the other weights are renormalised.

    Returns:
      f32[n,outputs,inputs]. A mean over a two-dimensional window of a rectangle is the product of
      two of these: on every platform two matrix products beat a depthwise convolution.
    """
    radius = len(taps) // 2
    weights = np.where(np.abs(offsets) <= radius, taps[np.clip(offsets + radius, 0, 2 * radius)], 0)
    exists = jnp.arange(offsets.shape[1])[None] < true_length[:, None]
    weights = weights[None].astype(np.float32) * exists[:, None]
    return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-6)


def _filter(x, matrices):
    """Applies a matrix f32[n,out,in] along each image axis of f32[n,H,W,C]."""
    rows, columns = matrices
    x = jnp.einsum("nhk,nkwc->nhwc", rows, x, precision="highest")
    return jnp.einsum("nwk,nhkc->nhwc", columns, x, precision="highest")


def _reduce(level, size):
    """Smooths f32[n,H,W,C] of true ``size`` and keeps even pixels, f32[n,ceil(H/2),ceil(W/2),C]."""

    def along(length, true_length):
        kept = np.arange(0, length, 2)[:, None]
        return _window_means(BINOMIAL, np.arange(length)[None] - kept, true_length)

    return _filter(level, [along(level.shape[a + 1], size[:, a]) for a in (0, 1)])


def expand(level, level_size, shape):
    """Interpolates a level f32[n,h,w,C] of true ``level_size`` to the next finer canvas (H, W)."""

    def along(length, coarse_length, true_length):
        place = 2 * np.arange(coarse_length)[None]  # Of each coarse pixel on the finer level.
        return _window_means(BINOMIAL, place - np.arange(length)[:, None], true_length)

    return _filter(level, [along(shape[a], level.shape[a + 1], level_size[:, a]) for a in (0, 1)])


def laplacian_pyramid(image, size, levels=3):
    """Laplacian pyramid of Burt and Adelson (1983); its last level is the low-pass residual.

    Level k + 1 is level k smoothed and sampled at its even pixels, so ``m`` pixels become
    ceil(m / 2). Adding up the levels, each expanded to the next finer one, gives the image again.

    Args:
      image: f32[n,H,W,C].
      size: i32[n,2] true sizes.
      levels: number of levels.

    Returns:
      A list of (level f32[n,ceil(H/2^k),ceil(W/2^k),C], size i32[n,2]), finest first; what lies
      outside the true size has no meaning.
    """
    pyramid = []
    for _ in range(levels - 1):
        smaller, smaller_size = _reduce(image, size), count_cells(size, 2)
        pyramid.append((image - expand(smaller, smaller_size, image.shape[1:3]), size))
        image, size = smaller, smaller_size
    return [*pyramid, (image, size)]


def local_contrast_normalize(image, size, sigma=3.75, radius=7, floor=1e-4):
    """Local contrast normalisation over a 15x15 Gaussian window, each channel on its own.

    ``v = x - w * x`` and ``y = v / max(sqrt(w * v^2), mean of it over the image, floor)``, where
    ``w`` is renormalised at the true border. Farabet et al. (2013, Section 3.1) print the 15x15
    window; ``sigma`` is ours. A constant image becomes 0, but for rounding.

    Args:
      image: f32[n,H,W,C], in units in which a contrast of ``floor`` is none (RGB / 255, or its
        YUV).
      size: i32[n,2] true sizes.

    Returns:
      f32[n,H,W,C], 0 outside the true size.
    """
    mask = inside(size, image.shape[1:3]).astype(image.dtype)
    taps = gaussian(sigma, radius)
    offsets = [np.arange(m)[None] - np.arange(m)[:, None] for m in image.shape[1:3]]
    window = [_window_means(taps, offsets[a], size[:, a]) for a in (0, 1)]
    centred = (image - _filter(image, window)) * mask
    deviation = jnp.sqrt(_filter(jnp.square(centred), window))
    mean = jnp.sum(deviation * mask, (1, 2), keepdims=True) / jnp.sum(mask, (1, 2), keepdims=True)
    return centred / jnp.maximum(jnp.maximum(deviation, mean), floor)
