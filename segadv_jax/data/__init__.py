"""Data sets, their splits, and the batches made of them.

A batch is a dict of NumPy arrays: `image` u8[n,H,W,3] RGB; `label` u8[n,H,W] with 255 = void;
`size` i32[n,2], the true (height, width) of an image padded at the bottom and right (image 0,
label 255); `mask` f32[n], 0 for a row that only pads the batch; `id` [n], names.

TensorFlow is imported by the modules of this package that need it, not here.
"""

import abc
import copy
import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Int32, UInt8

from segadv_jax.data import order
from segadv_jax.errors import InputError

# Hides the start-up notes of TensorFlow's C++ side; its warnings and errors still show. The second
# switch only stops one more note: reading data needs no oneDNN.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# The module that prepares each data set, with a function `prepare(*, archives, data_dir, ...)` that
# returns its DataSet. Its further arguments are further fields of config.data.
DATA_SETS = {
    "synthetic": "segadv_jax.data.synthetic",
    "stanford_background": "segadv_jax.data.stanford_background",
    "voc_sbd": "segadv_jax.data.voc_sbd",
    "image_folder": "segadv_jax.data.image_folder",
}

Batch = dict[str, np.ndarray]
Canvas = tuple[int, int]  # Height and width.
Palette = UInt8[np.ndarray, "C 3"]  # RGB colours of classes.


class Split(abc.ABC):
    """Examples in a fixed order. Which rows make a batch is decided here, for all splits alike.

    `images` and `labels` are as the subclass says; `sizes` are true (height, width).
    """

    def __init__(self, ids: list[str], images: list, labels: list, sizes: Int32[np.ndarray, "N 2"]):
        self.ids, self.images, self.labels, self.sizes = ids, images, labels, sizes

    @abc.abstractmethod
    def _batches(self, rows: Iterable[np.ndarray], count: int, canvas: Canvas) -> Iterator[Batch]:
        """The batches of given rows, i64[count] each; every image fits into the canvas.

        A row `order.PADDING` has image 0, label 255, the canvas as size, mask 0 and the id "".
        """

    def take(self, rows: Iterable[SupportsIndex]) -> "Split":
        """The split of the examples in `rows`."""
        rows, part = list(rows), copy.copy(self)
        for name in ("ids", "images", "labels"):
            setattr(part, name, [getattr(self, name)[row] for row in rows])
        part.sizes = self.sizes[np.array(rows, int)]
        return part

    def canvas(self, multiple: int = 16) -> Canvas:
        """The size of the largest image, rounded up to a `multiple`."""
        height, width = -(-self.sizes.max(axis=0) // multiple) * multiple
        return int(height), int(width)

    def train_batches(
        self,
        *,
        batch_size: int,
        canvas: Canvas,
        seed: int,
        stream: int = 0,
        start: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """An endless iterator of training batches, the first of which is batch `start`.

        The global batch is that of `order.train_rows`; process p of P gets its contiguous rows from
        `p * batch_size // P` on.

        Raises:
            InputError: the processes cannot share a batch evenly, a batch is larger than the split,
                or an image is larger than the canvas. It is raised at the call.
        """
        rows = order.train_rows(len(self.ids), batch_size, seed, stream, start)
        return self._share(
            rows, order.process_rows(batch_size, process_index, process_count), canvas
        )

    def eval_batches(
        self, *, batch_size: int, canvas: Canvas, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """An iterator that covers every example exactly once, in order; errors as above.

        All processes get the same number of batches, all of the same shape: rows with mask 0 fill
        up the last one.
        """
        mine = order.process_rows(batch_size, process_index, process_count)
        return self._share(order.eval_rows(len(self.ids), batch_size), mine, canvas)

    def _share(self, rows, mine, canvas):
        """The batches of one process, which are the rows `mine` of every global batch."""
        for name, size in zip(self.ids, self.sizes, strict=True):
            if np.any(size > canvas):
                raise InputError(
                    f"the image {name} is {size[0]}x{size[1]} (height x width), larger than the"
                    f" canvas {canvas[0]}x{canvas[1]}"
                )
        return self._batches((batch[mine] for batch in rows), mine.stop - mine.start, canvas)


class DataSet(NamedTuple):
    """A prepared data set."""

    name: str
    splits: tuple[str, ...]
    read_split: Callable[[str], Split]
    class_names: tuple[str, ...]
    palette: Palette
    without_labels: tuple[str, ...] = ()  # Splits, should they be there, whose labels are all void.

    def read(self, split: str) -> Split:
        """Reads a split, or several joined with "+".

        Where TFDS holds the data, its slices work as well, as "train[:22]".

        Raises:
            InputError: there is no such split, or it is empty.
        """
        self.check_split(split)
        found = self.read_split(split)
        if not found.ids:
            raise InputError(f"the split {split!r} of the data set {self.name} is empty")
        return found

    def check_split(self, split: str, field: str = "") -> None:
        """Raises an InputError that names config.`field`, if given, if there is no such split."""
        for part in _parts(split):
            if part not in self.splits:
                where = f"config.{field}: " if field else ""
                raise InputError(
                    f"{where}the data set {self.name} has no split {part!r};"
                    f" known: {', '.join(self.splits)} (join several with +)"
                )

    def check_labelled(self, split: str, field: str) -> None:
        """Raises an InputError that names config.`field` if there is no such split, or no labels.

        Nothing is read.
        """
        self.check_split(split, field)
        without = [part for part in _parts(split) if part in self.without_labels]
        if without:
            known = ", ".join(name for name in self.splits if name not in self.without_labels)
            raise InputError(
                f"config.{field} is {split!r}, but the images of {' and '.join(without)} have no "
                f"labels: choose of {known}; images without labels are for config.data.unlabelled"
            )


def _parts(split: str) -> list[str]:
    """The names in a split such as "train[:22]+more"."""
    return [part.split("[")[0].strip() for part in split.split("+")]


def load(name: str, *, archives: str = "", data_dir: str = "", **options: Any) -> DataSet:
    """Prepares the data set `name` if it is not prepared yet, and returns it.

    `archives` is the folder of the official archives, or of your own images; if it is empty, the
    archives are downloaded. Prepared data and downloads are kept in `data_dir`, by default TFDS's
    usual folder. `options` are further arguments of the data set's `prepare`; one that it does not
    take is dropped if it is not set (False, "", 0 or None).

    Raises:
        InputError: the name is unknown, an option is not one of this data set, or an archive is
            missing, damaged or incomplete.
    """
    if name not in DATA_SETS:
        raise InputError(
            f"--config.data.name: no data set is called {name!r}; known: {', '.join(DATA_SETS)}"
        )
    prepare = importlib.import_module(DATA_SETS[name]).prepare
    taken = inspect.signature(prepare).parameters
    for option in options.keys() - taken:
        if options.pop(option):
            raise InputError(
                f"--config.data.{option} is not an option of the data set {name}; leave it out"
            )
    return prepare(archives=archives, data_dir=data_dir, **options)
