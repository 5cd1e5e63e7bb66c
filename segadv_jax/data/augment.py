"""Random flip, rotation, scale and crop of one image and its labels: pure JAX, keys explicit.

All four are one resampling: each output pixel is traced back to its place in the source image,
where the image is interpolated bilinearly and the label map takes its nearest label. Beyond its
true border an image is reflected, here and in ``reflect_border``.
"""

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID


def augment(
    key, image, label, size, *, crop=None, margin=0, flip=True, rotation=8.0, scale=(0.9, 1.1)
):
    """Augments one example; ``jax.vmap`` it over a batch with one key per example.

    The image is flipped left to right with probability 1/2, scaled and rotated about its own centre
    (never the canvas's), and cropped. A place outside the source shows the image reflected at its
    border, without repeating the border pixel, and is void in the labels.

    Args:
      key: of this example.
      image: u8[H,W,3] canvas.
      label: u8[H,W] canvas, 255 = void.
      size: i32[2], the true (height, width).
      crop: side of the square to cut, its place uniform inside the scaled image (centred along an
        axis on which that is smaller than the crop); None keeps the canvas and the true size.
      margin: pixels of the source that the image, not the label, shows around the crop.
      flip: whether to flip.
      rotation: largest angle either way, in degrees.
      scale: smallest and largest magnification.

    Returns:
      (image f32[h+2*margin,w+2*margin,3] in 0..255, label u8[h,w], size i32[2]), where h = w = crop
      or as the canvas.
    """
    keys = {
        name: jax.random.fold_in(key, i)
        for i, name in enumerate(("flip", "angle", "scale", "crop"))
    }
    flipped = jax.random.bernoulli(keys["flip"]) & flip
    angle = jnp.deg2rad(jax.random.uniform(keys["angle"], minval=-rotation, maxval=rotation))
    zoom = jax.random.uniform(keys["scale"], minval=scale[0], maxval=scale[1])

    shape = image.shape[:2] if crop is None else (crop, crop)
    window = size if crop is None else jnp.array([crop, crop], jnp.int32)
    # The window's first pixel in the scaled image: a whole number, so that a mere crop does
    # not blur.
    slack = jnp.zeros(2) if crop is None else size * zoom - window
    chosen = jnp.floor(jax.random.uniform(keys["crop"], (2,)) * (jnp.floor(slack) + 1))
    start = jnp.where(slack > 0, chosen, jnp.floor(slack / 2))
    shift = start - slack / 2  # From the scaled image's centre to the window's.

    # Output pixel -> offset from the scaled image's centre -> offset in the source -> source pixel.
    y, x = (jnp.arange(-margin, pixels + margin) for pixels in shape)
    y = (y - (window[0] - 1) / 2 + shift[0])[:, None] / zoom
    x = (x - (window[1] - 1) / 2 + shift[1])[None, :] / zoom
    x = jnp.where(flipped, -x, x)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = cos * y - sin * x + (size[0] - 1) / 2
    columns = sin * y + cos * x + (size[1] - 1) / 2

    inner = tuple(slice(margin, margin + pixels) for pixels in shape)
    out_label = _nearest(label, rows[inner], columns[inner], size)
    if crop is None:
        window_mask = (jnp.arange(shape[0]) < size[0])[:, None] & (jnp.arange(shape[1]) < size[1])[
            None
        ]
        out_label = jnp.where(window_mask, out_label, VOID)
    return bilinear(image, rows, columns, size), out_label, window


def reflect(index, length):
    """Index reflected into 0 .. length - 1 without repeating the border (period 2 (length - 1))."""
    period = jnp.maximum(2 * (length - 1), 1)
    index = jnp.mod(index, period)
    return jnp.minimum(index, period - index)


def reflect_border(image, size, margin, multiple):
    """The image with its reflection around it, by index: "reflect-101", of the true image.

    Args:
      image: u8[n,H,W,3] canvas.
      size: i32[n,2] true sizes.
      margin: pixels on each side. Farther than the image is long the reflection is reflected.
      multiple: of which H and W are rounded up to one, with more of the reflection.

    Returns:
      u8[n,H'+2*margin,W'+2*margin,3], H' = ceil(H / multiple) * multiple; the image itself where
      the margin is 0.
    """
    if not margin:
        return image
    rows, columns = (
        np.arange(-margin, -(-pixels // multiple) * multiple + margin)
        for pixels in image.shape[1:3]
    )

    def one(image, size):
        return image[reflect(rows, size[0])][:, reflect(columns, size[1])]

    return jax.vmap(one)(image, size)


def _nearest(label, rows, columns, size):
    rows, columns = (jnp.round(x).astype(jnp.int32) for x in (rows, columns))
    within = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    picked = label[jnp.clip(rows, 0, label.shape[0] - 1), jnp.clip(columns, 0, label.shape[1] - 1)]
    return jnp.where(within, picked, VOID)


def bilinear(image, rows, columns, size):
    """The image [H,W,3] of true ``size`` at places f32[h,w], reflected beyond: f32[h,w,3]."""
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
