"""Random flip, rotation, scale and crop of one image and its labels: pure JAX, keys explicit.

All four are one resampling: each output pixel is traced back to its place in the source image,
where the image is interpolated bilinearly and the label map takes its nearest label. Beyond its
true border an image is reflected.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped, UInt8

from segadv_jax import VOID
from segadv_jax.resampling import Size, bilinear, nearest
from segadv_jax.shapes import AnyArray


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn for each training image (Section 4 leaves it to Farabet et al.).

    The square's place is uniform inside the scaled image, and centred along an axis on which that
    is smaller than the square.
    """

    crop: int = 0  # Side in pixels of the square to cut; 0 keeps the canvas and the true size.
    flip: bool = True  # Left to right, with probability 1/2.
    rotation: float = 8.0  # Largest angle either way, in degrees.
    scale: tuple[float, float] = (0.9, 1.1)  # Smallest and largest magnification.

    def __post_init__(self):
        for field in ("crop", "rotation"):
            value = getattr(self, field)
            if not value >= 0:
                raise ValueError(f"{field} is {value}: set it to 0 or more")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1]):
            raise ValueError(f"scale is {self.scale}: set it to (smallest, largest), above 0")


def augment(
    key: Key[Array, ""],
    image: Shaped[AnyArray, "H W 3"],
    label: UInt8[AnyArray, "H W"],
    size: Size,
    augmentation: Augmentation,
    margin: int = 0,
) -> tuple[Float[Array, "hm wm 3"], UInt8[Array, "h w"], Size]:
    """Augments one example; `jax.vmap` it over a batch with one key per example.

    The image is flipped, scaled and rotated about its own centre (never the canvas's), and cropped.
    A place outside the source shows the image reflected at its border, without repeating the border
    pixel, and is void in the labels.

    Args:
        key, image, label, size: of this example; the size is the true (height, width).
        augmentation: what is drawn.
        margin: pixels of the source that the image, not the label, shows around the crop.

    Returns:
        (image f32[h+2*margin,w+2*margin,3] in 0..255, label, size); h = w = crop, or as the canvas.
    """
    crop, scale = augmentation.crop, augmentation.scale
    keys = {
        name: jax.random.fold_in(key, i)
        for i, name in enumerate(("flip", "angle", "scale", "crop"))
    }
    flipped = jax.random.bernoulli(keys["flip"]) & augmentation.flip
    rotation = augmentation.rotation
    angle = jnp.deg2rad(jax.random.uniform(keys["angle"], minval=-rotation, maxval=rotation))
    zoom = jax.random.uniform(keys["scale"], minval=scale[0], maxval=scale[1])

    shape = (crop, crop) if crop else image.shape[:2]
    window = jnp.array([crop, crop], jnp.int32) if crop else size
    # The window's first pixel in the scaled image: a whole number, so that a mere crop does
    # not blur.
    slack = size * zoom - window if crop else jnp.zeros(2)
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
    out_label = nearest(label, rows[inner], columns[inner], size)
    if not crop:
        down, right = (jnp.arange(side) < true for side, true in zip(shape, size, strict=True))
        out_label = jnp.where(down[:, None] & right[None], out_label, VOID)
    return bilinear(image, rows, columns, size), out_label, window
