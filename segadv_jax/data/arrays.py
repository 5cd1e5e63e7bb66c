"""Splits of decoded images in memory, without TensorFlow.

For small data, for images that a program makes, and for machines that have no TensorFlow. The
batches are those that `pipeline` makes of the same images.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from segadv_jax import VOID
from segadv_jax.data import Batch, Canvas, DataSet, Palette, Split
from segadv_jax.data.order import PADDING
from segadv_jax.errors import InputError


class Arrays(Split):
    """A split in memory, decoded: images u8[H,W,3] and labels u8[H,W].

    Raises:
        InputError: an image or a label is not uint8, or the two differ in size.
    """

    def __init__(self, ids: list[str], images: list[np.ndarray], labels: list[np.ndarray]):
        for name, image, label in zip(ids, images, labels, strict=True):
            if (image.dtype, label.dtype, image.shape) != (np.uint8, np.uint8, (*label.shape, 3)):
                raise InputError(
                    f"the image {name} is {image.dtype}{list(image.shape)} and its label"
                    f" {label.dtype}{list(label.shape)}: give uint8[H,W,3] and uint8[H,W]"
                )
        sizes = np.array([label.shape for label in labels], np.int32).reshape(-1, 2)
        super().__init__(ids, images, labels, sizes)

    def _batches(self, rows: Iterable[np.ndarray], count: int, canvas: Canvas) -> Iterator[Batch]:
        for batch_rows in rows:
            batch: Batch = {
                "image": np.zeros((count, *canvas, 3), np.uint8),
                "label": np.full((count, *canvas), VOID, np.uint8),
                "size": np.tile(np.array(canvas, np.int32), (count, 1)),
                "mask": np.asarray(batch_rows != PADDING, np.float32),
                "id": np.array([self.ids[row] if row != PADDING else "" for row in batch_rows]),
            }
            for i, row in enumerate(batch_rows):
                if row != PADDING:
                    height, width = batch["size"][i] = self.sizes[row]
                    batch["image"][i, :height, :width] = self.images[row]
                    batch["label"][i, :height, :width] = self.labels[row]
            yield batch


def data_set(
    name: str,
    splits: Mapping[str, Arrays],
    class_names: tuple[str, ...],
    palette: Palette,
    without_labels: tuple[str, ...] = (),
) -> DataSet:
    """A data set of splits in memory; see `DataSet`."""

    def read_split(split: str) -> Arrays:
        if "[" in split:
            raise InputError(f"the data set {name} has no slices such as {split!r}; name a split")
        parts = [splits[part.strip()] for part in split.split("+")]
        return Arrays(
            [name for part in parts for name in part.ids],
            [image for part in parts for image in part.images],
            [label for part in parts for label in part.labels],
        )

    return DataSet(name, tuple(splits), read_split, class_names, palette, without_labels)
