"""Pictures put together from pictures: cells in columns, names above them, legends below.

NumPy and Pillow only, with the font of matplotlib, which has the letters of most languages.
"""

import functools
import importlib.util
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

WHITE = 255  # The canvas.
WIDTH = 1600  # No grid is wider.
GAP = 6  # Pixels between the cells of a grid.
FONT = 15  # Pixels, in a grid.
LARGEST = 8  # So many times a small image is enlarged at most.

Picture = UInt8[np.ndarray, "_ _ 3"]  # RGB.


class Entry(NamedTuple):
    """A text and the colour of the swatch before it, if it has one."""

    text: str
    swatch: tuple[int, int, int] | None = None


def line_height(font: int) -> int:
    """Pixels of a line of text."""
    return round(1.5 * font)


def write(entries: Sequence[Entry], width: int, font: int = FONT) -> Picture:
    """Entries one behind the other, in as many lines of `width` pixels as they need.

    A text that is wider than a line is cut short.
    """
    lines: list[list[tuple[int, Entry]]] = [[]]
    left = 0
    for entry in entries:
        need = entry_width(entry, font)
        if lines[-1] and left + need > width:
            lines.append([])
            left = 0
        lines[-1].append((left, entry))
        left += need + font
    height, swatch = line_height(font), _swatch(font)
    picture = Image.new("RGB", (width, height * len(lines)), (WHITE,) * 3)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        for start, entry in line:
            if entry.swatch is not None:
                top = height * number + (height - swatch) // 2
                box = (start, top, start + swatch - 1, top + swatch - 1)
                draw.rectangle(box, tuple(map(int, entry.swatch)), (0, 0, 0), max(1, font // 15))
                start += swatch + font // 3
            middle = (start, height * number + height // 2)
            text = _fitting(entry.text, width - start, font)
            draw.text(middle, text, (0, 0, 0), _font(font), anchor="lm")
    return np.asarray(picture)


def entry_width(entry: Entry, font: int = FONT) -> int:
    """Pixels that an entry takes on a line."""
    before = 0 if entry.swatch is None else _swatch(font) + font // 3
    return before + int(np.ceil(_length(entry.text, font))) + 1


def stack(pictures: Sequence[Picture]) -> Picture:
    """Pictures below each other, at the left of a white canvas."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([pad(picture, picture.shape[0], width) for picture in pictures])


def pad(picture: Picture, height: int, width: int) -> Picture:
    """A picture at the top left of a white canvas."""
    h, w = picture.shape[:2]
    return np.pad(picture, ((0, height - h), (0, width - w), (0, 0)), constant_values=WHITE)


def fit(picture: Picture, height: int, width: int, smooth: bool = True) -> Picture:
    """A picture as large as the box allows: enlarged by a whole number, or shrunk.

    A `smooth` one is shrunk by means over its pixels, a label map's colours are not mixed.
    """
    h, w = picture.shape[:2]
    factor = min(height / h, width / w)
    if factor >= 1:
        whole = min(int(factor), LARGEST)
        return picture.repeat(whole, 0).repeat(whole, 1)
    size = (max(1, int(w * factor)), max(1, int(h * factor)))
    how = Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size, how))


def grid(
    rows: Sequence[Sequence[Picture]],
    heads: Sequence[Entry],
    names: Sequence[str] = (),
    smooth: Sequence[bool] = (),
    cell: tuple[int, int] = (480, 480),
    width: int = WIDTH,
) -> Picture:
    """Rows of pictures under the heads of their columns.

    Args:
        rows: a picture for each head, of any sizes.
        heads: what stands above the columns.
        names: what stands above each row, if anything.
        smooth: for each column whether its colours may be mixed; all, if not given.
        cell: the largest (height, width) of a picture in the grid, in pixels.
        width: pixels of the whole at most.
    """
    number = len(heads)
    box = min(cell[1], (width + GAP) // number - GAP)
    smooth = smooth or (True,) * number
    fitted = [
        [fit(p, cell[0], box, mix) for p, mix in zip(row, smooth, strict=True)] for row in rows
    ]
    column = max(p.shape[1] for row in fitted for p in row)
    column = min(box, max(column, *(entry_width(head) for head in heads)))
    lines = [_side_by_side([write([head], column) for head in heads], column)]
    for index, row in enumerate(fitted):
        if names:
            lines.append(write([Entry(names[index])], lines[0].shape[1]))
        lines.append(_side_by_side(row, column))
        lines.append(np.full((GAP, 1, 3), WHITE, np.uint8))
    return stack(lines[:-1])


def _side_by_side(pictures, column):
    height = max(picture.shape[0] for picture in pictures)
    padded = [pad(picture, height, column + GAP) for picture in pictures]
    return np.concatenate(padded, 1)[:, :-GAP]


def _fitting(text, width, font):
    """The text, or as much of it as fits, with an ellipsis."""
    text = unicodedata.normalize("NFC", text)  # Some file systems take an umlaut apart.
    if _length(text, font) <= width:
        return text
    while text and _length(text + "…", font) > width:
        text = text[:-1]
    return text + "…"


def _swatch(font):
    return round(0.8 * font)


def _length(text, font):
    return _font(font).getlength(unicodedata.normalize("NFC", text))


@functools.cache
def _font(pixels):
    # Found without being imported, which takes matplotlib a second.
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, pixels)
