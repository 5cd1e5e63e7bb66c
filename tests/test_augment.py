"""Random flip, rotation, scale and crop: what is drawn and where it is taken from."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
import small

from segadv_jax import VOID
from segadv_jax.augment import Augmentation, augment, is_flipped

STILL = {"flip": False, "rotation": 0.0, "scale": (1.0, 1.0)}
HEIGHT, WIDTH = 61, 84
SIZE = np.array([HEIGHT, WIDTH], np.int32)
DRAWS = 400


@functools.cache
def compiled(margin=0, **fields):
    augmentation = Augmentation(**fields)

    def draw(seeds, image, label, size):
        def one(seed):
            return augment(jax.random.key(seed), image, label, size, augmentation, margin)

        return jax.vmap(one)(seeds)

    return jax.jit(draw)


def draws(image, label, size, count=DRAWS, **settings):
    """`count` augmentations of one example, as NumPy arrays."""
    image, label, size = compiled(**settings)(np.arange(count), image, label, size)
    return np.asarray(image), np.asarray(label), np.asarray(size)


def ramp(height=HEIGHT, width=WIDTH):
    """(image u8[H,W,3] of (row, column, 100), label u8[H,W] of rows): every pixel's own place."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.full_like(rows, 100)], -1), rows


def noise(height=HEIGHT, width=WIDTH):
    random = np.random.RandomState(0)
    image = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
    return image, random.randint(0, 8, (height, width)).astype(np.uint8)


def unchecked(**fields):
    """Makes an Augmentation that only its own checks see, not those of types in the tests."""
    made = object.__new__(Augmentation)
    for field in dataclasses.fields(Augmentation):
        object.__setattr__(made, field.name, fields.get(field.name, field.default))
    made.__post_init__()


@pytest.mark.parametrize("crop", [0, 61])
def test_identity_returns_the_image(crop):
    image, label = noise(61, 61)
    size = np.array([61, 61], np.int32)
    images, labels, sizes = draws(image, label, size, count=3, crop=crop, **STILL)
    for row in range(3):
        np.testing.assert_array_equal(images[row], image)
        np.testing.assert_array_equal(labels[row], label)
        np.testing.assert_array_equal(sizes[row], size)


def test_flip_alone_mirrors_the_image_half_of_the_time():
    image, label = noise()
    images, labels, _ = draws(image, label, SIZE, **STILL | {"flip": True})
    flipped = 0
    for got, got_label in zip(images, labels, strict=True):
        mirrored = np.array_equal(got, image[:, ::-1])
        flipped += mirrored
        np.testing.assert_array_equal(got, image[:, ::-1] if mirrored else image)
        np.testing.assert_array_equal(got_label, label[:, ::-1] if mirrored else label)
    assert abs(flipped / DRAWS - 0.5) < 0.1  # Four standard deviations.


def test_it_is_known_beforehand_which_images_are_mirrored():
    image, label = noise()
    for fields in (STILL | {"flip": True}, STILL, {"crop": 0}):
        images, _, _ = draws(image, label, SIZE, count=20, **fields)
        augmentation = Augmentation(**fields)
        known = [bool(is_flipped(jax.random.key(seed), augmentation)) for seed in range(20)]
        # Even where an image is rotated and scaled, it is nearer to what it is made of.
        seen = [np.abs(x - image[:, ::-1]).mean() < np.abs(x - image).mean() for x in images]
        if augmentation.only_flips:
            assert known == seen
        assert any(known) == augmentation.flip


@pytest.mark.parametrize("canvas", [(HEIGHT, WIDTH), (70, 96)])
def test_a_crop_is_a_part_of_the_image(canvas):
    image, label = noise()
    padded = small.on_canvas(
        {"image": image[None], "label": label[None], "size": SIZE[None]}, canvas
    )
    pixels = np.stack(np.mgrid[: canvas[0], : canvas[1]], -1)
    crop = 55
    images, labels, sizes = draws(padded["image"][0], padded["label"][0], SIZE, crop=crop, **STILL)
    # The same keys find the same places in an image that holds its own coordinates.
    coordinates = np.concatenate([pixels, pixels[..., :1]], -1).astype(np.uint8)
    places, _, _ = draws(coordinates, padded["label"][0], SIZE, crop=crop, **STILL)
    starts = places[:, 0, 0, :2].astype(int)
    for (top, left), got, got_label in zip(starts, images, labels, strict=True):
        part = slice(top, top + crop), slice(left, left + crop)
        np.testing.assert_array_equal(got, image[part])
        np.testing.assert_array_equal(got_label, label[part])
    assert np.all(sizes == crop)
    # All 7 x 30 places inside the image are as likely.
    for axis, places in ((0, HEIGHT - crop + 1), (1, WIDTH - crop + 1)):
        counts = np.bincount(starts[:, axis], minlength=places)
        assert len(counts) == places and np.all(counts > 0)
        assert np.max(counts) < 2.5 * DRAWS / places
    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.2


