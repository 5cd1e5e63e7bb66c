"""What is said of an image folder: what is wrong, what is left out, and what is in it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from segadv_jax.errors import InputError

REPORTED = 20  # Lines of each kind that are shown.
SHOWN = 40  # Classes of the table that are shown.
WIDTH = 12  # Of a column of the table.


class Report:
    """Lines about files, by what is the matter with them."""

    def __init__(self, kinds: Mapping[str, Sequence[str]] | None = None):
        self.kinds = {kind: list(lines) for kind, lines in (kinds or {}).items()}

    def add(self, kind: str, line: str) -> None:
        """Adds a line; `kind` is what it is listed under, and says what to do."""
        self.kinds.setdefault(kind, []).append(line)

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values()))

    def lines(self) -> list[str]:
        """Each kind and below it its lines, of many the first."""
        found = []
        for kind, lines in self.kinds.items():
            more = len(lines) - REPORTED
            found += [kind, *(f"- {line}" for line in lines[:REPORTED])]
            found += [f"- and {more} more"] if more > 0 else []
        return found

    def check(self, folder: Path, notices: "Report") -> None:
        """Raises an InputError with all lines, those of `notices` last, if there are any."""
        if len(self):
            count = "one thing is" if len(self) == 1 else f"{len(self)} things are"
            details = [*self.lines(), *notices.lines()]
            raise InputError(f"{folder}: {count} wrong with this data set", details)


def table(found: Mapping[str, Any]) -> list[str]:
    """The classes with their shares of the pixels of each split, and the splits' sizes.

    Args:
        found: {"class_names", "pixels": {split: pixels of each class, and last of void}, "images":
            {split: their number}, "smallest", "largest": [height, width]}.
    """
    splits, names = list(found["pixels"]), found["class_names"]
    first = max(map(len, (*names, "classes", "images"))) + 2

    def row(name, cells):
        return name.ljust(first) + "".join(cell.rjust(WIDTH) for cell in cells)

    def share(split, index):
        pixels = found["pixels"][split]
        of = sum(pixels) if index == len(names) else sum(pixels[:-1])
        percent = 100 * pixels[index] / of if of else 0
        return "-" if not pixels[index] else "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"

    lines = [row("classes", splits)]
    used = [i for i in range(len(names)) if any(found["pixels"][split][i] for split in splits)]
    shown = used[:SHOWN]
    lines += [row(names[index], [share(split, index) for split in splits]) for index in shown]
    if len(used) > SHOWN:
        lines.append(f"and {len(used) - SHOWN} more classes")
    lines.append(row("void", [share(split, len(names)) for split in splits]))
    lines.append(row("images", [str(found["images"][split]) for split in splits]))
    unused = [name for index, name in enumerate(names) if index not in used]
    lines += [f"classes without any pixel: {', '.join(unused)}"] if unused else []
    low, high = ("x".join(map(str, found[which])) for which in ("smallest", "largest"))
    sizes = low if low == high else f"{low} to {high}"
    return [*lines, f"sizes of the images as they are used: {sizes} (height x width)"]


_said: set[Path] = set()


def say(prepared: Path, older: Sequence[Path], found: Mapping[str, Any]) -> None:
    """Logs what is in a prepared copy, as `table`, its "notices", where it lies, how to remove it.

    Once in a process: a command reads its data several times.
    """
    if prepared in _said:
        return
    _said.add(prepared)
    for line in Report(found["notices"]).lines():
        logging.warning("%s", line)
    for line in table(found):
        logging.info("%s", line)
    logging.info("prepared copy of the data; to remove it: rm -r %s", shlex.quote(str(prepared)))
    if older:
        remove = " ".join(shlex.quote(str(path)) for path in older)
        what = "other copies of this folder, of earlier contents or other fields"
        logging.info("%s; to remove them: rm -r %s", what, remove)
