"""Class weights against what they must obey, and the counts that they are made of."""

import contextlib
import math

import numpy as np
import pytest
import small
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import small_config

from segadv_jax import VOID, class_balance
from segadv_jax.data import order
from segadv_jax.data.arrays import Arrays
from segadv_jax.errors import InputError
from segadv_jax.losses import Objective
from segadv_jax.preparation import check, prepare
from segadv_jax.workdir import Workdir

# Of Stanford Background, in tenths of a per cent.
SHARES = np.array([146, 141, 226, 69, 40, 227, 14, 137])


def split(sizes=small.SIZES):
    made = small.batch(sizes, small.CANVAS, void=0.3)
    cut = {
        kind: [made[kind][row, :h, :w] for row, (h, w) in enumerate(sizes)]
        for kind in ("image", "label")
    }
    return Arrays([str(row) for row in range(len(sizes))], cut["image"], cut["label"])


@pytest.mark.parametrize(("stride", "offset"), [(4, 1.5), (8, 0.0), (8, 3.5), (1, 0.0)])
def test_cells_are_counted_as_a_loop_counts_them(stride, offset):
    """Each true image's own, whose sides are odd; neither void nor what pads a batch."""
    examples, expected = split(), [0] * small.CLASSES
    for label in examples.labels:
        for row in np.floor(np.arange(0, label.shape[0], stride) + offset + 0.5).astype(int):
            for column in np.floor(np.arange(0, label.shape[1], stride) + offset + 0.5).astype(int):
                inside = row < label.shape[0] and column < label.shape[1]
                if inside and label[row, column] != VOID:
                    expected[label[row, column]] += 1
    assert min(expected) > 5
    counts = class_balance.count_cells(examples, stride, offset, small.CLASSES)
    assert counts.dtype == np.int64 and counts.tolist() == expected


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=21).filter(any),
    balance=st.floats(0, 1),
    largest=st.floats(1, 100),
)
def test_weights_obey_the_limit_and_their_mean_is_1(counts, balance, largest):
    """And are, but for the limit, one factor times f^-balance: that leaves one solution only."""
    weights = class_balance.weights(np.array(counts), balance, largest)
    assert len(weights) == len(counts) and all(type(weight) is float for weight in weights)
    frequency = np.array(counts) / sum(counts)
    assert math.fsum(frequency * weights) == pytest.approx(1, rel=1e-9)
    assert 0 < min(weights) and max(weights) <= largest
    present = frequency > 0
    factors = np.array(weights)[present] * frequency[present] ** balance
    free = np.array(weights)[present] < largest
    if free.any():
        assert factors[free] == pytest.approx(factors[free][0], rel=1e-9)
        assert np.all(factors[~free] <= factors[free][0] * (1 + 1e-9))


def test_all_classes_count_alike_or_as_they_are():
    frequency = SHARES / SHARES.sum()
    weights = class_balance.weights(SHARES, 1.0, 10.0)
    assert frequency * weights == pytest.approx(np.full(8, 1 / 8))
    half = class_balance.weights(SHARES, 0.5, 10.0)
    assert half[6] / half[2] == pytest.approx(np.sqrt(226 / 14))
    assert class_balance.weights(SHARES, 0.0, 10.0) == (1.0,) * 8
    assert class_balance.weights(SHARES, 1.0, 1.0) == pytest.approx((1.0,) * 8)


def test_what_the_limit_takes_from_one_class_lifts_others_to_it():
    """In shares of 2, 10 and 88 % with the limit 3: first the rarest exceeds it, then the next."""
    first = (1 - 3 * 0.02) / 2  # What each of the others has, if one is limited.
    assert 1 / (3 * 0.02) > 3 and 1 / (3 * 0.10) > 3 and first / 0.88 < 3
    weights = class_balance.weights(np.array([2, 10, 88]), 1.0, 3.0)
    assert weights == pytest.approx((3, 3, (1 - 3 * 0.12) / 0.88))
    # In shares of 2, 14 and 84 % only the rarest does at first.
    assert 1 / (3 * 0.14) < 3 < (1 - 3 * 0.02) / 2 / 0.14
    assert class_balance.weights(np.array([2, 14, 84]), 1.0, 3.0) == pytest.approx(
        (3, 3, (1 - 3 * 0.16) / 0.84)
    )


