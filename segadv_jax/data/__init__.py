"""Data sets and the batches made of them.

A batch is a dict of NumPy arrays: `image` u8[n,H,W,3] RGB; `label` u8[n,H,W] with 255 = void;
`size` i32[n,2], the true (height, width) of an image padded at the bottom and right (image 0,
label 255); `mask` f32[n], 0 for a row that only pads the batch; `id` [n], names.

TensorFlow is imported by the modules of this package that need it, not here.
"""

import importlib
import os
from typing import Any, NamedTuple

import numpy as np

from segadv_jax.errors import InputError

# No start-up notes of TensorFlow's C++ side (its warnings and errors still show). The second
# switch serves that alone: reading data needs no oneDNN.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

DATA_SETS = ("synthetic", "stanford_background", "voc_sbd", "image_folder")


class DataSet(NamedTuple):
    """A prepared data set: its TFDS builder, and per class a name and an RGB colour u8[C,3]."""

    builder: Any
    class_names: tuple[str, ...]
    palette: np.ndarray


def load(name, *, archives="", data_dir="", allow_partial=False):
    """Prepares the data set `name` if it is not prepared yet, and returns it.

    Args:
      name: one of `DATA_SETS`.
      archives: folder that holds the official archives, or one's own images; empty: the archives
        are downloaded.
      data_dir: where prepared data and downloads are kept; empty: TFDS's usual folder.
      allow_partial: go on if the archives hold a part of the data set.

    Raises:
      InputError: an unknown name, or an archive that is missing, damaged or incomplete.
    """
    if name not in DATA_SETS:
        raise InputError(
            f"--config.data.name: no data set is called {name!r}; known: {', '.join(DATA_SETS)}"
        )
    module = importlib.import_module(f"segadv_jax.data.{name}")
    options = {"allow_partial": True} if allow_partial else {}
    if options and name != "voc_sbd":
        raise InputError(f"--config.data.allow_partial is of the data set voc_sbd, not of {name}")
    builder = module.prepare(archives=archives, data_dir=data_dir, **options)
    if name == "image_folder":
        return DataSet(builder, *module.classes(builder))
    return DataSet(builder, module.CLASS_NAMES, module.PALETTE)
