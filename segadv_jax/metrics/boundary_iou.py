"""Boundary IoU: the intersection over union of what lies near the contours.

Cheng, Girshick, Dollar, Berg and Kirillov, Boundary IoU: improving object-centric image
segmentation evaluation, CVPR 2021: of each mask only the pixels within a distance d of its contour
count, in the prediction and in the truth. Here d is 2 % of the image's diagonal, rounded, and at
least 1 pixel, and distances are those of repeated erosions by 3x3 pixels, as in the authors'
program. That measures instances; here the sums of each class run over the data set, as those of the
IoU do.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float64, Int32, Integer, UInt8

from segadv_jax import VOID
from segadv_jax.metrics.confusion import mean_known
from segadv_jax.shapes import AnyArray, Sizes

PART = 50  # d is the diagonal divided by this.
_OUTSIDE = 256  # As a class. Void is VOID, which is no class.


def intersections_and_unions(
    prediction: Integer[AnyArray, "n H W"],
    label: UInt8[AnyArray, "n H W"],
    size: Sizes,
    num_classes: int,
) -> dict[str, Int32[Array, " C"]]:
    """Pixels near the contours: "boundary_intersection" and "boundary_union" of each class.

    What lies beyond the image is another class: a mask has a contour at the image's border. Void
    pixels belong to no mask in either map, nor is there a contour at void: a pixel counts if a
    pixel of another class lies within d, be it across void.
    """
    exists = _inside(size, label.shape[1:])
    known = (label != VOID) & exists

    def classes(values):
        values = jnp.where(label == VOID, VOID, values.astype(jnp.int16))
        return jnp.where(exists, values, _OUTSIDE).astype(jnp.int16)

    reach = _reach(size, label.shape[1:])
    near_true, near_predicted = (
        jax.vmap(_near_contour)(classes(values), reach) & known for values in (label, prediction)
    )
    both = near_true & near_predicted & (label == prediction)

    def count(values, where):
        index = jnp.where(where, values.astype(jnp.int32), num_classes).reshape(-1)
        return jnp.bincount(index, length=num_classes + 1)[:-1].astype(jnp.int32)

    intersection = count(label, both)
    union = count(label, near_true) + count(prediction, near_predicted) - intersection
    return {"boundary_intersection": intersection, "boundary_union": union}


def zeros(num_classes: int) -> dict[str, Int32[Array, " C"]]:
    """The counts of `intersections_and_unions` in no image."""
    zero = jnp.zeros(num_classes, jnp.int32)
    return {"boundary_intersection": zero, "boundary_union": zero}


def measures(totals: Mapping[str, Any]) -> dict[str, Any]:
    """ "boundary_iou" by class, NaN where a class has no contour in either map, and their mean."""
    intersection = np.asarray(totals["boundary_intersection"], np.float64)
    with np.errstate(invalid="ignore"):
        iou: Float64[np.ndarray, " C"] = intersection / np.asarray(totals["boundary_union"])
    return {"mean_boundary_iou": mean_known(iou), "boundary_iou": iou}


def _reach(size, shape) -> Int32[Array, " n"]:
    """d in images of true `size` on a canvas of `shape`: rounded, and a half to the even side.

    It is counted how many limits the squared diagonal exceeds: float32 ends at 2^24.
    """
    diagonal = jnp.sum(jnp.square(size.astype(jnp.uint32)), -1)
    number = np.arange(math.isqrt(sum(side**2 for side in shape)) // PART + 1, dtype=np.int64)
    limits = (PART * number + PART // 2) ** 2 - number % 2
    limits = np.minimum(limits, 2**32 - 1).astype(np.uint32)
    return jnp.maximum(jnp.sum(diagonal[:, None] > limits[None], -1), 1).astype(jnp.int32)


def _inside(size, shape) -> Bool[Array, "n H W"]:
    rows, columns = (jnp.arange(side) for side in shape)
    inside = rows[None, :, None] < size[:, :1, None]
    return inside & (columns[None, None, :] < size[:, 1:, None])


def _near_contour(classes, reach):
    """Where a pixel of another class, or none, lies within `reach` rows and columns.

    The largest and the smallest class around a pixel are its own if there is no other: two maps do
    for all classes.
    """
    void = classes == VOID
    largest, smallest = jnp.where(void, -1, classes), jnp.where(void, _OUTSIDE, classes)

    def widen(_, maps):
        largest, smallest = maps
        return _around(largest, jnp.maximum), _around(smallest, jnp.minimum)

    largest, smallest = lax.fori_loop(0, reach, widen, (largest, smallest))
    return (largest != classes) | (smallest != classes)


def _around(x, choose):
    """The largest or smallest of 3x3 values; beyond the canvas nothing but `_OUTSIDE` lies."""
    for axis in (0, 1):
        pad = [(1, 1) if a == axis else (0, 0) for a in (0, 1)]
        wide, length = jnp.pad(x, pad, constant_values=_OUTSIDE), x.shape[axis]
        before, after = (lax.slice_in_dim(wide, k, k + length, axis=axis) for k in (0, 2))
        x = choose(choose(before, x), after)
    return x
