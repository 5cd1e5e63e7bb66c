"""One pass over an image folder: its examples, and what is found on the way."""

import concurrent.futures
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import builders, folder_files, folder_masks, photographs
from segadv_jax.data.folder_files import Files, Layout
from segadv_jax.data.folder_masks import Classes, Refused
from segadv_jax.data.folder_report import Report
from segadv_jax.data.photographs import Photograph
from segadv_jax.data.unlabelled import SPLIT as UNLABELLED
from segadv_jax.errors import InputError

MISSING = (
    "images without a mask; add it, take them out, or set --config.data.without_masks=True to have "
    "them used without labels:"
)
STILL_MISSING = "images without a mask in a split with labels; name them in unlabelled.txt instead:"
UNREADABLE = "files that cannot be read:"
OTHER_SIZE = "masks of another size than their image (height x width):"
TURNED = (
    "masks that fit the photograph only before its EXIF data turns it; to have all masks turned "
    "like their photographs set --config.data.turn_masks=True:"
)
DEEP = "images with 16 bits per channel, scaled to 8:"
EITHER_WAY = (
    "images that the camera turned or mirrored, whose masks are taken as upright; if the masks "
    "show the pixels as they are stored, set --config.data.turn_masks:"
)
CHANGED = "files that changed while they were read; start again once nothing writes to them:"
ALL_VOID = "splits whose masks are void everywhere: there is nothing to learn or to measure:"
CLASSES = "the classes:"


class Source(NamedTuple):
    """What a prepared copy is made of."""

    layout: Layout
    state: dict[str, tuple[int, int]]  # `folder_files.state_of` the folder before it was read.
    classes: Classes
    longest_side: int
    turn_masks: bool
    without_masks: bool


class Reading:
    """One pass over a folder: its examples, and what is found on the way."""

    def __init__(self, source: Source):
        self.source = source
        self.problems, self.notices = Report(), Report()
        self.files = folder_files.find(source.layout, self.problems, self.notices)
        self.pixels: dict[str, np.ndarray] = {}
        self.sizes: list[tuple[int, int]] = []
        self.images: dict[str, int] = {}

    def splits(self) -> dict[str, list[str]]:
        """The names of each split.

        Raises:
            InputError: there are none.
        """
        source, to = self.source, (self.problems, self.notices)
        splits = folder_files.read_splits(source.layout, self.files, source.without_masks, *to)
        splits = {
            split: [name for name in names if name in self.files.images]
            for split, names in splits.items()
        }
        if not splits or not all(splits.values()):
            self.problems.check(source.layout.folder, self.notices)
        return splits

    def examples(self, split: str, names: list[str]) -> Iterator[builders.Example]:
        """The examples of a split, read on all cores; a dummy for one that cannot be used."""
        self.pixels[split], self.images[split] = np.zeros(VOID + 1, np.int64), len(names)
        threads = os.cpu_count() or 1
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for begin in range(0, len(names), 4 * threads):  # So few are held at once.
                part = names[begin : begin + 4 * threads]
                for name, found in zip(part, pool.map(self._read(split), part), strict=True):
                    yield self._example(split, name, found)

    def _read(self, split):
        """A function that reads an example, or returns the problem with it."""
        source, files = self.source, self.files

        def read(name):
            where = source.layout.where(files.images[name])
            try:
                args = files.images[name], where, source.longest_side
                photograph = photographs.read_photograph(*args)
                builders.check_decoded(where, photograph.image, photograph.size)
                if split == UNLABELLED:
                    return photograph, photographs.void(photograph.size)
                if name not in files.labels:
                    raise Refused(STILL_MISSING if source.without_masks else MISSING, where)
                return photograph, _label(source, files, name, photograph)
            except Refused as refused:
                return refused
            except InputError as error:
                return Refused(UNREADABLE, str(error))

        return read

    def _example(self, split, name, found):
        if isinstance(found, Refused):
            self.problems.add(found.kind, str(found))
        if self.problems:  # All is thrown away in the end, but a split must not be empty.
            return builders.dummy(name)
        photograph, label = found
        if photograph.bits == 16:
            self.notices.add(DEEP, self.source.layout.where(self.files.images[name]))
        fits = photograph.stored == photograph.upright and split != UNLABELLED
        if photograph.orientation != 1 and fits and not self.source.turn_masks:
            self.notices.add(EITHER_WAY, self.source.layout.where(self.files.images[name]))
        self.pixels[split] += np.bincount(label.reshape(-1), minlength=VOID + 1)
        self.sizes.append(photograph.size)
        return builders.example(name, photograph.image, label)

    def end(self) -> dict[str, Any]:
        """What was found, as `folder_report.say` takes it.

        Raises:
            InputError: something is wrong: all of it.
        """
        folder, classes = self.source.layout.folder, self.source.classes
        # Images without masks are void from end to end, which says nothing of the masks.
        labelled = [pixels for split, pixels in self.pixels.items() if split != UNLABELLED]
        total = np.sum(labelled, axis=0)
        if MISSING in self.problems.kinds:
            _hint_at_suffix(self.source.layout, self.files, self.problems)
        self._check_state()
        if not self.problems:
            for split in ("train", "validation"):
                if split in self.pixels and not self.pixels[split][:VOID].any():
                    self.problems.add(ALL_VOID, f"{split}, {self.images[split]} images")
        if not self.problems:
            _check_classes(classes, total, self.problems, self.notices)
        self.problems.check(folder, self.notices)
        used = np.flatnonzero(total[:VOID])
        names = classes.names or [f"class {index}" for index in range(used.max() + 1)]
        pixels = {k: [*v[: len(names)], v[VOID]] for k, v in self.pixels.items() if k != UNLABELLED}
        order = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return {
            "folder": str(folder),
            "class_names": list(names),
            "palette": classes.colours.tolist() if classes.colours is not None else [],
            "pixels": {split: [int(count) for count in v] for split, v in pixels.items()},
            "images": self.images,
            "smallest": list(order[0]),
            "largest": list(order[-1]),
            "notices": self.notices.kinds,
        }

    def _check_state(self):
        """Adds what was changed since the copy was given its name."""
        before, now = self.source.state, folder_files.state_of(self.source.layout)
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                self.problems.add(CHANGED, name)


