"""How the label files of an image folder are read: class indices, palettes, or colours."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data.folder_files import read_lines
from segadv_jax.data.photographs import JPEG, bits_of, readable
from segadv_jax.errors import InputError

FIELD = "--config.data.void"
SHOWN = 5  # Values or colours that are named.
MANY = 64  # More values than this are no classes but shades.

AS_JPEG = (
    "masks as JPEG, which blurs the class indices at every edge; export them as PNG, converting "
    "does not mend them:"
)
BAD_VALUES = "masks with values that are no classes:"
IN_COLOUR = (
    "masks in colour, but classes.txt gives no colours; write one class per line with its colour, "
    "as in 'sky 70 130 180' or 'sky #4682b4':"
)
UNKNOWN_COLOURS = (
    "masks with colours that classes.txt does not name (a line 'void R G B' names that of void):"
)
BINARY_MIXED = f"masks with 255 beside other values, which {FIELD}=none makes the second of two:"

_COLOUR = re.compile(r"(.*?)[\s,;:]+(?:#([0-9a-fA-F]{6})|(\d+)[\s,]+(\d+)[\s,]+(\d+))$")
_VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "unknown")


class Refused(Exception):
    """A label file cannot be used: `kind` is what is the matter, the message names the file."""

    def __init__(self, kind: str, line: str):
        super().__init__(line)
        self.kind = kind


class Classes(NamedTuple):
    """How values become classes."""

    void: int | None = VOID  # The value of void beside 255; None: there is none.
    names: tuple[str, ...] = ()  # Empty: as many classes as are used.
    colours: UInt8[np.ndarray, "C 3"] | None = None  # Of masks in colour.
    void_colours: tuple[tuple[int, ...], ...] = ()


def parse_void(text: str) -> int | None:
    """The value of void that `config.data.void` names; None for "none".

    Raises:
        InputError: it is neither empty, nor "none", nor a value.
    """
    text = str(text).strip().lower()
    if text in ("none", "-1"):
        return None
    if text and not (text.isdecimal() and int(text) <= VOID):
        raise InputError(f"{FIELD}={text}: set it to a value from 0 to 255, or to none")
    return int(text) if text else VOID


def read_classes(folder: Path, void: int | None) -> Classes:
    """What classes.txt says: of each line a name and, if all lines have one, a colour.

    Raises:
        InputError: it cannot be read, or what it says cannot be.
    """
    path = folder / "classes.txt"
    if not path.is_file():
        return Classes(void)
    lines = read_lines(path)
    without = [line for line in lines if not _COLOUR.match(line)]
    if without == lines:
        return Classes(void, _checked(path, lines))
    if without:
        raise InputError(f"{path}: {without[0]!r} has no colour; give all classes one, or none")
    names: list[str] = []
    colours: list[tuple[int, ...]] = []
    of_void: list[tuple[int, ...]] = []
    for line in lines:
        name, code, *numbers = _COLOUR.findall(line)[0]
        colour = tuple(bytes.fromhex(code)) if code else tuple(map(int, numbers))
        if max(colour) > 255:
            raise InputError(f"{path}: {line!r} has no colour of values from 0 to 255")
        if colour in (*colours, *of_void):
            raise InputError(f"{path}: {line!r} has the colour of another class")
        if name.lower() in _VOID_NAMES:
            of_void.append(colour)
        else:
            names.append(name)
            colours.append(colour)
    return Classes(void, _checked(path, names), np.array(colours, np.uint8), tuple(of_void))


def _checked(path, names):
    if not 2 <= len(names) < VOID:
        raise InputError(f"{path} names {len(names)} classes: give 2 to {VOID - 1}, one per line")
    if len(set(names)) < len(names):
        raise InputError(f"{path} names a class twice")
    void = [name for name in names if name.lower() in _VOID_NAMES]
    if void:
        index = names.index(void[0])
        raise InputError(
            f"{path} names {void[0]!r}, class {index}: leave that line out and set "
            f"{FIELD}={index}; if it is a class, name it otherwise"
        )
    return tuple(names)


def read_label(path: Path, where: str, classes: Classes) -> UInt8[np.ndarray, "H W"]:
    """The classes of a label file's pixels, 255 where it says void.

    Raises:
        Refused: it is no map of classes, or has classes that do not exist.
        InputError: it cannot be read.
    """
    # Pillow reads the bytes of some turned TIFF files better than the files.
    with readable(where), Image.open(content := io.BytesIO(path.read_bytes())) as opened:
        if opened.format in JPEG:
            raise Refused(AS_JPEG, where)
        opened.load()
        mode = opened.mode
        coloured = mode in ("RGB", "RGBA", "CMYK", "YCbCr")
        if classes.colours is not None and (mode == "P" or coloured or _are_grey(classes)):
            return _of_colours(np.array(opened.convert("RGB")), where, classes)
        if (coloured or mode == "LA") and bits_of(opened, content.getvalue()) == 16:
            raise Refused(BAD_VALUES, f"{where} has several channels of 16 bits; save one channel")
        if coloured:
            return _of_values(_grey(np.array(opened.convert("RGB")), where), where, classes)
        values = np.array(opened.getchannel(0) if mode == "LA" else opened)
    if values.dtype.kind not in "bui" or values.ndim != 2:
        raise Refused(BAD_VALUES, f"{where} has mode {mode}; save class indices as grey values")
    return _of_values(values, where, classes)


def _are_grey(classes):
    """Whether the colours are grey, so that grey values may be meant: black and white."""
    return (classes.colours == classes.colours[:, :1]).all()


def _grey(pixels, where):
    """The values of a colour image that is grey."""
    if (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    codes = np.unique(_codes(pixels))
    raise Refused(IN_COLOUR, f"{where} has {_named(codes)}{_blurred(codes)}")


def _of_colours(pixels, where, classes):
    codes = _codes(pixels)
    known = np.concatenate([classes.colours, np.array(classes.void_colours).reshape(-1, 3)])
    known = _codes(known.astype(np.uint8))
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    index = order[place]
    wrong = np.unique(codes[known[index] != codes])
    if len(wrong):
        raise Refused(UNKNOWN_COLOURS, f"{where} has {_named(wrong)}{_blurred(wrong)}")
    return np.where(index < len(classes.colours), index, VOID).astype(np.uint8)


def _codes(pixels):
    """The colours on the last axis as one number each."""
    return pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _named(codes):
    few = ", ".join(f"#{code:06x}" for code in codes[:SHOWN])
    return f"{few}{', ...' if len(codes) > SHOWN else ''}"


def _blurred(codes):
    if len(codes) <= MANY:
        return ""
    return f" ({len(codes)} colours: edges were smoothed; save masks without smoothing)"


def _of_values(values, where, classes):
    """Classes of indices: what stands for void is taken out, those above it move down by one."""
    used = np.unique(values)
    if used[0] < 0 or used[-1] > VOID:
        wrong = used[0] if used[0] < 0 else used[-1]
        raise Refused(BAD_VALUES, f"{where} has {wrong}; classes are 0 to {VOID - 1}")
    void = classes.void
    if void is None and used[-1] == VOID:
        if set(used.tolist()) - {0, VOID}:
            raise Refused(BINARY_MIXED, where)
        return (values == VOID).astype(np.uint8)
    label = values.astype(np.uint8)
    if void is not None and void != VOID:
        moved = label - (label > void).astype(np.uint8)
        label = np.where((label == void) | (label == VOID), VOID, moved).astype(np.uint8)
    highest = int(label[label != VOID].max(initial=0))
    if classes.names and highest >= len(classes.names):
        value = highest + (void is not None and highest >= void)
        raise Refused(
            BAD_VALUES,
            f"{where} has {value}, but classes.txt names only {len(classes.names)} classes: "
            f"name the others there; if {value} means void, set {FIELD}={value}"
            + (f"; if they count from 1, set {FIELD}=0" if value == len(classes.names) else ""),
        )
    return label
