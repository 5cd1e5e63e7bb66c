"""From whole images to class probabilities at their own pixels: borders, flips and scales."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from segadv_jax.models import Segmenter
from segadv_jax.models.geometry import upsample
from segadv_jax.resampling import mirror, reflect_border, resize
from segadv_jax.shapes import CellMaps, Pictures, Probabilities, Sizes


class Views(NamedTuple):
    """Over which views of an image its prediction is averaged, and how its logits are corrected."""

    flip: bool = False  # The mirrored image, too.
    scales: tuple[float, ...] = (1.0,)  # How many times as large the image is shown.
    shift: tuple[float, ...] = ()  # Added to each class's logits,
    temperature: float = 1.0  # which are then divided by this, as `corrected` does.

    @property
    def one(self) -> bool:
        """Whether there is nothing but the image as it is."""
        return self._replace(shift=(), temperature=1.0) == Views()

    @property
    def names(self) -> list[str]:
        """The views beyond the image as it is, in words for a file's name."""
        scales = [f"scale_{scale:g}" for scale in self.scales]
        return ["flip"] * self.flip + (scales if scales != ["scale_1"] else [])


def with_margin(image: Pictures, size: Sizes, segmenter: Segmenter) -> Float[Array, "n h w 3"]:
    """Whole images as a segmenter takes them, rounded up to whole cells, or to whole tiles."""
    multiple = segmenter.stride * max(segmenter.tile, 1)
    return jnp.asarray(reflect_border(image, size, segmenter.margin, multiple)).astype(jnp.float32)


def without_margin(image: Float[Array, "n h w 3"], margin: int) -> Float[Array, "n H W 3"]:
    """The inverse of `with_margin`, but for what H and W were rounded up by."""
    height, width = image.shape[1:3]
    return image[:, margin : height - margin, margin : width - margin]


class Seen(NamedTuple):
    """What the segmenter says of one view of images."""

    logits: CellMaps
    size: Sizes  # True ones of the view.
    scale: float = 1.0
    mirrored: bool = False


def segment(
    params: Any, image: Pictures, size: Sizes, segmenter: Segmenter
) -> Float[Array, "n h w C"]:
    """Logits at the label cells of whole images."""
    return segmenter.apply({"params": params}, with_margin(image, size, segmenter), size)


def features(params: Any, image: Pictures, size: Sizes, segmenter: Segmenter) -> CellMaps:
    """What the segmenter lets an adversary see of whole images, at the label cells.

    Raises:
        ValueError: it offers no features.
    """
    image = with_margin(image, size, segmenter)
    return segmenter.apply({"params": params}, image, size, method="features")


def at_pixels(
    logits: CellMaps,
    shape: Sequence[int],
    size: Sizes,
    segmenter: Segmenter,
    scale: float = 1.0,
) -> Probabilities:
    """Class probabilities at the pixels of images on a canvas of `shape` (H, W).

    The logits, and the true sizes, are of the images `scale` times as large.
    """
    if segmenter.tile:  # Its tiles are filled beyond the image, and so there are cells to hold on.
        cells = jnp.array(logits.shape[1:3])
        size = jnp.broadcast_to(segmenter.stride * cells, size.shape)
    probabilities = jax.nn.softmax(logits)
    return upsample(probabilities, size, shape, segmenter.stride, segmenter.offset, scale)


def corrected(logits: CellMaps, views: Views) -> CellMaps:
    """The logits with the shift added, if there is one, divided by the temperature.

    A temperature above 1 makes all probabilities more alike, and leaves which class is the most
    likely one as it is (Guo et al., On calibration of modern neural networks, ICML 2017, Eq. 9).
    """
    if views.shift:
        logits = logits + jnp.asarray(views.shift, logits.dtype)[None, None, None]
    return logits if views.temperature == 1 else logits / views.temperature


def look(
    params: Any, image: Pictures, size: Sizes, segmenter: Segmenter, views: Views = Views()
) -> list[Seen]:
    """The logits of each view, as the segmenter has them."""
    seen = []
    for scale in views.scales:
        scaled, scaled_size = resize(image, size, scale)
        for mirrored in (False, True) if views.flip else (False,):
            view = mirror(scaled, scaled_size) if mirrored else scaled
            logits = segment(params, view, scaled_size, segmenter)
            seen.append(Seen(logits, scaled_size, scale, mirrored))
    return seen


def average(
    seen: Sequence[Seen],
    shape: Sequence[int],
    size: Sizes,
    segmenter: Segmenter,
    views: Views,
) -> Probabilities:
    """Class probabilities at the pixels of a canvas of `shape`: the mean of those of the views."""
    total: Any = 0.0
    for view in seen:
        logits = corrected(view.logits, views)
        probabilities = at_pixels(logits, shape, view.size, segmenter, view.scale)
        total += mirror(probabilities, size) if view.mirrored else probabilities
    return total / len(seen)


def predict(
    params: Any,
    image: Pictures,
    size: Sizes,
    segmenter: Segmenter,
    views: Views = Views(),
) -> Probabilities:
    """Class probabilities at every pixel, averaged over views of the image."""
    seen = look(params, image, size, segmenter, views)
    return average(seen, image.shape[1:3], size, segmenter, views)
