"""What the images and the labels of a split are, and what tells photographs apart."""

import io

import numpy as np
import pytest
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import scenes, statistics
from segadv_jax.data.arrays import Arrays


def scene(seed):
    return scenes.draw(np.random.RandomState(seed))


def split(images, labels, prefix="i"):
    return Arrays(
        [f"{prefix}{number}" for number in range(len(images))], list(images), list(labels)
    )


def of_labels(*labels):
    """The statistics of images that are alike but for their labels."""
    labels = [np.array(label, np.uint8) for label in labels]
    return statistics.gather(split([np.zeros((*x.shape, 3), np.uint8) for x in labels], labels))


def test_pixels_are_counted_without_the_padding():
    labels = [[[0, 0, 1], [0, 0, VOID]], [[2, 2]], [[VOID], [VOID]]]
    found = of_labels(*labels)
    assert found.sizes.tolist() == [[2, 3], [1, 2], [2, 1]]
    np.testing.assert_allclose(found.shares(4), [4 / 7, 1 / 7, 2 / 7, 0])
    assert found.void == 3 / 10 and found.without_labels() == ["i2"]


def test_shares_are_those_of_the_labelled_pixels(synthetic):
    images = synthetic.read("validation[:5]")
    labels = np.concatenate(
        [x["label"].ravel() for x in images.eval_batches(batch_size=5, canvas=images.canvas())]
    )
    counts = np.bincount(labels[labels != VOID], minlength=8)
    np.testing.assert_allclose(statistics.gather(images).shares(8), counts / counts.sum())


def test_every_image_is_read_once():
    read = []
    images, labels = zip(*map(scene, range(11)), strict=True)
    found = statistics.gather(split(images, labels), read.append)
    assert sum(read) == 11 == len(found.digests) == len(found.thumbnails)


def stored_again(image):
    """The image as a JPEG of another size."""
    buffer = io.BytesIO()
    height, width = (int(1.3 * side) for side in image.shape[:2])
    Image.fromarray(image).resize((width, height)).save(buffer, "jpeg", quality=80)
    return np.asarray(Image.open(buffer))


def test_the_same_photograph_is_found_also_if_it_was_stored_again():
    images, _ = zip(*map(scene, range(6)), strict=True)
    others = [scene(20)[0], images[4], scene(21)[0], stored_again(images[1])]
    one, other = (
        statistics.gather(split(x, [np.zeros(y.shape[:2], np.uint8) for y in x], prefix))
        for x, prefix in ((images, "a"), (others, "b"))
    )
    assert statistics.shared(one, other) == [("a1", "b3"), ("a4", "b1")]
    assert statistics.shared(other, one) == [("b1", "a4"), ("b3", "a1")]


def test_photographs_of_the_same_place_are_none(synthetic):
    parts = [statistics.gather(synthetic.read(x)) for x in ("train[:60]", "validation")]
    assert statistics.shared(*parts) == []


def test_flat_images_are_the_same_only_if_they_are_equal():
    grey = [np.full((20, 30, 3), value, np.uint8) for value in (120, 121)]
    one, other = (
        statistics.gather(split([x], [np.zeros((20, 30), np.uint8)], str(n)))
        for n, x in enumerate(grey)
    )
    assert statistics.shared(one, other) == []
    assert statistics.shared(one, one) == [("00", "00")]


def squares(values, side=20):
    """A label map with a square of each value."""
    return np.repeat(np.repeat(np.array([values], np.uint8), side, 0), side, 1)


@pytest.mark.parametrize(
    ("label", "num_classes", "reason"),
    [
        (squares(range(8)), 8, ""),
        (squares(range(6)), 21, ""),  # A few images of PASCAL VOC do not show all of its classes.
        (squares([0, 38, 75, 113, 128]), 129, "of 129 values only 5 occur (0, 38, 75, 113, 128"),
        (squares([0, VOID, 1]), 2, ""),
    ],
)
def test_grey_levels_are_no_class_indices(label, num_classes, reason):
    found = statistics.look_like_colours([of_labels(label)], num_classes)
    assert found.startswith(reason) and bool(found) == bool(reason)


def test_masks_that_were_resized_as_photographs_are_recognised():
    label = Image.fromarray(squares([0, 40, 0, 20, 40, 0]))
    smooth = np.asarray(label.resize((300, 50), Image.Resampling.BICUBIC))
    smooth = smooth.clip(0, 41)
    values, smooth = np.unique(smooth, return_inverse=True)
    found = statistics.look_like_colours([of_labels(smooth.reshape(50, 300))], len(values))
    assert "classes occur at boundaries only" in found
    label = np.asarray(label.resize((300, 50), Image.Resampling.NEAREST)) // 20
    assert statistics.look_like_colours([of_labels(label)], 3) == ""
