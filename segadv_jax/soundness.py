"""Whether a training step left anything to go on with, and which part of it did not.

A step's losses are computed before its update. So a step is sound if its losses are finite and have
not exploded, and the gradients and parameters after it have finite norms: what is saved after a
sound step can be resumed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER

# Nats per cell; a probability below exp(-104) is 0 in float32, so that no loss of use comes near.
LIMIT = 1e4
FAULT = "fault"  # The metric of a step, 0 or one of these:
IN_LOSS = 1.0
IN_PLAYER = {SEGMENTER: 2.0, ADVERSARY: 3.0}
# Of the segmenter's own losses.
_OWN = ("mce", "entropy", "pseudo_mce", "grad_norm_mce")
# What the metrics are called in a message; the others are called by their names.
_CALLED = {
    "mce": "the cross-entropy",
    "adversarial_term": "the adversarial term",
    "adversarial_term_unlabelled": "the adversarial term on images without labels",
    "entropy": "the predictions' entropy",
    "pseudo_mce": "the cross-entropy to pseudo-labels",
    "r1": "the R1 penalty",
    "grad_norm_mce": "the norm of the gradient of the segmenter's own loss at the label map",
    "grad_norm_adversarial": "the norm of the adversarial term's gradient at the label map",
}
_ON = {"_real": "on ground truth", "_synthetic": "on predictions"}


class UnsoundError(FloatingPointError):
    """A step was not sound: its number, counted from 1, and what was wrong with it."""

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


def find_fault(
    metrics: Mapping[str, Float[Array, ""]], grads: Any, params: Any, turn: str, cells: Any = 1.0
) -> Float[Array, ""]:
    """0 if a step was sound, else IN_LOSS or IN_PLAYER, the first that applies.

    Args:
        metrics: of the step.
        grads: {player: of the turn's players}.
        params: {player: after the update}.
        turn: as in `train_step`.
        cells: over how many the losses are sums; 1 for means.
    """
    finite = jnp.all(jnp.isfinite(jnp.stack([*metrics.values()])))
    losses = [value for name, value in metrics.items() if _is_loss(name)]
    small = jnp.all(jnp.abs(jnp.stack(losses)) <= LIMIT * cells)
    fault = jnp.float32(0)
    for player in reversed(PLAYERS[turn]):
        # Squares that overflow are as bad: Adam's second moments are squares too.
        norms = optax.tree.norm((grads[player], params[player]))
        fault = jnp.where(jnp.isfinite(norms), fault, IN_PLAYER[player])
    return jnp.where(finite & small, fault, IN_LOSS)


def check(metrics: Mapping[str, Any], position: Mapping[str, float]) -> None:
    """Raises an UnsoundError if a step was not sound, which names the part and what to change.

    Args:
        metrics: of the step, from `train_step`.
        position: {"step", "segmenter_updates"} after it.
    """
    fault = float(jax.device_get(metrics[FAULT]))
    if not fault:
        return
    if fault == IN_LOSS:
        what, player = _wrong_part(jax.device_get(dict(metrics)))
    else:
        (player,) = (name for name, number in IN_PLAYER.items() if number == fault)
        what = f"the {player}'s gradient, or what it made of its parameters, is not finite"
    step, updates = int(position["step"]), int(position["segmenter_updates"])
    raise UnsoundError(
        step,
        f"{what} at step {step} (the segmenter's update {updates}): lower "
        f"config.optimizer.{player}.learning_rate or set its clip",
    )


def _wrong_part(metrics):
    """(which part is wrong and how, the player to blame) of a step's metrics."""
    # The segmenter's own loss comes first: without it the adversary's mean nothing.
    own = [name for name in _OWN if name in metrics]
    names = [*own, *(name for name in metrics if name not in own)]
    infinite = [name for name in names if not np.isfinite(metrics[name])]
    largest = max(filter(_is_loss, names), key=lambda name: abs(metrics[name]))
    name = next(iter(infinite), largest)
    how = f"is {metrics[name]}" if infinite else f"has grown to {metrics[name]:.3g}"
    return f"{_call(name)} {how}", SEGMENTER if name in _OWN else ADVERSARY


def _is_loss(name):
    return not name.startswith(("accuracy", "grad_norm", "lam", FAULT))


def _call(name):
    for ending, on in _ON.items():
        if name.endswith(ending) and not name.startswith("accuracy"):
            return f"the adversary's loss {on}"
    return _CALLED.get(name, name)
