"""Your own images and labels, in a folder.

    FOLDER/images/NAME.jpg     or .jpeg, .png, .bmp, .webp, .tif
    FOLDER/labels/NAME.png     class indices 0 .. C-1, as grey values or as a palette's; 255 is void
    FOLDER/classes.txt         optional: the names of the classes, one per line; without it there
                               are as many classes as the labels use
    FOLDER/train.txt, validation.txt, test.txt
                               optional: names of images, one per line; without any of these lists
                               the splits are 70, 15 and 15 % of the images, drawn by their names:
                               the same in every run
    FOLDER/unlabelled.txt      optional, read if config.data.without_masks is set: names of images
                               that are to be seen without labels; without it all are that have no
                               mask and are in no list

Everything is read and checked before anything is written. All problems are reported together.
"""

import hashlib
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import DataSet, builders, photographs, pipeline
from segadv_jax.data.archives import FIELD
from segadv_jax.data.cpu_tensorflow import tfds
from segadv_jax.data.unlabelled import SPLIT as UNLABELLED
from segadv_jax.errors import InputError

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.85)  # Where the validation and the test images begin.
_REMEDY = (
    "; to have images without masks as unlabelled ones, for config.data.unlabelled, set "
    "config.data.without_masks"
)


class ImageFolder(builders.Builder):
    """Images and labels as they are in the folder."""

    # Raise it with every change of how images are read: prepared data is kept per version.
    VERSION = tfds.core.Version("1.1.0")
    encoding = "png"

    def _info(self):
        return super()._info(metadata=tfds.core.MetadataDict())

    def examples(self):
        folder, without_masks = self.source
        splits, self.info.metadata["class_names"] = check(folder, without_masks)
        return {split: _examples(folder, split, names) for split, names in splits.items()}


def _examples(folder, split, names):
    images = {path.stem: path for path in photographs.find(folder / "images")}
    for name in names:
        image, size = _read_image(images[name])
        is_labelled = split != UNLABELLED
        label = _read_label(folder, name) if is_labelled else photographs.void(size)
        yield builders.example(name, image, label)


def prepare(*, archives: str = "", data_dir: str = "", without_masks: bool = False) -> DataSet:
    """Returns the prepared data set of the folder `archives`.

    It is kept by the names, sizes and times of the files: a change in the folder is noticed. With
    `without_masks` images without a mask are the split "unlabelled", if there are any, instead of
    being an error.

    Raises:
        InputError: there is no such folder, or something is wrong with what it holds.
    """
    folder = Path(archives).expanduser()
    if not archives or not (folder / "images").is_dir() or not (folder / "labels").is_dir():
        raise InputError(
            f"{FIELD} is {str(archives)!r}: set it to a folder with images/ and labels/, as "
            "segadv_jax/data/image_folder.py describes"
        )
    folder = folder.resolve()
    name = _key(folder) + ("_unlabelled" if without_masks else "")
    builder = builders.prepare(ImageFolder, data_dir, name, (folder, without_masks))
    class_names = tuple(builder.info.metadata["class_names"])
    palette = builders.voc_palette(len(class_names))
    return pipeline.data_set(builder, class_names, palette, without_labels=(UNLABELLED,))


def _key(folder):
    """A short name for the folder's content, by the names, sizes and times of its files."""
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            line = f"{path.relative_to(folder)}\n{status.st_size}\n{status.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()[:16]


def check(folder: Path, without_masks: bool = False) -> tuple[dict[str, list[str]], list[str]]:
    """Reads the whole folder and returns {split: names} and the names of the classes.

    Raises:
        InputError: lists every image or label that is missing, unreadable, of different sizes, or
            with a class that does not exist, and what is wrong with the lists.
    """
    paths = photographs.find(folder / "images")
    images = {path.stem: path for path in paths}
    splits, problems = _read_splits(folder, images, without_masks)
    problems += [f"images/ has {name} twice" for name in _twice(path.stem for path in paths)]
    class_names, used, remedy = _read_class_names(folder), set(), ""
    unlabelled = set(splits.get(UNLABELLED, ()))
    for name in sorted(set().union(*splits.values())):
        try:
            if name not in images:
                raise InputError(f"a list names images/{name}.*, which does not exist")
            _, size = _read_image(images[name])
            if name in unlabelled:
                continue
            if not without_masks and not _has_mask(folder, name):
                remedy = _REMEDY
            label = _read_label(folder, name)
        except InputError as error:
            problems.append(str(error))
            continue
        classes = set(np.unique(label).tolist()) - {VOID}
        used |= classes
        if label.shape != size:
            problems.append(
                f"labels/{name}.png is {label.shape[0]}x{label.shape[1]} (height x width), its "
                f"image {size[0]}x{size[1]}"
            )
        if class_names and max(classes, default=0) >= len(class_names):
            problems.append(
                f"labels/{name}.png has class {max(classes)}, but classes.txt names only classes 0 "
                f"to {len(class_names) - 1}"
            )
    if not problems:  # Only then are all labels known.
        problems += _check_classes(class_names, used)
    photographs.report(folder, problems, remedy)
    return splits, class_names or [f"class {index}" for index in sorted(used)]


