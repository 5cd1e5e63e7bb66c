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
    return pipeline.Encoded(
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
        itertools.islice(split.train_batches(**settings), 8) for split in (images, encoded)
    )
    assert_equal(ours, theirs, 8)


@pytest.mark.parametrize("batch_size", [2, 4, 16])
@pytest.mark.parametrize(("process", "processes"), [(0, 1), (1, 2)])
def test_evaluation_batches_equal_those_of_tf_data(images, encoded, batch_size, process, processes):
    settings = {"batch_size": batch_size, "canvas": CANVAS}
    settings |= {"process_index": process, "process_count": processes}
    ours, theirs = images.eval_batches(**settings), encoded.eval_batches(**settings)
    assert_equal(ours, theirs, -(-13 // batch_size))


def test_the_canvas_is_that_of_encoded_images(images, encoded):
    assert images.canvas() == encoded.canvas() == (16, 32)
    assert images.canvas(multiple=5) == encoded.canvas(multiple=5)


@pytest.mark.parametrize("rows", [range(3), np.array([7, 2, 7])])
def test_take_picks_the_same_examples(images, encoded, rows):
    ours, theirs = images.take(rows), encoded.take(rows)
    assert ours.ids == theirs.ids == [images.ids[row] for row in rows]
    settings = {"batch_size": 2, "canvas": CANVAS}
    assert_equal(ours.eval_batches(**settings), theirs.eval_batches(**settings), 2)


def test_an_image_larger_than_the_canvas_is_named(images):
    with pytest.raises(InputError, match=r"image_\d+ is .*larger than the canvas 12x32"):
        images.train_batches(batch_size=4, canvas=(12, 32), seed=0)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 7), np.uint8)),
        (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.int32)),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)),
    ],
)
def test_arrays_that_are_no_images_are_refused_by_name(image, label):
    with pytest.raises(InputError, match=r"the image a is .* give uint8\[H,W,3\]"):
        arrays.Arrays(["a"], [image], [label])


def test_a_batch_is_no_view_of_the_images(images):
    batch = next(images.train_batches(batch_size=4, canvas=CANVAS, seed=0))
    row = images.ids.index(batch["id"][0])
    height, width = images.labels[row].shape
    before = images.images[row].copy()
    batch["image"][0, :height, :width] += 1
    np.testing.assert_array_equal(images.images[row], before)


@pytest.fixture
def in_memory(images):
    """A data set of arrays."""
    splits = {"train": images.take(range(9)), "test": images.take(range(9, 13))}
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    return arrays.data_set("drawings", splits, ("ground", "sky"), palette)


def test_a_data_set_of_arrays_joins_its_splits(in_memory, images):
    assert in_memory.name == "drawings" and in_memory.splits == ("train", "test")
    both = in_memory.read("test+train")
    assert both.ids == images.ids[9:] + images.ids[:9]
    first = next(both.eval_batches(batch_size=1, canvas=CANVAS))
    height, width = images.labels[9].shape
    np.testing.assert_array_equal(first["image"][0, :height, :width], images.images[9])
    with pytest.raises(InputError, match="drawings has no split 'tset'; known: train, test"):
        in_memory.read("train+tset")
    with pytest.raises(InputError, match=r"no slices such as 'train\[:3\]'; name a split"):
        in_memory.read("train[:3]")
