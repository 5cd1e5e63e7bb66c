"""Your own images and labels, in a folder.

    FOLDER/images/NAME.jpg     or .jpeg, .png, .bmp, .webp, .tif
    FOLDER/labels/NAME.png     class indices 0 .. C-1, as grey values or as a palette's; 255 is void
    FOLDER/classes.txt         optional: the classes' names, a line each; else as many as the labels
                               have
    FOLDER/train.txt, validation.txt, test.txt
                               optional: names of images, a line each; without any of these lists
                               70, 15 and 15 % of the images, drawn once and for all by their names

Everything is read and checked before anything is written; what is wrong is reported together.
"""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segadv_jax import VOID
from segadv_jax.data import builders
from segadv_jax.data.archives import FIELD
from segadv_jax.data.cpu_tensorflow import tfds
from segadv_jax.errors import InputError

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.85)  # Where the validation and the test images begin.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
REPORTED = 20  # Problems that an error lists.


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """The folder; `name` identifies its content."""

    folder: str = ""


class ImageFolder(builders.Builder):
    """Images and labels as they are in the folder."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            description=__doc__,
            features=builders.features("png"),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        folder = Path(self.builder_config.folder)
        splits, class_names = check(folder)
        self.info.metadata["class_names"] = class_names
        return {split: self._generate_examples(folder, names) for split, names in splits.items()}

    def _generate_examples(self, folder, names):
        images = _files(folder / "images", SUFFIXES)
        for name in names:
            image, size = _read_image(images[name])
            label = _read_label(folder / "labels" / f"{name}.png")
            yield (
                name,
                {
                    "image": image,
                    "label": builders.png(label),
                    "size": np.array(size, np.int32),
                    "id": name,
                },
            )


def prepare(*, archives="", data_dir=""):
    """Returns the prepared builder.

    Args:
      archives: the folder.
      data_dir: where prepared data is kept, by the files' names, sizes and times: what changes in
        the folder is seen.

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
    config = Config(name=_key(folder), folder=str(folder))
    return builders.prepare(ImageFolder, data_dir=builders.folder(data_dir), config=config)


def classes(builder):
    """(class names, colours u8[C,3]) of a prepared folder."""
    names = tuple(builder.info.metadata["class_names"])
    return names, builders.voc_palette(len(names))


def check(folder):
    """Reads the whole folder.

    Returns:
      ({split: names}, class names).

    Raises:
      InputError: names every file that is missing, unreadable, of another size than its image or
        with labels that no class has.
    """
    images = _files(folder / "images", SUFFIXES)
    splits, problems = _splits(folder, images)
    names = [path.stem for path in _paths(folder / "images", SUFFIXES)]
    problems += [f"images/ has {n} twice" for n in sorted(images) if names.count(n) > 1]
    class_names, found = _class_names(folder), set()
    for name in sorted({name for names in splits.values() for name in names}):
        if name not in images:
            problems.append(f"images/{name}.* is in a list, but not there")
            continue
        try:
            _, size = _read_image(images[name])
            label = _read_label(folder / "labels" / f"{name}.png")
        except InputError as error:
            problems.append(str(error))
            continue
        if label.shape != size:
            problems.append(
                f"labels/{name}.png is {label.shape[0]}x{label.shape[1]} (height x width), its "
                f"image {size[0]}x{size[1]}"
            )
        known = label[label != VOID].astype(int)
        found |= set(np.unique(known).tolist())
        if class_names and known.size and known.max() >= len(class_names):
            problems.append(
                f"labels/{name}.png has a class {known.max()}, but classes.txt names "
                f"{len(class_names)}, from 0"
            )
    missing = sorted(set(range(max(found, default=-1) + 1)) - found)
    if not problems and len(class_names or found) < 2:
        problems.append("the labels have fewer than two classes")
    elif not problems and not class_names and missing:
        problems.append(
            f"the labels have classes up to {max(found)}, but none of {_few(missing)}: is a value "
            f"meant for void, which is {VOID}? Otherwise name the classes in classes.txt"
        )
    if problems:
        more = len(problems) - REPORTED
        listed = "; ".join(problems[:REPORTED]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(f"{folder}: {listed}")
    return splits, class_names or [f"class {index}" for index in sorted(found)]


def _splits(folder, images):
    """({split: names}, problems) of the lists, or drawn."""
    lists = {split: folder / f"{split}.txt" for split in SPLITS}
    given = {split: _lines(path) for split, path in lists.items() if path.is_file()}
    if not given:
        if len(images) < len(SPLITS):
            known = ", ".join(SUFFIXES)
            return {}, [f"images/ itself holds {len(images)} images ({known}): three are the least"]
        # By a digest of the name: a new image does not move the others to other splits.
        order = sorted(images, key=lambda name: hashlib.sha256(name.encode()).digest())
        begin, end = (round(share * len(order)) for share in SHARES)
        end = min(max(end, begin + 1), len(order) - 1)
        begin = min(begin, end - 1)
        parts = order[:begin], order[begin:end], order[end:]
        return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}, []
    problems = [f"{split}.txt names no image" for split, names in given.items() if not names]
    problems += [f"{split}.txt is missing" for split in SPLITS[:2] if split not in given]
    for split, names in given.items():
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"{split}.txt names {name} twice" for name in twice]
        for other in SPLITS[: SPLITS.index(split)]:
            both = sorted(set(names) & set(given.get(other, ())))
            problems += [f"{name} is in {other}.txt and in {split}.txt" for name in both]
    return given, problems


def _lines(path):
    """The lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows writes a mark first.
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); save it as UTF-8 text") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _few(numbers):
    """The first of some numbers, as text."""
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")


def _class_names(folder):
    path = folder / "classes.txt"
    if not path.is_file():
        return []
    names = _lines(path)
    if not 2 <= len(names) < VOID:
        raise InputError(f"{path} names {len(names)} classes: give 2 to {VOID - 1}, a line each")
    if len(set(names)) < len(names):
        raise InputError(f"{path} has a name twice")
    return names


def _paths(folder, suffixes):
    """The files of a folder with one of the suffixes, sorted."""
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]
    return [path for path in paths if not path.name.startswith(".")]  # macOS leaves such files.


def _files(folder, suffixes):
    """{name without suffix: path} of ``_paths``."""
    return {path.stem: path for path in _paths(folder, suffixes)}


def _read_image(path):
    """(the image as JPEG or PNG bytes, (height, width)), the way up that its file says."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if opened.format in ("JPEG", "PNG") and opened.mode == "RGB":
                if opened.getexif().get(0x0112, 1) == 1:  # Its orientation.
                    return content, (opened.height, opened.width)
            return builders.png(np.array(upright.convert("RGB"))), (upright.height, upright.width)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"images/{path.name} is not a readable image ({error})") from error


def _read_label(path):
    """u8[H,W], class indices."""
    try:
        with Image.open(path) as opened:
            label, mode = np.array(opened), opened.mode
    except FileNotFoundError as error:
        raise InputError(f"labels/{path.name} is missing") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"labels/{path.name} is not a readable image ({error})") from error
    if mode not in ("L", "P") or label.dtype != np.uint8:
        raise InputError(
            f"labels/{path.name} is of mode {mode}: save class indices as 8-bit grey values or "
            "with a palette"
        )
    return label


def _key(folder):
    """A short name for the folder's content, by the files' names, sizes and times."""
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            line = f"{path.relative_to(folder)}\n{status.st_size}\n{status.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()[:16]
