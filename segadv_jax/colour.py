"""Brightness, contrast and saturation of an RGB image: what torchvision's ColorJitter changes.

Each blends the image with something greyer, `factor * image + (1 - factor) * grey`, and is cut off
at 0 and 255: factor 0 leaves the grey alone, 1 changes nothing, above 1 there is more of it. Values
are in 0..255, and are not rounded.
"""

from collections.abc import Mapping
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from segadv_jax.shapes import AnyArray

Factor: TypeAlias = Float[AnyArray, ""] | float
Image = Float[AnyArray, "h w 3"]

# In this order; torchvision draws it anew for each image.
ADJUSTMENTS = ("brightness", "contrast", "saturation")
_LUMA = (0.299, 0.587, 0.114)  # Of R, G and B, by ITU-R BT.601.


def adjust(
    image: Image, size: Integer[AnyArray, "2"], factors: Mapping[str, Factor], margin: int = 0
) -> Float[Array, "h w 3"]:
    """The image with its brightness, contrast and saturation times a factor each.

    The grey of brightness is black; that of contrast the mean grey of the whole image; that of
    saturation each pixel's own.

    Args:
        image: RGB in 0..255, on its canvas.
        size: its true (height, width), without the margin.
        factors: by name, of `ADJUSTMENTS`; who is absent does nothing.
        margin: pixels around the image, in all directions. They are adjusted as it is, but they and
            the canvas beyond `size` have no part in the mean.
    """
    for name in ADJUSTMENTS:
        if name not in factors:
            continue
        grey = jnp.float32(0)
        if name != "brightness":
            # Far faster on CPUs than a sum over an axis of three.
            grey = sum(share * image[..., i, None] for i, share in enumerate(_LUMA))
        if name == "contrast":
            grey = _mean(grey, size, margin)
        image = jnp.clip(grey + factors[name] * (image - grey), 0, 255)
    return jnp.asarray(image)


def _mean(grey, size, margin):
    """The mean f32[] of [h,w,1] within the true `size`."""
    down, right = (
        (place >= margin) & (place < margin + true)
        for place, true in zip(map(jnp.arange, grey.shape[:2]), size, strict=True)
    )
    within = (down[:, None] & right[None])[..., None]
    return jnp.sum(grey, where=within) / jnp.sum(within)
