"""Patches that show a part of the image by its share of the area, and what mere flips show."""

import math

import jax
import numpy as np
import pytest
import small
from PIL import Image
from test_augment import HEIGHT, SIZE, WIDTH, draws, noise, ramp, unchecked

from configs import synthetic as synthetic_config
from segadv_jax import VOID, configuration, experiment
from segadv_jax.augment import Augmentation
from segadv_jax.errors import InputError

CROP = 96  # Every part is enlarged.
AREA, ASPECT = (0.1, 0.6), (0.5, 1.6)
PART = {"crop": CROP, "scale": (1.0, 1.0), "area": AREA, "aspect": ASPECT}
QUIET = {"flip": False, "rotation": 0.0}


def boxes(images):
    """f64[draws,4]: (top, left, bottom, right) in the source, of draws of a ramp that are upright.

    Pixel i of a patch lies at the source's `start + (i + 1/2) * side / CROP - 1/2`.
    """
    found = []
    for line in (images[:, :, 0, 0], images[:, 0, :, 1]):
        # Only the outermost pixels of a part can be reflected.
        slope = (line[:, -8] - line[:, 7]) / (CROP - 15)
        start = line[:, 7] - 7.5 * slope + 0.5
        found.append(np.stack([start, start + slope * CROP], -1))
    return np.concatenate(found, -1)[:, [0, 2, 1, 3]]


@pytest.fixture(scope="module")
def parts():
    """(patches of the ramp, their labels, f64[draws,4] the parts that they show)."""
    images, labels, sizes = draws(*ramp(), SIZE, **QUIET | PART)
    assert np.all(sizes == CROP)
    return images, labels, boxes(images)


def test_parts_are_whole_pixels_of_the_image(parts):
    _, labels, found = parts
    np.testing.assert_allclose(found, np.round(found), atol=2e-3)
    assert found.min() > -0.01 and np.all(found[:, 2:] < SIZE + 0.01)
    assert np.all(labels != VOID)


def test_shares_and_aspects_fill_their_ranges(parts):
    height, width = (parts[2][:, 2:] - parts[2][:, :2]).T
    share, aspect = height * width / (HEIGHT * WIDTH), width / height
    # A side is rounded by half a pixel of at least 16.
    assert AREA[0] * 0.94 < share.min() < AREA[0] + 0.05
    assert AREA[1] - 0.05 < share.max() < AREA[1] * 1.06
    assert abs(share.mean() - np.mean(AREA)) < 0.03
    assert ASPECT[0] * 0.94 < aspect.min() < ASPECT[0] * 1.1
    assert ASPECT[1] / 1.1 < aspect.max() < ASPECT[1] * 1.06
    # As likely to be narrow as wide, where either fits: the logarithm is uniform.
    fitting = share < 0.3
    assert abs(np.log(aspect[fitting]).mean() - np.log(ASPECT).mean()) < 0.1


def test_parts_lie_anywhere_and_cover_the_image(parts):
    found = np.round(parts[2]).astype(int)
    covered = np.zeros((HEIGHT, WIDTH), int)
    for top, left, bottom, right in found:
        covered[top:bottom, left:right] += 1
    assert covered[5:-5, 5:-5].min() > 0  # A corner is seen in one of hundreds.
    assert covered.any(0).all() and covered.any(1).all()
    slack = SIZE - (found[:, 2:] - found[:, :2])
    for axis in range(2):
        place = found[:, axis][slack[:, axis] > 4] / slack[:, axis][slack[:, axis] > 4]
        assert place.min() == 0 and place.max() == 1
        assert abs(place.mean() - 0.5) < 0.06
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1]) < 0.2


def test_labels_are_the_nearest_of_the_part(parts):
    """The ramp's label is its row: pixel i of a patch has that in which it lies."""
    _, labels, found = parts
    for label, (top, _, bottom, _) in zip(labels, np.round(found), strict=True):
        rows = top + (np.arange(CROP) + 0.5) * (bottom - top) / CROP
        sure = np.abs(rows - np.round(rows)) > 1e-3  # Not on the line between two pixels.
        expected = np.broadcast_to(np.floor(rows)[:, None], label.shape)
        np.testing.assert_array_equal(label[sure], expected[sure])


def test_a_patch_is_what_pillow_makes_of_the_part(parts):
    image, label = noise()
    images, _, _ = draws(image, label, SIZE, **QUIET | PART)
    channel = Image.fromarray(image[..., 0].astype(np.float32))
    inner = slice(6, -6)  # Beyond the image's border Pillow sees nothing, we its reflection.
    for got, (top, left, bottom, right) in list(zip(images, np.round(parts[2]), strict=True))[:40]:
        resized = channel.resize(
            (CROP, CROP), Image.Resampling.BILINEAR, (left, top, right, bottom)
        )
        np.testing.assert_allclose(
            got[inner, inner, 0], np.asarray(resized)[inner, inner], atol=0.05
        )


