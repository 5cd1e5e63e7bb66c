"""Evaluation of one batch of whole images, without augmentation: sums and counts, divided late."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID, losses, prediction
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.devices import Shards
from segadv_jax.metrics import boundary_iou, calibration, regions
from segadv_jax.metrics.boundary import BORDERS, FINE_PIXELS, Tolerance, boundary_fs, image_sums
from segadv_jax.metrics.confusion import confusion_matrix
from segadv_jax.models import Adversary, Segmenter
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.prediction import Seen, Views
from segadv_jax.shapes import AnyArray, Batch, CellMaps, Sizes

Totals = Mapping[str, AnyArray]
BF = ("bf", "bf_3_pixels")  # With theta of 5 pixels, as in the paper, and with a stricter one.


class Boundaries(NamedTuple):
    """How BF is measured; with it, the other measures of structure are."""

    tolerance: Tolerance  # Within which boundary points match,
    fine: Tolerance  # and a stricter one.
    first: int = 0  # The first class that counts in an image's mean: 1 leaves the background out.

    @classmethod
    def of(cls, sizes: Sizes, first: int = 0) -> "Boundaries":
        """Those of images of these true sizes."""
        return cls(Tolerance.of(sizes), Tolerance.of(sizes, FINE_PIXELS), first)


def eval_step(
    params: Any,
    totals: Totals,
    batch: Batch,
    *,
    segmenter: Segmenter,
    boundaries: Boundaries | None = None,
    views: Views = Views(),
    axis_name: str | None = None,
) -> Totals:
    """Adds one batch to the totals of an evaluation, at the images' native resolution.

    Args:
        params: the segmenter's.
        totals: of `zero_totals`; the new ones are returned, over all devices.
        batch: this device's rows.
        segmenter: module.
        boundaries: to measure BF, Boundary IoU and regions as well.
        views: over which predictions are averaged; cross-entropy and certainty are those of the
            image as it is. The logits of all of them are corrected.
        axis_name: of the mapped axis; None on a single device.
    """
    return logits_step(
        params,
        totals,
        batch,
        segmenter=segmenter,
        boundaries=boundaries,
        views=views,
        axis_name=axis_name,
    )[0]


def logits_step(
    params: Any,
    totals: Totals,
    batch: Batch,
    *,
    segmenter: Segmenter,
    boundaries: Boundaries | None = None,
    views: Views = Views(),
    axis_name: str | None = None,
) -> tuple[Totals, CellMaps]:
    """`eval_step`, and the segmenter's logits of the images as they are, not corrected.

    The network need not run again for a picture of them, nor for an adversary's verdicts, unless
    it sees the segmenter's features, which are not returned.
    """
    parts, logits = _measure(params, batch, segmenter, boundaries, {"": views})
    return jax.tree.map(jnp.add, totals, Shards(axis_name).sum(parts[""])), logits


def corrections_step(
    params: Any,
    totals: Mapping[Any, Totals],
    batch: Batch,
    *,
    segmenter: Segmenter,
    views: Mapping[Any, Views],
    axis_name: str | None = None,
) -> Mapping[Any, Totals]:
    """`eval_step` for several corrections of the logits, with one pass of the network for all.

    The views differ in nothing else; the totals are {name of views: those of `zero_totals`}.
    """
    parts, _ = _measure(params, batch, segmenter, None, views)
    return jax.tree.map(jnp.add, totals, Shards(axis_name).sum(parts))


def _measure(params, batch, segmenter, boundaries, views):
    """({name of views: what one batch adds to the totals}, the logits)."""
    label, cell_label = _labels(batch, segmenter)
    image, size = batch["image"], batch["size"]
    logits = prediction.segment(params, image, size, segmenter)
    seen = [Seen(logits, size)]
    looked = next(iter(views.values()))
    if not looked.one:
        seen = prediction.look(params, image, size, segmenter, looked)
    cells = _without_filling(logits, cell_label)
    parts = {}
    for name, each in views.items():
        probabilities = prediction.average(seen, image.shape[1:3], size, segmenter, each)
        parts[name] = _of_cells(prediction.corrected(cells, each), cell_label)
        parts[name] |= _of_pixels(probabilities, label, size, boundaries)
    return parts, logits


def _of_cells(logits, cell_label):
    mce, _ = losses.mce(logits, cell_label)
    cells = jnp.sum(cell_label != VOID, dtype=jnp.int32)  # Exact, where float32 ends at 2^24.
    return {"mce": mce, "certainty": losses.certainty(logits, cell_label), "cells": cells}


def _of_pixels(probabilities, label, size, boundaries):
    predicted, num_classes = jnp.argmax(probabilities, -1), probabilities.shape[-1]
    part = {"confusion": confusion_matrix(predicted, label, num_classes)}
    part |= calibration.pixel_sums(probabilities, label)
    if boundaries is None:
        return part
    tolerances = boundaries.tolerance, boundaries.fine
    f = boundary_fs(predicted, label, size, num_classes=num_classes, tolerances=tolerances)
    for kind, borders in zip(BF, f, strict=True):
        for border, values in zip(BORDERS, borders, strict=True):
            sums = image_sums(values, boundaries.first)
            part |= {f"{kind}_{border}_{name}": value for name, value in sums.items()}
    part |= boundary_iou.intersections_and_unions(predicted, label, size, num_classes)
    return part | regions.image_sums(predicted, label)


def adversary_step(
    params: Any,
    totals: Totals,
    batch: Batch,
    *,
    segmenter: Segmenter,
    adversary: Adversary,
    encode: Callable,
    axis_name: str | None = None,
) -> Totals:
    """Adds how often the adversary is right on one batch, as `eval_step`.

    The params are {"segmenter", "adversary"}, the totals {"real", "synthetic", "predictions"}. The
    batch has "logits" of `logits_step`.
    """
    _, cell_label = _labels(batch, segmenter)
    logits = _without_filling(batch["logits"], cell_label)
    image, size = batch["image"].astype(jnp.float32), batch["size"]
    colours = segmenter.apply({}, image, size, method="colours")
    seen = image
    if adversary.sees == "features":
        seen = prediction.features(params[SEGMENTER], image, size, segmenter)
    maps = encode(jax.nn.softmax(logits), cell_label, colours)
    judged = adversary.apply({}, cell_label, size, method="block_labels")
    weights = losses.prediction_weights(judged, adversary.block)
    part = {"predictions": jnp.sum(weights)}
    for name, label_map in zip(("real", "synthetic"), maps, strict=True):
        verdicts = adversary.apply({"params": params[ADVERSARY]}, label_map, seen, size)
        part[name], _ = losses.correct_predictions(verdicts, name == "real", weights)
    return jax.tree.map(jnp.add, totals, Shards(axis_name).sum(part))


def zero_totals(num_classes: int, boundaries: bool = False) -> Totals:
    """Totals of an evaluation before its first batch, of pixels and of cells.

    With `boundaries` also those of the measures of structure: BF with both tolerances and both
    readings of the image's border, Boundary IoU, and regions.
    """
    # Of NumPy: each of JAX's would be compiled, and wait for the devices' other work.
    shapes = jax.eval_shape(lambda: _zeros(num_classes, boundaries))
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _zeros(num_classes, boundaries):
    totals = {"confusion": jnp.zeros((num_classes, num_classes), jnp.int32), **calibration.zeros()}
    totals |= {"mce": jnp.zeros(()), "certainty": jnp.zeros(()), "cells": jnp.zeros((), jnp.int32)}
    if boundaries:
        sums = jax.eval_shape(image_sums, jnp.zeros((1, num_classes)))
        for name in (f"{kind}_{border}" for kind in BF for border in BORDERS):
            totals |= {f"{name}_{k}": jnp.zeros(v.shape) for k, v in sums.items()}
        totals |= boundary_iou.zeros(num_classes) | regions.zeros()
    return totals


def _labels(batch, segmenter):
    """(labels, void in rows that do not count; those of the cells) of a batch."""
    label = jnp.where(batch["mask"][:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    return label, downsample_labels(label, segmenter.stride, segmenter.offset)


def _without_filling(logits, cell_label):
    """The logits of the image's cells: tiles are filled beyond it."""
    return logits[:, : cell_label.shape[1], : cell_label.shape[2]]
