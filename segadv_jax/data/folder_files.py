"""The files of an image folder: images, label files, and which of them make a split.

An image's name is its path below images/ without the suffix, as "beach/one". Names are compared in
Unicode's composed form: macOS may write an umlaut as two characters, and an editor as one.
"""

import hashlib
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from segadv_jax.data.folder_report import REPORTED, Report
from segadv_jax.data.photographs import HEIC as HEIC_SUFFIXES
from segadv_jax.data.photographs import SUFFIXES
from segadv_jax.data.unlabelled import SPLIT as UNLABELLED
from segadv_jax.errors import InputError

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.85)  # Where the validation and the test images begin.
# The names of a list's file; of the second split both are usual.
LISTS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
LISTS |= {UNLABELLED: (UNLABELLED,)}
# The text files that are read.
_OWN = [f"{name}.txt" for name in ("classes", *itertools.chain(*LISTS.values()))]
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")
JPEG_SUFFIXES = (".jpg", ".jpeg")
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")

LIST = "the lists do not fit the images:"
TWICE = "two files have one name; keep one of them:"
UNPAIRED = "masks without an image are left out:"
OTHER = "files of another kind are left out:"
HEIC = "HEIC photographs are left out; save them as JPEG or PNG to have them used:"
UNLISTED = "images that no list names are left out:"
NO_LIST = "text files that are no lists are left out:"


class Layout(NamedTuple):
    """Where the files of a data set lie."""

    folder: Path
    images: str = "images"  # Names of subfolders.
    labels: str = "labels"
    suffix: str = ""  # What a label file's name has after that of its image.

    def where(self, path: Path) -> str:
        """The path as it is reported: from the folder on."""
        return path.relative_to(self.folder).as_posix()

    def shared(self) -> bool:
        """Whether label files lie between the images, and only their suffix tells them apart."""
        return self.images == self.labels


class Files(NamedTuple):
    """The files of each name."""

    images: dict[str, Path]
    labels: dict[str, Path]


def walk(folder: Path, above: tuple[str, ...] = (), checked: bool = True) -> Iterator[Path]:
    """The files in a folder and the folders in it, sorted, but for what systems leave there.

    Links are followed, but not into one of the folders `above`: that would never end. With
    `checked` a name that is not UTF-8 is an InputError.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:  # As if it were empty.
        return
    folders = [name for name in names if os.path.isdir(folder / name)]
    for name in names:
        if name not in folders and name.lower() not in _LEFT_BY_SYSTEMS:
            if checked:
                check_name(folder, name)
            yield folder / name
    for name in folders:
        if name != "__MACOSX":
            yield from walk(folder / name, (*above, real), checked)


def check_name(folder: Path, name: str) -> None:
    """Raises an InputError if a file's name is not UTF-8, which TensorFlow needs."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(name).decode(errors="replace")
        raise InputError(f"{folder}/{shown}: its name is not UTF-8; rename the file") from error


def normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def find(layout: Layout, problems: Report, notices: Report) -> Files:
    """Finds the images and the label files."""
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    root, label_root = layout.folder / layout.images, layout.folder / layout.labels

    def add(found, path, base, suffix=""):
        stem = path.relative_to(base).with_suffix("").as_posix()
        name = normal(stem).removesuffix(normal(suffix))
        other = found.setdefault(name, path)
        if other is path:
            return
        as_jpeg = [p for p in (other, path) if p.suffix.lower() in JPEG_SUFFIXES]
        if found is labels and len(as_jpeg) == 1:  # A picture of the mask, beside the mask.
            found[name] = other if path in as_jpeg else path
        else:
            problems.add(TWICE, f"{layout.where(other)} and {layout.where(path)}")

    def is_label(path, suffixes=LABEL_SUFFIXES + JPEG_SUFFIXES):
        ours = normal(path.stem).endswith(normal(layout.suffix))
        return ours and path.suffix.lower() in suffixes

    for path in walk(root):
        if _is_in(path, label_root, root):
            continue
        # A mask in another format is no photograph either.
        if layout.shared() and is_label(path, SUFFIXES + LABEL_SUFFIXES):
            continue
        if path.suffix.lower() in SUFFIXES:
            add(images, path, root)
        else:
            heic = path.suffix.lower() in HEIC_SUFFIXES
            notices.add(HEIC if heic else OTHER, layout.where(path))
    for path in walk(label_root):
        if _is_in(path, root, label_root):
            continue
        if is_label(path):
            add(labels, path, label_root, layout.suffix)
        elif not layout.shared():
            notices.add(OTHER, layout.where(path))
    for name in sorted(labels.keys() - images.keys()):
        notices.add(UNPAIRED, layout.where(labels[name]))
    return Files(images, labels)


def _is_in(path, inner, outer):
    """Whether a path of the folder `outer` lies in `inner`, which is a folder in it."""
    return inner != outer and inner.is_relative_to(outer) and path.is_relative_to(inner)


