"""Measures of boundaries against public programs, on maps without void."""

import functools

import jax
import numpy as np
import pytest
from test_boundary import regions

from segadv_jax.metrics import boundary_iou
from segadv_jax.metrics.boundary import Tolerance, boundary_f

CLASSES = 5
# 2 % of their diagonals are 3.2, 3.7, 1.6 and 1.01 pixels. Programs round halves differently.
SIZES = ((96, 128), (111, 148), (64, 48), (31, 40))


def pair(size, seed):
    """(prediction, label), u8[H,W]: smooth regions, about half of them alike."""
    random = np.random.RandomState(seed)
    label, other = (regions(random, size, CLASSES, 4) for _ in range(2))
    return np.where(regions(random, size, 2, 8) == 0, label, other), label


@pytest.mark.parametrize("size", SIZES)
def test_boundary_iou_is_that_of_faster_coco_eval(size):
    """Of the masks of all classes, as its authors' program for COCO has it, in C++."""
    public = pytest.importorskip("faster_coco_eval.core.mask")
    counts = np.zeros((2, CLASSES), int)
    count = functools.partial(boundary_iou.intersections_and_unions, num_classes=CLASSES)
    for seed in range(3):
        maps = pair(size, seed)
        for c in range(CLASSES):
            near = []
            for each in maps:
                mask = public.encode(np.asfortranarray(each == c, np.uint8))
                near.append(public.decode(public.rleToBoundary(mask, 0.02)) > 0)
            counts[:, c] += np.sum(near[0] & near[1]), np.sum(near[0] | near[1])
    made = [pair(size, seed) for seed in range(3)]
    prediction, label = (np.stack(part) for part in zip(*made, strict=True))
    got = jax.jit(count)(prediction.astype(np.int32), label, np.tile(np.int32(size), (3, 1)))
    assert counts.min() > 0
    np.testing.assert_array_equal(got["boundary_intersection"], counts[0])
    np.testing.assert_array_equal(got["boundary_union"], counts[1])


@pytest.mark.parametrize("pixels", [3, 5])
def test_bf_is_that_of_the_surface_distances_of_monai(pixels):
    pytest.importorskip("torch")
    public = pytest.importorskip("monai.metrics.utils")
    for number, size in enumerate(SIZES):
        prediction, label = pair(size, number)
        tolerance = Tolerance.of(np.array([size]), pixels)
        measure = functools.partial(boundary_f, num_classes=CLASSES, tolerance=tolerance)
        got = jax.jit(measure)(prediction[None].astype(np.int32), label[None], np.int32([size]))
        for c in range(CLASSES):
            edges = public.get_mask_edges(prediction == c, label == c)[:2]
            precision = np.mean(np.asarray(public.get_surface_distance(*edges)) < pixels)
            recall = np.mean(np.asarray(public.get_surface_distance(*edges[::-1])) < pixels)
            expected = 2 * precision * recall / (precision + recall)
            assert 0 < expected < 1 and got[0, c] == pytest.approx(expected, rel=1e-5)
