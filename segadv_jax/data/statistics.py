"""What the images and the labels of a split are: counts, and what tells photographs apart.

One pass decodes each image and its label once.
"""

import concurrent.futures
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import Split

THUMBNAIL = 16  # Its height and width in pixels.
# Two photographs are nearly the same if their thumbnails differ by less, in grey levels (root mean
# square): a photograph that was stored again or resized differs by about one from itself.
NEAR = 2.5
FLAT = 8.0  # Thumbnails with less contrast (standard deviation) are all alike.
_BATCH = 8
_LABELS = 32  # Read at once.


class Statistics(NamedTuple):
    """Of N images, in the order of the split."""

    ids: list[str]
    sizes: Integer[np.ndarray, "N 2"]  # Heights and widths.
    pixels: Integer[np.ndarray, "N 256"]  # By label; VOID is the last.
    inner: Integer[np.ndarray, " 256"]  # Pixels whose four neighbours have the same label, in all.
    digests: list[str]  # Of the decoded pixels.
    thumbnails: UInt8[np.ndarray, "N t"]  # Small, grey.

    @property
    def void(self) -> float:
        """The share of void pixels."""
        return float(self.pixels[:, VOID].sum() / max(self.pixels.sum(), 1))

    def shares(self, num_classes: int) -> Float[np.ndarray, " C"]:
        """The share of each class of the labelled pixels; 0 without any."""
        counts = self.pixels[:, :num_classes].sum(0)
        return counts / max(counts.sum(), 1)

    def without_labels(self) -> list[str]:
        """The images whose pixels are all void."""
        empty = self.pixels[:, VOID] == self.pixels.sum(1)
        return [name for name, is_empty in zip(self.ids, empty, strict=True) if is_empty]


def gather(split: Split, read: Callable[[int], object] = lambda images: None) -> Statistics:
    """Reads a split once; `read` is called with the number of images after each few of them."""
    pixels, inner = np.zeros((len(split.ids), VOID + 1), np.int64), np.zeros(VOID + 1, np.int64)
    digests, thumbnails = list[str](), list[np.ndarray]()
    for batch in split.eval_batches(batch_size=_BATCH, canvas=split.canvas()):
        rows = np.flatnonzero(batch["mask"])
        for row in rows:
            height, width = batch["size"][row]
            image = batch["image"][row, :height, :width]
            label = batch["label"][row, :height, :width]
            pixels[len(digests)] = np.bincount(label.reshape(-1), minlength=VOID + 1)
            inner += np.bincount(label[_is_inner(label)], minlength=VOID + 1)
            digests.append(hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest())
            thumbnails.append(_thumbnail(image))
        read(len(rows))
    return Statistics(split.ids, split.sizes, pixels, inner, digests, np.stack(thumbnails))


def unseen(split: Split, num_classes: int) -> list[int]:
    """The classes that no label of a split shows; labels are read until all have been seen."""
    seen = np.zeros(VOID + 1, bool)
    for label in read_labels(split):
        seen |= np.bincount(label.reshape(-1), minlength=VOID + 1) > 0
        if seen[:num_classes].all():
            break
    return np.flatnonzero(~seen[:num_classes]).tolist()


def has_labels(split: Split) -> bool:
    """Whether any pixel of a split is labelled; labels are read until one is."""
    return any((label != VOID).any() for label in read_labels(split))


def read_labels(split: Split) -> Iterator[UInt8[np.ndarray, "H W"]]:
    """The labels of a split, decoded on all cores, a few ahead."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for begin in range(0, len(split.labels), _LABELS):
            yield from pool.map(_decoded, split.labels[begin : begin + _LABELS])


def _decoded(label: bytes | np.ndarray) -> UInt8[np.ndarray, "H W"]:
    if not isinstance(label, bytes):
        return label
    with Image.open(io.BytesIO(label)) as opened:
        return np.array(opened)


def shared(one: Statistics, other: Statistics) -> list[tuple[str, str]]:
    """The pairs (image of `one`, image of `other`) that show the same photograph, or nearly so."""
    known = dict(zip(reversed(other.digests), reversed(other.ids), strict=True))
    theirs = other.thumbnails.astype(np.float32)
    norms = np.square(theirs).mean(1)
    found = []
    for row, (name, digest) in enumerate(zip(one.ids, one.digests, strict=True)):
        thumbnail = one.thumbnails[row].astype(np.float32)
        if digest in known:
            found.append((name, known[digest]))
        elif thumbnail.std() >= FLAT:
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a b
            squares = norms + np.square(thumbnail).mean() - 2 * theirs @ thumbnail / thumbnail.size
            near = int(np.argmin(squares))
            if squares[near] < NEAR**2:
                found.append((name, other.ids[near]))
    return found


def look_like_colours(gathered: Sequence[Statistics], num_classes: int) -> str:
    """Why labels may be colours or grey levels instead of class indices; "" if they look right.

    Grey levels leave most of the indices between them unused. Labels that were stored as JPEG or
    resized as photographs are have values in between at the boundaries of things, so that most
    classes have hardly a pixel whose neighbours are of the same class.
    """
    pixels = np.sum([each.pixels.sum(0) for each in gathered], axis=0)[:num_classes]
    inner = np.sum([each.inner for each in gathered], axis=0)[:num_classes]
    used = np.flatnonzero(pixels)
    if num_classes >= 20 and 4 * len(used) <= num_classes:
        some = ", ".join(map(str, used[:6]))
        return f"of {num_classes} values only {len(used)} occur ({some}, ...), as with grey levels"
    edges = inner[used] < 0.05 * pixels[used]
    if len(used) >= 4 and 2 * edges.sum() > len(used):
        return (
            f"{edges.sum()} of {len(used)} classes occur at boundaries only, as if the masks had "
            "been stored as JPEG or resized with interpolation"
        )
    return ""


def _is_inner(label: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Whether the four neighbours of a pixel have its label; those beyond the image do."""
    padded = np.pad(label, 1, mode="edge")
    same = np.ones(label.shape, bool)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        same &= neighbour == label
    return same


def _thumbnail(image):
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)).reshape(-1)
