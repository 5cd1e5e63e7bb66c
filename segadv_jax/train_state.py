"""The state of a training run: data only, so that any tool can restore it."""

from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Int32

Params = dict[str, Any]  # A network's, by layer.


class TrainState(NamedTuple):
    """What a training step takes and returns.

    Attributes:
        step: steps taken, by either player.
        params: {"segmenter": tree, "adversary": tree}; the adversary's is empty in standard
            training.
        opt_state: the optimizer's state for both players.
        average: exponential moving average of the segmenter's parameters; None if none is kept.
    """

    step: Int32[Array, ""]
    params: dict[str, Params]
    opt_state: optax.OptState
    average: Params | None = None


def evaluated(state: TrainState) -> Params:
    """The segmenter's parameters that are evaluated and kept: their average if there is one."""
    return state.params["segmenter"] if state.average is None else state.average