@pytest.mark.parametrize(("height", "width"), [(3, 5), (1, 4), (20, 7), (2, 2)])
def test_a_small_image_is_reflected_over_and_over(height, width):
    crop = 32
    random = np.random.RandomState(0)
    image = random.randint(0, 256, (24, 24, 3)).astype(np.uint8)  # Garbage outside the true size.
    label = np.full((24, 24), VOID, np.uint8)
    label[:height, :width] = random.randint(0, 8, (height, width))
    size = np.array([height, width], np.int32)
    images, labels, _ = draws(image, label, size, count=1, crop=crop, **STILL)
    top, left = np.argwhere(labels[0] != VOID).min(0)
    for start, side in ((top, height), (left, width)):
        assert abs(start - (crop - side) / 2) <= 0.5  # In the middle.
    around = [(top, crop - top - height), (left, crop - left - width)]
    # NumPy's "reflect" bounces as often as it takes, and repeats a single pixel.
    expected = np.pad(image[:height, :width], [*around, (0, 0)], mode="reflect")
    np.testing.assert_array_equal(images[0], expected)
    expected = np.pad(label[:height, :width], around, constant_values=VOID)
    np.testing.assert_array_equal(labels[0], expected)


@pytest.fixture(scope="module")
def warped():
    """Augmentations of the ramp with the settings of NETWORKS.md: flip, 8 degrees, 90 to 110 %."""
    image, label = ramp()
    images, labels, _ = draws(image, label, SIZE)
    return images, labels


@pytest.fixture(scope="module")
def motions(warped):
    """The affine maps f64[draws,2,3] from output (row, column, 1) to source (row, column)."""
    found = []
    for image, label in zip(*warped, strict=True):
        rows, columns = np.nonzero(label != VOID)
        places = np.stack([rows, columns, np.ones_like(rows)], -1)
        # Where the image is not reflected, it is a ramp again.
        inner = np.all((image[..., :2] > 1) & (image[..., :2] < SIZE - 2), -1)[rows, columns]
        solution, residue, _, _ = np.linalg.lstsq(places[inner], image[rows, columns, :2][inner])
        assert np.max(residue) / inner.sum() < 1e-4
        found.append(solution.T)
    return np.array(found)


def decomposed(motions):
    """(angle in degrees, zoom, flipped) of each map, by its determinant and first column."""
    linear = motions[:, :, :2]
    determinant = np.linalg.det(linear)
    angle = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    return angle, np.abs(determinant) ** -0.5, determinant < 0


def test_motions_are_flips_rotations_and_scalings(motions):
    """Nothing is sheared or stretched."""
    gram = np.einsum("nij,nik->njk", motions[:, :, :2], motions[:, :, :2])
    scale = np.abs(np.linalg.det(motions[:, :, :2]))
    np.testing.assert_allclose(gram, scale[:, None, None] * np.eye(2), atol=1e-3)


def test_angle_scale_and_flip_fill_their_ranges(motions):
    angle, zoom, flipped = decomposed(motions)
    for values, low, high in ((angle, -8, 8), (zoom, 0.9, 1.1)):
        slack = 0.05 * (high - low)
        assert low - 1e-3 <= values.min() < low + slack
        assert high - slack < values.max() <= high + 1e-3
        assert abs(values.mean() - (low + high) / 2) < slack
    assert abs(flipped.mean() - 0.5) < 0.1
    correlation = np.corrcoef([angle, zoom, flipped])
    assert np.max(np.abs(correlation - np.eye(3))) < 0.2


def test_the_centre_stays(motions):
    centre = np.array([(HEIGHT - 1) / 2, (WIDTH - 1) / 2])
    moved = motions[:, :, :2] @ centre + motions[:, :, 2]
    np.testing.assert_allclose(moved, np.broadcast_to(centre, moved.shape), atol=0.02)


def test_labels_lie_where_the_image_does(warped):
    """The ramp's label is its row, its first colour as well: nearest and bilinear differ by 1/2."""
    images, labels = warped
    known = labels != VOID
    inner = known & (images[..., 0] > 1) & (images[..., 0] < HEIGHT - 2)
    assert inner.mean() > 0.5
    assert np.max(np.abs(images[..., 0] - labels)[inner]) <= 0.5 + 1e-3


