"""The state of a training run: data only, so that any tool can restore it."""

from typing import Any, NamedTuple

import jax


class TrainState(NamedTuple):
    """What a step maps to its next value.

    Attributes:
      step: i32[], steps taken, by whichever player.
      params: {"segmenter": tree, "adversary": tree}; the adversary's is empty in standard training.
      opt_state: the optimizer's state for both players.
      average: exponential moving average of the segmenter's parameters; None where none is kept.
    """

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    average: Any = None


def evaluated(state):
    """The segmenter's parameters that are measured and kept: their average if there is one."""
    return state.params["segmenter"] if state.average is None else state.average
