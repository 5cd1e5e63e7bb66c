"""Random flip, rotation, scale, crop and colours of one image and its labels: pure JAX.

What moves pixels is one resampling: each output pixel is traced back to its place in the source
image, where the image is interpolated bilinearly and the label map takes its nearest label. Beyond
its true border an image is reflected. Nothing is smoothed before: where the image is shrunk to less
than half, pixels between the places are passed over, and fine patterns alias.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Shaped, UInt8

from segadv_jax import VOID, limits
from segadv_jax.colour import ADJUSTMENTS, adjust
from segadv_jax.resampling import Places, Size, bilinear, nearest
from segadv_jax.shapes import AnyArray

Pair = Float[Array, "2"]  # Along the height and along the width.
Keys = dict[str, Key[Array, ""]]
ABOVE_0 = limits.Range(0, above=True)

# The number of each is folded into the example's key: new ones come last.
_DRAWN = ("flip", "angle", "scale", "crop", "area", "aspect", *ADJUSTMENTS)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn for each training image (Section 4 leaves it to Farabet et al.).

    The square's place is uniform inside the scaled image, and centred along an axis on which that
    is smaller than the square.

    With `area`, for photographs of any size, the square shows a part of the image that is resized
    to it, in whole pixels and uniformly placed: its share of the image's area is uniform in a
    range, the logarithm of its aspect ratio too (Szegedy et al., CVPR 2015). torchvision's
    RandomResizedCrop draws again until a part fits the image; here the aspect is drawn from those
    that fit, and a share that fits with no aspect is lowered to the largest that does.
    """

    crop: int = 0  # Side in pixels of the square to cut; 0 keeps the canvas and the true size.
    flip: bool = True  # Left to right, with probability 1/2.
    rotation: float = 8.0  # Largest angle either way, in degrees.
    scale: tuple[float, float] = (0.9, 1.1)  # Smallest and largest magnification.
    area: tuple[float, ...] = ()  # Smallest and largest share; () cuts by `scale`.
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # Of `area`: smallest and largest width / height.
    # Each j, below 1: the factor of `colour.adjust` is uniform in [1-j, 1+j]; 0 changes nothing.
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    @property
    def only_flips(self) -> bool:
        """Whether whole images are shown, as they are or mirrored."""
        still = Augmentation(flip=self.flip, rotation=0.0, scale=(1.0, 1.0), aspect=self.aspect)
        return self == still

    def __post_init__(self):
        limits.check("crop", self.crop, limits.SIZE_OR_NONE)
        limits.check("rotation", self.rotation, limits.Range(0, 180))
        for field in ADJUSTMENTS:
            limits.check(field, getattr(self, field), limits.SHARE)
        for field in ("scale", "aspect"):
            value = getattr(self, field)
            if not _is_range(value):
                raise ValueError(f"{field} is {value!r}: set it to (smallest, largest), above 0")
        if self.area == ():
            return
        if not (_is_range(self.area) and self.area[1] <= 1):
            raise ValueError(
                f"area is {self.area!r}: set it to (smallest, largest), above 0 and up to 1, or "
                "to () for none"
            )
        if not self.crop:
            raise ValueError(f"area is {self.area}, but crop is 0: set crop to the patches' side")
        if self.scale != (1, 1):
            raise ValueError(
                f"scale is {self.scale}, but area is relative to the image at any scale: set scale "
                "to (1.0, 1.0)"
            )


