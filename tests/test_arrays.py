"""Batches of arrays in memory: byte for byte those that tf.data makes of the same images."""

import itertools

import numpy as np
import pytest

from segadv_jax.data import arrays, pipeline
from segadv_jax.data.builders import png
from segadv_jax.errors import InputError

CANVAS = (16, 32)


@pytest.fixture(scope="module")
def images():
    """Thirteen images of different sizes, with labels."""
    random = np.random.RandomState(0)
    sizes = [(random.randint(9, 17), random.randint(17, 33)) for _ in range(13)]
    return arrays.Arrays(
        ids=[f"image_{i}" for i in range(13)],
        images=[random.randint(0, 256, (*size, 3)).astype(np.uint8) for size in sizes],
        labels=[random.choice([0, 1, 7, 255], size).astype(np.uint8) for size in sizes],
    )


@pytest.fixture(scope="module")
def encoded(images):
    return pipeline.Split(
        images.ids, [png(x) for x in images.images], [png(x) for x in images.labels], images.sizes
    )


def assert_equal(ours, theirs, least):
    count = 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype and one[key].shape == other[key].shape, key
            assert one[key].tobytes() == other[key].tobytes(), key
        count += 1
    assert count >= least


@pytest.mark.parametrize("start", [0, 2, 7])
@pytest.mark.parametrize(("process", "processes"), [(0, 1), (0, 2), (1, 2)])
def test_training_batches_equal_those_of_tf_data(images, encoded, start, process, processes):
    settings = {"batch_size": 4, "canvas": CANVAS, "seed": 3, "stream": 1, "start": start}
    settings |= {"process_index": process, "process_count": processes}
    ours, theirs = (
        itertools.islice(make(data, **settings), 8)
        for make, data in ((arrays.train_batches, images), (pipeline.train_batches, encoded))
    )
    assert_equal(ours, theirs, 8)


@pytest.mark.parametrize("batch_size", [2, 4, 16])
@pytest.mark.parametrize(("process", "processes"), [(0, 1), (1, 2)])
def test_evaluation_batches_equal_those_of_tf_data(images, encoded, batch_size, process, processes):
    settings = {"batch_size": batch_size, "canvas": CANVAS}
    settings |= {"process_index": process, "process_count": processes}
    ours = arrays.eval_batches(images, **settings)
    assert_equal(ours, pipeline.eval_batches(encoded, **settings), -(-13 // batch_size))


def test_canvas_and_first_are_those_of_a_split(images, encoded):
    assert images.canvas() == encoded.canvas() == (16, 32)
    assert images.canvas(multiple=5) == encoded.canvas(multiple=5)
    assert images.first(3).ids == encoded.first(3).ids == images.ids[:3]


def test_an_image_larger_than_the_canvas_is_named(images):
    with pytest.raises(InputError, match=r"image_\d+ is .*larger than the canvas 12x32"):
        arrays.train_batches(images, batch_size=4, canvas=(12, 32), seed=0)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 7), np.uint8)),
        (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.int32)),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)),
    ],
)
def test_images_that_are_none_are_refused_by_name(image, label):
    wrong = arrays.Arrays(["a"], [image], [label])
    with pytest.raises(InputError, match=r"the image a is .* give uint8\[H,W,3\]"):
        arrays.eval_batches(wrong, batch_size=1, canvas=(8, 8))


def test_a_batch_is_no_view_of_the_images(images):
    batch = next(arrays.train_batches(images, batch_size=4, canvas=CANVAS, seed=0))
    row = images.ids.index(batch["id"][0])
    height, width = images.labels[row].shape
    before = images.images[row].copy()
    batch["image"][0, :height, :width] += 1
    np.testing.assert_array_equal(images.images[row], before)
