"""The BF measure against a plain one with SciPy's exact distance transform."""

import functools
import math

import jax
import numpy as np
import pytest
from scipy import ndimage

from segadv_jax import VOID
from segadv_jax.benchmark.boundaries import with_scipy
from segadv_jax.errors import InputError
from segadv_jax.metrics.boundary import (
    BORDERS,
    Tolerance,
    boundary_f,
    boundary_fs,
    image_sums,
    measures,
)


def regions(random, shape, classes, scale):
    """Label map u8[H,W] of smooth regions."""
    noise = random.normal(size=(classes, *shape))
    return ndimage.gaussian_filter(noise, (0, scale, scale)).argmax(0).astype(np.uint8)


@functools.cache
def jitted(**fields):
    return jax.jit(functools.partial(boundary_f, **fields))


def random_pair(seed, classes, canvas):
    """(prediction i32[H,W], label u8[H,W], size) on a canvas full of garbage: some void, some
    classes missing in either."""
    random = np.random.RandomState(seed)
    shape = tuple(random.randint(side // 3, side + 1) for side in canvas)
    label = regions(random, shape, random.randint(1, classes + 1), random.uniform(0.5, 8))
    moved = ndimage.shift(label, random.randint(-6, 7, 2), order=0, mode="nearest")
    other = regions(random, shape, classes, 4)
    prediction = np.where(regions(random, shape, 4, 9) == 0, other, moved)
    edge = label != ndimage.shift(label, (1, 1), order=0, mode="nearest")
    label[ndimage.binary_dilation(edge, iterations=1 + seed % 2) & (seed % 3 > 0)] = VOID
    if seed % 5 == 0:
        label[: shape[0] // 3] = VOID
    on_canvas = random.randint(0, classes, canvas).astype(np.int32), np.full(canvas, VOID, np.uint8)
    for array, part in zip(on_canvas, (prediction, label), strict=True):
        array[: shape[0], : shape[1]] = part
    return *on_canvas, shape


def compare(pairs, classes, border="outside", pixels=5):
    """Checks pairs (prediction, label, size) on one canvas, together, against the reference."""
    prediction, label, sizes = (np.stack(part) for part in zip(*pairs, strict=True))
    sizes = sizes.astype(np.int32)
    tolerance = Tolerance.of(sizes, pixels)
    measure = jitted(num_classes=classes, tolerance=tolerance, border=border)
    got = np.asarray(measure(prediction, label, sizes))
    assert got.shape == (len(pairs), classes)
    for row, (high, wide) in enumerate(sizes):
        theta = pixels * math.sqrt((int(high) ** 2 + int(wide) ** 2) / tolerance.smallest)
        part = slice(high), slice(wide)
        expected = with_scipy(prediction[row][part], label[row][part], classes, theta, border)
        np.testing.assert_allclose(got[row], expected, atol=1e-6, err_msg=f"pair {row}")
    return got


@pytest.mark.parametrize("border", ["outside", "ignore"])
def test_random_pairs(border):
    pairs = [random_pair(seed, 7, (70, 61)) for seed in range(100)]
    got = compare(pairs, 7, border)
    values = got[~np.isnan(got)]
    assert (
        np.isnan(got).any() and np.any(values == 0) and np.mean((values > 0) & (values < 1)) > 0.5
    )


def test_a_stricter_tolerance():
    pairs = [random_pair(seed, 7, (70, 61)) for seed in range(20)]
    strict, usual = compare(pairs, 7, pixels=3), compare(pairs, 7)
    assert np.nanmean(strict) < np.nanmean(usual) - 0.02
    tolerance = Tolerance.of(np.array([(30, 40), (60, 80)]), 3)
    assert tolerance == Tolerance(smallest=50**2, radius=5, pixels=3) and tolerance.theta == 0.06


def test_more_classes_than_a_word_has_bits():
    compare([random_pair(seed, 70, (60, 64)) for seed in range(5)], 70)


def test_tolerances_and_borders_together():
    """What each finds by itself, where one border's classes begin in the other's last word."""
    pairs, pixels = [random_pair(seed, 21, (64, 70)) for seed in range(10)], (5, 3)
    prediction, label, sizes = (np.stack(part) for part in zip(*pairs, strict=True))
    tolerances = tuple(Tolerance.of(sizes, each) for each in pixels)
    measure = functools.partial(boundary_fs, num_classes=21, tolerances=tolerances)
    together = jax.jit(measure)(prediction, label, sizes.astype(np.int32))
    for each, borders in zip(pixels, together, strict=True):
        for border, got in zip(BORDERS, borders, strict=True):
            np.testing.assert_array_equal(got, compare(pairs, 21, border, each))


def test_images_smaller_than_theta():
    """Down to a single pixel; the canvas and what lies on it beside the image do not matter."""
    random = np.random.RandomState(0)
    sizes = np.array([(1, 1), (2, 3), (7, 4), (3, 9), (40, 30)], np.int32)
    tolerance = Tolerance(25, 50)
    label = np.stack([regions(random, (40, 30), 3, 1.5) for _ in sizes])
    prediction = random.randint(0, 3, label.shape).astype(np.int32)
    measure = jitted(num_classes=3, tolerance=tolerance)
    got = np.asarray(measure(prediction, label, sizes))
    for row, (height, width) in enumerate(sizes):
        maps = prediction[row, :height, :width], label[row, :height, :width]
        expected = with_scipy(*maps, 3, tolerance.theta * math.hypot(height, width))
        np.testing.assert_allclose(got[row], expected, atol=1e-6)
    beside = (0, 0), (0, 9), (0, 17)
    larger = (np.pad(each, beside, constant_values=1) for each in (prediction, label))
    np.testing.assert_array_equal(measure(*larger, sizes), got)


def test_long_images():
    """Beyond diagonals whose square times 25 has 31 bits; beyond 32 bits they are refused."""
    size = np.array([(1, 20_000)], np.int32)
    tolerance = Tolerance.of(size)
    assert tolerance == Tolerance(20_000**2 + 1, 4)
    measure = jitted(num_classes=2, tolerance=tolerance, border="ignore")
    for shift, expected in ((4, 1), (5, 0)):
        line = np.zeros((2, 1, 1, 20_000), np.uint8)
        line[0, ..., 19_000], line[1, ..., 19_000 + shift] = 1, 1
        assert measure(line[0].astype(np.int32), line[1], size)[0, 1] == expected
    with pytest.raises(InputError, match=r"^an image of 40000x60000 pixels .* set evaluate\.bf"):
        Tolerance.of(np.array([(40, 60), (40_000, 60_000)]))


def test_the_same_map_has_a_measure_of_one_and_a_far_one_of_zero():
    label = np.zeros((1, 40, 50), np.uint8)
    label[0, 10:20, 10:20] = 1
    size = np.array([(40, 50)], np.int32)
    fields = {"num_classes": 3, "tolerance": Tolerance.of(size)}
    for border in ("outside", "ignore"):
        got = jitted(border=border, **fields)(label.astype(np.int32), label, size)[0]
        np.testing.assert_allclose(got, [1, 1, np.nan])
    # Exactly 5 pixels off is not nearer than theta, which is 5 in the smallest image.
    for shift, expected in ((4, 1), (5, 0)):
        line = np.zeros((2, 1, 40, 50), np.uint8)
        line[0, 0, 20], line[1, 0, 20 + shift] = 1, 1
        got = jitted(border="ignore", **fields)(line[0].astype(np.int32), line[1], size)[0]
        assert got[1] == expected


def test_tolerance_is_a_part_of_the_diagonal_and_exact():
    """5 pixels in the smallest image, 10 in one of twice the diagonal."""
    sizes = np.array([(30, 40), (60, 80)], np.int32)
    tolerance = Tolerance.of(sizes)
    assert tolerance == Tolerance(smallest=50**2, radius=9) and tolerance.theta == 0.1
    for shift, expected in ((9, 1), (10, 0)):
        line = np.zeros((2, 1, 60, 80), np.uint8)
        line[0, 0, :, 20], line[1, 0, :, 20 + shift] = 1, 1
        measure = jitted(num_classes=2, tolerance=tolerance, border="ignore")
        got = measure(line[0].astype(np.int32), line[1], sizes[1:])[0]
        assert got[1] == expected


def test_points_beside_void_do_not_count():
    """A square whose border is void has no boundary, in either map."""
    label = np.zeros((1, 40, 40), np.uint8)
    label[0, 10:30, 10:30] = VOID
    label[0, 12:28, 12:28] = 1
    prediction = np.zeros((1, 40, 40), np.int32)
    prediction[0, 12:28, 12:20] = 1
    size = np.array([(40, 40)], np.int32)
    measure = jitted(num_classes=2, tolerance=Tolerance.of(size), border="ignore")
    got = measure(prediction, label, size)[0]
    assert np.all(np.isnan(got))


def test_real_label_maps(voc_archive):
    """100 pairs: each map against itself moved, and with regions of another map."""
    from test_voc_configs import voc_images

    labels = [label[:240, :240] for label in voc_images(voc_archive, 51).labels]
    random = np.random.RandomState(0)
    pairs = []
    for label, other in zip(labels, labels[1:], strict=False):
        shape = tuple(min(a, b) for a, b in zip(label.shape, other.shape, strict=True))
        label, other = label[: shape[0], : shape[1]], other[: shape[0], : shape[1]]
        for move in (True, False):
            prediction = ndimage.shift(label, random.randint(-5, 6, 2), order=0, mode="nearest")
            if not move:
                prediction = np.where(regions(random, shape, 3, 20) == 0, other, prediction)
            prediction = np.where(prediction == VOID, 0, prediction)
            canvas = np.zeros((240, 240), np.int32), np.full((240, 240), VOID, np.uint8)
            for array, part in zip(canvas, (prediction, label), strict=True):
                array[: shape[0], : shape[1]] = part
            pairs.append((*canvas, shape))
    assert len(pairs) == 100
    compare(pairs, 21)


@pytest.mark.parametrize("first", [0, 1])
def test_measures_are_means_over_images_and_over_the_images_of_a_class(first):
    """An image without any class counts nowhere; with `first` 1 the background neither."""
    f = np.array([[0.5, np.nan, 1.0], [0.25, 0.75, np.nan], [np.nan] * 3, [0.5, np.nan, np.nan]])
    f = f.astype(np.float32)
    totals = {f"bf_outside_{k}": v for k, v in image_sums(f, first).items()}
    got = measures(totals)
    known = f[:3, first:] if first else f
    means = [np.nanmean(row) for row in known if not np.all(np.isnan(row))]
    assert got["mean_bf"] == pytest.approx(np.mean(means), abs=1e-6)
    assert got["std_bf"] == pytest.approx(np.std(means), abs=1e-6)
    np.testing.assert_allclose(got["bf"], np.nanmean(f, 0), atol=1e-6)


def test_sixteen_classes_cost_what_one_class_costs():
    def traffic(classes):
        shapes = [jax.ShapeDtypeStruct((1, 64, 48), dtype) for dtype in ("int32", "uint8")]
        size = jax.ShapeDtypeStruct((1, 2), "int32")
        measure = jitted(num_classes=classes, tolerance=Tolerance(3200, 9))
        return measure.lower(*shapes, size).cost_analysis()["bytes accessed"]

    assert traffic(16) < 1.01 * traffic(1)