def test_a_class_that_does_not_occur_has_the_largest_weight_and_takes_none():
    weights = class_balance.weights(np.array([3, 0, 1]), 1.0, 5.0)
    assert weights == pytest.approx((2 / 3, 5, 2))
    with pytest.raises(InputError, match="the training images have no labels: set it to 0"):
        class_balance.weights(np.zeros(3, int), 1.0, 5.0)


def test_shares_for_a_shift_of_the_prior():
    """A class that does not occur has that of one cell: a share of 0 would forbid it for good."""
    counts = np.array([60, 0, 36, 4])
    shift = class_balance.prior_shift(counts, 1.0)
    assert np.exp(shift) == pytest.approx([0.6, 0.01, 0.36, 0.04])
    assert class_balance.prior_shift(counts, 0.0) == ()
    with pytest.raises(InputError, match="evaluate.prior_shift needs the classes' frequencies"):
        class_balance.prior_shift(np.zeros(3, int), 1.0)


def test_a_shift_in_favour_of_rare_classes_favours_none_that_was_never_seen():
    shift = class_balance.prior_shift(np.array([60, 0, 36, 4]), -0.5)
    assert np.exp(shift) == pytest.approx([0.6**-0.5, 0.6**-0.5, 0.36**-0.5, 5])


def test_a_shift_undoes_the_weights_of_a_balanced_training():
    """Probabilities as weights f^-balance teach them, times f^balance, are again the true ones."""
    counts, true = np.array([50, 30, 20]), np.array([0.2, 0.3, 0.5])
    taught = class_balance.weights(counts, 0.7, 10.0) * true
    shift = class_balance.prior_shift(counts, 0.7)
    restored = taught * np.exp(shift)
    assert restored / restored.sum() == pytest.approx(true)


@contextlib.contextmanager
def prepared(config, folder):
    with contextlib.ExitStack() as stack:
        check(config, Workdir(folder))
        run, state = prepare(config, Workdir(folder), stack)
        yield run, state


def test_a_run_is_balanced_by_the_images_that_it_uses(data_dir, synthetic, tmp_path, monkeypatch):
    """It says so, and has the same weights when it is resumed."""
    fields = {"loss.balance": 0.5, "loss.largest_weight": 1.5, "data.fraction": 0.4, "seed": 3}
    config = small_config(data_dir, "standard", **fields)
    images = synthetic.read("train[:22]")
    counts = {}
    for fraction in (0.4, 1.0):
        used = images.take(order.part(22, fraction, 3))
        counts[fraction] = class_balance.count_cells(used, 4, 1.5, 8)
    expected = class_balance.weights(counts[0.4], 0.5, 1.5)
    assert expected != class_balance.weights(counts[1.0], 0.5, 1.5) and max(expected) == 1.5
    said = []
    monkeypatch.setattr(logging, "info", lambda *line: said.append(line))
    with prepared(config, tmp_path) as (run, state):
        assert run.experiment.setup.objective == Objective(class_weights=expected)
        run.checkpoints.save(state, 1)
    (line,) = [line[0] % line[1:] for line in said if "class weights" in line[0]]
    for name, weight in zip(synthetic.class_names, expected, strict=True):
        assert f"{name} {weight:.2f}" in line
    with prepared(config, tmp_path) as (run, _):
        assert run.start == 1 and run.experiment.setup.objective.class_weights == expected


def test_without_balance_nothing_is_counted(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(class_balance, "count_cells", lambda *_: pytest.fail("counts"))
    with prepared(small_config(data_dir, "standard"), tmp_path) as (run, _):
        assert run.experiment.setup.objective == Objective()