def augment(
    key: Key[Array, ""],
    image: Shaped[AnyArray, "H W 3"],
    label: UInt8[AnyArray, "H W"],
    size: Size,
    augmentation: Augmentation,
    margin: int = 0,
) -> tuple[Float[Array, "hm wm 3"], UInt8[Array, "h w"], Size]:
    """Augments one example; `jax.vmap` it over a batch with one key per example.

    The image is flipped, scaled and rotated about its own centre (never the canvas's), and cropped;
    then the colours of what is left are changed. A place outside the source shows the image
    reflected at its border, without repeating the border pixel, and is void in the labels.

    Args:
        key, image, label, size: of this example; the size is the true (height, width).
        augmentation: what is drawn.
        margin: pixels of the source that the image, not the label, shows around the crop.

    Returns:
        (image f32[h+2*margin,w+2*margin,3] in 0..255, label, size); h = w = crop, or as the canvas.
    """
    keys = _keys(key)
    crop = augmentation.crop
    shape = (crop, crop) if crop else image.shape[:2]
    window = jnp.array([crop, crop], jnp.int32) if crop else size
    draw = _draw_part if augmentation.area else _draw_window
    zoom, shift = draw(keys, size, window, augmentation)
    flipped = is_flipped(key, augmentation)
    rotation = augmentation.rotation
    angle = jnp.deg2rad(jax.random.uniform(keys["angle"], minval=-rotation, maxval=rotation))
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def trace(margin: int) -> tuple[Places, Places]:
        """Output pixel -> offset from the scaled image's centre -> in the source -> its pixel."""
        y, x = (jnp.arange(-margin, pixels + margin) for pixels in shape)
        y = (y - (window[0] - 1) / 2 + shift[0])[:, None] / zoom[0]
        x = (x - (window[1] - 1) / 2 + shift[1])[None, :] / zoom[1]
        x = jnp.where(flipped, -x, x)
        # Otherwise one column of rows and one row of columns say it all, in a third of the time.
        if rotation:
            y, x = cos * y - sin * x, sin * y + cos * x
        return y + (size[0] - 1) / 2, x + (size[1] - 1) / 2

    out_image, out_label = bilinear(image, *trace(margin), size), nearest(label, *trace(0), size)
    if not crop:
        down, right = (jnp.arange(side) < true for side, true in zip(shape, size, strict=True))
        out_label = jnp.where(down[:, None] & right[None], out_label, VOID)
    return adjust(out_image, window, _draw_factors(keys, augmentation), margin), out_label, window


def is_flipped(key: Key[Array, ""], augmentation: Augmentation) -> Bool[Array, ""]:
    """Whether `augment` mirrors the example that has this key."""
    return jax.random.bernoulli(_keys(key)["flip"]) & augmentation.flip


def _keys(key: Key[Array, ""]) -> Keys:
    """A key for each thing that is drawn."""
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(_DRAWN)}


def _draw_window(
    keys: Keys, size: Size, window: Size, augmentation: Augmentation
) -> tuple[Pair, Pair]:
    """(magnification, shift from the scaled image's centre to the window's, in its pixels)."""
    smallest, largest = augmentation.scale
    zoom = jax.random.uniform(keys["scale"], minval=smallest, maxval=largest)
    # The window's first pixel in the scaled image: a whole number, so that a mere crop does
    # not blur.
    slack = size * zoom - window if augmentation.crop else jnp.zeros(2)
    chosen = jnp.floor(jax.random.uniform(keys["crop"], (2,)) * (jnp.floor(slack) + 1))
    start = jnp.where(slack > 0, chosen, jnp.floor(slack / 2))
    return jnp.full(2, zoom), start - slack / 2


def _draw_part(
    keys: Keys, size: Size, window: Size, augmentation: Augmentation
) -> tuple[Pair, Pair]:
    """The same, where the window shows a part of the image by its share of the area."""
    smallest, largest = augmentation.area
    narrow, wide = augmentation.aspect
    ratio = size[1] / size[0]
    share = jax.random.uniform(keys["area"], minval=smallest, maxval=largest)
    share = jnp.minimum(share, jnp.minimum(wide / ratio, ratio / narrow))
    fitting = jnp.maximum(narrow, share * ratio), jnp.minimum(wide, ratio / share)
    low, high = map(jnp.log, fitting)
    aspect = jnp.exp(jax.random.uniform(keys["aspect"], minval=low, maxval=high))
    part = jnp.sqrt(share * size[0] * size[1] * jnp.stack([1 / aspect, aspect]))
    part = jnp.clip(jnp.round(part), 1, size)
    slack = size - part
    start = jnp.floor(jax.random.uniform(keys["crop"], (2,)) * (slack + 1))
    zoom = jnp.divide(window, part)
    return zoom, (start - slack / 2) * zoom


def _draw_factors(keys: Keys, augmentation: Augmentation) -> dict[str, Array]:
    """Those of the colours that are changed."""
    largest = {name: getattr(augmentation, name) for name in ADJUSTMENTS}
    return {
        name: 1 + jax.random.uniform(keys[name], minval=-change, maxval=change)
        for name, change in largest.items()
        if change
    }


def _is_range(value: Any) -> bool:
    """Whether it is (smallest, largest), above 0."""
    pair = isinstance(value, tuple) and len(value) == 2 and all(map(ABOVE_0.holds, value))
    return pair and value[0] <= value[1]
