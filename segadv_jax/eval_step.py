"""Evaluation of one batch of whole images, without augmentation: sums and counts, divided late."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segadv_jax import VOID, losses, prediction
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.devices import Shards
from segadv_jax.metrics.boundary import BORDERS, Tolerance, boundary_f, image_sums
from segadv_jax.metrics.confusion import confusion_matrix
from segadv_jax.models import Adversary, Segmenter
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.prediction import Views
from segadv_jax.shapes import AnyArray, Batch

Totals = Mapping[str, AnyArray]


class Boundaries(NamedTuple):
    """How BF is measured."""

    tolerance: Tolerance  # Within which boundary points match.
    first: int = 0  # The first class that counts in an image's mean: 1 leaves the background out.


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
        boundaries: to measure BF as well.
        views: over which predictions are averaged; cross-entropy and certainty are those of the
            image as it is.
        axis_name: of the mapped axis; None on a single device.
    """
    label, cell_label, logits = _segment(params, batch, segmenter)
    image, size = batch["image"], batch["size"]
    if views.one:
        probabilities = prediction.at_pixels(logits, image.shape[1:3], size, segmenter)
    else:
        probabilities = prediction.predict(params, image, size, segmenter, views)
    predicted, num_classes = jnp.argmax(probabilities, -1), logits.shape[-1]
    logits = _without_filling(logits, cell_label)
    mce, cells = losses.mce(logits, cell_label)
    part = {
        "confusion": confusion_matrix(predicted, label, num_classes),
        "mce": mce,
        "certainty": losses.certainty(logits, cell_label),
        "cells": cells,
    }
    if boundaries is not None:
        measure = functools.partial(
            boundary_f, num_classes=num_classes, tolerance=boundaries.tolerance
        )
        for border in BORDERS:
            f = measure(predicted, label, size, border=border)
            sums = image_sums(f, boundaries.first)
            part |= {f"bf_{border}_{name}": value for name, value in sums.items()}
    return jax.tree.map(jnp.add, totals, Shards(axis_name).sum(part))


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

    The params are {"segmenter", "adversary"}, the totals {"real", "synthetic", "predictions"}.
    """
    _, cell_label, logits = _segment(params[SEGMENTER], batch, segmenter)
    logits = _without_filling(logits, cell_label)
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
    """Totals of an evaluation before its first batch: `confusion` of pixels, others of cells.

    With `boundaries` also the sums of BF over images, for both readings of the image's border.
    """
    totals = {"confusion": jnp.zeros((num_classes, num_classes), jnp.int32)}
    totals |= {name: jnp.zeros(()) for name in ("mce", "certainty", "cells")}
    if boundaries:
        sums = jax.eval_shape(image_sums, jnp.zeros((1, num_classes)))
        for border in BORDERS:
            totals |= {f"bf_{border}_{k}": jnp.zeros(v.shape) for k, v in sums.items()}
    return totals


def _segment(params, batch, segmenter):
    """(labels, void in rows that do not count; those of the cells; logits) of a batch."""
    label = jnp.where(batch["mask"][:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    cell_label = downsample_labels(label, segmenter.stride, segmenter.offset)
    return label, cell_label, prediction.segment(params, batch["image"], batch["size"], segmenter)


def _without_filling(logits, cell_label):
    """The logits of the image's cells: tiles are filled beyond it."""
    return logits[:, : cell_label.shape[1], : cell_label.shape[2]]
