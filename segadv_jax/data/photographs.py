"""Image files in a folder: which they are, and how they are read.

A camera's EXIF data says which way up an image is. Values of 16 bits are scaled to 8 bits. What is
transparent is shown on black: what lies under it is not meant to be seen. Values whose range is not
known, integers of 32 bits or floating-point numbers, are refused. Nothing here needs TensorFlow.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from segadv_jax import VOID
from segadv_jax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
HEIC = (".heic", ".heif")  # Photographs that cannot be read.
JPEG = ("JPEG", "MPO")  # Pillow's names; of an MPO file, as some phones write, the first image.
REPORTED = 20  # Problems that an error lists.
ORIENTATION = 0x0112  # The EXIF field.
_PNG_16 = "I", "PNG"


class Photograph(NamedTuple):
    """An image file as it is used."""

    image: bytes  # A JPEG or PNG file: RGB of 8 bits, the right way up, shrunk if that was wanted.
    size: tuple[int, int]  # Its (height, width),
    upright: tuple[int, int]  # and that of the photograph before it was shrunk,
    stored: tuple[int, int]  # and before it was turned as
    orientation: int  # its EXIF data says: 1 to 8.
    bits: int  # 8 or 16, of each value in the file.


def find(folder: Path) -> list[Path]:
    """The paths of the images, sorted. macOS leaves files that begin with a dot."""
    paths = sorted(folder.iterdir())
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


def shrunk_size(size: Sequence[int], longest_side: int) -> tuple[int, int]:
    """(height, width) at which an image of `size` has no side above `longest_side`; 0: as it is."""
    height, width = map(int, size)
    factor = longest_side / max(height, width) if longest_side else 1
    if factor >= 1:
        return height, width
    return max(round(height * factor), 1), max(round(width * factor), 1)


def read_photograph(path: Path, where: str, longest_side: int = 0) -> Photograph:
    """Reads an image file; a larger one is shrunk to `longest_side` pixels, antialiased.

    A file that is neither shrunk nor turned, and is RGB of 8 bits already, is passed on as it is;
    of what is shrunk a JPEG file remains one, of quality 95; all else becomes PNG. So the same file
    is the same image for whoever reads it with the same `longest_side`.

    Raises:
        InputError: it is no image, or cannot be shown; it is named as `where`.
    """
    with readable(where):
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            stored, orientation = _stored_size(opened), _orientation(opened)
            upright = stored[::-1] if orientation >= 5 else stored
            size, bits = shrunk_size(upright, longest_side), bits_of(opened, content)
            is_shrunk, file_format = size != upright, opened.format
            if is_shrunk:  # A JPEG file can be decoded at a half, a quarter, ... of its size.
                opened.draft(opened.mode, (2 * longest_side, 2 * longest_side))
            opened.load()
            is_plain = opened.mode == "RGB" and not opened.has_transparency_data and bits == 8
            kept = file_format in (*JPEG, "PNG") and is_plain and orientation == 1
            if kept and not is_shrunk:
                return Photograph(content, size, upright, stored, orientation, bits)
            # Pillow before 11 opens PNG files of 16 bits as of 32.
            is_deep = opened.mode.startswith("I;16") or (opened.mode, file_format) == _PNG_16
            shown = _eight_bits(opened) if is_deep else _rgb(opened)
            if file_format != "TIFF":  # Which Pillow has turned.
                shown = turn(shown, orientation)
            if is_shrunk:
                image = Image.fromarray(shown)
                shown = np.array(image.resize(size[::-1], Image.Resampling.LANCZOS))
            encoded = jpeg(shown) if is_shrunk and file_format in JPEG else png(shown)
            return Photograph(encoded, size, upright, stored, orientation, bits)


def decode(image: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a JPEG or PNG file of RGB values."""
    with Image.open(io.BytesIO(image)) as opened:
        return np.array(opened.convert("RGB"))


def turn(
    pixels: UInt8[np.ndarray, "H W *channels"], orientation: int
) -> UInt8[np.ndarray, "h w *channels"]:
    """The pixels of an image as it is stored, or a map of them, turned as its EXIF data says."""
    transposed = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    # Which of the sides are mirrored afterwards.
    vertical, horizontal = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(transposed[:: -1 if vertical else 1, :: -1 if horizontal else 1])


def _stored_size(opened: Image.Image) -> tuple[int, int]:
    """(height, width) in the file; of a TIFF file Pillow itself may say them as they are turned."""
    tags = getattr(opened, "tag_v2", {})
    return (tags[257], tags[256]) if 256 in tags else opened.size[::-1]


def _orientation(opened: Image.Image) -> int:
    value = opened.getexif().get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def bits_of(opened: Image.Image, content: bytes) -> int:
    """The bits of a value in the file: Pillow cuts those of colour images to 8."""
    if opened.format == "PNG":
        return 16 if content[24] == 16 else 8
    if opened.mode.startswith("I;16"):
        return 16
    tags = getattr(opened, "tag_v2", {})  # Of a TIFF file; 258 are the bits per sample.
    return 16 if 16 in np.atleast_1d(tags.get(258, 8)) else 8


def _eight_bits(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """An image of 16-bit grey values, of which one may stand for what is transparent."""
    grey = np.array(image).astype(np.int64)
    grey[grey == image.info.get("transparency", -1)] = 0
    return np.round(grey / 257).astype(np.uint8)[..., None].repeat(3, -1)


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its mode is {image.mode}, and the range of its values is not known: save it with 8 "
            "or 16 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return np.array(image.convert("RGB"))


@contextlib.contextmanager
def readable(where: str) -> Iterator[None]:
    """Turns Pillow's errors into an InputError."""
    try:
        yield
    except Image.DecompressionBombError as error:
        reason = str(error).partition(",")[0]
        raise InputError(f"{where} is too large ({reason}): shrink it") from error
    except UnidentifiedImageError as error:
        if where.lower().endswith(HEIC):
            raise InputError(f"{where} is HEIC: save it as JPEG or PNG") from error
        # Pillow's own message shows the object that it read from.
        raise InputError(f"{where} is not a readable image (its format is not known)") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{where} is not a readable image ({error})") from error


def png(array: UInt8[np.ndarray, "H W *channels"]) -> bytes:
    """Encodes u8[H,W] or u8[H,W,3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def jpeg(array: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encodes u8[H,W,3] as JPEG, with little loss."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="jpeg", quality=95, subsampling=0)
    return buffer.getvalue()


def void(size: tuple[int, int]) -> np.ndarray:
    """u8[H,W], the label of an image that has none."""
    return np.full(size, VOID, np.uint8)


def report(folder: Path, problems: Sequence[str]) -> None:
    """Raises an InputError that lists the problems, if there are any."""
    if problems:
        more = len(problems) - REPORTED
        listed = "; ".join(problems[:REPORTED]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(f"{folder}: {listed}")
