"""Ways to keep the game alive: each does what its source says, and nothing where it is off."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, encodings, losses, optimizers
from segadv_jax.game import _add_noise
from segadv_jax.losses import Objective
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.models.layers import spectral_norm
from segadv_jax.scene import Setup
from segadv_jax.train_step import train_step

SEGMENTER, ADVERSARY = small.segmenter(levels=1), small.adversary()
OPTIMIZER = optimizers.alternate(
    optimizers.player("sgd", 0.1, 0.9), optimizers.player("sgd", 0.1, 0.9)
)


@functools.cache
def compiled(turn, ema=0.0, lam=0.5, **fields):
    objective = Objective(lam=lam, **fields)
    setup = Setup(SEGMENTER, ADVERSARY, encodings.basic, OPTIMIZER, objective, ema=ema)

    @jax.jit
    def play(state, batch, key, updates):
        return train_step(state, batch, key, turn, updates, setup=setup)

    return play


def play(turn="both", updates=0, state=None, seed=0, key=3, **settings):
    """(state, metrics) after one step of a small game.

    Args:
        turn, updates, state, seed, key: what the step takes.
        **settings: `ema` and the objective's fields.
    """
    if state is None:
        state = small.state(SEGMENTER, ADVERSARY, OPTIMIZER)
    step = compiled(turn, **settings)
    return step(state, small.batch(seed=seed), jax.random.key(key), np.int32(updates))


def gradients(after):
    """Both players' gradients: their momenta after the first step."""
    return {player: small.momentum(after, player) for player in ("segmenter", "adversary")}


# Lambda's beginning.


def test_lambda_begins_after_start_and_rises_over_ramp():
    def lambdas(count, **fields):
        return [0.5 * float(Objective(lam=0.5, **fields).rise(update)) for update in range(count)]

    expected = [0, 0, 0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(lambdas(9, start=3, ramp=4), expected)
    assert lambdas(4, start=2) == [0, 0, 0.5, 0.5]
    assert lambdas(1) == [0.5]


def test_before_its_start_the_term_is_off_while_the_adversary_learns():
    without, _ = play(lam=0.0)
    before, metrics = play(start=7, updates=6)
    after, later = play(start=7, updates=7)
    full, _ = play()
    assert (metrics["lam"], later["lam"]) == (0, 0.5)
    assert metrics["grad_norm_adversarial"] == 0 < later["grad_norm_adversarial"]
    small.assert_close(gradients(before), gradients(without), 1e-6)
    small.assert_close(gradients(after), gradients(full), 1e-6)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients(before)["adversary"]))
    assert not small.equal(gradients(before)["segmenter"], gradients(full)["segmenter"])


def test_before_its_start_no_adversary_reaches_the_segmenter():
    """Whatever it has become: 0 times NaN would."""
    state = small.state(SEGMENTER, ADVERSARY, OPTIMIZER)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, state.params["adversary"])
    state = state._replace(params=state.params | {"adversary": broken})
    before, _ = play(state=state, start=7, updates=6)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(before.params["segmenter"]))


# The adversary's losses. A prediction of weight 0 must not count.

LOGITS = jnp.array([-3.0, -0.5, 0.0, 0.7, 2.0, 9.0]).reshape(1, 6, 1, 1)
WEIGHTS = jnp.array([1.0, 1, 1, 1, 1, 0]).reshape(1, 6, 1)
COUNTED = np.array([-3.0, -0.5, 0.0, 0.7, 2.0])


def sums(is_real, **fields):
    total, count = Objective(**fields).adversary_loss(LOGITS, is_real, WEIGHTS)
    assert count == 5
    return float(total)


def test_hinge_is_that_of_miyato():
    assert sums(True, game="hinge") == pytest.approx(np.maximum(0, 1 - COUNTED).sum())
    assert sums(False, game="hinge") == pytest.approx(np.maximum(0, 1 + COUNTED).sum())
    term, _ = Objective(game="hinge").adversarial_term(LOGITS, WEIGHTS)
    assert float(term) == pytest.approx(-COUNTED.sum())


