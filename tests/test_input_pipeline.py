"""The measurement of the input pipeline: what it draws, and how many cores it asks for."""

import numpy as np
import pytest

from segadv_jax import cli
from segadv_jax.benchmark import input_pipeline
from segadv_jax.data.arrays import Arrays
from segadv_jax.errors import InputError


@pytest.fixture
def split():
    random = np.random.RandomState(0)
    sizes = [(20, 30), (25, 18), (8, 9)]
    images = [random.randint(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    return Arrays(["a", "b", "c"], images, [image[..., 0] // 128 for image in images])


def test_a_split_is_repeated_over_and_over(split):
    assert input_pipeline.repeat(split, 7).ids == ["a", "b", "c", "a", "b", "c", "a"]


def test_decoded_images_are_those_of_the_split(split):
    got = input_pipeline.decoded(split, 2)
    assert got.ids == ["a", "b"]
    for ours, theirs in ((got.images, split.images), (got.labels, split.labels)):
        for one, other in zip(ours, theirs, strict=False):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shard", [True, False])
def test_whole_batches_are_measured(split, shard):
    measured = input_pipeline.measure("some", input_pipeline.repeat(split, 10), 10, 4, shard)
    assert (measured.name, measured.images) == ("some", 8)
    assert measured.seconds > 0


def test_images_of_one_pixel_are_drawn():
    split = input_pipeline.of_one_pixel(8)
    batch = next(split.train_batches(batch_size=4, canvas=split.canvas(), seed=0))
    assert batch["size"].tolist() == [[1, 1]] * 4


def test_cores_feed_chips():
    assert input_pipeline.cores_to_feed(16, 100.0, 60.0) == 27


@pytest.mark.parametrize("option", ["--images=0", "--batch_size=-5"])
def test_a_wrong_number_is_named(option):
    name, value = option.split("=")
    with pytest.raises(InputError, match=f"{name}: '{value}': give a number of 1 or more"):
        cli.run("tools.benchmark_input", "benchmark", ["--config=synthetic", option])
