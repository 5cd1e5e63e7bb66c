"""Boundary IoU against erosions by SciPy, one mask at a time."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage
from test_boundary import random_pair

from segadv_jax import VOID
from segadv_jax.metrics import boundary_iou

CLASSES = 6


@functools.cache
def jitted(classes):
    counts = boundary_iou.intersections_and_unions
    return jax.jit(functools.partial(counts, num_classes=classes))


def near_contour(mask, void):
    """The pixels of a mask that d erosions by 3x3 take away; void takes none away."""
    distance = max(1, int(round(0.02 * np.hypot(*mask.shape))))
    return mask & ~ndimage.binary_erosion(mask | void, np.ones((3, 3)), distance)


def reference(pairs, classes):
    """(intersection, union) by class, over pairs (prediction, label) of true size."""
    counts = np.zeros((2, classes), int)
    for prediction, label in pairs:
        void = label == VOID
        for c in range(classes):
            true, predicted = (near_contour((m == c) & ~void, void) for m in (label, prediction))
            counts[:, c] += np.sum(true & predicted), np.sum(true | predicted)
    return counts


def test_random_maps():
    """With void, missing classes and other images' garbage beyond an image; on two canvases."""
    for canvas in ((90, 61), (128, 120)):
        pairs = [random_pair(seed, CLASSES, canvas) for seed in range(24)]
        prediction, label, sizes = (np.stack(part) for part in zip(*pairs, strict=True))
        got = jitted(CLASSES)(prediction, label, sizes.astype(np.int32))
        cut = [(p[:h, :w], x[:h, :w]) for p, x, (h, w) in pairs]
        expected = reference(cut, CLASSES)
        distances = {max(1, round(0.02 * np.hypot(*size))) for size in sizes}
        assert len(distances) > 1 and np.all(expected[1] > expected[0]) and expected.min() > 20
        np.testing.assert_array_equal(got["boundary_intersection"], expected[0])
        np.testing.assert_array_equal(got["boundary_union"], expected[1])


def test_the_distance_is_rounded_as_the_authors_program_rounds_it():
    """Halves to even numbers, and never to 0: pixels at the border of an image of one class."""
    for (height, width), distance in {(60, 45): 2, (75, 100): 2, (105, 140): 4, (9, 12): 1}.items():
        size, label = np.array([(height, width)], np.int32), np.zeros((1, 105, 140), np.uint8)
        inner = (height - 2 * distance) * (width - 2 * distance)
        counts = jitted(1)(label.astype(np.int32), label, size)
        assert counts["boundary_union"].tolist() == [height * width - inner]


def test_void_between_two_classes_is_no_contour_but_the_other_class_behind_it_is():
    label = np.zeros((1, 60, 80), np.uint8)  # d is 2.
    label[0, :, 40:43] = VOID
    size = np.array([(60, 80)], np.int32)
    same = np.zeros((1, 60, 80), np.int32)
    border = 60 * 77 - 56 * (38 + 35)  # Of the two parts, but for the sides at void.
    counts = jitted(2)(same, label, size)
    assert counts["boundary_union"].tolist() == [border, 0]
    label[0, :, 43:] = 1
    further = jitted(2)(np.where(label == 1, 1, 0), label, size)
    assert sum(further["boundary_union"].tolist()) == border
    label[0, :, 41:43] = 1  # One column of void: the classes are 2 columns apart.
    nearer = jitted(2)(np.where(label == 1, 1, 0), label, size)
    assert sum(nearer["boundary_union"].tolist()) == 60 * 79 - 56 * (37 + 36)


def test_measures_leave_out_classes_without_a_contour():
    totals = {"boundary_intersection": np.array([1, 0, 3]), "boundary_union": np.array([2, 0, 4])}
    got = boundary_iou.measures(totals)
    assert got["mean_boundary_iou"] == pytest.approx(0.625)
    np.testing.assert_array_equal(got["boundary_iou"], [0.5, np.nan, 0.75])
    nothing = boundary_iou.measures(boundary_iou.zeros(2))
    assert np.isnan(nothing["mean_boundary_iou"])
