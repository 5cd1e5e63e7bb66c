"""The losses against Eq. 1 written out in float64 NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax import VOID, losses
from segadv_jax.losses import Objective

CLASSES = 4


@pytest.fixture(scope="module")
def cells():
    """(logits f32[3,9,6,4], label u8[3,9,6]); uneven void, the last image has no label at all."""
    random = np.random.RandomState(0)
    logits = random.normal(0, 3, (3, 9, 6, CLASSES)).astype(np.float32)
    label = random.randint(0, CLASSES, (3, 9, 6)).astype(np.uint8)
    label[0, random.uniform(size=(9, 6)) < 0.7] = VOID
    label[2] = VOID
    return logits, label


@pytest.fixture(scope="module")
def predictions():
    """(adversary's logits f32[3,3,2,1], weights f32[3,3,2])."""
    random = np.random.RandomState(1)
    logits = random.normal(0, 2, (3, 3, 2, 1)).astype(np.float32)
    return logits, random.randint(0, 2, (3, 3, 2)).astype(np.float32)


def eq1_mce(logits, label, weights=(1.0,) * CLASSES):
    """-sum_i sum_c w_c y_ic ln s_ic over labelled cells, in Python loops."""
    total, count = 0.0, 0
    for z, y in zip(logits.reshape(-1, CLASSES).astype(np.float64), label.reshape(-1), strict=True):
        if y != VOID:
            s = np.exp(z) / np.exp(z).sum()
            total, count = total - weights[y] * np.log(s[y]), count + 1
    return total, count


def eq1_bce(logits, z, weights):
    """-[z ln a + (1 - z) ln(1 - a)] over the weighted predictions."""
    a = 1 / (1 + np.exp(-logits[..., 0].astype(np.float64)))
    return np.sum(weights * -(z * np.log(a) + (1 - z) * np.log(1 - a))), np.sum(weights)


def test_mce_is_the_sum_of_eq_1(cells):
    logits, label = cells
    np.testing.assert_allclose(losses.mce(logits, label), eq1_mce(logits, label), rtol=1e-5)


def test_certainty_is_that_of_the_cells_that_have_a_label():
    """The probability of the most probable class, be it the true one or not; void says nothing."""
    probabilities = [(0.7, 0.2, 0.1), (0.25, 0.35, 0.4), (0.05, 0.9, 0.05), (0.98, 0.01, 0.01)]
    logits = np.log(np.float32(probabilities)).reshape(1, 2, 2, 3)
    label = np.array([[[0, 1], [VOID, VOID]]], np.uint8)
    assert losses.certainty(logits, label) == pytest.approx(0.7 + 0.4)
    assert losses.certainty(logits, np.full_like(label, VOID)) == 0


def test_mce_gradient_is_probabilities_minus_one_hot(cells):
    logits, label = cells
    gradient = jax.grad(lambda x: losses.mce(x, label)[0])(logits)
    s = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = (s - np.eye(256)[label][..., :CLASSES]) * (label != VOID)[..., None]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    assert np.all(np.asarray(gradient)[label == VOID] == 0)


def test_mce_is_weighted_by_the_class_of_each_cell(cells):
    """The count is that of the cells; void, which has no class, has no weight either."""
    logits, label = cells
    weights = (40.0, 0.25, 1.0, 3.0)
    expected = eq1_mce(logits, label, weights)
    np.testing.assert_allclose(losses.mce(logits, label, weights), expected, rtol=1e-5)
    gradient = jax.grad(lambda x: losses.mce(x, label, weights)[0])(logits)
    plain = jax.grad(lambda x: losses.mce(x, label)[0])(logits)
    factor = np.append(weights, np.zeros(256 - CLASSES))[label][..., None]
    np.testing.assert_allclose(gradient, factor * plain, rtol=1e-5, atol=1e-6)
    # One weight too few is no weight at all.
    assert np.isnan(losses.mce(logits, label, weights[:3])[0])


def test_weights_of_1_change_no_bit(cells):
    logits, label = cells
    np.testing.assert_array_equal(losses.mce(*cells, (1.0,) * CLASSES), losses.mce(*cells))


def test_mce_does_not_look_at_void_cells(cells):
    logits, label = cells
    other = np.where((label == VOID)[..., None], 50 * logits[::-1] - 7, logits)
    np.testing.assert_array_equal(losses.mce(logits, label), losses.mce(other, label))


@pytest.mark.parametrize("z", [False, True])
def test_bce_is_that_of_eq_1(predictions, z):
    logits, weights = predictions
    expected = eq1_bce(logits, z, weights)
    np.testing.assert_allclose(Objective().adversary_loss(logits, z, weights), expected, rtol=1e-5)
    each = losses.bce(logits, float(z))[..., 0]
    np.testing.assert_allclose(np.sum(each * weights), expected[0], rtol=1e-5)


def test_adversarial_term_is_eq_3s_or_its_replacement(predictions):
    logits, weights = predictions
    total, count = eq1_bce(logits, 0, weights)
    saturating = Objective(saturating=True).adversarial_term(logits, weights)
    np.testing.assert_allclose(saturating, (-total, count), rtol=1e-5)
    replaced = Objective().adversarial_term(logits, weights)
    np.testing.assert_allclose(replaced, eq1_bce(logits, 1, weights), rtol=1e-5)


def test_replacement_gives_the_stronger_signal_to_a_beaten_segmenter():
    """Section 3.1: both pull the same way; the replacement does not fade where a(s) is near 0."""

    def pull(logit, saturating):
        objective = Objective(saturating=saturating)

        def loss(x):
            return objective.adversarial_term(x.reshape(1, 1, 1, 1), jnp.ones((1, 1, 1)))[0]

        return jax.grad(loss)(jnp.float32(logit))

    for logit in (-8.0, 0.0, 8.0):
        assert pull(logit, False) < 0 and pull(logit, True) < 0
    assert pull(-8, False) < -0.99 and pull(-8, True) > -0.01


def test_extreme_logits_stay_finite():
    verdict = jnp.array([-1e38, -200.0, 200.0, 1e38]).reshape(1, 4, 1, 1)
    weights = jnp.ones((1, 4, 1))
    logits = jnp.array([[-1e38, 0, 1e38], [200, -200, 0], [0, 0, 0]]).reshape(1, 3, 1, 3)
    label = jnp.array([0, 1, VOID], jnp.uint8).reshape(1, 3, 1)
    for loss, x in (
        (lambda x: Objective().adversary_loss(x, True, weights)[0], verdict),
        (lambda x: Objective().adversary_loss(x, False, weights)[0], verdict),
        (lambda x: losses.mce(x, label)[0], logits),
    ):
        value, gradient = jax.value_and_grad(loss)(x)
        assert value > 100 and np.isfinite(value)
        assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


def test_one_labelled_cell_makes_a_block_count():
    label = np.full((2, 8, 12), VOID, np.uint8)
    label[0, 3, 3], label[0, 4, 8], label[1, 7, 11] = 0, 2, 1
    expected = np.zeros((2, 2, 3))
    expected[0, 0, 0], expected[0, 1, 2], expected[1, 1, 2] = 1, 1, 1
    np.testing.assert_array_equal(losses.prediction_weights(label, 4), expected)


def test_weights_cover_odd_sizes():
    """As many as the adversary's predictions, which round up; blocks are smaller at the border."""
    label = np.full((1, 9, 6), VOID, np.uint8)
    assert np.all(losses.prediction_weights(label, 4) == np.zeros((1, 3, 2)))
    label[0, 8, 5] = 0
    np.testing.assert_array_equal(losses.prediction_weights(label, 4)[0], [[0, 0], [0, 0], [0, 1]])


@pytest.mark.parametrize("block", [1, 2, 4])
def test_weights_are_those_of_a_loop(cells, block):
    _, label = cells
    weights = losses.prediction_weights(label, block)
    for n, i, j in np.ndindex(weights.shape):
        own = label[n, block * i : block * (i + 1), block * j : block * (j + 1)]
        assert weights[n, i, j] == np.any(own != VOID)


def test_right_cells_are_counted(cells):
    logits, label = cells
    labelled = label != VOID
    right = (np.argmax(logits, -1) == label)[labelled].sum()
    assert 0 < right < labelled.sum()
    np.testing.assert_array_equal(losses.correct_cells(logits, label), (right, labelled.sum()))


@pytest.mark.parametrize("z", [False, True])
def test_right_predictions_are_counted(predictions, z):
    logits, weights = predictions
    right = np.sum(((logits[..., 0] > 0) == z) * weights)
    assert 0 < right < weights.sum()
    np.testing.assert_array_equal(
        losses.correct_predictions(logits, z, weights), (right, weights.sum())
    )


def test_a_logit_above_0_says_ground_truth():
    """a = 1/2 is the border (Eq. 1); at the border itself nothing is said to be real."""
    logits = np.float32([-3, -1e-3, 0, 1e-3, 0.5, 3]).reshape(1, 6, 1, 1)
    for is_real, right in ((True, 3), (False, 3)):
        assert losses.correct_predictions(logits, is_real, np.ones((1, 6, 1), np.float32)) == (
            right,
            6,
        )


def test_without_labels_everything_is_zero():
    logits = jnp.asarray(np.random.RandomState(0).normal(size=(2, 8, 8, CLASSES)), jnp.float32)
    label = jnp.full((2, 8, 8), VOID, jnp.uint8)
    weights = losses.prediction_weights(label, 4)
    verdict = logits[:, ::4, ::4, :1]
    assert losses.mce(logits, label) == (0, 0)
    assert losses.correct_cells(logits, label) == (0, 0)
    for z in (False, True):
        assert Objective().adversary_loss(verdict, z, weights) == (0, 0)
        assert Objective(saturating=z).adversarial_term(verdict, weights) == (0, 0)
        assert losses.correct_predictions(verdict, z, weights) == (0, 0)


def test_a_loss_is_its_sum_or_its_mean():
    total, count = jnp.float32(6), jnp.float32(4)
    assert Objective().reduce(total, count) == 1.5
    assert Objective(reduction="sum").reduce(total, count) == 6
    assert Objective().reduce(jnp.float32(0), jnp.float32(0)) == 0  # Nothing is labelled.


def test_an_objective_that_is_told_nothing_is_the_cross_entropy_of_eq_1(cells):
    """No term beside it, no lambda, no smoothing, and the paper's game; it is a value."""
    logits, label = cells
    plain = Objective()
    ((name, (weight, found)),) = plain.own_terms(logits, label, len(label) - 1, 0).items()
    assert (name, weight, plain.lam, plain.lam_unlabelled) == ("mce", 1, 0, 0)
    np.testing.assert_allclose(found, eq1_mce(logits, label), rtol=1e-5)
    assert plain.rise(0) == 1 and (plain.game, plain.saturating) == ("bce", False)
    assert plain.noise == plain.r1 == plain.smoothing == 0 and not plain.feature_matching
    assert hash(plain) == hash(Objective()) and plain == Objective()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lam": -0.1}, "lam is -0.1: set it to 0 or more"),
        ({"lam": math.nan}, "lam is nan: set it to 0 or more"),
        ({"noise": math.inf}, "noise is inf: set it to a finite number"),
        ({"r1": -1.0}, "r1 is -1.0: set it to 0 or more"),
        ({"start": -1}, "start is -1: set it to 0 or more"),
        ({"ramp": -1}, "ramp is -1: set it to 0 or more"),
        ({"reduction": "median"}, "reduction is 'median'; known: mean, sum"),
        ({"game": "wgan"}, "game is 'wgan'; known: bce, hinge, least_squares"),
        ({"smoothing": 0.5}, "smoothing is 0.5: set it from 0 to below 0.5"),
        ({"smoothing": math.nan}, "smoothing is nan: set it from 0 to below 0.5"),
        ({"smoothing": -0.1}, "smoothing is -0.1: set it from 0 to below 0.5"),
        # What does not go together.
        (
            {"saturating": True, "game": "hinge"},
            "saturating belongs to the game 'bce', not to 'hinge': set it to False, or the game to",
        ),
        ({"saturating": True, "game": "least_squares"}, "saturating belongs to the game 'bce'"),
        ({"smoothing": 0.1, "game": "hinge"}, "smoothing has no meaning in the game 'hinge'"),
        (
            {"saturating": True, "feature_matching": True},
            "saturating belongs to verdicts, not to feature_matching: set one of them to False",
        ),
    ],
    ids=str,
)
def test_an_objective_refuses_what_it_cannot_be(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Objective(**fields)


def test_the_least_and_the_greatest_values_are_taken():
    Objective(smoothing=0.499, game="least_squares")
    Objective(saturating=True, start=0, ramp=0)
