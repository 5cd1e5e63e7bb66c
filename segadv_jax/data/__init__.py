"""Data sets and the batches made of them.

A batch is a dict of NumPy arrays: `image` u8[n,H,W,3] RGB; `label` u8[n,H,W] with 255 = void;
`size` i32[n,2], the true (height, width) of an image padded at the bottom and right (image 0,
label 255); `mask` f32[n], 0 for a row that only pads the batch; `id` [n], names.

TensorFlow is imported by the modules of this package that need it, not here.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from segadv_jax.data.examples import Batch, Split
from segadv_jax.errors import InputError

__all__ = ["DATA_SETS", "Batch", "DataSet", "Split", "check_split", "load"]

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


class DataSet(NamedTuple):
    """A prepared data set.

    Attributes:
        name: of the data set.
        splits: the names of its splits.
        read: from the name of a split to the split. Several are joined with "+". Where TFDS holds
            the data, its slices work as well, as "train[:22]". Raises an InputError where there is
            no such split, or an empty one.
        class_names: of classes 0 .. C-1.
        palette: the classes' RGB colours.
    """

    name: str
    splits: tuple[str, ...]
    read: Callable[[str], Split]
    class_names: tuple[str, ...]
    palette: UInt8[np.ndarray, "C 3"]

    def check_split(self, split: str, field: str = "") -> None:
        """Raises an InputError that names config.`field` if there is no such split."""
        check_split(self.name, self.splits, split, field)


def check_split(name: str, known: Iterable[str], split: str, field: str = "") -> None:
    """Raises an InputError if the data set `name`, whose splits are `known`, has no such split.

    Args:
        name: of the data set.
        known: its splits.
        split: the name to check: several joined with "+", or slices as "train[:22]".
        field: of the configuration, which the error names; empty: none.
    """
    known = list(known)
    for part in split.split("+"):
        if part.split("[")[0].strip() not in known:
            where = f"config.{field}: " if field else ""
            raise InputError(
                f"{where}the data set {name} has no split {part.strip()!r};"
                f" known: {', '.join(known)} (join several with +)"
            )


def load(name: str, *, archives: str = "", data_dir: str = "", **options: Any) -> DataSet:
    """Prepares the data set `name` if it is not prepared yet, and returns it.

    Args:
        name: one of `DATA_SETS`.
        archives: folder that holds the official archives, or your own images; empty: the archives
            are downloaded.
        data_dir: where prepared data and downloads are kept; empty: TFDS's usual folder.
        **options: further arguments of the data set's `prepare`. One that it does not take is
            dropped if it is not set (False, "", 0 or None).

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
    for option, value in options.items():
        if value and option not in taken:
            raise InputError(
                f"--config.data.{option} is not an option of the data set {name}; leave it out"
            )
    options = {option: value for option, value in options.items() if option in taken}
    return prepare(archives=archives, data_dir=data_dir, **options)
