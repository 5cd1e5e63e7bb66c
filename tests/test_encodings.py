"""What the adversary is shown (Section 3.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax import VOID
from segadv_jax.encodings import ENCODINGS, basic, basic_rgb, one_hot, product, scaling, zero_void


@pytest.fixture(scope="module")
def example():
    """(probabilities f32[2,5,4,3], label u8[2,5,4]) with void."""
    random = np.random.RandomState(0)
    label = random.choice(np.array([0, 1, 2, VOID], np.uint8), (2, 5, 4))
    return random.dirichlet(np.ones(3), (2, 5, 4)).astype(np.float32), label


COLOURS = np.random.RandomState(1).normal(size=(2, 5, 4, 3)).astype(np.float32)


def test_one_hot_of_void_is_zero(example):
    _, label = example
    encoded = np.asarray(one_hot(label, 3))
    for index in np.ndindex(label.shape):
        expected = [float(label[index] == c) for c in range(3)]
        np.testing.assert_array_equal(encoded[index], expected)
    assert np.all(encoded[label == VOID] == 0)


def test_basic_shows_probabilities_against_one_hot(example):
    probabilities, label = example
    real, synthetic = basic(probabilities, label)
    labelled = label != VOID
    np.testing.assert_array_equal(np.asarray(real)[labelled], np.eye(3)[label[labelled]])
    np.testing.assert_array_equal(np.asarray(synthetic)[labelled], probabilities[labelled])


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_void_looks_the_same_in_both_maps(example, name):
    probabilities, label = example
    void = label == VOID
    assert 0 < void.sum() < void.size
    for encoded in ENCODINGS[name](probabilities, label, COLOURS):
        assert np.all(np.asarray(encoded)[void] == 0)
        assert np.all(np.any(np.asarray(encoded)[~void] != 0, -1))


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_no_gradient_comes_back_from_void(example, name):
    """Nor from the ground truth, whatever the adversary's gradient is, even if it is infinite."""
    probabilities, label = example
    (real, synthetic), pull = jax.vjp(lambda s: ENCODINGS[name](s, label, COLOURS), probabilities)
    void = label == VOID
    blown_up = jnp.where(void[..., None], jnp.inf, jnp.ones(synthetic.shape))
    (gradient,) = pull((jnp.zeros_like(real), blown_up))
    assert np.all(np.asarray(gradient)[void] == 0)
    assert np.all(np.any(np.asarray(gradient)[~void] != 0, -1))
    (gradient,) = pull((blown_up, jnp.zeros_like(synthetic)))
    assert np.all(gradient == 0)


def test_void_is_zeroed_whatever_was_there(example):
    _, label = example
    void = (label == VOID)[..., None]
    garbage = np.where(void, np.float32(np.nan), np.float32(2))
    np.testing.assert_array_equal(zero_void(garbage, label)[..., 0], np.where(label == VOID, 0, 2))


def test_product_multiplies_every_class_with_every_colour(example):
    probabilities, label = example
    real, synthetic = (np.asarray(x) for x in product(probabilities, label, COLOURS))
    assert real.shape == synthetic.shape == (2, 5, 4, 9)
    for index in np.argwhere(label != VOID):
        n, i, j = index
        for c in range(3):
            cell = synthetic[n, i, j, 3 * c : 3 * c + 3]
            np.testing.assert_allclose(cell, probabilities[n, i, j, c] * COLOURS[n, i, j])
            cell = real[n, i, j, 3 * c : 3 * c + 3]
            np.testing.assert_array_equal(cell, (label[n, i, j] == c) * COLOURS[n, i, j])


def test_scaling_is_the_nearest_distribution_with_mass_tau(example):
    """Sums to 1, mass at least tau; no other such distribution has a smaller KL(real || s)."""
    probabilities, label = example
    real = np.asarray(scaling(probabilities, label)[0], np.float64)
    random = np.random.RandomState(2)
    for index in map(tuple, np.argwhere(label != VOID)):
        s, y, true = probabilities[index].astype(np.float64), real[index], label[index]
        assert y.sum() == pytest.approx(1, abs=1e-6)
        assert y[true] == pytest.approx(max(0.9, s[true]), abs=1e-6)
        least = np.sum(y * np.log(y / s))
        others = random.dirichlet(np.ones(3), 200)
        mass = random.uniform(0.9, 1, 200)
        rest = others.copy()
        rest[:, true] = 0
        others = rest / rest.sum(1, keepdims=True) * (1 - mass)[:, None]
        others[:, true] = mass
        assert np.all(np.sum(others * np.log(others / s), 1) >= least - 1e-6)


def test_scaling_shows_a_certain_and_right_segmenter_its_own_map():
    probabilities = np.array([[[[0.95, 0.03, 0.02]]]], np.float32)
    real, synthetic = scaling(probabilities, np.zeros((1, 1, 1), np.uint8))
    np.testing.assert_array_equal(real, synthetic)


def test_scaling_is_finite_and_constant_at_the_corners():
    """s_l = 0, 1, and all but 1: the denominator 1 - s_l never divides by zero."""
    corners = np.array([[0, 1, 0], [1, 0, 0], [1 - 1e-7, 1e-7, 0], [0, 0, 1]], np.float32)
    probabilities, label = corners.reshape(1, 4, 1, 3), np.zeros((1, 4, 1), np.uint8)
    (real, _), pull = jax.vjp(lambda s: scaling(s, label), probabilities)
    np.testing.assert_allclose(np.sum(real, -1), 1, atol=1e-6)
    np.testing.assert_allclose(np.ravel(real[..., 0]), [0.9, 1, 1, 0.9], atol=1e-6)
    (gradient,) = pull((jnp.ones_like(real), jnp.zeros_like(real)))
    assert np.all(gradient == 0)


def test_basic_rgb_shows_both_maps_beside_the_same_image(example):
    probabilities, label = example
    maps = basic_rgb(probabilities, label, COLOURS)
    for got, expected in zip(maps, basic(probabilities, label), strict=True):
        np.testing.assert_array_equal(got[..., :3], expected)
        np.testing.assert_array_equal(got[..., 3:], np.where(label[..., None] == VOID, 0, COLOURS))
