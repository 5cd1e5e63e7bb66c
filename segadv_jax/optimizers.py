"""Alternating updates as one optax transformation over both players."""

import optax

from segadv_jax.alternation import PLAYERS


def alternate(
    segmenter: optax.GradientTransformation, adversary: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Applies each player's optimizer in that player's turns only.

    A waiting player's weights, momentum and schedule count all stand still: `update` takes the
    static keyword `turn`. (Gradients of zero would not be enough: momentum still moves weights.)
    What is transformed is {"segmenter": tree, "adversary": tree}.
    """

    def in_turns_of(player, inner):
        def is_trained(_, turn, **unused):
            return player in PLAYERS[turn]

        return optax.conditionally_mask(inner, is_trained, forward_extra_args=True)

    players = {"segmenter": segmenter, "adversary": adversary}
    alternating = {player: in_turns_of(player, inner) for player, inner in players.items()}
    return optax.multi_transform(alternating, {player: player for player in players})


def schedule(learning_rate: float, decay: str = "constant", updates: int = 1) -> optax.Schedule:
    """A player's learning rate as a function of the number of its own updates.

    It decays over this many of them: not at all ("constant"), to 0 ("cosine"), or to 0 with power
    0.9 ("poly"). Another `decay` raises a ValueError.
    """
    updates = max(updates, 1)
    known = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, updates),
        "poly": optax.polynomial_schedule(learning_rate, 0.0, 0.9, updates),
    }
    if decay not in known:
        raise ValueError(f"decay is {decay!r}; known: {', '.join(known)}")
    return known[decay]


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.0,
    clip: float = 0.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent for one player, with heavy-ball momentum.

    `clip` is the largest global norm of this player's gradient; 0 for no limit. `weight_decay` is
    the coefficient of the L2 penalty's gradient, which is added after clipping.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.sgd(learning_rate, momentum=momentum or None),
    )