def test_least_squares_is_that_of_mao():
    assert sums(True, game="least_squares") == pytest.approx(((COUNTED - 1) ** 2).sum() / 2)
    assert sums(False, game="least_squares") == pytest.approx(((COUNTED + 1) ** 2).sum() / 2)
    term, _ = Objective(game="least_squares").adversarial_term(LOGITS, WEIGHTS)
    assert float(term) == pytest.approx((COUNTED**2).sum() / 2)


def test_labels_are_smoothed_on_one_side():
    a = 1 / (1 + np.exp(-COUNTED))
    expected = -(0.9 * np.log(a) + 0.1 * np.log(1 - a)).sum()
    assert sums(True, smoothing=0.1) == pytest.approx(expected, rel=1e-5)
    assert sums(False, smoothing=0.1) == sums(False)
    # The certainty that costs least is 1 - smoothing, where it was infinite.
    smoothed = Objective(smoothing=0.1)
    slope = jax.grad(lambda logits: smoothed.adversary_loss(logits, True, WEIGHTS)[0])
    np.testing.assert_allclose(slope(jnp.full_like(LOGITS, np.log(9))), 0, atol=1e-6)
    # Targets 1 and -1 are probabilities 1 and 0: 0.9 lies a tenth of the way.
    expected = ((COUNTED - 0.8) ** 2).sum() / 2
    assert sums(True, game="least_squares", smoothing=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("game", losses.GAMES)
def test_every_game_pulls_both_players_apart(game):
    """The adversary's logits up on real maps and down on synthetic ones; the segmenter's way up."""
    far = jnp.array([-0.5]).reshape(1, 1, 1, 1)
    one = jnp.ones((1, 1, 1))
    objective = Objective(game=game)
    assert jax.grad(lambda logits: objective.adversary_loss(logits, True, one)[0])(far) < 0
    assert jax.grad(lambda logits: objective.adversary_loss(logits, False, one)[0])(far) > 0
    assert jax.grad(lambda logits: objective.adversarial_term(logits, one)[0])(far) < 0


@pytest.mark.parametrize("game", losses.GAMES)
def test_a_step_plays_the_game_it_is_told(game):
    arguments = small.state(SEGMENTER, ADVERSARY, OPTIMIZER), small.batch(), jax.random.key(0), 0
    _, metrics = jax.eval_shape(compiled("adversary", game=game), *arguments)
    assert {f"{game}_real", f"{game}_synthetic"} <= set(metrics)
    others = set(losses.GAMES) - {game}
    assert not any(name.startswith(tuple(others)) for name in metrics)


# Instance noise.


def test_noise_is_on_both_maps_and_drawn_anew():
    plain, metrics = play()
    noisy, noisy_metrics = play(noise=0.3)
    again, _ = play(noise=0.3)
    other, _ = play(noise=0.3, key=4)
    assert small.equal(gradients(noisy), gradients(again))
    for name in ("bce_real", "bce_synthetic"):
        assert noisy_metrics[name] != metrics[name]
    assert metrics["mce"] == noisy_metrics["mce"]  # The segmenter itself sees none.
    assert not small.equal(gradients(noisy)["adversary"], gradients(other)["adversary"])
    assert not small.equal(gradients(noisy)["adversary"], gradients(plain)["adversary"])


def test_noise_has_its_deviation_and_leaves_void_alone():
    label = small.batch(void=0.4)["label"]
    keys = jax.random.split(jax.random.key(0), len(label))
    zeros = jnp.zeros((*label.shape, 5))
    first, second = (
        np.asarray(_add_noise(zeros, keys, n, deviation=0.3, label=label)) for n in (0, 1)
    )
    labelled = label != VOID
    assert np.all(first[~labelled] == 0)
    assert np.std(first[labelled]) == pytest.approx(0.3, rel=0.05)
    assert abs(np.corrcoef(first[labelled].ravel(), second[labelled].ravel())[0, 1]) < 0.05
    assert not np.array_equal(first[0], first[1])


# The R1 penalty.


def test_r1_is_the_squared_gradient_at_the_real_map():
    """Value and gradient by finite differences of the map, nothing of the step being used."""
    batch = small.batch()
    image, size = batch["image"].astype(np.float32), batch["size"]
    label = downsample_labels(jnp.asarray(batch["label"]), 4, 1.5)
    weights = losses.prediction_weights(label, 4)
    real = encodings.one_hot(label, small.CLASSES)
    theta = small.state(SEGMENTER, ADVERSARY, OPTIMIZER).params["adversary"]

    def penalty(theta):
        def verdict(label_map):
            z = ADVERSARY.apply({"params": theta}, label_map, image, size)
            return jnp.sum(z[..., 0] * weights)

        slope = jax.jacrev(verdict)(real) * (label != VOID)[..., None]
        return 2.0 / 2 * jnp.sum(slope**2) / jnp.sum(weights)

    value, slope = jax.jit(jax.value_and_grad(penalty))(theta)
    plain, _ = play()
    punished, metrics = play(r1=2.0)
    assert float(value) > 1e-4
    np.testing.assert_allclose(metrics["r1"], value, rtol=1e-4)
    added = jax.tree.map(
        jnp.subtract, gradients(punished)["adversary"], gradients(plain)["adversary"]
    )
    small.assert_close(added, slope, 2e-3)


def test_r1_is_the_adversarys_alone():
    plain, _ = play()
    punished, _ = play(r1=2.0)
    small.assert_close(gradients(punished)["segmenter"], gradients(plain)["segmenter"], 1e-6)


# Spectral normalisation.


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (5, 5, 3, 4), (3, 3, 6, 1)])
def test_spectral_norm_is_the_largest_singular_value(shape):
    kernel = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    expected = np.linalg.norm(kernel.reshape(-1, shape[-1]), 2)
    assert float(spectral_norm(kernel)) == pytest.approx(expected, rel=0.02)
    assert float(spectral_norm(3 * kernel)) == pytest.approx(3 * float(spectral_norm(kernel)))


