"""The order of the training rows is the stated function of seed, epoch, stream and start."""

import itertools

import numpy as np
import pytest

from segadv_jax.data import order
from segadv_jax.errors import InputError


def first(count, *args, **kwargs):
    return np.stack(list(itertools.islice(order.train_rows(*args, **kwargs), count)))


def test_permutation_is_the_frozen_stream_of_randomstate():
    expected = np.random.RandomState([3, 1, 4]).permutation(7)
    np.testing.assert_array_equal(order.permutation(7, 3, 1, 4), expected)
    # Literal, so that a change of the rule cannot change the test with it.
    assert order.permutation(7, 3, 1, 4).tolist() == [3, 0, 2, 6, 5, 1, 4]
    assert order.permutation(7, 3, 1, 4).dtype == np.int64


@pytest.mark.parametrize("other", [(4, 1, 4), (3, 2, 4), (3, 1, 5)])
def test_seed_epoch_and_stream_each_change_the_order(other):
    assert order.permutation(50, 3, 1, 4).tolist() != order.permutation(50, *other).tolist()


@pytest.mark.parametrize("n, batch_size", [(12, 4), (13, 4), (15, 4), (4, 4), (5, 1)])
def test_batches_follow_the_rule(n, batch_size):
    per_epoch = n // batch_size
    rows = first(3 * per_epoch, n, batch_size, 5, 2, 0)
    for i, row in enumerate(rows):
        epoch, b = divmod(i, per_epoch)
        expected = order.permutation(n, 5, epoch, 2)[b * batch_size : (b + 1) * batch_size]
        np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 7, 1000])
def test_starting_at_batch_k_continues_the_sequence(start):
    whole = first(start + 5, 13, 4, 9, 0, 0)
    np.testing.assert_array_equal(first(5, 13, 4, 9, 0, start), whole[start:])


def test_an_epoch_repeats_no_row():
    rows = first(3, 13, 4, 0, 0, 0).ravel()
    assert len(set(rows.tolist())) == 12


@pytest.mark.parametrize("batch_size", [0, -1, 6])
def test_an_impossible_batch_size_is_refused_at_the_call(batch_size):
    with pytest.raises(InputError, match=f"config.train.batch_size is {batch_size}.*has 5 images"):
        order.train_rows(5, batch_size, 0, 0, 0)


def test_a_part_is_random_sorted_and_contains_the_smaller_ones():
    parts = [order.part(501, fraction, seed=3) for fraction in (1.0, 1 / 2, 1 / 4, 1 / 8)]
    assert [len(rows) for rows in parts] == [501, 250, 125, 63]
    np.testing.assert_array_equal(parts[0], np.arange(501))
    for larger, smaller in itertools.pairwise(parts):
        assert set(smaller.tolist()) < set(larger.tolist())
        assert np.all(np.diff(smaller) > 0)
    assert order.part(501, 1 / 8, seed=4).tolist() != parts[3].tolist()
    assert len(order.part(5, 0.01, seed=0)) == 1
