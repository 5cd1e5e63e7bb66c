"""Simple terms that might do an adversary's work, for the segmenter's loss beside it.

What an adversary is said to bring can often be had for less: certain predictions by minimising
their entropy, sharp boundaries by weighting the cells there, images without labels by believing
predictions that are certain. A gain of an adversary is one over these. Each is a sum beside its
count or a weight of label cells, as in `losses`.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps

# A sum and the number of what was summed.
SumAndCount = tuple[Float[Array, ""], Float[Array, ""]]


def entropy(logits: CellMaps, label: CellLabels) -> SumAndCount:
    """The entropy of the predictions, `-sum_c s_ic ln s_ic` in nats, over cells that are not void.

    Grandvalet and Bengio, Semi-supervised learning by entropy minimization, NIPS 2004; for
    segmentation Vu et al., ADVENT, CVPR 2019, Section 3.1.
    """
    log_s = jax.nn.log_softmax(logits)
    entropies = -jnp.sum(jnp.exp(log_s) * log_s, -1)
    return _over(entropies, label != VOID)


def pseudo_mce(
    logits: CellMaps, label: CellLabels, threshold: float, class_weights: tuple[float, ...] = ()
) -> SumAndCount:
    """Cross-entropy to the segmenter's own most probable class, where it is certain of it.

    That is where its probability is the threshold or more. The count is that of all cells that are
    not void: the fewer are certain, the less this counts. Class weights are those of `losses.mce`,
    as pseudo-labels stand for labels. Lee, Pseudo-label, ICML workshop on
    challenges in representation learning, 2013; the threshold as in Sohn et al., FixMatch, NeurIPS
    2020, Eq. 4.
    """
    believed = jnp.argmax(logits, -1)
    certain = jnp.max(jax.nn.softmax(lax.stop_gradient(logits)), -1) >= threshold
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, believed)
    if class_weights:
        losses *= jnp.take(jnp.asarray(class_weights, jnp.float32), believed)
    return _over(jnp.where(certain, losses, 0), label != VOID)


def boundary_weights(label: CellLabels, weight: float, radius: int) -> Float[Array, "n h w"]:
    """`weight` for the cells at most `radius` rows and columns from one of another class, else 1.

    The weight map of Ronneberger et al., U-Net, MICCAI 2015, Eq. 2, in its simplest form. Void is
    no class: nothing is a boundary for being next to it.
    """
    void = label == VOID
    side = 2 * radius + 1
    window, steps = (1, side, side), (1, 1, 1)
    known = label.astype(jnp.int32)
    largest = lax.reduce_window(jnp.where(void, -1, known), -1, lax.max, window, steps, "SAME")
    smallest = lax.reduce_window(jnp.where(void, VOID, known), VOID, lax.min, window, steps, "SAME")
    return jnp.where((smallest < largest) & ~void, weight, 1.0)


def _over(values: Float[Array, "n h w"], counts: Bool[AnyArray, "n h w"]) -> SumAndCount:
    return jnp.sum(jnp.where(counts, values, 0)), jnp.sum(counts, dtype=jnp.float32)
