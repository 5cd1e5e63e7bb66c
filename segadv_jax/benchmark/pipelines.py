"""How many images per second the input pipelines deliver on their own."""

import io
import sys
import time

import numpy as np
from PIL import Image

from segadv_jax.benchmark.contenders import IMAGE
from segadv_jax.benchmark.measure import Spread, rate
from segadv_jax.data import Split, scenes
from segadv_jax.data.arrays import Arrays


def measure(batch_size: int, count: int, rounds: int) -> dict[str, Spread]:
    """Images per second of each pipeline: {"arrays", and "tf.data" if TensorFlow is installed}."""
    rates = {}
    for name, split in _splits(_draw(64)).items():
        batches = split.train_batches(batch_size=batch_size, canvas=IMAGE, seed=0)
        for _ in range(8):  # Fills tf.data's buffers, which is not timed.
            next(batches)
        seconds = []
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(count):
                next(batches)
            seconds.append(time.perf_counter() - begin)
        rates[name] = rate(seconds, batch_size, count)
    return rates


def _splits(drawn: Arrays) -> dict[str, Split]:
    """The same images as each pipeline holds them."""
    splits: dict[str, Split] = {"arrays": drawn}
    try:
        from segadv_jax.data import builders, pipeline
    except ImportError:
        print("tf.data: TensorFlow is not installed", file=sys.stderr)
    else:
        images = [_jpeg(image) for image in drawn.images]
        labels = [builders.png(label) for label in drawn.labels]
        splits["tf.data"] = pipeline.Encoded(drawn.ids, images, labels, drawn.sizes)
    return splits


def _draw(count):
    """Drawn scenes, enlarged to the size of a photograph of Stanford Background."""
    resampling = (Image.Resampling.BICUBIC, Image.Resampling.NEAREST)
    images, labels = [], []
    for index in range(count):
        scene = scenes.draw(np.random.RandomState(index))
        image, label = (
            np.asarray(Image.fromarray(x).resize(IMAGE[::-1], filter))
            for x, filter in zip(scene, resampling, strict=True)
        )
        images.append(image)
        labels.append(label)
    return Arrays([f"scene_{index}" for index in range(count)], images, labels)


def _jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