def guess_suffix(files: Files) -> str:
    """The suffix that label files without an image seem to have, as "_mask"; "" for none."""
    rest = [label for label in files.labels if label not in files.images][:REPORTED]
    guesses = Counter(
        label[len(name) :] for label in rest for name in files.images if label.startswith(name)
    )
    suffix, count = guesses.most_common(1)[0] if guesses else ("", 0)
    return suffix if 2 * count > len(rest) else ""


def state_of(layout: Layout) -> dict[str, tuple[int, int]]:
    """{name: (size, time of the last change)} of the images, labels and lists."""
    state = {}
    lists = [path for path in sorted(layout.folder.glob("*")) if path.is_file()]
    paths = [path for path in lists if path.name.lower() in _OWN]
    for root in dict.fromkeys((layout.images, layout.labels)):
        paths += walk(layout.folder / root)
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # A link to nothing: reported when it is read.
            continue
        state[layout.where(path)] = status.st_size, status.st_mtime_ns
    return state


def key_of(state: Mapping[str, tuple[int, int]], fields: Iterable[object]) -> str:
    """A digest of `state_of` a folder and of fields."""
    digest = hashlib.sha256(repr([*map(str, fields)]).encode())
    for name, (size, time) in state.items():
        digest.update(f"{name}\n{size}\n{time}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def read_splits(
    layout: Layout, files: Files, without_masks: bool, problems: Report, notices: Report
) -> dict[str, list[str]]:
    """{split: names} of the lists, or of a draw if there are no lists."""
    known = (*SPLITS, UNLABELLED) if without_masks else SPLITS
    given, lists = {}, {}
    _name_others(layout.folder, problems, notices)
    for split in known:
        paths = [layout.folder / f"{name}.txt" for name in LISTS[split]]
        there = [path for path in paths if path.is_file()]
        if len(there) > 1:
            problems.add(LIST, f"{' and '.join(p.name for p in there)} are both there: keep one")
        if there:
            lists[split] = there[0].name
            given[split] = _names(read_lines(there[0]), layout, files, lists[split], problems)
    listed = set().union(*given.values())
    if without_masks and UNLABELLED not in given:
        rest = [n for n in files.images if n not in listed and n not in files.labels]
        given |= {UNLABELLED: rest} if rest else {}
    _check_lists(given, lists, problems)
    if not given.keys() - {UNLABELLED}:
        return given | _draw(
            [name for name in files.images if name not in given.get(UNLABELLED, ())], problems
        )
    listed = set().union(*given.values())
    for name in files.images:
        if name not in listed:
            notices.add(UNLISTED, layout.where(files.images[name]))
    return given


def _name_others(folder, problems, notices):
    """Names the text files that are read as nothing; of one in capitals that is a mistake."""
    for path in sorted(folder.glob("[!.]*")):
        name = path.name.lower()
        if path.suffix.lower() != ".txt" or path.name in _OWN or not path.is_file():
            continue
        check_name(folder, path.name)
        if name in _OWN and not (folder / name).exists():  # It does where capitals do not count.
            problems.add(LIST, f"{path.name} must be called {name}: rename it")
        elif name not in _OWN:
            notices.add(NO_LIST, path.name)


def _names(lines, layout, files, list_name, problems):
    """The names that a list's lines mean: with or without suffix and folder."""
    names = []
    for line in lines:
        entry = normal(line.replace("\\", "/")).removeprefix("./").lstrip("/")
        entry = entry.removeprefix(f"{normal(layout.images)}/")
        path = PurePosixPath(entry)
        bare = path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else entry
        name = entry if entry in files.images else bare
        if name not in files.images:
            problems.add(LIST, f"{list_name} names {line}, which is not in {layout.images}/")
        names.append(name)
    return names


def _draw(names, problems):
    """{split: names} drawn by the names."""
    if len(names) < len(SPLITS):
        known = ", ".join(SUFFIXES)
        problems.add(
            "there is not enough to begin with:",
            f"{len(names)} images ({known}) for the splits; at least three are needed",
        )
        return {}
    # Ordered by a digest of the name: with a new image nearly all others stay where they are.
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    begin, end = (round(share * len(order)) for share in SHARES)
    end = min(max(end, begin + 1), len(order) - 1)
    begin = min(begin, end - 1)
    parts = order[:begin], order[begin:end], order[end:]
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def _check_lists(given, lists, problems):
    """Adds what is wrong with the splits {split: names}, those of `lists` from {split: file}."""

    def add(problem):
        problems.add(LIST, problem)

    for split, names in given.items():
        if not names:
            add(f"{lists[split]} names no image")
        for name, count in Counter(names).items():
            if count > 1:
                add(f"{lists[split]} names {name} twice")
    for split in SPLITS[:2] if given.keys() - {UNLABELLED} else ():
        if split not in given:
            add("val.txt is missing" if split == "validation" else f"{split}.txt is missing")
    for (other, theirs), (split, names) in itertools.combinations(given.items(), 2):
        for name in sorted(set(names) & set(theirs)):
            add(f"{name} is in both {lists[other]} and {lists[split]}")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows writes a mark first.
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); save it as UTF-8 text") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
