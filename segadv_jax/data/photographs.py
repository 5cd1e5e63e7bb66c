"""Image files in a folder: which they are, and how they are read.

A camera's EXIF data says which way up an image is. Grey values of 16 bits are scaled to 8 bits.
What is transparent is shown on black: what lies under it is not meant to be seen. Values whose
range is not known, integers of 32 bits or floating-point numbers, are refused.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from segadv_jax import VOID
from segadv_jax.data import builders
from segadv_jax.data.pipeline import Encoded
from segadv_jax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
REPORTED = 20  # Problems that an error lists.
_PNG_16 = "I", "PNG"


def find(folder: Path) -> list[Path]:
    """The paths of the images, sorted. macOS leaves files that begin with a dot."""
    paths = sorted(folder.iterdir())
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


def read_image(path: Path, where: str) -> tuple[bytes, tuple[int, int]]:
    """(The image as JPEG or PNG bytes, RGB of 8 bits, (height, width)), the right way up.

    An InputError names a file that is no image, or that cannot be shown, as `where`.
    """
    with builders.readable(where):
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            is_upright = opened.getexif().get(0x0112, 1) == 1  # Its orientation.
            is_plain = opened.mode == "RGB" and not opened.has_transparency_data
            if opened.format in ("JPEG", "PNG") and is_plain and is_upright:
                return content, (opened.height, opened.width)
            upright = ImageOps.exif_transpose(opened)
            # Pillow before 11 opens PNG files of 16 bits as of 32.
            has_16_bits = opened.mode.startswith("I;16") or (opened.mode, opened.format) == _PNG_16
            shown = _eight_bits(upright) if has_16_bits else _rgb(upright)
            return builders.png(shown), (upright.height, upright.width)


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


def read(folder: Path) -> Encoded:
    """All images of a folder, not of the folders in it; their labels are void.

    Raises:
        InputError: there are none, or it lists those that cannot be read.
    """
    names, images, sizes, problems = [], [], [], []
    for path in find(folder):
        try:
            image, size = read_image(path, path.name)
        except InputError as error:
            problems.append(str(error))
            continue
        names.append(path.name)
        images.append(image)
        sizes.append(size)
    if not names and not problems:
        problems = [f"it holds no images ({', '.join(SUFFIXES)})"]
    report(folder, problems)
    labels = [void(size) for size in sizes]
    return Encoded(names, images, [builders.png(x) for x in labels], np.array(sizes, np.int32))


def void(size: tuple[int, int]) -> np.ndarray:
    """u8[H,W], the label of an image that has none."""
    return np.full(size, VOID, np.uint8)


def report(folder: Path, problems: Sequence[str], remedy: str = "") -> None:
    """Raises an InputError that lists the problems, if there are any, and what to do."""
    if problems:
        more = len(problems) - REPORTED
        listed = "; ".join(problems[:REPORTED]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(f"{folder}: {listed}{remedy}")
