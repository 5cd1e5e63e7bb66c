"""From whole images to class probabilities at their own pixels: borders, flips and scales."""

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax.data.augment import bilinear, reflect_border
from segadv_jax.models.geometry import upsample


def with_margin(image, size, segmenter):
    """Whole images u8[n,H,W,3] of sizes i32[n,2] as a segmenter takes them.

    Returns:
      f32[n,H'+2*margin,W'+2*margin,3], H and W rounded up to whole cells, or to whole tiles.
    """
    multiple = segmenter.stride * max(segmenter.tile, 1)
    return reflect_border(image, size, segmenter.margin, multiple).astype(jnp.float32)


def without_margin(image, margin):
    """The inverse of ``with_margin``, but for what H and W were rounded up by."""
    height, width = image.shape[1:3]
    return image[:, margin : height - margin, margin : width - margin]


def segment(params, image, size, segmenter):
    """Logits f32[n,h,w,C] of whole images u8[n,H,W,3] of sizes i32[n,2]."""
    return segmenter.apply({"params": params}, with_margin(image, size, segmenter), size)


def native(logits, image, size, segmenter, scale=1.0):
    """Class probabilities f32[n,H,W,C] at the pixels of the image [n,H,W,...].

    Args:
      logits: f32[n,h,w,C] of the image, or of the image ``scale`` times as large.
      image: of which the shape counts.
      size: i32[n,2], the true sizes of what the logits are of.
      segmenter: module with ``stride``, ``offset`` and ``tile``.
      scale: see ``logits``.
    """
    shape = image.shape[1:3]
    if segmenter.tile:  # Its tiles are filled beyond the image, and so there are cells to hold on.
        cells = jnp.array(logits.shape[1:3])
        size = jnp.broadcast_to(segmenter.stride * cells, size.shape)
    probabilities = jax.nn.softmax(logits)
    return upsample(probabilities, size, shape, segmenter.stride, segmenter.offset, scale)


def predict(params, image, size, segmenter, flip=False, scales=(1.0,)):
    """Class probabilities f32[n,H,W,C] at every pixel, averaged over views of the image.

    Args:
      params: the segmenter's.
      image: u8[n,H,W,3].
      size: i32[n,2] true sizes.
      segmenter: module.
      flip: show the image mirrored, too.
      scales: how many times as large the image is shown.
    """
    total = 0.0
    for scale in scales:
        scaled, scaled_size = resize(image, size, scale)
        for mirrored in (False, True) if flip else (False,):
            view = mirror(scaled, scaled_size) if mirrored else scaled
            logits = segment(params, view, scaled_size, segmenter)
            probabilities = native(logits, image, scaled_size, segmenter, scale)
            total += mirror(probabilities, size) if mirrored else probabilities
    return total / (len(scales) * (1 + flip))


def mirror(x, size):
    """[n,H,W,C] flipped left to right within the true ``size`` i32[n,2]."""

    def one(x, width):
        columns = jnp.arange(x.shape[1])
        return x[:, jnp.where(columns < width, width - 1 - columns, columns)]

    return jax.vmap(one)(x, size[:, 1])


def resize(image, size, scale):
    """Images ``scale`` times as large: (f32[n,H',W',3], i32[n,2]); bilinear, centres on centres."""
    if scale == 1:
        return image, size
    rows, columns = (
        (np.arange(-(-round(side * scale) // 16) * 16) + 0.5) / scale - 0.5
        for side in image.shape[1:3]
    )
    rows, columns = np.meshgrid(rows.astype(np.float32), columns.astype(np.float32), indexing="ij")
    scaled = jax.vmap(lambda x, true_size: bilinear(x, rows, columns, true_size))(image, size)
    return scaled, jnp.maximum(jnp.round(size * scale).astype(jnp.int32), 1)
