"""Image files in a folder: which they are, and how they are read."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segadv_jax import VOID
from segadv_jax.data import builders
from segadv_jax.data.pipeline import Encoded
from segadv_jax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
REPORTED = 20  # Problems that an error lists.


def find(folder: Path) -> list[Path]:
    """The paths of the images, sorted. macOS leaves files that begin with a dot."""
    paths = sorted(folder.iterdir())
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


def read_image(path: Path, where: str) -> tuple[bytes, tuple[int, int]]:
    """(The image as JPEG or PNG bytes, (height, width)), turned as its EXIF data says.

    An InputError names a file that is no image as `where`.
    """
    with builders.readable(where):
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if opened.format in ("JPEG", "PNG") and opened.mode == "RGB":
                if opened.getexif().get(0x0112, 1) == 1:  # Its orientation.
                    return content, (opened.height, opened.width)
            return builders.png(np.array(upright.convert("RGB"))), (upright.height, upright.width)


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
