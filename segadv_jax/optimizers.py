"""Alternating updates as one optax transformation over both players."""

import optax

from segadv_jax.alternation import PLAYERS


def alternate(segmenter, adversary):
    """Applies each player's optimizer in that player's turns only.

    A waiting player's weights, momentum and schedule count all stand still; ``update`` therefore takes
    the static keyword ``turn``. (Zeroed gradients would not do: momentum still moves weights.)

    Args:
      segmenter: optax transformation for ``params["segmenter"]``.
      adversary: optax transformation for ``params["adversary"]``.

    Returns:
      optax transformation over {"segmenter": tree, "adversary": tree}.
    """

    def in_turns_of(player, inner):
        def is_trained(_, turn, **unused):
            return player in PLAYERS[turn]

        return optax.conditionally_mask(inner, is_trained, forward_extra_args=True)

    players = {"segmenter": segmenter, "adversary": adversary}
    return optax.multi_transform(
        {player: in_turns_of(player, inner) for player, inner in players.items()},
        {player: player for player in players},
    )


def sgd(learning_rate, momentum=0.0, decay="constant", updates=None, clip=None, weight_decay=0.0):
    """Stochastic gradient descent for one player.

    Args:
      learning_rate: its initial value.
      momentum: of the heavy-ball kind; 0 for none.
      decay: "constant", "cosine" (to 0) or "poly" (to 0, power 0.9), over ``updates``.
      updates: how many updates this player will make; the schedule counts only those.
      clip: largest global norm of this player's gradient, or None.
      weight_decay: coefficient of the L2 penalty's gradient, added before the momentum.
    """
    schedules = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, max(updates, 1)),
        "poly": lambda: optax.polynomial_schedule(learning_rate, 0.0, 0.9, max(updates, 1)),
    }
    if decay not in schedules:
        raise ValueError(f"decay {decay!r} is none of {', '.join(schedules)}")
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.sgd(schedules[decay](), momentum=momentum or None),
    )
