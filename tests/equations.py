"""Eqs. 1 to 3 of the paper, written out plainly for networks of stride 4: what a step must compute.

Nothing of the package's losses, encodings and geometry is used here.
"""

import jax
import jax.numpy as jnp
import numpy as np

VOID = 255


def cell_labels(label):
    """u8[n,h,w]: the pixel nearest to 4i + 1.5, the later of two; void beyond the last pixel."""
    padded = np.pad(label, [(0, 0), (0, 3), (0, 3)], constant_values=VOID)
    h, w = (-(-side // 4) for side in label.shape[1:])
    return padded[:, 2::4, 2::4][:, :h, :w]


def block_weights(cells):
    """f32[n,h',w']: whether the 4x4 cells that are pooled into one prediction hold a label."""
    h, w = (-(-side // 4) for side in cells.shape[1:])
    padded = np.full((len(cells), 4 * h, 4 * w), VOID)
    padded[:, : cells.shape[1], : cells.shape[2]] = cells
    return (padded.reshape(-1, h, 4, w, 4) != VOID).any((2, 4)).astype(np.float32)


def maps(logits, cells):
    """(y, s) with zeros at void: one-hot ground truth and the segmenter's probabilities."""
    labelled = (cells != VOID)[..., None]
    y = np.eye(256, dtype=np.float32)[cells][..., : logits.shape[-1]] * labelled
    return y, jnp.where(labelled, jnp.exp(logits) / jnp.sum(jnp.exp(logits), -1, keepdims=True), 0)


def mce(logits, cells, reduction="mean", weights=1.0):
    """`weights` are f32[C], of classes."""
    y, s = maps(logits, cells)
    y = y * weights
    total = -jnp.sum(y * jnp.log(jnp.where(y > 0, s, 1)))
    return total / (1 if reduction == "sum" else np.sum(cells != VOID))


def bce(verdict, z, cells, reduction="mean"):
    """`verdict` is the adversary's logit; a its sigmoid."""
    a, weights = 1 / (1 + jnp.exp(-verdict[..., 0])), block_weights(cells)
    total = -jnp.sum(weights * (z * jnp.log(a) + (1 - z) * jnp.log(1 - a)))
    return total / (1 if reduction == "sum" else np.sum(weights))


def adversary_loss(judge, logits, cells, reduction="mean"):
    """Eq. 2, of `judge`, which maps label maps to verdicts; the segmenter is a constant."""
    y, s = maps(jax.lax.stop_gradient(logits), cells)
    return bce(judge(y), 1, cells, reduction) + bce(judge(s), 0, cells, reduction)


def adversarial_term(judge, logits, cells, reduction="mean", saturating=False):
    """What lambda multiplies: of Eq. 3 if saturating, else what the paper replaces it by."""
    verdict = judge(maps(logits, cells)[1])
    if saturating:
        return -bce(verdict, 0, cells, reduction)
    return bce(verdict, 1, cells, reduction)
