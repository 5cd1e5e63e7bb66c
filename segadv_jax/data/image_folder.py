"""Your own images and labels, in a folder.

    FOLDER/images/NAME.jpg     or .jpeg, .png, .bmp, .webp, .tif; also in folders in it
    FOLDER/labels/NAME.png     class indices 0 .. C-1, as grey values or as a palette's, 255 is
                               void; or the colours that classes.txt names
    FOLDER/classes.txt         optional: the names of the classes, one per line, with colours as in
                               "sky 70 130 180" or "sky #4682b4" if the labels are colours; without
                               it there are as many classes as the labels use
    FOLDER/train.txt, validation.txt (or val.txt), test.txt
                               optional: names of images, one per line; without any of these lists
                               the splits are 70, 15 and 15 % of the images, drawn by their names:
                               the same in every run
    FOLDER/unlabelled.txt      optional, read if config.data.without_masks is set: names of images
                               that are to be seen without labels; without it all are that have no
                               mask and are in no list

docs/own_images.md says what may differ from this, and how. Each file is read once: while the copy
is prepared, all that is wrong is gathered, files that change meanwhile included, and then nothing
of the copy is kept.
"""

import hashlib
import os
import re
from pathlib import Path

import numpy as np

from segadv_jax.data import DataSet, builders, folder_files, folder_masks, pipeline
from segadv_jax.data.archives import FIELD
from segadv_jax.data.cpu_tensorflow import tfds
from segadv_jax.data.folder_files import Layout
from segadv_jax.data.folder_reading import Reading, Source
from segadv_jax.data.folder_report import say
from segadv_jax.data.unlabelled import SPLIT as UNLABELLED
from segadv_jax.errors import InputError

LEAST_SIDE = 32  # Of a longest side.


class ImageFolder(builders.Builder):
    """Images and labels as they are in the folder, or shrunk."""

    # Raise it with every change of how images are read: prepared data is kept per version.
    VERSION = tfds.core.Version("2.2.0")
    encoding = "png"

    def _info(self):
        return super()._info(metadata=tfds.core.MetadataDict())

    def examples(self):
        reading = Reading(self.source)
        splits = reading.splits()
        self.number = sum(map(len, splits.values()))
        last = [*splits][-1]
        return {split: self._read(reading, split, names, last) for split, names in splits.items()}

    def _read(self, reading, split, names, last):
        yield from reading.examples(split, names)
        if split == last:  # All has been seen.
            self.info.metadata.update(reading.end())


def prepare(
    *,
    archives: str = "",
    data_dir: str = "",
    void: str = "",
    images: str = "",
    labels: str = "",
    label_suffix: str = "",
    longest_side: int = 0,
    turn_masks: bool = False,
    without_masks: bool = False,
) -> DataSet:
    """Returns the prepared data set of the folder `archives`, and says what is in it.

    The copy is kept by the names, sizes and times of the images, labels and lists, and by the other
    arguments: a change is noticed.

    Args:
        archives: the folder.
        data_dir: where the copy is kept.
        void: the value of void in labels beside 255, as "11"; values above it are moved down by
            one. "none": there is no void, and in labels of 0 and 255 alone 255 is class 1.
        images: the name of the subfolder of images, if it is not "images",
        labels: and that of the labels, if it is not "labels".
        label_suffix: what label files' names have after the image's, as "_mask".
        longest_side: larger images and their labels are shrunk to so many pixels; 0: none are.
        turn_masks: masks are of the photographs as stored: turned as the EXIF data of these says.
        without_masks: images without a mask are the split "unlabelled", if there are any, instead
            of being an error.

    Raises:
        InputError: there is no such folder, or it lists what is wrong with what the folder holds.
    """
    layout = _layout(archives, images or "images", labels or "labels", label_suffix)
    if longest_side and longest_side < LEAST_SIDE:
        raise InputError(
            f"--config.data.longest_side={longest_side}: set it to {LEAST_SIDE} or more, or to 0"
        )
    value = folder_masks.parse_void(void)
    classes = folder_masks.read_classes(layout.folder, value)
    state = folder_files.state_of(layout)
    key = folder_files.key_of(
        state, (value, images, labels, label_suffix, longest_side, turn_masks, without_masks)
    )
    family = _family(layout.folder)
    source = Source(layout, state, classes, longest_side, turn_masks, without_masks)
    builder = builders.prepare(ImageFolder, data_dir, f"{family}{key}", source)
    found = builder.info.metadata
    if not found or "class_names" not in found:
        raise builders.damaged_copy(builder.data_dir, "it does not say what is in it")
    # .../image_folder/KEY/VERSION
    copy = Path(builder.data_dir).parent
    others = sorted(copy.parent.glob(f"{family}*"))
    say(copy, [path for path in others if path != copy and any(path.iterdir())], found)
    names = tuple(found["class_names"])
    colours = np.array(found["palette"], np.uint8)
    palette = colours if colours.size else _palette(names)
    return pipeline.data_set(builder, names, palette, without_labels=(UNLABELLED,))


def _palette(names):
    """PASCAL VOC's colours, whose first one, black, is for a background only."""
    first = 0 if names[0].lower() == "background" else 1
    return builders.voc_palette(first + len(names))[first:]


def _layout(archives, images, labels, suffix):
    folder = Path(archives).expanduser()
    layout = Layout(folder.resolve(), images.strip("/"), labels.strip("/"), suffix)
    if archives and not folder.is_dir():
        raise InputError(f"{FIELD} is {str(archives)!r}: there is no such folder")
    for field, name in (("images", layout.images), ("labels", layout.labels)):
        if not archives or not (folder / name).is_dir() or name in (".", ".."):
            raise InputError(
                f"{FIELD} is {str(archives)!r}, and there is no {name}/ in it: set it to a folder "
                f"with images/ and labels/, as docs/own_images.md describes, or name its subfolder "
                f"in --config.data.{field}"
            )
    if layout.shared() and not suffix:
        raise InputError(
            f"--config.data.images and labels are both {images!r}: name two folders, or set "
            "--config.data.label_suffix to what tells masks from images, as '_mask'"
        )
    return layout


def _family(folder):
    """What the names of all copies of a folder begin with."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder.name).strip("-")[:30] or "folder"
    return f"{name}_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}_"
