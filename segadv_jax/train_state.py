"""The state of a training run: data only, so that any tool can restore it."""

from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Int32


class TrainState(NamedTuple):
    """What a training step takes and returns.

    Attributes:
        step: steps taken, by either player.
        params: {"segmenter": tree, "adversary": tree}; the latter is empty in standard training.
        opt_state: the optimizer's state for both players.
        average: exponential moving average of the segmenter's parameters; None if none is kept.
    """

    step: Int32[Array, ""]
    params: dict[str, Any]
    opt_state: optax.OptState
    average: Any = None


def evaluated(state: TrainState) -> Any:
    """The segmenter's parameters that are evaluated and kept: their average if there is one."""
    return state.params["segmenter"] if state.average is None else state.average
