"""Alternating updates against each player's own optimizer, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segadv_jax.alternation import PLAYERS
from segadv_jax.optimizers import alternate, player, schedule, slow_down

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


def by_hand(params, gradients, rates, name="sgd", clip=0.0, weight_decay=0.0, **settings):
    """One player's parameters after each of its own updates, in float64."""
    params = {leaf: value.astype(np.float64) for leaf, value in params.items()}
    memory = {leaf: (np.zeros(value.shape),) * 2 for leaf, value in params.items()}
    step, history = {"sgd": sgd_by_hand}.get(name, adam_by_hand), []
    for count, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in gradient.values()))
        scale, after = min(1, clip / norm) if clip else 1, {}
        for leaf, value in params.items():
            g = scale * gradient[leaf].astype(np.float64)
            g = g if name == "adamw" else g + weight_decay * value
            direction, memory[leaf] = step(g, memory[leaf], count, **settings)
            if name == "adamw":
                direction = direction + weight_decay * value
            after[leaf] = value - rate * direction
        params = after
        history.append(params)
    return history


def sgd_by_hand(g, memory, count, momentum):
    velocity = momentum * memory[0] + g
    return velocity, (velocity,)


def adam_by_hand(g, memory, count, betas, momentum=None):
    """Kingma and Ba, Algorithm 1; it knows no momentum."""
    m = betas[0] * memory[0] + (1 - betas[0]) * g
    v = betas[1] * memory[1] + (1 - betas[1]) * g**2
    unbiased = m / (1 - betas[0] ** count), v / (1 - betas[1] ** count)
    return unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8), (m, v)


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
    check_descent(settings, decay)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adam", "betas": (0.5, 0.99), "momentum": 0.9},
        {"name": "adam", "betas": (0.9, 0.999), "clip": 1.0, "weight_decay": 0.1},
        {"name": "adamw", "betas": (0.9, 0.999), "clip": 1.0, "weight_decay": 0.1},
    ],
    ids=["adam", "adam with all", "adamw"],
)
def test_so_it_does_with_adam(settings):
    check_descent(settings, "poly")


def check_descent(settings, decay):
    own = {p: [i for i, t in enumerate(TURNS) if p in PLAYERS[t]] for p in PLAYERS["both"]}
    rates = {"segmenter": 0.1, "adversary": 0.5}
    schedules = {p: schedule(rates[p], decay, len(own[p])) for p in own}
    fields = {"name": "sgd"} | settings
    optimizer = alternate(**{p: player(learning_rate=schedules[p], **fields) for p in own})
    params = players(0)
    gradients = [players(1 + step) for step in range(len(TURNS))]
    # The adversary's are large: a norm over both would clip the segmenter's away.
    for gradient in gradients:
        gradient["adversary"] = jax.tree.map(lambda g: 100 * g, gradient["adversary"])
    history = play(optimizer, TURNS, params, gradients)
    for each, updates in own.items():
        expected = by_hand(
            params[each],
            [gradients[i][each] for i in updates],
            [float(schedules[each](count)) for count in range(len(updates))],
            **settings,
        )
        for step in range(len(TURNS)):
            made = sum(i <= step for i in updates)
            want = expected[made - 1] if made else params[each]
            for name in SHAPES:
                np.testing.assert_allclose(
                    history[step][each][name], want[name], rtol=1e-4, atol=1e-5
                )


