"""What the adversary is shown (Section 3.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax import VOID
from segadv_jax.encodings import ENCODINGS, basic, one_hot, zero_void


@pytest.fixture(scope="module")
def example():
    """(probabilities f32[2,5,4,3], label u8[2,5,4]) with void."""
    random = np.random.RandomState(0)
    label = random.choice(np.array([0, 1, 2, VOID], np.uint8), (2, 5, 4))
    return random.dirichlet(np.ones(3), (2, 5, 4)).astype(np.float32), label


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
    for encoded in ENCODINGS[name](probabilities, label):
        assert np.all(np.asarray(encoded)[void] == 0)
        assert np.all(np.any(np.asarray(encoded)[~void] != 0, -1))


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_no_gradient_comes_back_from_void(example, name):
    """Nor from the ground truth; whatever the adversary's gradient is, infinite even."""
    probabilities, label = example
    (real, synthetic), pull = jax.vjp(lambda s: ENCODINGS[name](s, label), probabilities)
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
