"""Calibration and likelihood against plain NumPy in double precision."""

import jax
import numpy as np
import pytest

from segadv_jax import VOID
from segadv_jax.metrics import calibration

CLASSES = 4


def maps(seed, shape=(3, 17, 29), sharpness=0.4):
    """(probabilities f32[n,H,W,C], label u8[n,H,W]): right a little more often than by chance."""
    random = np.random.RandomState(seed)
    probabilities = random.dirichlet(np.full(CLASSES, sharpness), shape) + 1e-12
    probabilities = probabilities.astype(np.float32)
    label = random.randint(0, CLASSES, shape).astype(np.uint8)
    right = random.uniform(size=shape) < 0.5
    label[right] = probabilities.argmax(-1)[right]
    label[random.uniform(size=shape) < 0.2] = VOID
    return probabilities, label


def reference(probabilities, label):
    """(nll, ece) by a loop over the bins, as Guo et al. write them."""
    known = label != VOID
    p, true = probabilities[known].astype(np.float64), label[known]
    confidence, right = p.max(-1), p.argmax(-1) == true
    ece = 0.0
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            ece += inside.mean() * gap
    return -np.log(p[np.arange(len(true)), true]).mean(), ece


def measured(*batches):
    totals = calibration.zeros()
    for probabilities, label in batches:
        sums = jax.jit(calibration.pixel_sums)(probabilities, label)
        totals = {name: totals[name] + value for name, value in sums.items()}
    pixels = sum(int(np.sum(label != VOID)) for _, label in batches)
    return calibration.measures(totals, pixels)


def test_of_random_maps():
    """Also where batches differ in what they hold: the bins are those of all pixels."""
    batches = [maps(0), maps(1, sharpness=0.1), maps(2, sharpness=3)]
    whole = [np.concatenate(part) for part in zip(*batches, strict=True)]
    expected = reference(*whole)
    assert expected[1] > 0.05
    got = measured(*batches)
    assert (got["nll"], got["ece"]) == pytest.approx(expected, rel=1e-5)
    # The error of the parts is another: gaps of either sign cancel within a bin.
    parts = np.mean([measured(batch)["ece"] for batch in batches])
    assert abs(parts - got["ece"]) > 1e-3


def test_each_of_the_fifteen_bins_stands_by_itself():
    """Where neighbours err to either side: joined, their gaps would cancel."""
    confidence, classes = (np.arange(15) + 0.5) / 15, 40
    rest = (1 - confidence) / (classes - 1)
    probabilities = np.repeat(rest[:, None], classes, 1)
    probabilities[:, 0] = confidence
    probabilities = probabilities.astype(np.float32)[None, None]
    label = (np.arange(15) % 2).astype(np.uint8)[None, None]  # Right in every second bin.
    expected = np.abs((label == 0) - confidence).mean()
    assert reference(probabilities, label)[1] == pytest.approx(expected)
    assert measured((probabilities, label))["ece"] == pytest.approx(expected, rel=1e-5)


def test_void_counts_nowhere():
    probabilities, label = maps(3)
    other = np.where((label == VOID)[..., None], np.eye(CLASSES)[1], probabilities)
    assert measured((other.astype(np.float32), label)) == measured((probabilities, label))
    nothing = calibration.measures(calibration.zeros(), 0)
    assert np.isnan(nothing["nll"]) and np.isnan(nothing["ece"])


def test_certain_predictions():
    """Of two certain classes each is right at half of the pixels, and the loss stays finite."""
    label = np.zeros((1, 2, 10), np.uint8)
    label[0, 1] = 1
    probabilities = np.zeros((1, 2, 10, 3), np.float32)
    probabilities[..., 0] = 1
    got = measured((probabilities, label))
    assert got["ece"] == pytest.approx(0.5)
    assert got["nll"] == pytest.approx(-np.log(1e-37) / 2, rel=1e-5)
    perfect = measured((probabilities, np.zeros_like(label)))
    assert perfect == {"nll": 0, "ece": 0}


def test_many_equal_pixels_lose_no_precision():
    """Of a million pixels a sum in float32 could lose per cents, adding one by one."""
    probabilities = np.broadcast_to(np.float32([0.7, 0.3]), (4, 500, 500, 2))
    label = np.zeros((4, 500, 500), np.uint8)
    label[:, ::5] = 1
    got = measured((probabilities, label))
    assert got["ece"] == pytest.approx(0.1, rel=1e-4)
    assert got["nll"] == pytest.approx(-(0.8 * np.log(0.7) + 0.2 * np.log(0.3)), rel=1e-4)