KINDS = {
    "sgd": player("sgd", 0.1, 0.9, weight_decay=0.1),
    "adam": player("adam", 0.1, weight_decay=0.1),
    "adamw": player("adamw", 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turn", ["standard", "segmenter", "adversary"])
def test_a_waiting_player_stands_still_to_the_bit(kind, turn):
    """Its weights, and what its optimizer keeps: momentum, or Adam's means and their count."""
    optimizer = alternate(KINDS[kind], KINDS[kind])
    update = jax.jit(optimizer.update, static_argnames="turn")
    params = players(0)
    _, state = update(players(1), optimizer.init(params), params, turn="both")
    changes, after = update(players(2), state, params, turn=turn)
    for each in params:
        moves = each in PLAYERS[turn]
        assert all(np.any(change != 0) == moves for change in changes[each].values())
        old, new = kept_for(state, each), kept_for(after, each)
        assert len(old) == {"sgd": 2}.get(kind, 5)
        for before, now in zip(old, new, strict=True):
            assert np.any(before != 0) and np.array_equal(before, now) != moves


def kept_for(state, each):
    """All that a player's optimizer keeps, without the count of all calls."""
    leaves = jax.tree.leaves_with_path(state.inner_states[each])
    return [leaf for path, leaf in leaves if "step" not in jax.tree_util.keystr(path)]


def test_standard_training_has_no_adversary():
    optimizer = alternate(KINDS["sgd"], KINDS["sgd"])
    params, gradient = ({"segmenter": tree(seed), "adversary": {}} for seed in (0, 1))
    (after,) = play(optimizer, ["standard"], params, [gradient])
    before, gradient = params["segmenter"]["bias"], gradient["segmenter"]["bias"]
    expected = before - 0.1 * (gradient + 0.1 * before)
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


@pytest.mark.parametrize("decay", ["cosine", "poly"])
def test_one_update_is_enough_to_decay(decay):
    """It is as many as there are by default."""
    for rate in (schedule(0.5, decay, 1), schedule(0.5, decay)):
        assert (float(rate(0)), float(rate(1))) == (0.5, 0)


def test_by_default_it_is_plain_gradient_descent_at_one_rate():
    """No momentum, no limit, no penalty; of a schedule, no decay and no warmup."""
    rate, params, gradient = schedule(0.5), tree(0), tree(1)
    assert [float(rate(count)) for count in (0, 1, 100)] == [0.5] * 3
    both = {"segmenter": params, "adversary": {}}
    optimizer = alternate(player("sgd", rate), player("sgd", rate))
    gradients = [{"segmenter": gradient, "adversary": {}}] * 2
    for count, after in enumerate(play(optimizer, ("standard",) * 2, both, gradients), 1):
        expected = jax.tree.map(lambda x, g, n=count: x - n * 0.5 * g, params, gradient)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after["segmenter"], expected
        )


def test_an_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="'linear'.*constant, cosine, poly"):
        schedule(0.1, "linear", 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "rmsprop"}, "name is 'rmsprop'; known: sgd, adam, adamw"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\): set 2 numbers, each from 0 to below 1"),
        ({"betas": (-0.1, 0.9)}, r"betas is \(-0.1, 0.9\): set 2 numbers"),
        ({"betas": (0.9,)}, r"betas is \(0.9,\): set 2 numbers"),
        ({"betas": (0.9, float("nan"))}, r"betas is \(0.9, nan\): set 2 numbers"),
    ],
)
def test_what_no_optimizer_can_be_made_of_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        player(**{"name": "adam", "learning_rate": 0.1} | fields)


def test_checkpoints_of_sgd_fit_as_they_always_did():
    """The structure of its state is in every checkpoint of a run."""
    then = optax.chain(optax.identity(), optax.identity(), optax.sgd(schedule(0.1), momentum=0.9))
    now = player("sgd", schedule(0.1), 0.9)
    for optimizer in (now, slow_down(now, ("kernel",), 0.5)):
        states = (each.init(tree(0)) for each in (then, optimizer))
        assert len(set(map(jax.tree.structure, states))) == 1


def in_parts(seed):
    """Both players' parameters or gradients; each has a backbone and another part."""
    return {
        each: {"backbone": tree(seed + i), "decoder": tree(seed + i + 500)}
        for i, each in enumerate(("segmenter", "adversary"))
    }


@pytest.mark.parametrize(
    ("kind", "factor"), [("sgd", 0.1), ("adam", 0.1), ("adamw", 0.1), ("adamw", 0.0)]
)
def test_a_pretrained_part_learns_at_a_rate_of_its_own(kind, factor):
    """As if its learning rate, with which all three optimizers' steps scale, were another."""
    inner = KINDS[kind]
    params, gradients = in_parts(0), [in_parts(seed) for seed in (1, 2, 3)]
    turns = ("both", "segmenter", "both")
    slowed = slow_down(inner, ("backbone", "stem"), factor)
    got = play(alternate(slowed, inner), turns, params, gradients)[-1]
    plain = play(alternate(inner, inner), turns, params, gradients)[-1]
    settings = {"name": kind, "learning_rate": factor * 0.1, "weight_decay": 0.1}
    slow = player(**settings | ({"momentum": 0.9} if kind == "sgd" else {}))
    expected = play(alternate(slow, inner), turns, params, gradients)[-1]["segmenter"]["backbone"]
    for name in SHAPES:
        for each, part in (
            ("segmenter", "decoder"),
            ("adversary", "decoder"),
            ("adversary", "backbone"),
        ):
            np.testing.assert_array_equal(got[each][part][name], plain[each][part][name])
        backbone = got["segmenter"]["backbone"][name]
        np.testing.assert_allclose(backbone, expected[name], rtol=1e-5, atol=1e-6)
        moved = np.abs(backbone - params["segmenter"]["backbone"][name])
        assert np.all(moved > 0) if factor else np.all(moved == 0)


@pytest.mark.parametrize(
    ("parts", "factor", "message"),
    [
        (("backbone",), -1.0, "backbone_factor is -1.0: set it to 0 or more"),
        (("backbone",), float("inf"), "backbone_factor is inf: set it to a finite number"),
        (("backbone",), float("nan"), "backbone_factor is nan: set it to 0 or more"),
        ((), 0.1, "backbone_factor is 0.1, but this segmenter has no pretrained part"),
    ],
)
def test_a_factor_without_a_meaning_is_refused(parts, factor, message):
    with pytest.raises(ValueError, match=message):
        slow_down(KINDS["sgd"], parts, factor)


def test_the_learning_rate_rises_over_the_warmup_and_then_decays():
    rate = schedule(0.8, "cosine", updates=100, warmup=4)
    plain = schedule(0.8, "cosine", updates=100)
    rising = [float(rate(count) / plain(count)) for count in range(6)]
    np.testing.assert_allclose(rising, [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)
