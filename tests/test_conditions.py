"""Conditions of runs, on histories that are made up."""

import math

import jax.numpy as jnp
import pytest
from histories import history

from segadv_jax import conditions
from segadv_jax.losses import Objective


def test_a_game_is_won_when_the_gradient_is_known_to_have_vanished():
    assert conditions.state_of_game(0.99, 0.99, 0.005) == "won"
    assert conditions.state_of_game(0.99, 0.99) == "ahead"


def test_the_ratio_of_gradients_is_that_of_the_last_validations():
    assert conditions.gradient_ratio(history(grad_norm_adversarial=0.002)) == pytest.approx(0.2)
    late = [1.0] * 5 + [0.001, 0.002, 0.003]
    assert conditions.gradient_ratio(history(grad_norm_adversarial=late)) == pytest.approx(0.2)
    assert conditions.gradient_ratio(history(grad_norm_adversarial=None)) is None


@pytest.mark.parametrize(
    ("game", "chance"), [("bce", 2 * math.log(2)), ("hinge", 2), ("least_squares", 1)]
)
def test_chance_is_that_of_the_games_own_loss(game, chance):
    """Of an adversary whose logit is 0 for both maps."""
    objective = Objective(game=game)
    verdicts, weights = jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1))
    losses = [objective.adversary_loss(verdicts, real, weights)[0] for real in (True, False)]
    assert sum(losses) == pytest.approx(chance)
    assert conditions.has_never_learned(history(adversary_loss=float(chance)), game)
    assert not conditions.has_never_learned(history(adversary_loss=0.9 * chance), game)
    assert not conditions.has_never_learned(history(adversary_loss=2.0 * chance), game)
