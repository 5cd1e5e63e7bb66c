"""The Stanford Background data set (Gould et al., ICCV 2009): 715 images, eight classes."""

import dataclasses
import io
import json
from collections.abc import Mapping

import numpy as np

from segadv_jax import VOID
from segadv_jax.data import DataSet, builders, pipeline, stanford_splits
from segadv_jax.data.archives import Archive, find, key, read_tar
from segadv_jax.data.cpu_tensorflow import tfds
from segadv_jax.errors import InputError

ARCHIVE = Archive("iccv09Data.tar.gz", "http://dags.stanford.edu/data/iccv09Data.tar.gz")
CLASS_NAMES = ("sky", "tree", "road", "grass", "water", "building", "mountain", "foreground")
PALETTE = np.array(
    [
        [135, 206, 250],  # sky: light blue
        [0, 100, 0],  # tree: dark green
        [128, 64, 128],  # road: purple
        [124, 220, 60],  # grass: light green
        [0, 60, 200],  # water: blue
        [200, 50, 40],  # building: red
        [140, 90, 40],  # mountain: brown
        [255, 200, 0],  # foreground: yellow
    ],
    np.uint8,
)
_IMAGE = "iccv09Data/images/{}.jpg"
_LABEL = "iccv09Data/labels/{}.regions.txt"
_SUFFIXES = (".jpg", ".regions.txt")


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """The archive's path and the ids of each split; `name` identifies the content of both."""

    archive: str = ""
    splits: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)


class StanfordBackground(builders.Builder):
    """Images as published; labels 0..7 and 255 for the archive's negative ones (unknown)."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            description=__doc__,
            features=builders.features("jpeg"),
            homepage="http://dags.stanford.edu/projects/scenedataset.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # The archive is at hand: its digest names the config.
        config = self.builder_config
        files = read_tar(config.archive, lambda name: name.endswith(_SUFFIXES))
        # All examples are checked before the first is written.
        examples = {
            split: [_example(files, name) for name in names]
            for split, names in config.splits.items()
        }
        return {split: self._generate_examples(part) for split, part in examples.items()}

    def _generate_examples(self, examples):
        for example in examples:
            yield example["id"], example


def build(
    *, archives: str = "", data_dir: str = "", splits: Mapping[str, list[str]] | None = None
) -> StanfordBackground:
    """Returns the prepared TFDS builder.

    Args:
        archives: folder with `iccv09Data.tar.gz`; empty: it is downloaded.
        data_dir: where prepared data is kept.
        splits: {split: ids}; the shipped lists if None.

    Raises:
        InputError: the archive is missing, damaged, or lacks a file that the splits name.
    """
    splits = stanford_splits.read() if splits is None else splits
    folder = builders.folder(data_dir)
    path = find(ARCHIVE, archives, folder)
    name = key(ARCHIVE, path, json.dumps(splits, sort_keys=True))
    config = Config(name=name, archive=str(path), splits=splits)
    return builders.prepare(StanfordBackground, data_dir=folder, config=config)


def prepare(*, archives: str = "", data_dir: str = "") -> DataSet:
    """Returns the prepared data set; for arguments and errors see `build`."""
    builder = build(archives=archives, data_dir=data_dir)
    return pipeline.data_set(builder, CLASS_NAMES, PALETTE)


def _example(files, name):
    """The example `name` of the archive's `files`."""
    image, label = files.read(_IMAGE.format(name)), files.read(_LABEL.format(name))
    classes = _read_label(f"{files.path}: {_LABEL.format(name)}", label)
    return builders.checked_example(f"{files.path}: {_IMAGE.format(name)}", name, image, classes)


def _read_label(where, text):
    """Parses a matrix of integers: u8[H,W], 255 where the archive says -1, unknown."""
    try:
        classes = np.loadtxt(io.BytesIO(text), dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise InputError(f"{where} is not a matrix of integers ({error})") from error
    if classes.max(initial=0) >= len(CLASS_NAMES):
        raise InputError(f"{where} has a class {classes.max()}; known are 0..7 and negative ones")
    return np.where(classes < 0, VOID, classes).astype(np.uint8)
