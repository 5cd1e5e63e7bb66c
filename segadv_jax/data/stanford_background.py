"""The Stanford Background data set (Gould et al., ICCV 2009): 715 images, eight classes."""

import functools
import io
import json
from pathlib import Path

import numpy as np

from segadv_jax import VOID
from segadv_jax.data import DataSet, builders, pipeline
from segadv_jax.data.archives import Archive, find, key, read_tar
from segadv_jax.errors import InputError

ARCHIVE = Archive("iccv09Data.tar.gz", "http://dags.stanford.edu/data/iccv09Data.tar.gz")
_CLASSES = {
    "sky": (135, 206, 250),  # light blue
    "tree": (0, 100, 0),  # dark green
    "road": (128, 64, 128),  # purple
    "grass": (124, 220, 60),  # light green
    "water": (0, 60, 200),  # blue
    "building": (200, 50, 40),  # red
    "mountain": (140, 90, 40),  # brown
    "foreground": (255, 200, 0),  # yellow
}
CLASS_NAMES, PALETTE = tuple(_CLASSES), np.array(list(_CLASSES.values()), np.uint8)


def read_splits() -> dict[str, list[str]]:
    """The shipped lists of ids, {"test", "subset_0", ..., "subset_7"}.

    The paper takes 573 and 142 images "introduced in [10]" and cuts the training images into eight
    subsets, one of which validates (Section 5); neither list was published. Ours are drawn: the
    sorted ids of all 715 images are permuted by RandomState(2016); the first 142 are for testing,
    the others are cut into eight consecutive parts; each list is sorted.
    """
    names = ["test"] + [f"subset_{i}" for i in range(8)]
    folder = Path(__file__).parent / "stanford_background_splits"
    return {name: (folder / f"{name}.txt").read_text().split() for name in names}


class StanfordBackground(builders.Builder):
    """Images as published; labels 0..7 and 255 for the archive's negative ones (unknown)."""

    homepage = "http://dags.stanford.edu/projects/scenedataset.html"

    def examples(self):
        path, splits = self.source
        files = read_tar(path, (".jpg", ".regions.txt"))
        makers = {
            split: [functools.partial(_example, files, name) for name in ids]
            for split, ids in splits.items()
        }
        self.number = sum(map(len, makers.values()))
        return builders.gather(makers)


def prepare(*, archives: str = "", data_dir: str = "") -> DataSet:
    """Returns the prepared data set.

    Raises:
        InputError: the archive is missing, damaged, or lacks a file that the splits name.
    """
    splits, path = read_splits(), find(ARCHIVE, archives, data_dir)
    name = key(ARCHIVE, path, json.dumps(splits, sort_keys=True))
    builder = builders.prepare(StanfordBackground, data_dir, name, (path, splits))
    return pipeline.data_set(builder, CLASS_NAMES, PALETTE)


def _example(files, name):
    image, label = f"iccv09Data/images/{name}.jpg", f"iccv09Data/labels/{name}.regions.txt"
    content, classes = files.read(image), _read_label(f"{files.path}: {label}", files.read(label))
    return builders.checked_example(f"{files.path}: {image}", name, content, classes)


def _read_label(where, text):
    """Parses a matrix of integers: u8[H,W], 255 where the archive says -1, unknown."""
    try:
        classes = np.loadtxt(io.BytesIO(text), dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise InputError(f"{where} is not a matrix of integers ({error})") from error
    if classes.max(initial=0) >= len(CLASS_NAMES):
        raise InputError(f"{where} has a class {classes.max()}; known are 0..7 and negative ones")
    return np.where(classes < 0, VOID, classes).astype(np.uint8)