def _twice(names):
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _check_classes(class_names, used):
    """What is wrong with the classes that the labels use, as a list of problems."""
    if len(class_names or used) < 2:
        return ["the labels have fewer than two classes"]
    missing = sorted(set(range(max(used, default=-1) + 1)) - used)
    if class_names or not missing:
        return []
    few = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return [
        f"the labels have classes up to {max(used)}, but no pixel of {few}: if {max(used)} is "
        f"meant to be void, write {VOID} instead; otherwise name all classes in classes.txt"
    ]


def _read_splits(folder, images, without_masks):
    """({split: names}, problems) of the lists, or of a draw if there are no lists."""
    known = (*SPLITS, UNLABELLED) if without_masks else SPLITS
    lists = {split: folder / f"{split}.txt" for split in known}
    given = {split: _read_lines(path) for split, path in lists.items() if path.is_file()}
    listed = set().union(*given.values())
    if without_masks and UNLABELLED not in given:
        rest = [name for name in images if name not in listed and not _has_mask(folder, name)]
        given |= {UNLABELLED: rest} if rest else {}
    problems = _check_lists(given)
    if given.keys() - {UNLABELLED}:
        return given, problems
    drawn, more = _draw_splits([name for name in images if name not in given.get(UNLABELLED, ())])
    return given | drawn, problems + more


def _draw_splits(names):
    """The same of a draw."""
    if len(names) < len(SPLITS):
        known = ", ".join(photographs.SUFFIXES)
        return {}, [
            f"images/ itself holds {len(names)} images ({known}) for the splits, but at least "
            "three are needed"
        ]
    # Ordered by a digest of the name: with a new image nearly all others stay where they are.
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    begin, end = (round(share * len(order)) for share in SHARES)
    end = min(max(end, begin + 1), len(order) - 1)
    begin = min(begin, end - 1)
    parts = order[:begin], order[begin:end], order[end:]
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}, []


def _check_lists(given):
    """What is wrong with the lists {split: names}, as a list of problems."""
    problems = [f"{split}.txt names no image" for split, names in given.items() if not names]
    if given.keys() - {UNLABELLED}:
        problems += [f"{split}.txt is missing" for split in SPLITS[:2] if split not in given]
    for split, names in given.items():
        problems += [f"{split}.txt names {name} twice" for name in _twice(names)]
    for (other, theirs), (split, names) in itertools.combinations(given.items(), 2):
        both = sorted(set(names) & set(theirs))
        problems += [f"{name} is in both {other}.txt and {split}.txt" for name in both]
    return problems


def _read_lines(path):
    """The lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows writes a mark first.
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); save it as UTF-8 text") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_class_names(folder):
    """The lines of classes.txt; none if there is no such file."""
    path = folder / "classes.txt"
    if not path.is_file():
        return []
    names = _read_lines(path)
    if not 2 <= len(names) < VOID:
        raise InputError(f"{path} names {len(names)} classes: give 2 to {VOID - 1}, one per line")
    if _twice(names):
        raise InputError(f"{path} names a class twice")
    return names


def _read_image(path):
    return photographs.read_image(path, f"images/{path.name}")


def _has_mask(folder, name):
    return (folder / "labels" / f"{name}.png").exists()


def _read_label(folder, name):
    """u8[H,W], the class indices of an example."""
    member = f"labels/{name}.png"
    if not _has_mask(folder, name):
        raise InputError(f"{member} is missing")
    with builders.readable(member), Image.open(folder / member) as opened:
        label, mode = np.array(opened), opened.mode
    if mode not in ("L", "P") or label.dtype != np.uint8:
        raise InputError(
            f"{member} has mode {mode}: save class indices as 8-bit grey values or with a palette"
        )
    return label
