"""Images of 10,000 x 10,000 pixels and larger: no count overflows or loses anything."""

import itertools
import math
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segadv_jax import VOID, class_balance, evaluate, losses
from segadv_jax.data import arrays, statistics
from segadv_jax.errors import InputError
from segadv_jax.eval_step import Boundaries, eval_step, zero_totals
from segadv_jax.metrics import boundary_iou, calibration, regions
from segadv_jax.metrics.confusion import confusion_matrix
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.layers import zero_outside

SIDE = 10_000
ALL = SIDE**2
SIZES = np.array([[SIDE, SIDE]], np.int32)


class Patches(SegmenterModule):
    """Logits of each 4x4 patch."""

    num_classes: int
    stride = 4

    @nn.compact
    def __call__(self, image, size, keys=None):
        return nn.Conv(self.num_classes, (4, 4), (4, 4))(zero_outside(image / 255, size))


@pytest.fixture(scope="module")
def large():
    """A label map of four strips, of which three are of one class and one is void."""
    label = np.zeros((1, SIDE, SIDE), np.uint8)
    label[:, 3 * SIDE // 4 :] = VOID
    return label


def test_counts_of_a_large_map_are_exact(large):
    """Above 2^24, where float32 ends to count."""
    predicted = np.zeros_like(large)
    predicted[0, 0, 0] = 1
    assert ALL > 2**24
    counts = jax.jit(confusion_matrix, static_argnums=2)(predicted, large, 2)
    assert counts.tolist() == [[3 * ALL // 4 - 1, 1], [0, 0]]


def test_the_cells_of_an_evaluation_are_counted_exactly():
    zeros = zero_totals(3, boundaries=True)
    counts = ("confusion", "cells", "boundary_intersection", "boundary_union")
    assert all(zeros[name].dtype == np.int32 for name in counts)


def test_an_evaluation_of_a_large_image_by_shape(large):
    """All of it, boundaries and regions too: of no shape or type that could not hold it."""
    segmenter = Patches(21)
    batch = {
        "image": jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.uint8),
        "label": jax.ShapeDtypeStruct(large.shape, np.uint8),
        "size": jax.ShapeDtypeStruct((1, 2), np.int32),
        "mask": jax.ShapeDtypeStruct((1,), np.float32),
    }
    small = np.zeros((1, 16, 16, 3), np.float32), np.full((1, 2), 16)
    params = jax.eval_shape(segmenter.init, jax.random.key(0), *small)["params"]
    zeros = zero_totals(21, boundaries=True)

    def step(params, totals, batch):
        bounds = Boundaries.of(SIZES)
        return eval_step(params, totals, batch, segmenter=segmenter, boundaries=bounds)

    found = jax.eval_shape(step, params, zeros, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
        lambda x: (x.shape, x.dtype), zeros
    )


def test_sums_over_a_large_image_are_those_of_its_strips():
    """Of each a hundredth is computed; all hundred would be a hundred times as much."""
    strip = SIDE // 100
    probabilities = np.tile(np.float32([0.9, 0.1]), (1, strip, SIDE, 1))
    label = np.zeros((1, strip, SIDE), np.uint8)
    label[..., ::4] = 1
    sums = jax.jit(calibration.pixel_sums)(probabilities, label)
    once = {"nll": -(3 * math.log(0.9) + math.log(0.1)) / 4, "gap": (3 * 0.1 - 0.9) / 4}
    assert float(sums["nll"]) / label.size == pytest.approx(once["nll"], rel=1e-5)
    gaps = np.asarray(sums["calibration_gaps"], np.float64)
    assert gaps.sum() / label.size == pytest.approx(once["gap"], rel=1e-4)
    logits = jnp.log(probabilities)
    mce, cells = jax.jit(losses.mce)(logits, label)
    assert float(mce) / label.size == pytest.approx(once["nll"], rel=1e-5)
    assert float(cells) == label.size


def test_pixels_and_cells_of_many_large_images_are_counted_in_64_bits():
    label = np.zeros((64, 80), np.uint8)
    image = np.zeros((64, 80, 3), np.uint8)
    split = arrays.Arrays(["a"], [image], [label])
    assert statistics.gather(split).pixels.dtype == np.int64
    counts = class_balance.count_cells(split, 4, 1.5, 2)
    assert counts.dtype == np.int64
    assert class_balance.weights(np.array([2**40, 2**40]), 1.0, 10.0) == pytest.approx((1, 1))


def test_boundary_iou_reaches_as_far_as_the_exact_diagonal_says():
    """Half a pixel is rounded to the even side, as in the authors' program."""
    random = np.random.RandomState(0)
    sizes = [*random.randint(1, 46_000, (300, 2)).tolist(), [SIDE, SIDE], [46_340, 46_340]]
    # 3, 4, 5 times 25 and an odd number: the diagonal is a whole number and a half times 50.
    sizes += [[15 * k, 20 * k] for k in range(1, 2001, 2)]
    reach = np.asarray(boundary_iou._reach(np.array(sizes, np.int32), (46_340, 46_340)))
    for (height, width), found in zip(sizes, reach, strict=True):
        squared = height**2 + width**2
        low = math.isqrt(squared) // 50
        half = Fraction(2 * low + 1, 2) * 50
        above = squared > half**2 or (squared == half**2 and low % 2 == 1)
        assert found == max(low + above, 1), (height, width)


def test_as_many_images_at_once_as_can_be_counted(monkeypatch):
    """Fewer than were asked for, if these have too many pixels together."""
    images = [np.zeros((16, 16, 3), np.uint8)] * 9
    split = arrays.Arrays([f"{i}" for i in range(9)], images, [x[..., 0] for x in images])
    devices, shapes = jax.device_count(), []

    def count(params, totals, batch):
        shapes.append(np.shape(batch["label"]))
        return {"n": totals["n"] + np.asarray(batch["mask"]).sum() / devices}

    def accumulate(limit):
        monkeypatch.setattr(evaluate, "COUNTER_LIMIT", limit)
        shapes.clear()
        found = evaluate.accumulate(count, {}, split, {"n": np.zeros((), np.float32)}, 64)
        return float(np.ravel(found["n"])[0]), {math.prod(shape[:2]) for shape in shapes}

    assert accumulate(2**31 - 1)[1] == {64}
    pixels = 256 * devices
    assert accumulate(2 * pixels + 5)[1] == {2 * devices}
    with pytest.raises(InputError, match="16x16 pixels .* are too large to be evaluated on"):
        accumulate(pixels - 1)


def test_places_of_regions_fit_32_bits_wherever_bf_does():
    """Both are measured together, and BF refuses diagonals of 65,536 pixels."""
    for height, width in itertools.product((46_340, 46_341), repeat=2):
        sizes = np.array([[height, width]])
        try:
            Boundaries.of(sizes)
        except InputError:
            continue
        assert height * width < 2**31
        shape = jax.ShapeDtypeStruct((1, height, width), np.int32)
        found = jax.eval_shape(regions.count_regions, shape)
        assert all(each.dtype == np.int32 for each in found)