def test_flips_mirror_the_parts(parts):
    """With the same keys, half of the draws run from right to left; the rest is as without."""
    images, labels, _ = draws(*ramp(), SIZE, **QUIET | PART | {"flip": True})
    mirrored = images[:, 0, 0, 1] > images[:, 0, -1, 1]
    assert abs(mirrored.mean() - 0.5) < 0.1
    np.testing.assert_array_equal(images[~mirrored], parts[0][~mirrored])
    # The image is mirrored, and the part cut out of that.
    expected = WIDTH - 1 - parts[0][mirrored][..., 1]
    np.testing.assert_allclose(images[mirrored][:, :, 8:-8, 1], expected[:, :, 8:-8], atol=2e-3)
    np.testing.assert_array_equal(labels, parts[1])  # Of rows.


def test_turned_parts_are_void_where_they_leave_the_image():
    """Labels stay with the pixels under all of it together."""
    settings = PART | {"rotation": 20.0, "area": (0.7, 1.0)}
    images, labels, _ = draws(*ramp(), SIZE, count=100, **settings)
    rows, columns = np.mgrid[:CROP, :CROP]
    places = np.stack([rows, columns, np.ones_like(rows)], -1)
    angles, seen = [], 0
    for image, label in zip(images, labels, strict=True):
        inner = (label != VOID) & np.all((image[..., :2] > 1) & (image[..., :2] < SIZE - 2), -1)
        assert np.max(np.abs(image[..., 0] - label)[inner]) <= 0.5 + 2e-3
        solution, residue, _, _ = np.linalg.lstsq(places[inner], image[inner][:, :2])
        assert np.max(residue) / inner.sum() < 1e-4  # One affine map.
        source = places @ solution
        beyond = np.max(np.maximum(-0.5 - source, source - (SIZE - 0.5)), -1)
        assert np.all(label[beyond > 0.02] == VOID) and np.all(label[beyond < -0.02] != VOID)
        seen += np.sum(beyond > 0.02)
        # The rotation comes after the part's own stretching.
        down = solution[0]
        angles.append(np.rad2deg(np.arctan2(down[1], down[0])))
    assert seen > 1000
    assert -20.01 < min(angles) < -18 and 18 < max(angles) < 20.01


@pytest.mark.parametrize(
    ("height", "width", "part"),
    # 4/3 and 3/4 are the limits; those of the largest part that fits.
    [(12, 80, (12, 16)), (61, 9, (12, 9)), (30, 40, (30, 40)), (1, 1, (1, 1))],
)
def test_a_part_fits_images_of_every_shape(height, width, part):
    """The whole image is asked for: what comes nearest to it is shown, in full."""
    image, label = ramp(70, 90)
    label[:] = VOID
    label[:height, :width] = 1
    settings = PART | {"area": (1.0, 1.0), "aspect": (3 / 4, 4 / 3)}
    images, labels, _ = draws(image, label, np.array([height, width]), 40, **QUIET | settings)
    assert np.all(labels == 1)
    found = boxes(images)
    if min(height, width) > 1:
        sides = found[:, 2:] - found[:, :2]
        np.testing.assert_allclose(sides, np.broadcast_to(part, sides.shape), atol=2e-3)
    slack = np.array([height, width]) - part
    for axis in range(2):
        assert len(np.unique(np.round(found[:, axis]))) > min(slack[axis], 8)


def test_the_whole_image_at_its_own_side_stays_as_it_is():
    image, label = noise(61, 61)
    settings = {"crop": 61, "area": (1.0, 1.0), "scale": (1.0, 1.0)}
    images, labels, _ = draws(image, label, np.array([61, 61]), 3, **QUIET | settings)
    np.testing.assert_array_equal(images, np.broadcast_to(image, images.shape))
    np.testing.assert_array_equal(labels, np.broadcast_to(label, labels.shape))


def test_the_canvas_does_not_matter():
    image, label = noise()
    padded = small.on_canvas(
        {"image": image[None], "label": label[None], "size": SIZE[None]}, (80, 100)
    )
    settings = PART | {"rotation": 8.0, "margin": 5}
    one = draws(image, label, SIZE, count=20, **settings)
    other = draws(padded["image"][0], padded["label"][0], SIZE, count=20, **settings)
    np.testing.assert_allclose(other[0], one[0], atol=0.02)
    assert np.mean(other[1] != one[1]) < 1e-4


def test_the_margin_shows_what_lies_around_the_part(parts):
    images, _, sizes = draws(*ramp(), SIZE, count=40, margin=4, **QUIET | PART)
    np.testing.assert_allclose(images[:, 4:-4, 4:-4], parts[0][:40], atol=2e-3)
    assert images.shape[1:3] == (CROP + 8, CROP + 8) and np.all(sizes == CROP)


