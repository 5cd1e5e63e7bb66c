"""Connected regions against SciPy's."""

import jax
import numpy as np
import pytest
from scipy import ndimage
from test_boundary import random_pair

from segadv_jax import VOID
from segadv_jax.metrics import regions

count = jax.jit(regions.count_regions)
image_sums = jax.jit(regions.image_sums)


def reference(classes):
    """(regions, specks) of one map i32[H,W]; negative values belong to none."""
    number = specks = 0
    for c in np.unique(classes[classes >= 0]):
        labelled, found = ndimage.label(classes == c)
        number += found
        specks += np.sum(np.bincount(labelled.ravel())[1:] < 50)
    return number, specks


def assert_counted(maps):
    expected = np.transpose([reference(each) for each in maps])
    np.testing.assert_array_equal(np.stack(count(maps)), expected)
    return expected


def test_random_maps():
    """Smooth ones, whose predictions and labels are cut by void alike; and their means."""
    pairs = [random_pair(seed, 5, (60, 75)) for seed in range(20)]
    prediction, label, _ = (np.stack(part) for part in zip(*pairs, strict=True))
    label[3] = VOID  # As in a row that pads a batch.
    known = label != VOID
    predicted, true = (
        assert_counted(np.where(known, each.astype(np.int32), -1)) for each in (prediction, label)
    )
    assert not np.array_equal(predicted, true) and predicted[0, 3] == 0
    got = regions.measures(image_sums(prediction, label))
    images = np.sum(known.any((1, 2)))
    assert images < 20
    expected = {"regions": predicted[0], "specks": predicted[1]}
    expected |= {"regions_true": true[0], "specks_true": true[1]}
    for name, numbers in expected.items():
        assert got[name] == pytest.approx(numbers.sum() / images)


def test_hard_maps():
    """Noise, one winding region, a spiral, a checkerboard, and one class all over."""
    side = 40
    noise = np.random.RandomState(0).randint(-1, 2, (side, side))
    snake = np.ones((side, side), int)
    snake[1::2] = 0
    snake[1::4, -1] = snake[3::4, 0] = 1
    spiral = np.zeros((side, side), int)
    row, column, step = 0, 0, (0, 1)
    for length in sorted([*range(1, side, 2)] * 2, reverse=True):
        for _ in range(length):
            spiral[row, column] = 1
            row, column = row + step[0], column + step[1]
        step = step[1], -step[0]
    checkers = np.indices((side, side)).sum(0) % 2
    maps = np.stack([noise, snake, spiral, checkers, np.zeros((side, side), int)])
    expected = assert_counted(maps.astype(np.int32))
    assert expected[0, 3] == side**2 and expected[0, 4] == 1


def test_a_speck_has_fewer_than_50_pixels():
    maps = np.zeros((1, 30, 30), np.int32)
    maps[0, 2:9, 2:9] = 1  # 49 pixels,
    maps[0, 12:17, 12:22] = 1  # and 50.
    assert [int(each[0]) for each in count(maps)] == [3, 1]


def test_without_images_there_is_no_mean():
    assert all(np.isnan(value) for value in regions.measures(regions.zeros()).values())
