"""Calibration: how likely the truth is to the segmenter, and whether it is as right as it is sure.

Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017, Section 2: the
expected calibration error over 15 bins of the highest probability, and the negative log-likelihood.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray, Probabilities

BINS = 15
# Probabilities of 0 are taken as this, about the smallest that float32 holds at full precision.
LEAST = 1e-37


def pixel_sums(
    probabilities: Probabilities, label: UInt8[AnyArray, "n H W"]
) -> dict[str, Float32[Array, "..."]]:
    """Sums over the labelled pixels of a batch: "nll" and, by bin, "calibration_gaps".

    A pixel's gap is 1 minus its highest probability where that class is the true one, and minus
    that probability where it is not. The error needs of each bin the sum of the gaps alone:
    its number of pixels, which the mean accuracy and confidence are divided by, cancels against its
    weight. Gaps of either sign lose less in float32 than two large sums would.

    They are added within rows first and then over rows: one long scattered sum would lose what is
    small beside it.
    """
    known = label != VOID
    true = jnp.where(known, label, 0).astype(jnp.int32)
    of_true = jnp.take_along_axis(probabilities, true[..., None], -1)[..., 0]
    losses = jnp.where(known, -jnp.log(jnp.maximum(of_true, LEAST)), 0)
    confidence, predicted = jnp.max(probabilities, -1), jnp.argmax(probabilities, -1)
    gaps = jnp.where(known, (predicted == true).astype(jnp.float32) - confidence, 0)
    # The bins are ((m - 1) / 15, m / 15], m = 1 .. 15.
    bins = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    in_rows = bins.reshape(-1, bins.shape[-1]), gaps.reshape(-1, bins.shape[-1])
    by_row = jax.vmap(lambda bin, gap: jnp.bincount(bin, gap, length=BINS))(*in_rows)
    return {"nll": jnp.sum(losses), "calibration_gaps": jnp.sum(by_row, 0)}


def zeros() -> dict[str, Float32[Array, "..."]]:
    """The sums of `pixel_sums` over no pixel."""
    return {"nll": jnp.zeros(()), "calibration_gaps": jnp.zeros(BINS)}


def measures(totals: Mapping[str, Any], pixels: int) -> dict[str, float]:
    """ "nll" and "ece" of the totals over so many labelled pixels; NaN of none."""
    gaps = np.abs(np.asarray(totals["calibration_gaps"], np.float64))
    if not pixels:
        return {"nll": float("nan"), "ece": float("nan")}
    return {"nll": float(totals["nll"]) / pixels, "ece": float(gaps.sum()) / pixels}