@pytest.mark.parametrize(("crop", "margin"), [(0, 0), (48, 0), (80, 30)])
def test_mere_flips_and_crops_are_exact(crop, margin):
    """Pixel by pixel the image and its reflection, at places that the keys' numbers draw."""
    size, (image, label) = np.array([50, 71], np.int32), noise()
    still = {"crop": crop, "flip": True, "rotation": 0.0, "scale": (1.0, 1.0)}
    images, labels, sizes = draws(image, label, size, 8, margin=margin, **still)
    around = [(100, 100), (100, 100)]
    image = np.pad(image[:50, :71], [*around, (0, 0)], mode="reflect")
    label = np.pad(label[:50, :71], around, constant_values=VOID)
    shape = np.array([crop, crop] if crop else [HEIGHT, WIDTH])
    for seed in range(8):
        numbers = [jax.random.fold_in(jax.random.key(seed), number) for number in range(4)]
        start = np.zeros(2)
        if crop:
            slack = size - crop
            chosen = np.floor(np.asarray(jax.random.uniform(numbers[3], (2,))) * (slack + 1))
            start = np.where(slack > 0, chosen, np.floor(slack / 2))
        spans = zip(start.astype(int), start.astype(int) + shape, strict=True)
        rows, columns = (np.arange(first - margin, last + margin) for first, last in spans)
        if jax.random.bernoulli(numbers[0]):
            columns = size[1] - 1 - columns
        places = np.ix_(rows + 100, columns + 100)
        np.testing.assert_array_equal(images[seed], image[places])
        inner = slice(margin, -margin or None)
        np.testing.assert_array_equal(labels[seed], label[places][inner, inner])
        np.testing.assert_array_equal(sizes[seed], shape if crop else size)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"area": (0.0, 1.0)}, r"area is \(0.0, 1.0\): set it to \(smallest, largest\), above 0"),
        ({"area": (0.5, 1.5)}, r"area is \(0.5, 1.5\): set it to"),
        ({"area": (0.6, 0.5)}, r"area is \(0.6, 0.5\): set it to"),
        ({"area": (0.5,)}, r"area is \(0.5,\): set it to"),
        ({"area": (0.5, math.nan)}, r"area is \(0.5, nan\): set it to"),
        ({"area": ("0.5", "1")}, r"area is \('0.5', '1'\): set it to"),
        ({"area": 0.5}, "area is 0.5: set it to"),
        ({"crop": 0}, r"area is \(0.1, 0.6\), but crop is 0: set crop to the patches' side"),
        ({"scale": (0.9, 1.1)}, r"scale is \(0.9, 1.1\), but area is relative to the image"),
        ({"aspect": (1.5, 0.5)}, r"aspect is \(1.5, 0.5\): set it to \(smallest, largest\), above"),
        ({"aspect": (0.0, 0.5)}, r"aspect is \(0.0, 0.5\): set it to"),
        ({"aspect": (1.0, 1.0, 1.0)}, r"aspect is \(1.0, 1.0, 1.0\): set it to"),
        ({"aspect": (1.0, math.inf)}, r"aspect is \(1.0, inf\): set it to"),
        ({"aspect": "square"}, "aspect is 'square': set it to"),
        ({"scale": ("a", "b")}, r"scale is \('a', 'b'\): set it to"),
        ({"rotation": "8"}, "rotation is '8': set it from 0 to 180"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        unchecked(**PART | fields)


def test_a_configuration_says_what_is_drawn():
    config = synthetic_config.get_config()
    for override in ("area=(0.25,1)", "scale=(1.0,1.0)", "contrast=0.2", "aspect=(0.5,2.0)"):
        configuration.set_field(config, f"--config.train.{override}")
    drawn = experiment.build(config, 8).setup.augmentation
    crop, rotation = config.train.crop, config.train.rotation
    assert drawn == Augmentation(
        crop, True, rotation, (1.0, 1.0), (0.25, 1), (0.5, 2.0), contrast=0.2
    )
    config.train.augment = False  # All of it.
    off = experiment.build(config, 8).setup.augmentation
    assert off == Augmentation(crop, flip=False, rotation=0.0, scale=(1.0, 1.0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("area", (0.5,)),
        ("area", ["a", "b"]),
        ("area", None),
        ("scale", 1.0),
        ("aspect", "4/3"),
        ("saturation", "0.4"),
        ("contrast", math.nan),
        ("brightness", 1),
    ],
)
def test_a_wrong_value_is_reported_with_its_field(field, value):
    config = synthetic_config.get_config()
    with config.ignore_type():
        config.train[field] = value
    # The tests check types first.
    message = rf"^config.train: ({field} is .*: set it |[^$]*\nThe problem .* parameter '{field}')"
    with pytest.raises(InputError, match=message):
        experiment.build(config, 8)


def test_a_configuration_from_before_draws_as_it_did():
    """What a run of an earlier version recorded lacks the fields."""
    recorded = synthetic_config.get_config().to_dict()
    for field in ("area", "aspect", "brightness", "contrast", "saturation"):
        del recorded["train"][field]
    config = synthetic_config.get_config()
    config.train = configuration.complete(recorded)["train"]
    train = config.train
    assert experiment.build(config, 8).setup.augmentation == Augmentation(
        train.crop, train.flip, train.rotation, train.scale
    )
