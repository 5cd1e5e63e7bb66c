"""The losses of Section 3.1, as sums beside the counts that they are to be divided by.

Eq. 1 sums over cells and images. Here each loss comes as ``(sum, count)``, so that shards are
merged before anything is divided: a mean of the shards' means is wrong as soon as void is uneven.
With ``reduction="mean"`` each is divided by its own count, over all devices; ``"sum"`` is Eq. 1 to
the letter. The adversary makes ``block**2`` = 16 times fewer predictions than there are label
cells, so lambda = 2 between the sums of Eq. 1 is lambda = 2/16 between means.
"""

import jax
import jax.numpy as jnp
import optax

from segadv_jax import VOID

REDUCTIONS = ("mean", "sum")
GAMES = ("bce", "hinge", "least_squares")


def mce(logits, label):
    """Multi-class cross-entropy of Eq. 1, ``-sum_i sum_c y_ic ln s_ic`` over labelled cells.

    Args:
      logits: f32[n,h,w,C], before the softmax.
      label: u8[n,h,w], 255 = void.

    Returns:
      (sum f32[], number of labelled cells f32[]).
    """
    labelled = label != VOID
    safe = jnp.where(labelled, label, 0).astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, safe)
    return jnp.sum(jnp.where(labelled, losses, 0)), jnp.sum(labelled, dtype=jnp.float32)


def correct_cells(logits, label):
    """Label cells whose most probable class is the true one, and all labelled: (f32[], f32[])."""
    labelled = label != VOID
    right = (jnp.argmax(logits, -1) == label) & labelled
    return jnp.sum(right, dtype=jnp.float32), jnp.sum(labelled, dtype=jnp.float32)


def certainty(logits, label):
    """Sum over the labelled cells of the highest class probability: f32[]."""
    return jnp.sum(jnp.where(label != VOID, jnp.max(jax.nn.softmax(logits), -1), 0))


def prediction_weights(label, block):
    """1 for each of the adversary's predictions whose own block has a labelled cell, else 0.

    Blocks without a labelled cell look the same in both maps and would add a constant ln 2,
    diluting lambda with the amount of void and padding.

    Args:
      label: u8[n,h,w] cell labels.
      block: side in cells of what is pooled into one prediction.

    Returns:
      f32[n,ceil(h/block),ceil(w/block)].
    """
    labelled = label != VOID
    window, padding = (1, block, block), [(0, 0), *((0, -s % block) for s in label.shape[1:])]
    pooled = jax.lax.reduce_window(labelled, False, jax.lax.bitwise_or, window, window, padding)
    return pooled.astype(jnp.float32)


def bce(logits, z, weights):
    """Binary cross-entropy of Eq. 1 over the weighted predictions: ``-[z ln a + (1-z) ln(1-a)]``.

    Args:
      logits: f32[n,h',w',1], the adversary's, for "this is ground truth".
      z: the truth of that, True or False; a number between for a smoothed label.
      weights: f32[n,h',w'] of ``prediction_weights``.

    Returns:
      (sum f32[], sum of the weights f32[]).
    """
    # -ln sigmoid(x) = softplus(-x) and -ln(1 - sigmoid(x)) = softplus(x), finite for any logit.
    if z in (False, True):
        losses = jax.nn.softplus(-logits if z else logits)
    else:
        losses = z * jax.nn.softplus(-logits) + (1 - z) * jax.nn.softplus(logits)
    return jnp.sum(losses[..., 0] * weights), jnp.sum(weights)


def adversary_loss(logits, is_real, weights, game="bce", smoothing=0.0):
    """One of the two terms of the adversary's loss, on real or on synthetic maps (Eq. 2).

    Args:
      logits, weights: as in ``bce``. A logit above 0 says "ground truth" in every game.
      is_real: whether the maps are.
      game: "bce", the paper's; "hinge", max(0, 1 -+ logit) (Miyato et al., Spectral normalization
        for generative adversarial networks, ICLR 2018, Eq. 16); "least_squares", half the squared
        distance to 1 or -1 (Mao et al., Least squares generative adversarial networks, ICCV 2017,
        Eq. 8).
      smoothing: real maps count as ground truth to 1 - smoothing only (one-sided label smoothing,
        Salimans et al., Improved techniques for training GANs, NIPS 2016, Section 3.4).

    Returns:
      (sum f32[], count f32[]).
    """
    if game == "bce":
        return bce(logits, 1 - smoothing if is_real else False, weights)
    sign = 1 if is_real else -1
    if game == "hinge":
        losses = jax.nn.relu(1 - sign * logits)
    else:
        target = sign * (1 - 2 * smoothing * is_real)
        losses = jnp.square(logits - target) / 2
    return jnp.sum(losses[..., 0] * weights), jnp.sum(weights)


def adversarial_term(logits, weights, saturating=False, game="bce"):
    """What lambda multiplies in the segmenter's loss, given the adversary's logits on its maps.

    By default ``bce(a(x, s(x)), 1)``, the non-saturating replacement that the paper uses; with
    ``saturating`` the term ``-bce(a(x, s(x)), 0)`` of Eq. 3 itself. In the game "hinge" it is the
    negative logit, in "least_squares" half of its square: of a fooled adversary the logit is 0
    (the references are those of ``adversary_loss``).

    Returns:
      (sum f32[], count f32[]).
    """
    if game == "bce":
        total, count = bce(logits, not saturating, weights)
        return (-total if saturating else total), count
    losses = -logits if game == "hinge" else jnp.square(logits) / 2
    return jnp.sum(losses[..., 0] * weights), jnp.sum(weights)


def lam_at(updates, lam, start=0, ramp=0):
    """Lambda at the segmenter's update number ``updates`` (from 0 on): f32[].

    It is 0 up to update ``start`` and rises linearly to ``lam`` over the next ``ramp``; the
    adversary learns from the beginning.
    """
    since = jnp.asarray(updates, jnp.float32) - start
    return lam * jnp.where(since < 0, 0.0, jnp.clip((since + 1) / max(ramp, 1), 0.0, 1.0))


def correct_predictions(logits, is_real, weights):
    """The adversary's right ones among its weighted predictions: (number f32[], count f32[])."""
    right = (logits[..., 0] > 0) == is_real
    return jnp.sum(right * weights), jnp.sum(weights)
