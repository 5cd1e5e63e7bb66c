"""The state of a training run: data only, so that any tool can restore it."""

from collections.abc import Collection
from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Int32


class TrainState(NamedTuple):
    """What a training step takes and returns.

    A segmenter's parameters are those that are trained and those that are not, `frozen`, which have
    neither gradient nor momentum nor average. What is frozen is in a state once.
    """

    step: Int32[Array, ""]  # Steps taken, by either player.
    # Those that are trained, by player; the adversary's tree is empty in standard training.
    params: dict[str, Any]
    opt_state: optax.OptState  # For both players.
    average: Any = None  # Exponential moving average of the segmenter's parameters, if one is kept.
    frozen: Any = {}  # Those of the segmenter's parameters that are not trained.


def evaluated(state: TrainState) -> Any:
    """The segmenter's parameters that are evaluated and kept: their average if there is one."""
    trained = state.params["segmenter"] if state.average is None else state.average
    return trained | state.frozen


def split_frozen(params: Any, frozen: Collection[str]) -> tuple[Any, Any]:
    """A segmenter's parameters as (those that are trained, those of the parts named `frozen`)."""
    trained = {name: part for name, part in params.items() if name not in frozen}
    return trained, {name: part for name, part in params.items() if name in frozen}
