"""The state of a training run: data only, so that any tool can restore it."""

from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Int32


class TrainState(NamedTuple):
    """What a training step takes and returns."""

    step: Int32[Array, ""]  # Steps taken, by either player.
    params: dict[str, Any]  # By player; the adversary's tree is empty in standard training.
    opt_state: optax.OptState  # For both players.
    average: Any = None  # Exponential moving average of the segmenter's parameters, if one is kept.


def evaluated(state: TrainState) -> Any:
    """The segmenter's parameters that are evaluated and kept: their average if there is one."""
    return state.params["segmenter"] if state.average is None else state.average
