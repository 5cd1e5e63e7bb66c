"""The BF measure: how well the boundaries of a prediction follow those of the ground truth.

Csurka, Larlus and Perronnin, What is a good evaluation measure for semantic segmentation?, BMVC
2013, as Luc et al. report it (Table 2). A boundary point is matched if the other map has a boundary
point of the same class within a distance theta. Precision, recall and their harmonic mean F are
taken per image and per class of the ground truth. Distances are Euclidean and exact: everything is
integer arithmetic.

What a boundary point may match is found by a dilation with a disk. The points of both maps, of all
classes and of both readings of the image's border are bits of 32-bit words: one dilation serves 16
of the prediction's and as many of the ground truth's.
"""

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Integer, UInt8

from segadv_jax import VOID
from segadv_jax.errors import InputError
from segadv_jax.metrics.dilation import dilate, disk
from segadv_jax.shapes import AnyArray, Sizes

PIXELS = 5  # Theta in the smallest image of a data set,
FINE_PIXELS = 3  # and the stricter one that is measured beside it.
BORDERS = ("outside", "ignore")
_SUMS = ("sum", "squares", "images", "class_sum", "class_images")
_BITS = 16  # Of a word: the low ones are the ground truth's, the high ones the prediction's.
_NOWHERE = np.uint32(2**16)  # The bit of a place that is no boundary point.
_OUTSIDE, _UNLABELLED = -1, -2


class Tolerance(NamedTuple):
    """Theta in the images of a data set: always the same part of an image's diagonal."""

    smallest: int  # Squared diagonal, in pixels, of the smallest image.
    radius: int  # The largest whole distance below theta in any image, or more.
    pixels: int = PIXELS  # Theta in the smallest image.

    @classmethod
    def of(cls, sizes: Sizes, pixels: int = PIXELS) -> "Tolerance":
        """The tolerance in a data set whose images have these true sizes.

        Raises:
            InputError: an image's diagonal has 65,536 pixels or more.
        """
        diagonals = np.sum(np.square(np.asarray(sizes, np.int64)), -1)
        smallest, largest = int(np.min(diagonals)), int(np.max(diagonals))
        if largest >= 2**32:
            height, width = sizes[np.argmax(diagonals)]
            raise InputError(
                f"an image of {height}x{width} pixels is too large for BF, whose diagonals end at "
                "65,535 pixels: set evaluate.bf to False"
            )
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
    """`boundary_fs` with one tolerance and one reading of the border."""
    maps = prediction, label, size
    f = boundary_fs(*maps, num_classes=num_classes, tolerances=(tolerance,), borders=(border,))
    return f[0, 0]


def boundary_fs(
    prediction: Integer[AnyArray, "n H W"],
    label: UInt8[AnyArray, "n H W"],
    size: Sizes,
    *,
    num_classes: int,
    tolerances: Sequence[Tolerance],
    borders: Sequence[str] = BORDERS,
) -> Float32[Array, "tolerances borders n C"]:
    """F measure of the boundaries of each class in each image.

    The boundary of a class is its mask minus the mask's erosion by the 4-neighbourhood. Void pixels
    belong to no class in either map, and boundary points beside them do not count. Theta itself is
    too far.

    With the border "outside", beyond the image is another class, and a mask that touches the
    image's border has boundary points there; with "ignore" it has none there.

    F is 0 where a class is missing in the prediction, NaN where it has no boundary point in the
    ground truth.
    """
    rows, columns = (jnp.arange(side)[None] for side in label.shape[1:])
    exists = (rows < size[:, :1])[:, :, None] & (columns < size[:, 1:])[:, None]

    def classes(values):
        values = jnp.where(label == VOID, _UNLABELLED, values.astype(jnp.int16))
        return jnp.where(exists, values, _OUTSIDE).astype(jnp.int16)

    margin = max(tolerance.radius for tolerance in tolerances)
    disks = [disk(_reach(size, each), each.radius, margin) for each in tolerances]
    bits = len(borders) * num_classes

    def one(image):
        *maps, disks = image
        sides = [
            [_bits(values, border, k * num_classes) for k, border in enumerate(borders)]
            for values in maps
        ]
        words = jnp.arange(-(-bits // _BITS), dtype=jnp.uint32)
        near = lax.map(lambda word: dilate(_word(sides, word), disks, margin), words)
        return [
            _counts(side, near, shift, bits)
            for side, shift in zip(sides, (_BITS, 0), strict=True)  # Of the other map.
        ]

    # One image after the other: its words stay in the processor's cache.
    counts = lax.map(one, (classes(label), classes(prediction), disks))
    shape = len(label), len(borders), num_classes, 2 ** len(tolerances)
    recall, precision = (each.reshape(shape).swapaxes(0, 1) for each in counts)
    return jnp.stack([_f(recall, precision, number) for number in range(len(tolerances))])


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


def _reach(size, tolerance):
    """The largest squared distance below theta: theta^2 = pixels^2 * diagonal^2 / smallest."""
    diagonal = jnp.sum(jnp.square(size.astype(jnp.uint32)), -1)
    squared = np.arange(1, (tolerance.radius + 1) ** 2, dtype=np.int64)
    # Of diagonals above it a squared distance is below theta.
    limit = np.minimum(tolerance.smallest * squared // tolerance.pixels**2, 2**32 - 1)
    return jnp.sum(diagonal[:, None] > limit.astype(np.uint32)[None], -1)


def _bits(classes, border, first):
    """The class at its boundary points, counted from `first`; elsewhere `_NOWHERE`."""
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
    points = (classes >= 0) & differs & keep
    return jnp.where(points, classes.astype(jnp.uint32) + jnp.uint32(first), _NOWHERE)


def _word(sides, number):
    """The word of this number at each place: the bits of both maps and of all borders."""
    bits = [
        jnp.where(bit // _BITS == number, jnp.uint32(1) << (bit % _BITS + shift), jnp.uint32(0))
        for side, shift in zip(sides, (0, _BITS), strict=True)
        for bit in side
    ]
    return functools.reduce(operator.or_, bits)


def _counts(side, near, shift, bits):
    """Boundary points of one map by bit and by which tolerances they are matched within.

    Args:
        side: of each border the bits of the points.
        near: of each tolerance the words, u32[words,H,W], of what lies within it.
        shift: of the other map's bits in a word.
        bits: their number.

    Returns:
        i32[bits, 2^tolerances]: bit t of the last index says whether there is a match within
        tolerance t.
    """
    counts, states = 0, 2 ** len(near)
    for bit in side:
        index = bit * states
        for number, words in enumerate(near):
            found = [
                jnp.where(bit // _BITS == k, word, jnp.uint32(0)) for k, word in enumerate(words)
            ]
            hit = functools.reduce(operator.or_, found) >> (bit % _BITS + shift) & 1
            index += hit << number
        index = jnp.minimum(index, bits * states).astype(jnp.int32)
        counts += jnp.bincount(index.reshape(-1), length=bits * states + 1)[:-1]
    return counts.reshape(bits, states)


def _f(recall, precision, number):
    """F within one of the tolerances, from the counts of both maps."""

    def part(counts):
        """The part of the points that are matched, and their number."""
        points = jnp.sum(counts, -1)
        matched = [state for state in range(counts.shape[-1]) if state >> number & 1]
        return jnp.sum(counts[..., np.array(matched)], -1) / jnp.maximum(points, 1), points

    (recall, there), (precision, found) = part(recall), part(precision)
    f = 2 * precision * recall / jnp.maximum(precision + recall, 1e-12)
    return jnp.where(there > 0, jnp.where(found > 0, f, 0.0), jnp.nan)