def test_spectral_norm_has_the_gradient_of_a_singular_value():
    matrix = np.random.RandomState(1).normal(size=(1, 1, 6, 3)).astype(np.float32)
    u, _, v = np.linalg.svd(matrix[0, 0])
    slope = jax.grad(lambda kernel: spectral_norm(kernel, rounds=200))(jnp.asarray(matrix))
    np.testing.assert_allclose(slope[0, 0], np.outer(u[:, 0], v[0]), atol=1e-3)


def test_a_normalised_adversary_does_not_depend_on_the_scale_of_its_kernels():
    module = small.adversary(spectral_norm=True)
    params = small.adversary_parameters(module)
    assert jax.tree.structure(params) == jax.tree.structure(small.adversary_parameters(ADVERSARY))
    louder = jax.tree.map(lambda leaf: leaf * (7 if leaf.ndim == 4 else 1), params)
    image, size = small.images(small.SIZES, small.CANVAS)
    label_map = np.random.RandomState(0).uniform(
        size=(4, *small.cells(small.CANVAS), small.CLASSES)
    )
    for network, same in ((module, True), (ADVERSARY, False)):
        apply = jax.jit(network.apply)
        verdicts = [
            apply({"params": p}, label_map.astype(np.float32), image, size)
            for p in (params, louder)
        ]
        assert np.allclose(*verdicts, atol=1e-4) == same


# The average of the segmenter's weights.


def test_the_average_follows_the_segmenter():
    state = small.state(SEGMENTER, ADVERSARY, OPTIMIZER)
    expected = jax.tree.map(np.asarray, state.params["segmenter"])
    state = state._replace(average=state.params["segmenter"])
    for update, decay in enumerate([1 / 10, 2 / 11, 0.25, 0.25]):  # 3/12 and 4/13 reach the decay.
        state, _ = play(state=state, updates=update, seed=update, ema=0.25)
        new = state.params["segmenter"]
        expected = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, expected, new)
        small.assert_close(state.average, expected, 1e-5)
        waited, _ = play("adversary", state=state, updates=update + 1, ema=0.25)
        assert small.equal(waited.average, state.average)


def test_without_an_average_the_state_has_none():
    after, _ = play()
    assert after.average is None
