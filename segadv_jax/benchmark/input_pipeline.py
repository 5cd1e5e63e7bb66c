"""How many images per second a host's cores decode, pad and hand to its devices.

What counts is the processor time of an image: it tells how many cores feed how many chips. The
clock on the wall says the same only where all cores are free.
"""

import math
import os
import resource
import time
from typing import NamedTuple

import jax
import numpy as np

from segadv_jax import devices
from segadv_jax.data import Split
from segadv_jax.data.arrays import Arrays

WARM_UP = 2  # Batches that are not measured: the pipeline starts its threads and fills its buffers.


class Measured(NamedTuple):
    """One pass of a pipeline."""

    name: str
    images: int
    seconds: float
    core_seconds: float  # Of the whole process, in user and system mode.
    load: float  # Processes that wanted a core in the last minute, this one included.

    @property
    def per_core_second(self) -> float:
        return self.images / self.core_seconds


def repeat(split: Split, count: int) -> Split:
    """A split of `count` examples, the given ones over and over; they are not copied."""
    return split.take([row % len(split.ids) for row in range(count)])


def decoded(split: Split, count: int) -> Arrays:
    """The first `count` examples of a split as arrays in memory."""
    part, canvas = split.take(range(min(count, len(split.ids)))), split.canvas()
    images, labels = [], []
    for batch in part.eval_batches(batch_size=1, canvas=canvas):
        height, width = batch["size"][0]
        images.append(batch["image"][0, :height, :width].copy())
        labels.append(batch["label"][0, :height, :width].copy())
    return Arrays(part.ids, images, labels)


def of_one_pixel(count: int) -> Split:
    """Images of a single pixel: what is left is what one thread of Python does for each image."""
    from segadv_jax.data.builders import png  # They import TensorFlow.
    from segadv_jax.data.pipeline import Encoded

    image, label = png(np.zeros((1, 1, 3), np.uint8)), png(np.zeros((1, 1), np.uint8))
    names = [str(number) for number in range(count)]
    return Encoded(names, [image] * count, [label] * count, np.ones((count, 2), np.int32))


def measure(name: str, split: Split, images: int, batch_size: int, shard: bool = True) -> Measured:
    """Draws about so many `images` as training does; with `shard` onto this host's devices."""
    batches = split.train_batches(batch_size=batch_size, canvas=split.canvas(), seed=0)
    number = max(1, images // batch_size)
    for _ in range(WARM_UP):
        _place(next(batches), shard)
    before, begin = _core_seconds(), time.perf_counter()
    for _ in range(number):
        _place(next(batches), shard)
    seconds, spent = time.perf_counter() - begin, _core_seconds() - before
    return Measured(name, number * batch_size, seconds, spent, os.getloadavg()[0])


def _place(batch, shard):
    if shard:
        jax.block_until_ready(devices.shard(batch))


def _core_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cores_to_feed(chips: int, images_per_chip_second: float, images_per_core_second: float) -> int:
    """The cores that decode as fast as so many chips train."""
    return math.ceil(chips * images_per_chip_second / images_per_core_second)
