"""Batches from images in memory, the same as ``pipeline`` makes of them, without TensorFlow.

For small data, for images made by a program, and for machines that have no TensorFlow.
"""

from typing import NamedTuple

import numpy as np

from segadv_jax import VOID
from segadv_jax.data.order import PADDING, eval_rows, process_rows, train_rows
from segadv_jax.errors import InputError


class Arrays(NamedTuple):
    """A split in memory, decoded: lists of names, of images u8[H,W,3] and of labels u8[H,W]."""

    ids: list[str]
    images: list[np.ndarray]
    labels: list[np.ndarray]

    @property
    def sizes(self):
        """i32[N,2], (height, width) of each image."""
        return np.array([image.shape[:2] for image in self.images], np.int32)

    def canvas(self, multiple=16):
        """(height, width) of the largest, rounded up to a ``multiple``."""
        return canvas_of(self.sizes, multiple)

    def first(self, n):
        """The first ``n`` examples."""
        return Arrays(*(field[:n] for field in self))


def train_batches(
    arrays, *, batch_size, canvas, seed, stream=0, start=0, process_index=0, process_count=1
):
    """An endless iterator of training batches; the arguments are those of ``pipeline``'s.

    Raises:
      InputError: as ``pipeline.train_batches``, or an image or label is not uint8, or the two
        differ in size.
    """
    rows = train_rows(len(arrays.ids), batch_size, seed, stream, start)
    return _batches(arrays, rows, process_rows(batch_size, process_index, process_count), canvas)


def eval_batches(arrays, *, batch_size, canvas, process_index=0, process_count=1):
    """An iterator over every example exactly once; the arguments are those of ``pipeline``'s.

    Raises:
      InputError: as ``train_batches``.
    """
    mine = process_rows(batch_size, process_index, process_count)
    return _batches(arrays, eval_rows(len(arrays.ids), batch_size), mine, canvas)


def canvas_of(sizes, multiple):
    """(height, width): the largest of ``sizes`` i32[N,2], rounded up to a ``multiple``."""
    height, width = -(-sizes.max(axis=0) // multiple) * multiple
    return int(height), int(width)


def check_canvas(ids, sizes, canvas):
    """Raises an InputError that names the first image larger than the canvas (height, width)."""
    for name, size in zip(ids, sizes, strict=True):
        if np.any(size > canvas):
            raise InputError(
                f"the image {name} is {size[0]}x{size[1]} (height x width), larger than the"
                f" canvas {canvas[0]}x{canvas[1]}"
            )


def _batches(arrays, rows, mine, canvas):
    for name, image, label in zip(*arrays, strict=True):
        if image.dtype != np.uint8 or label.dtype != np.uint8 or image.shape != (*label.shape, 3):
            raise InputError(
                f"the image {name} is {image.dtype}{list(image.shape)} and its label"
                f" {label.dtype}{list(label.shape)}: give uint8[H,W,3] and uint8[H,W]"
            )
    check_canvas(arrays.ids, arrays.sizes, canvas)
    # Not a generator function: what is wrong with the arguments is raised at the call.
    return (_batch(arrays, batch[mine], canvas) for batch in rows)


def _batch(arrays, rows, canvas):
    """Rows of one batch, padded at the bottom and right; a row ``PADDING`` is nothing else."""
    n = len(rows)
    batch = {
        "image": np.zeros((n, *canvas, 3), np.uint8),
        "label": np.full((n, *canvas), VOID, np.uint8),
        "size": np.tile(np.int32(canvas), (n, 1)),
        "mask": np.asarray(rows != PADDING, np.float32),
        "id": np.array([arrays.ids[row] if row != PADDING else "" for row in rows]),
    }
    for i, row in enumerate(rows):
        if row != PADDING:
            height, width = arrays.labels[row].shape
            batch["image"][i, :height, :width] = arrays.images[row]
            batch["label"][i, :height, :width] = arrays.labels[row]
            batch["size"][i] = height, width
    return batch
