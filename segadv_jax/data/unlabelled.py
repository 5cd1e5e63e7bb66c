"""Images without labels to train with: the rest of the training split, splits, or photographs."""

import hashlib
import io
import unicodedata
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Integer
from PIL import Image

from segadv_jax.data import DataSet, Split, photographs
from segadv_jax.errors import InputError

FIELD = "config.data.unlabelled"
REST = "rest"
SPLIT = "unlabelled"  # That of a data set which has images without labels.


def read(
    data_set: DataSet,
    which: str,
    train: str,
    chosen: Integer[np.ndarray, " m"],
    held_out: dict[str, str],
    longest_side: int = 0,
) -> Split:
    """Reads the images that `config.data.unlabelled` names; nobody looks at their labels.

    Args:
        data_set: of the run.
        which: "rest", the images of `train` that are not `chosen` and those of the data set that
            have no labels; the names of splits, joined with "+"; or a folder of photographs.
        train: the training split.
        chosen: its rows whose labels are used.
        held_out: splits that must not be among them, by the names of their fields. They are only
            compared: with splits by the names of the images, with photographs also by what these
            show.
        longest_side: larger photographs are shrunk to so many pixels, as those of the data set
            were; 0: none are.

    Raises:
        InputError: there are no such images, or they are held out, or cannot be read.
    """
    if which == REST:
        return _rest(data_set, train, chosen)
    try:
        data_set.check_split(which)
    except InputError as error:
        folder = Path(which).expanduser()
        if folder.is_dir():
            photos = _photographs(folder, longest_side)
            _check_photographs(which, photos, data_set, held_out)
            return photos
        raise InputError(
            f"{FIELD} is {which!r}, which is neither 'rest', nor a folder, nor splits of the data "
            f"set {data_set.name}: {', '.join(data_set.splits)} (join several with +)"
        ) from error
    split = data_set.read(which)
    for field, other in held_out.items():
        both = sorted({*split.ids} & {*data_set.read(other).ids})
        _refuse(which, both, field, other, "name splits that have no image in common")
    return split


def _photographs(folder: Path, longest_side: int) -> Split:
    """All images of a folder, not of the folders in it; their labels are void."""
    # Imported only here: the rest needs no TensorFlow.
    from segadv_jax.data.builders import check_decoded
    from segadv_jax.data.folder_files import check_name
    from segadv_jax.data.pipeline import Encoded

    names, images, sizes, problems = [], [], [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in photographs.HEIC:
            logging.warning("%s: %s is left out: save it as JPEG or PNG", folder, path.name)
    for path in photographs.find(folder):
        try:
            check_name(folder, path.name)
            photograph = photographs.read_photograph(path, path.name, longest_side)
            check_decoded(path.name, photograph.image, photograph.size)
        except InputError as error:
            problems.append(str(error))
            continue
        names.append(path.name)
        images.append(photograph.image)
        sizes.append(photograph.size)
    if not names and not problems:
        problems = [f"it holds no images ({', '.join(photographs.SUFFIXES)})"]
    photographs.report(folder, problems)
    labels = [photographs.png(photographs.void(size)) for size in sizes]
    return Encoded(names, images, labels, np.array(sizes, np.int32))


def _check_photographs(
    which: str, photos: Split, data_set: DataSet, held_out: dict[str, str]
) -> None:
    """Refuses photographs that are held out, in whatever format and under whatever name.

    The same name is enough: it may be the same photograph, shrunk or cut.
    """
    shown = [_pixels(image) for image in photos.images]
    for field, other in held_out.items():
        split = data_set.read(other)
        # Of a folder of images they are paths, as "beach/one".
        names = {_normal(part): name for name in split.ids for part in (name, Path(name).name)}
        theirs = {_pixels(image): name for name, image in zip(split.ids, split.images, strict=True)}
        both = []
        for name, own in zip(photos.ids, shown, strict=True):
            if own in theirs:
                both.append(f"{name}, which shows what {theirs[own]} shows")
            elif same := names.get(_normal(name)) or names.get(_normal(Path(name).stem)):
                there = "" if same in (name, Path(name).stem) else f" as {same}"
                both.append(f"{name}, whose name is there{there}")
        remedy = (
            "take copies out of the folder, rename what only has the same name; what the data set "
            "itself has without labels is 'rest'"
        )
        _refuse(which, both, field, other, remedy)


def _normal(name: str) -> str:
    """A name in Unicode's composed form, as a data set may have it."""
    return unicodedata.normalize("NFC", name)


def _pixels(image: bytes | np.ndarray) -> bytes:
    """A digest of an image of a split, of what it shows."""
    if isinstance(image, bytes):
        with Image.open(io.BytesIO(image)) as opened:
            image = np.array(opened.convert("RGB"))
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()


def _refuse(which: str, both: list[str], field: str, other: str, remedy: str) -> None:
    """Raises an InputError if there are names in `both`."""
    if both:
        few = "; ".join(both[:3])
        raise InputError(
            f"{FIELD} is {which!r}, and config.{field}, {other!r}, has {len(both)} of its images: "
            f"{few}: {remedy}"
        )


def _rest(data_set: DataSet, train: str, chosen: Integer[np.ndarray, " m"]) -> Split:
    """The images that are not used with their labels, or have none."""
    split = data_set.read(f"{train}+{SPLIT}" if SPLIT in data_set.splits else train)
    rows = np.setdiff1d(np.arange(len(split.ids)), chosen)
    if not len(rows):
        raise InputError(
            f"{FIELD} is 'rest', but all images are used with their labels: set "
            "config.data.fraction below 1, name other splits or a folder of photographs, or set "
            f"{FIELD} to ''"
        )
    return split.take(rows)
