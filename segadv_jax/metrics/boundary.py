"""The BF measure: how well the boundaries of a prediction follow those of the ground truth.

Csurka, Larlus and Perronnin, What is a good evaluation measure for semantic segmentation?, BMVC
2013, as Luc et al. report it (Table 2). A boundary point is matched if the other map has a boundary
point of the same class within a distance theta. Precision, recall and their harmonic mean F are
taken per image and per class of the ground truth. Distances are Euclidean and exact: everything is
integer arithmetic.

Classes are bits of 32-bit words, so that one dilation by a disk serves all of them at once.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Integer, UInt8

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray, Sizes

PIXELS = 5  # Theta in the smallest image of a data set,
FINE_PIXELS = 3  # and the stricter one that is measured beside it.
BORDERS = ("outside", "ignore")
_SUMS = ("sum", "squares", "images", "class_sum", "class_images")
_BITS = 32
_OUTSIDE, _UNLABELLED = -1, -2


class Tolerance(NamedTuple):
    """Theta in the images of a data set: always the same part of an image's diagonal."""

    smallest: int  # Squared diagonal, in pixels, of the smallest image.
    radius: int  # The largest whole distance below theta in any image, or more.
    pixels: int = PIXELS  # Theta in the smallest image.

    @classmethod
    def of(cls, sizes: Sizes, pixels: int = PIXELS) -> "Tolerance":
        """The tolerance in a data set whose images have these true sizes."""
        diagonals = np.sum(np.square(np.asarray(sizes, np.int64)), -1)
        smallest, largest = int(np.min(diagonals)), int(np.max(diagonals))
        return cls(smallest, math.isqrt((pixels**2 * largest - 1) // smallest), pixels)

    @property
    def theta(self) -> float:
        """Theta as a part of the diagonal."""
        return self.pixels / math.sqrt(self.smallest)


def boundary_f(
    prediction: Integer[AnyArray, "n H W"],
    label: UInt8[AnyArray, "n H W"],
    size: Sizes,
    *,
    num_classes: int,
    tolerance: Tolerance,
    border: str = "outside",
) -> Float32[Array, "n C"]:
    """F measure of the boundaries of each class in each image.

    The boundary of a class is its mask minus the mask's erosion by the 4-neighbourhood. Void pixels
    belong to no class in either map, and boundary points beside them do not count. Theta itself is
    too far.

    With the `border` "outside", beyond the image is another class, and a mask that touches the
    image's border has boundary points there; with "ignore" it has none there.

    F is 0 where a class is missing in the prediction, NaN where it has no boundary point in the
    ground truth.
    """

    def one(prediction, label, size):
        rows, columns = (jnp.arange(side) for side in label.shape)
        exists = (rows < size[0])[:, None] & (columns < size[1])[None]

        def classes(values):
            values = jnp.where(label == VOID, _UNLABELLED, values.astype(jnp.int32))
            return jnp.where(exists, values, _OUTSIDE)

        true, predicted = (_points(classes(x), border) for x in (label, prediction))
        # The largest squared distance below theta: theta^2 = pixels^2 * diagonal^2 / smallest.
        reach = (tolerance.pixels**2 * jnp.sum(jnp.square(size)) - 1) // tolerance.smallest
        recall, there = _matched(true, predicted, reach, num_classes, tolerance.radius)
        precision, found = _matched(predicted, true, reach, num_classes, tolerance.radius)
        f = 2 * precision * recall / jnp.maximum(precision + recall, 1e-12)
        return jnp.where(there > 0, jnp.where(found > 0, f, 0.0), jnp.nan)

    return jax.vmap(one)(prediction, label, size)


def image_sums(f: Float[AnyArray, "n C"], first: int = 0) -> dict[str, Float32[Array, "..."]]:
    """Sums over the images of a batch, of the means over an image's classes, and by class.

    `first` is the first class that counts in an image's mean: 1 leaves the background out.
    """
    known = ~jnp.isnan(f)
    f = jnp.where(known, f, 0)
    number = jnp.sum(known[:, first:], -1)
    mean = jnp.sum(f[:, first:], -1) / jnp.maximum(number, 1)
    return {
        "sum": jnp.sum(mean),
        "squares": jnp.sum(jnp.square(mean)),
        "images": jnp.sum(number > 0, dtype=jnp.float32),
        "class_sum": jnp.sum(f, 0),
        "class_images": jnp.sum(known, 0, dtype=jnp.float32),
    }


def measures(totals: Mapping[str, Any], name: str = "bf_outside") -> dict[str, Any]:
    """BF from the totals "<name>_<name of image_sums>"; NaN where there are no images.

    Its mean and deviation are over images, "bf" over the images of a class.
    """
    sums = {k: np.asarray(totals[f"{name}_{k}"], np.float64) for k in _SUMS}
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums["sum"] / sums["images"]
        variance = np.maximum(sums["squares"] / sums["images"] - mean**2, 0)
        by_class = sums["class_sum"] / sums["class_images"]
    return {"mean_bf": float(mean), "std_bf": float(np.sqrt(variance)), "bf": by_class}


def _points(classes, border):
    """The class at its boundary points, -1 elsewhere."""
    around = jnp.pad(classes, 1, constant_values=_OUTSIDE)
    height, width = classes.shape
    keep, differs = True, False
    for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbour = lax.dynamic_slice(around, (row, column), (height, width))
        other = neighbour != classes
        if border == "ignore":
            other &= neighbour != _OUTSIDE
        differs |= other
        keep &= neighbour != _UNLABELLED
    return jnp.where((classes >= 0) & differs & keep, classes, -1)


def _matched(points, others, reach, num_classes, radius):
    """Part of a class's `points` with one of `others` within reach, and the number of points."""
    # Bit c % 32 of word c // 32 says whether one of class c lies there.
    words = jnp.arange(-(-num_classes // _BITS))[:, None, None]
    bit = jnp.uint32(1) << (others % _BITS).astype(jnp.uint32)
    words = jnp.where(words == (others // _BITS)[None], bit[None], jnp.uint32(0))
    near = _dilate(words, reach, radius)
    index = jnp.maximum(points, 0)
    word = jnp.take_along_axis(near, (index // _BITS)[None], 0)[0]
    hit = (word >> (index % _BITS).astype(jnp.uint32)) & 1
    index = jnp.where(points < 0, 2 * num_classes, 2 * index + hit.astype(jnp.int32))
    counts = jnp.bincount(index.reshape(-1), length=2 * num_classes + 1)[:-1].reshape(-1, 2)
    number = jnp.sum(counts, -1)
    return counts[:, 1] / jnp.maximum(number, 1), number


def _dilate(words, reach, radius):
    """The bits of all places whose squared distance is `reach` or less."""
    _, height, width = words.shape
    wide = jnp.pad(words, [(0, 0), (0, 0), (radius, radius)])

    def widen(step, rows):
        """Row of the table: the bits within `step` columns to either side."""
        starts = (radius + shift for shift in (-step, step))
        left, right = (lax.dynamic_slice_in_dim(wide, start, width, 2) for start in starts)
        return rows.at[step].set(rows[step - 1] | left | right)

    rows = jnp.zeros((radius + 1, *words.shape), jnp.uint32).at[0].set(words)
    rows = lax.fori_loop(1, radius + 1, widen, rows)
    rows = jnp.pad(rows, [(0, 0), (0, 0), (radius, radius), (0, 0)])
    half_width = jnp.array([math.isqrt(squared) for squared in range((radius + 1) ** 2)])

    def add(line, near):
        down = line - radius
        left_over = reach - down**2
        chosen = half_width[jnp.clip(left_over, 0, len(half_width) - 1)]
        start = chosen, 0, line, 0
        part = lax.dynamic_slice(rows, start, (1, words.shape[0], height, width))[0]
        return jnp.where(left_over >= 0, near | part, near)

    return lax.fori_loop(0, 2 * radius + 1, add, jnp.zeros_like(words))
