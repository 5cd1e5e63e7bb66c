"""A step that leaves nothing to go on with: what is found, and what is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax import soundness
from segadv_jax.alternation import PLAYERS
from segadv_jax.soundness import FAULT, IN_LOSS, IN_PLAYER, LIMIT, UnsoundError, check, find_fault

SOUND = {"mce": 2.0, "accuracy": 0.5, "grad_norm_mce": 1e6, "lam": 1e6, "bce_real": 0.7}
ONES = {"segmenter": {"w": jnp.ones(3)}, "adversary": {"w": jnp.ones(3)}}


def fault(metrics=None, grads=ONES, params=ONES, turn="both", cells=1.0):
    return float(find_fault(as_metrics(metrics or {}), grads, params, turn, cells))


def as_metrics(metrics):
    return jax.tree.map(jnp.float32, SOUND | metrics)


def with_value(player, value):
    return ONES | {player: {"w": jnp.float32([1, value, 1])}}


def test_a_sound_step_has_no_fault():
    assert fault() == 0
    assert fault({"mce": 5e4, "bce_real": -5e4}, cells=6.0) == 0  # Sums over so many cells.
    check(as_metrics({FAULT: 0.0}), {"step": 3, "segmenter_updates": 2})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mce", "grad_norm_mce", "bce_real"])
def test_a_metric_that_is_not_finite_is_a_fault(name, value):
    assert fault({name: value}) == IN_LOSS


@pytest.mark.parametrize("value", [2 * LIMIT, -2 * LIMIT, 1e30])
def test_an_exploded_loss_is_a_fault(value):
    assert fault({"mce": value}) == fault({"bce_real": value}) == IN_LOSS


# The squares of 1e30 are not finite: Adam's second moments never were good again.
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("player", ["segmenter", "adversary"])
def test_a_gradient_or_parameter_out_of_range_is_a_fault(player, value):
    wrong = with_value(player, value)
    for turn, players in PLAYERS.items():
        expected = IN_PLAYER[player] if player in players else 0
        assert fault(grads=wrong, turn=turn) == fault(params=wrong, turn=turn) == expected


def test_the_segmenter_comes_first_as_it_spoils_the_adversary():
    wrong = {player: {"w": jnp.float32([np.nan])} for player in ONES}
    assert fault(grads=wrong) == IN_PLAYER["segmenter"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            {"mce": np.nan},
            "the cross-entropy is nan at step 8 .the segmenter's update 5.*segmenter",
        ),
        ({"mce": 1e30}, "the cross-entropy has grown to 1e.30 .*optimizer.segmenter.learning_rate"),
        ({"grad_norm_mce": np.nan}, "gradient of the segmenter's own loss at the label map is nan"),
        ({"bce_real": np.inf}, "the adversary's loss on ground truth is inf .*adversary.learning"),
        ({"hinge_synthetic": 2e4}, "the adversary's loss on predictions has grown to 2e.04"),
        ({"adversarial_term": -2e4}, "the adversarial term has grown to -2e.04 .*r.adversary"),
        # Without the segmenter's own loss the adversary's mean nothing.
        ({"bce_real": np.inf, "mce": np.inf}, "the cross-entropy is inf .*optimizer.segmenter.le"),
        ({FAULT: IN_PLAYER["adversary"]}, "the adversary's gradient, or what .*r.adversary.lear"),
    ],
)
def test_the_part_the_step_and_the_remedy_are_named(metrics, message):
    position = {"step": 8, "segmenter_updates": 5}
    with pytest.raises(UnsoundError, match=f"{message}.* or set its clip") as raised:
        check(as_metrics({FAULT: IN_LOSS} | metrics), position)
    assert raised.value.step == 8


def test_the_cross_entropy_is_named_before_what_follows_from_it():
    everything = {"grad_norm_mce": np.nan, "accuracy": np.nan, "mce": np.nan, FAULT: IN_LOSS}
    with pytest.raises(UnsoundError, match="the cross-entropy is nan"):
        check(as_metrics(everything), {"step": 1, "segmenter_updates": 1})


def test_no_limit_is_reached_by_a_probability_that_float32_has():
    assert -np.log(np.finfo(np.float32).smallest_subnormal) < soundness.LIMIT / 50