def _label(
    source: Source, files: Files, name: str, photograph: Photograph
) -> UInt8[np.ndarray, "H W"]:
    """u8[H,W], the label of a photograph, at its size."""
    path = files.labels[name]
    where = source.layout.where(path)
    label = folder_masks.read_label(path, where, source.classes)
    if source.turn_masks and label.shape == photograph.stored:
        label = photographs.turn(label, photograph.orientation)
    if label.shape != photograph.upright:
        turned = label.shape == photograph.stored
        high, wide = photograph.upright
        line = f"{where} is {label.shape[0]}x{label.shape[1]}, its image {high}x{wide}"
        raise Refused(TURNED if turned else OTHER_SIZE, line)
    if label.shape == photograph.size:
        return label
    size = photograph.size[::-1]
    image = Image.fromarray(label)
    return np.array(image.resize(size, Image.Resampling.NEAREST))


def _hint_at_suffix(layout, files, problems):
    suffix = folder_files.guess_suffix(files)
    if suffix:
        problems.add(
            "the names of the masks:",
            f"they seem to end in {suffix!r}: set --config.data.label_suffix="
            f"{layout.suffix}{suffix}",
        )


def _check_classes(
    classes: Classes, pixels: Integer[np.ndarray, " values"], problems: Report, notices: Report
) -> None:
    """Adds what is wrong with the classes that the labels use, given the pixels of each."""
    used, void = np.flatnonzero(pixels[:VOID]).tolist(), folder_masks.FIELD
    if used == [0] and pixels[VOID] and classes.colours is None and classes.void == VOID:
        return problems.add(
            CLASSES,
            "the labels have only 0 and 255, and 255 is void: nobody knows what is there. If 255 "
            f"is the second of two classes, set {void}=none",
        )
    if len(classes.names or used) < 2:
        return problems.add(CLASSES, "the labels have fewer than two classes")
    missing = sorted(set(range(max(used, default=-1) + 1)) - set(used))
    if classes.void is not None:  # As the labels have them.
        used, missing = ([x + (x >= classes.void) for x in each] for each in (used, missing))
    if not classes.names and missing:
        few = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        shades = len(missing) > len(used) > 2
        return problems.add(
            CLASSES,
            f"the labels have values up to {max(used)}, but no pixel of {few}: if {max(used)} "
            f"means void, set {void}={max(used)}; otherwise name all classes in classes.txt"
            + (f"; if classes count from 1, set {void}=0" if missing == [0] else "")
            + ("; if these are colours turned grey, save class indices instead" if shades else ""),
        )
    if classes.void == VOID and not pixels[VOID] and not len(classes.void_colours):
        notices.add(
            "no pixel is void (255):",
            f"should one of the {len(used)} classes mean void, set {void} to its value, as 0 or "
            f"{max(used)}; otherwise to none",
        )
    return None
