"""A photograph as a network sees it, and its prediction at its own size, as arrays and files."""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segadv_jax import files, visualize
from segadv_jax.data import Palette, photographs

OVERLAY_SIDE = 1600  # The longest side in pixels of a photograph under its classes.

_MARK = "segadv_jax predict"  # Written into the files, to know them again.

LabelMap = UInt8[np.ndarray, "H W"]


class Photograph(NamedTuple):
    """A photograph, the right way up."""

    size: tuple[int, int]  # Its own height and width in pixels.
    seen: UInt8[np.ndarray, "h w 3"]  # As the network sees it.
    shown: UInt8[np.ndarray, "y x 3"]  # As people are shown it: at most `OVERLAY_SIDE` pixels.


def read(path: Path, longest_side: int) -> Photograph:
    """Reads a photograph; the network sees a larger one shrunk to `longest_side` pixels; 0: as is.

    Raises:
        InputError: it cannot be read.
    """
    read = photographs.read_photograph(path, str(path), longest_side)
    seen = photographs.decode(read.image)
    if seen.shape[:2] == read.upright and max(read.upright) <= OVERLAY_SIDE:
        return Photograph(read.upright, seen, seen)
    shown = photographs.read_photograph(path, str(path), OVERLAY_SIDE).image
    return Photograph(read.upright, seen, photographs.decode(shown))


def label_map(probabilities: Float[np.ndarray, "h w C"], size: tuple[int, int]) -> LabelMap:
    """The most probable class of each pixel of an image of `size`, whose probabilities these are.

    They are interpolated bilinearly, class by class: of a large photograph with many classes all at
    once would be gigabytes.
    """
    height, width, classes = probabilities.shape
    if (height, width) == size:
        return probabilities.argmax(-1).astype(np.uint8)
    best, found = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    for index in range(classes):
        # One that nowhere has its share of 1 is nowhere the most probable. Rounding aside.
        if probabilities[..., index].max() < 0.99 / classes:
            continue
        of_class = Image.fromarray(np.ascontiguousarray(probabilities[..., index], np.float32))
        enlarged = np.asarray(of_class.resize(size[::-1], Image.Resampling.BILINEAR))
        better = enlarged > best
        np.copyto(best, enlarged, where=better)
        found[better] = index
    return found


def palette_image(labels: LabelMap, palette: Palette) -> Image.Image:
    """A label map as an image of class indices, which viewers show in the classes' colours."""
    image = Image.fromarray(labels)
    whole = np.zeros((256, 3), np.uint8)
    whole[: len(palette)] = palette
    image.putpalette(whole.reshape(-1).tolist())
    return image


def paths(target: Path, probabilities: bool) -> list[Path]:
    """The files that `write` writes: label map, overlay, and probabilities if wanted."""
    names = [f"{target.name}.png", f"{target.name}_overlay.jpg"]
    names += [f"{target.name}_probabilities.npz"] if probabilities else []
    return [target.parent / name for name in names]


def is_result(path: Path) -> bool:
    """Whether `write` wrote this file."""
    if path.suffix not in (".png", ".jpg", ".npz"):
        return False
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as stored:
                names = ("probabilities", "class_names", "size")
                return {f"{name}.npy" for name in names} <= {*stored.namelist()}
        with Image.open(path) as opened:
            # Comments are bytes in JPEGs and text in PNGs.
            marks = opened.info.get("Software"), opened.info.get("comment")
            return any(mark in (_MARK, _MARK.encode()) for mark in marks)
    except (OSError, ValueError, EOFError, SyntaxError):
        return False
    except (zipfile.BadZipFile, Image.DecompressionBombError):
        return False


def write(
    target: Path,
    photograph: Photograph,
    probabilities: Float[np.ndarray, "h w C"],
    palette: Palette,
    class_names: tuple[str, ...],
    with_probabilities: bool = False,
) -> LabelMap:
    """Writes what was predicted of a photograph; returns its label map.

    Args:
        target: where to, with the name that the files' names begin with.
        photograph: the photograph.
        probabilities: of its classes, as the network sees it.
        palette, class_names: of the classes.
        with_probabilities: whether to write these too, with float16 and at the size that the
            network sees: at that of a large photograph they would be no more exact.
    """
    places = paths(target, with_probabilities)
    labels = label_map(probabilities, photograph.size)
    with files.replacing(places[0], "wb") as file:
        about = PngInfo()
        about.add_text("Software", _MARK)
        palette_image(labels, palette).save(file, "PNG", pnginfo=about)
    shown = label_map(probabilities, photograph.shown.shape[:2])
    overlay = visualize.overlay(photograph.shown, shown, palette, class_names)
    with files.replacing(places[1], "wb") as file:
        Image.fromarray(overlay).save(file, "JPEG", quality=90, comment=_MARK)
    earlier = paths(target, True)[2]
    if not with_probabilities and os.path.exists(earlier) and is_result(earlier):
        earlier.unlink()  # They would be of another prediction.
    if with_probabilities:
        with files.replacing(places[2], "wb") as file:
            np.savez_compressed(
                file,
                probabilities=probabilities.astype(np.float16),
                class_names=np.array(class_names),
                size=np.array(photograph.size),
            )
    return labels