def test_classes_keep_their_colours():
    """A map of uniform squares: away from their borders every pixel has the colour of its label."""
    label = np.arange(48, dtype=np.uint8).reshape(6, 8).repeat(12, 0).repeat(12, 1)[:HEIGHT, :WIDTH]
    image = np.stack([5 * label, 255 - 4 * label, 2 * label], -1)
    images, labels, _ = draws(image, label, SIZE, count=40)
    assert set(np.unique(labels)) <= {*np.unique(label), VOID}
    same = np.ones(labels[:, 2:-2, 2:-2].shape, bool)
    for down in range(5):
        for right in range(5):
            shifted = labels[:, down : HEIGHT - 4 + down, right : WIDTH - 4 + right]
            same &= shifted == labels[:, 2:-2, 2:-2]
    inner = labels[:, 2:-2, 2:-2].astype(np.float32)
    inner_same = same & (inner != VOID)
    assert inner_same.mean() > 0.3
    expected = np.stack([5 * inner, 255 - 4 * inner, 2 * inner], -1)
    difference = np.abs(images[:, 2:-2, 2:-2] - expected)
    assert np.max(difference[inner_same]) < 1e-2


def test_outside_is_void_and_only_outside(warped, motions):
    _, labels = warped
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    places = np.stack([rows, columns, np.ones_like(rows)], -1)
    source = np.einsum("nij,hwj->nhwi", motions, places)
    # A pixel reaches half a pixel around its centre; what lies on that line may go either way.
    beyond = np.max(np.maximum(-0.5 - source, source - (SIZE - 0.5)), -1)
    assert np.all(labels[beyond > 0.02] == VOID) and np.sum(beyond > 0.02) > 100
    assert np.all(labels[beyond < -0.02] != VOID)


@pytest.mark.parametrize("crop", [0, 40])
def test_the_canvas_does_not_matter(crop):
    image, label = noise()
    small_canvas = {"image": image[None], "label": label[None], "size": SIZE[None]}
    padded = small.on_canvas(small_canvas, (80, 100))
    images, labels, sizes = draws(image, label, SIZE, count=40, crop=crop)
    others, other_labels, other_sizes = draws(
        padded["image"][0], padded["label"][0], SIZE, count=40, crop=crop
    )
    h, w = (crop, crop) if crop else (HEIGHT, WIDTH)
    # Rounding of the coordinates may tip a label on the line between two pixels.
    np.testing.assert_allclose(others[:, :h, :w], images, atol=0.02)
    assert np.mean(other_labels[:, :h, :w] != labels) < 1e-4
    np.testing.assert_array_equal(other_sizes, sizes)
    assert np.all(other_labels[:, h:] == VOID) and np.all(other_labels[:, :, w:] == VOID)


def test_void_of_the_source_stays_void():
    image, label = noise()
    images, labels, _ = draws(image, np.full_like(label, VOID), SIZE, count=4)
    assert np.all(labels == VOID)
    assert images.min() >= 0 and images.max() <= 255


def test_every_key_draws_something_else():
    image, label = noise()
    images, _, _ = draws(image, label, SIZE, count=50)
    assert len({draw.tobytes() for draw in images}) == 50


@pytest.mark.parametrize("crop", [0, 24])
def test_margin_shows_what_lies_around_the_crop(crop):
    """The label is of the crop; where the margin leaves the image it shows the reflection."""
    margin = 100  # More than the image is high: the reflection is reflected.
    image, label = noise()
    images, labels, sizes = draws(image, label, SIZE, count=20, crop=crop, margin=margin, **STILL)
    inner, inner_labels, inner_sizes = draws(image, label, SIZE, count=20, crop=crop, **STILL)
    np.testing.assert_array_equal(labels, inner_labels)
    np.testing.assert_array_equal(sizes, inner_sizes)
    middle = slice(margin, -margin)
    np.testing.assert_array_equal(images[:, middle, middle], inner)
    wide = np.pad(image, [(margin, margin), (margin, margin), (0, 0)], mode="reflect")
    for got, part in zip(images, inner, strict=True):
        high, broad = part.shape[:2]
        places = [
            (r, c)
            for r in range(HEIGHT - high + 1)
            for c in range(WIDTH - broad + 1)
            if np.array_equal(image[r : r + high, c : c + broad], part)
        ]
        assert len(places) == 1
        (r, c), (height, width) = places[0], got.shape[:2]
        np.testing.assert_array_equal(got, wide[r : r + height, c : c + width])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": -1}, "crop is -1: set it from 0 to 65536"),
        ({"rotation": -8.0}, "rotation is -8.0: set it from 0 to 180"),
        ({"rotation": math.nan}, "rotation is nan: set it from 0 to 180"),
        ({"scale": (1.1, 0.9)}, r"scale is \(1.1, 0.9\): set it to \(smallest, largest\), above 0"),
        ({"scale": (0.0, 1.0)}, r"scale is \(0.0, 1.0\): set it to \(smallest, largest\), above 0"),
        ({"scale": (0.9, math.nan)}, r"scale is \(0.9, nan\): set it to"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Augmentation(**fields)
