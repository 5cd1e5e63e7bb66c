"""Alternating updates against each player's own SGD, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax.alternation import PLAYERS
from segadv_jax.optimizers import alternate, schedule, sgd

TURNS = ("both", "segmenter", "segmenter", "adversary", "standard", "both", "adversary", "both")


def tree(seed):
    """One player's parameters or gradients, f32, of two shapes."""
    random = np.random.RandomState(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


SHAPES = {"kernel": (3, 2), "bias": (2,)}


def players(seed):
    return {"segmenter": tree(seed), "adversary": tree(seed + 1000)}


def play(optimizer, turns, params, gradients):
    """Parameters after each of `turns`, a list of {player: tree}."""
    update = jax.jit(optimizer.update, static_argnames="turn")
    state, history = optimizer.init(params), []
    for turn, gradient in zip(turns, gradients, strict=True):
        updates, state = update(gradient, state, params, turn=turn)
        params = jax.tree.map(jnp.add, params, updates)
        history.append(params)
    return history


def by_hand(params, gradients, rates, momentum, clip, weight_decay):
    """One player's parameters after each of its own updates, in float64."""
    params = {name: value.astype(np.float64) for name, value in params.items()}
    velocity = {name: np.zeros(value.shape) for name, value in params.items()}
    history = []
    for gradient, rate in zip(gradients, rates, strict=True):
        norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in gradient.values()))
        scale = min(1, clip / norm) if clip else 1
        for name, value in params.items():
            velocity[name] = (
                momentum * velocity[name] + scale * gradient[name] + weight_decay * value
            )
        params = {name: value - rate * velocity[name] for name, value in params.items()}
        history.append(params)
    return history


@pytest.mark.parametrize("decay", ["constant", "cosine", "poly"])
@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.0, "clip": 0.0, "weight_decay": 0.0},
        {"momentum": 0.9, "clip": 0.0, "weight_decay": 0.0},
        {"momentum": 0.9, "clip": 1.0, "weight_decay": 0.1},
    ],
    ids=["plain", "momentum", "all"],
)
def test_each_player_makes_its_own_descent_and_waits_in_between(settings, decay):
    own = {p: [i for i, t in enumerate(TURNS) if p in PLAYERS[t]] for p in PLAYERS["both"]}
    rates = {"segmenter": 0.1, "adversary": 0.5}
    schedules = {p: schedule(rates[p], decay, len(own[p])) for p in own}
    optimizer = alternate(**{p: sgd(schedules[p], **settings) for p in own})
    params = players(0)
    gradients = [players(1 + step) for step in range(len(TURNS))]
    # The adversary's are large: a norm over both would clip the segmenter's away.
    for gradient in gradients:
        gradient["adversary"] = jax.tree.map(lambda g: 100 * g, gradient["adversary"])
    history = play(optimizer, TURNS, params, gradients)
    for player, updates in own.items():
        expected = by_hand(
            params[player],
            [gradients[i][player] for i in updates],
            [float(schedules[player](count)) for count in range(len(updates))],
            **settings,
        )
        for step in range(len(TURNS)):
            made = sum(i <= step for i in updates)
            want = expected[made - 1] if made else params[player]
            for name in SHAPES:
                np.testing.assert_allclose(
                    history[step][player][name], want[name], rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("turn", ["standard", "segmenter", "adversary"])
def test_a_waiting_player_stands_still_to_the_bit(turn):
    optimizer = alternate(sgd(0.1, 0.9, weight_decay=0.1), sgd(0.1, 0.9, weight_decay=0.1))
    before, after = play(optimizer, ("both", turn), players(0), [players(1), players(2)])
    for player in before:
        for name in SHAPES:
            same = np.array_equal(before[player][name], after[player][name])
            assert same == (player not in PLAYERS[turn])


def test_standard_training_has_no_adversary():
    optimizer = alternate(sgd(0.1, 0.9), sgd(0.1, 0.9))
    params, gradient = ({"segmenter": tree(seed), "adversary": {}} for seed in (0, 1))
    (after,) = play(optimizer, ["standard"], params, [gradient])
    expected = params["segmenter"]["bias"] - 0.1 * gradient["segmenter"]["bias"]
    np.testing.assert_allclose(after["segmenter"]["bias"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [2, 2, 2, 2, 2]),
        ("cosine", [2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0]),
        ("poly", [2, 2 * 0.75**0.9, 2 * 0.5**0.9, 2 * 0.25**0.9, 0]),
    ],
)
def test_schedules_run_over_the_updates(decay, expected):
    rate = schedule(2.0, decay, 40)
    rates = [float(rate(count)) for count in (0, 10, 20, 30, 40)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)


@pytest.mark.parametrize("decay", ["constant", "cosine", "poly"])
def test_a_player_without_updates_has_a_schedule_too(decay):
    assert float(schedule(2.0, decay, 0)(0)) == 2


def test_an_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="'linear'.*constant, cosine, poly"):
        schedule(0.1, "linear", 10)
