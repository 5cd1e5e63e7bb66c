"""Alternating updates as one optax transformation over both players."""

from collections.abc import Collection, Sequence

import jax.numpy as jnp
import optax

from segadv_jax import limits
from segadv_jax.alternation import PLAYERS, SEGMENTER


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


def schedule(
    learning_rate: float, decay: str = "constant", updates: int = 1, warmup: int = 0
) -> optax.Schedule:
    """A player's learning rate as a function of the number of its own updates.

    It decays over this many of them: not at all ("constant"), to 0 ("cosine"), or to 0 with power
    0.9 ("poly"). Over the first `warmup` of them it rises linearly to that (Goyal et al., Accurate,
    large minibatch SGD, 2017, Section 2.2). Another `decay` raises a ValueError.
    """
    updates = max(updates, 1)
    known = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, updates),
        "poly": optax.polynomial_schedule(learning_rate, 0.0, 0.9, updates),
    }
    if decay not in known:
        raise ValueError(f"decay is {decay!r}; known: {', '.join(known)}")
    decaying = known[decay]
    if not warmup:
        return decaying
    return lambda count: decaying(count) * jnp.minimum(1, (count + 1) / warmup)


def player(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.0,
    *,
    betas: Sequence[float] = (0.9, 0.999),
    clip: float = 0.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """The optimizer of one player.

    Args:
        name: "sgd", stochastic gradient descent with heavy-ball momentum; "adam" (Kingma and Ba,
            Adam: A method for stochastic optimization, ICLR 2015); or "adamw" (Loshchilov and
            Hutter, Decoupled weight decay regularization, ICLR 2019).
        learning_rate: a number, or a `schedule`.
        momentum: of "sgd"; the others have none.
        betas: of "adam" and "adamw", decays of the means of the gradient and of its square.
        clip: the largest global norm of this player's gradient; 0 for no limit.
        weight_decay: the coefficient of the L2 penalty's gradient, which is added after clipping.
            Of "adamw" it is what is taken from the weights beside Adam's step, both times the
            learning rate.

    Raises:
        ValueError: the name is not known, or a beta is out of range.
    """
    limits.check_each("betas", betas, limits.SHARE, 2, 2)
    penalty = optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()
    known = {
        "sgd": (penalty, optax.sgd(learning_rate, momentum=momentum or None)),
        "adam": (penalty, optax.adam(learning_rate, *betas)),
        "adamw": (optax.adamw(learning_rate, *betas, weight_decay=weight_decay),),
    }
    if name not in known:
        raise ValueError(f"name is {name!r}; known: {', '.join(known)}")
    return optax.chain(optax.clip_by_global_norm(clip) if clip else optax.identity(), *known[name])


def slow_down(
    inner: optax.GradientTransformation, pretrained: Collection[str], backbone_factor: float
) -> optax.GradientTransformation:
    """The segmenter's optimizer `inner` with another learning rate for the `pretrained` parts.

    It is `backbone_factor` times that of the others; decoupled weight decay goes with it. The state
    is that of the optimizer alone: runs can be resumed with another factor.

    Raises:
        ValueError: the factor is out of range, or there is no such part.
    """
    limits.check("backbone_factor", backbone_factor, limits.NOT_NEGATIVE)
    if not pretrained:
        raise ValueError(
            f"backbone_factor is {backbone_factor}, but this segmenter has no pretrained part: "
            "set it to 1"
        )

    def update(gradients, state, params=None):
        changes, state = inner.update(gradients, state, params)
        parts = changes[SEGMENTER]
        slowed = {k: optax.tree.scale(backbone_factor, parts[k]) for k in parts if k in pretrained}
        return changes | {SEGMENTER: parts | slowed}, state

    return optax.GradientTransformation(inner.init, update)
