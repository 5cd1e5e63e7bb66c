"""Batches: content, padding, sharing between processes, skipping, and full coverage."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from segadv_jax.data import order, pipeline
from segadv_jax.data.builders import png
from segadv_jax.errors import InputError

CANVAS = (16, 32)
KEYS = {"image", "label", "size", "mask", "id"}


@pytest.fixture(scope="module")
def arrays():
    """Thirteen images of different sizes, with labels."""
    random = np.random.RandomState(0)
    sizes = [(random.randint(9, 17), random.randint(17, 33)) for _ in range(13)]
    images = [random.randint(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    labels = [random.randint(0, 8, size).astype(np.uint8) for size in sizes]
    return images, labels


@pytest.fixture(scope="module")
def split(arrays):
    images, labels = arrays
    return pipeline.Encoded(
        ids=[f"image_{i}" for i in range(len(images))],
        images=[png(image) for image in images],
        labels=[png(label) for label in labels],
        sizes=np.array([label.shape for label in labels], np.int32),
    )


def take(batches, count):
    return list(itertools.islice(batches, count))


def joined(batches, key):
    return np.concatenate([batch[key] for batch in batches])


def assert_same(batch, other):
    assert batch.keys() == other.keys() == KEYS
    for key in KEYS:
        np.testing.assert_array_equal(batch[key], other[key])


def test_a_batch_holds_the_rows_of_the_order_padded_at_the_bottom_and_right(split, arrays):
    images, labels = arrays
    batches = take(split.train_batches(batch_size=4, canvas=CANVAS, seed=7, stream=2), 5)
    rows = np.stack(take(order.train_rows(13, 4, 7, 2, 0), 5))
    for batch, row in zip(batches, rows, strict=True):
        assert batch.keys() == KEYS
        assert batch["image"].shape == (4, *CANVAS, 3) and batch["image"].dtype == np.uint8
        assert batch["label"].shape == (4, *CANVAS) and batch["label"].dtype == np.uint8
        assert batch["size"].dtype == np.int32
        assert batch["mask"].dtype == np.float32 and batch["mask"].tolist() == [1, 1, 1, 1]
        assert batch["id"].tolist() == [f"image_{i}" for i in row]
        for i, index in enumerate(row):
            height, width = labels[index].shape
            assert batch["size"][i].tolist() == [height, width]
            image, label = batch["image"][i].copy(), batch["label"][i].copy()
            np.testing.assert_array_equal(image[:height, :width], images[index])
            np.testing.assert_array_equal(label[:height, :width], labels[index])
            image[:height, :width], label[:height, :width] = 0, 255
            assert np.all(image == 0) and np.all(label == 255)


def test_jpeg_images_are_decoded_accurately(split):
    gradient = np.add.outer(np.arange(16), 5 * np.arange(24)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([gradient, gradient[::-1], gradient], -1)).save(buffer, "jpeg")
    one = pipeline.Encoded(
        ["a"], [buffer.getvalue()], [png(gradient % 8)], np.array([[16, 24]], np.int32)
    )
    batch = next(one.eval_batches(batch_size=1, canvas=(16, 24)))
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        np.testing.assert_array_equal(batch["image"][0], np.asarray(image))


@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_restart_at_batch_k_gives_the_same_batches(split, start):
    options = dict(batch_size=4, canvas=CANVAS, seed=1)
    whole = take(split.train_batches(**options), start + 3)
    again = take(split.train_batches(**options, start=start), 3)
    for batch, other in zip(again, whole[start:], strict=True):
        assert_same(batch, other)


def test_what_a_restart_skips_is_not_decoded(split):
    skipped = order.permutation(13, 1, 0, 0)[:8]
    images = [b"no image" if i in skipped else image for i, image in enumerate(split.images)]
    damaged = pipeline.Encoded(split.ids, images, split.labels, split.sizes)
    options = dict(batch_size=4, canvas=CANVAS, seed=1)
    batch = next(damaged.train_batches(**options, start=2))
    assert_same(batch, take(split.train_batches(**options), 3)[2])
    with pytest.raises(Exception, match="Unknown image file format"):
        next(damaged.train_batches(**options))


@pytest.mark.parametrize("processes", [2, 4])
def test_the_rows_of_all_processes_together_are_those_of_one(split, processes):
    options = dict(batch_size=4, canvas=CANVAS, seed=3, start=1)
    whole = take(split.train_batches(**options), 4)
    parts = [
        take(split.train_batches(**options, process_index=p, process_count=processes), 4)
        for p in range(processes)
    ]
    for i, batch in enumerate(whole):
        merged = {key: np.concatenate([part[i][key] for part in parts]) for key in KEYS}
        assert_same(merged, batch)


@pytest.mark.parametrize(
    "batch_size, processes", [(1, 1), (4, 1), (13, 1), (32, 1), (4, 2), (8, 4)]
)
def test_evaluation_covers_every_image_exactly_once(split, batch_size, processes):
    parts = [
        list(
            split.eval_batches(
                batch_size=batch_size,
                canvas=CANVAS,
                process_index=p,
                process_count=processes,
            )
        )
        for p in range(processes)
    ]
    count = -(-13 // batch_size)
    assert [len(part) for part in parts] == [count] * processes
    batches = [part[i] for i in range(count) for part in parts]
    assert {batch["image"].shape for batch in batches} == {(batch_size // processes, *CANVAS, 3)}
    mask, ids = joined(batches, "mask"), joined(batches, "id")
    assert ids[mask == 1].tolist() == split.ids
    padding = mask == 0
    assert padding.sum() == count * batch_size - 13
    assert np.all(ids[padding] == "")
    assert np.all(joined(batches, "image")[padding] == 0)
    assert np.all(joined(batches, "label")[padding] == 255)
    assert np.all(joined(batches, "size")[padding] == CANVAS)
    np.testing.assert_array_equal(joined(batches, "size")[~padding], split.sizes)


def test_the_canvas_is_the_largest_size_rounded_up(split):
    assert split.canvas() == (16, 32)
    height, width = split.sizes.max(axis=0)
    assert split.canvas(multiple=1) == (height, width)
    assert split.canvas(multiple=64) == (64, 64)


@pytest.mark.parametrize("make, options", [("eval_batches", {}), ("train_batches", {"seed": 0})])
def test_an_image_larger_than_the_canvas_is_named_at_the_call(split, make, options):
    largest = split.sizes[:, 1].argmax()
    canvas = (16, int(split.sizes[largest, 1]) - 1)
    with pytest.raises(
        InputError, match=rf"image_\d+ is .*x{canvas[1] + 1} .*canvas 16x{canvas[1]}"
    ):
        getattr(split, make)(batch_size=2, canvas=canvas, **options)


@pytest.mark.parametrize("batch_size, processes", [(0, 1), (3, 2)])
def test_a_batch_that_cannot_be_shared_is_refused_at_the_call(split, batch_size, processes):
    with pytest.raises(InputError, match="multiple of the number of processes"):
        split.eval_batches(batch_size=batch_size, canvas=CANVAS, process_count=processes)


def test_a_batch_larger_than_the_split_is_refused_at_the_call(split):
    with pytest.raises(InputError, match="config.train.batch_size is 14.*13 images"):
        split.train_batches(batch_size=14, canvas=CANVAS, seed=0)


def test_splits_are_joined_in_the_stated_order(synthetic):
    both = synthetic.read("test+validation")
    parts = [synthetic.read(name) for name in ("test", "validation")]
    assert both.ids == parts[0].ids + parts[1].ids
    assert both.labels == parts[0].labels + parts[1].labels
    assert both.sizes.tolist() == np.concatenate([part.sizes for part in parts]).tolist()
    assert synthetic.read("test[3:5]").ids == parts[0].ids[3:5]


@pytest.mark.parametrize("name", ["tset", "train+tset", ""])
def test_an_unknown_split_is_refused_with_the_known_ones(synthetic, name):
    with pytest.raises(InputError, match="synthetic has no split .*train, validation, test"):
        synthetic.read(name)


@pytest.mark.parametrize("name", ["train[:0]", "train[5:2]", "train[nonsense]"])
def test_an_empty_or_malformed_slice_is_refused(synthetic, name):
    with pytest.raises(InputError, match="split 'train"):
        synthetic.read(name)


def test_take_picks_whole_examples(split):
    part = split.take(np.array([2, 7]))
    batch = next(part.eval_batches(batch_size=2, canvas=CANVAS))
    for i, row in enumerate((2, 7)):
        whole = split.eval_batches(batch_size=1, canvas=CANVAS)
        want = next(itertools.islice(whole, row, None))
        for key in KEYS:
            np.testing.assert_array_equal(batch[key][i], want[key][0])
