"""What the frozen part of a segmenter computes of the training images, kept in a folder.

Where nothing is drawn for a training image but whether it is mirrored, a frozen part computes the
same of it at each step. A file of the folder holds both, f32[2,h,w,F] at the label cells of one
image: as it is, and mirrored. Its name is a digest of the image as it is stored, of the frozen
parameters, and of the program that takes one to the other: runs of any fraction, fold or arm share
the files, and none finds those of another network, or of an older version of this one.
"""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float

from segadv_jax import prediction
from segadv_jax.augment import Augmentation
from segadv_jax.data import Batch, Canvas, Split, order
from segadv_jax.data.archives import lock
from segadv_jax.errors import InputError
from segadv_jax.files import PathLike, damaged, on_this_machine, replacing, writable_folder
from segadv_jax.models import Segmenter
from segadv_jax.models.geometry import count_cells
from segadv_jax.resampling import mirror
from segadv_jax.shapes import Pictures, Sizes

FIELD = "config.train.feature_cache"
UNREADABLE = (OSError, ValueError, EOFError)  # What NumPy raises of a file that is no whole array.


class Kept:
    """The training batches of a split, with what was computed of the images before."""

    def __init__(self, split: Split, paths: list[Path], stride: int, maps: int):
        self.split, self.paths, self.stride, self.maps = split, paths, stride, maps

    def train_batches(self, *, batch_size: int, canvas: Canvas, **which: Any) -> Iterator[Batch]:
        """As `Split.train_batches`, with "embedded" f32[n,2,h,w,F] in each batch.

        It is at the label cells of the canvas: of the images as they are and mirrored, and 0
        outside them.
        """
        batches = self.split.train_batches(batch_size=batch_size, canvas=canvas, **which)
        process = which.pop("process_index", 0), which.pop("process_count", 1)
        mine = order.process_rows(batch_size, *process)
        rows = order.train_rows(len(self.paths), batch_size, **{"stream": 0, "start": 0} | which)
        return (
            batch | {"embedded": self._read(chosen[mine], canvas)}
            for batch, chosen in zip(batches, rows, strict=False)  # Both are endless.
        )

    def _read(self, rows: np.ndarray, canvas: Canvas) -> Float[np.ndarray, "n 2 h w F"]:
        cells = (count_cells(side, self.stride) for side in canvas)
        embedded = np.zeros((len(rows), 2, *cells, self.maps), np.float32)
        for i, row in enumerate(rows):
            try:
                kept = np.load(self.paths[row], mmap_mode="r")
            except UNREADABLE as error:
                remedy = "start the run again: it is computed anew"
                raise damaged(self.paths[row], error, remedy) from error
            embedded[i, :, : kept.shape[1], : kept.shape[2]] = kept
        return embedded


def check(segmenter: Segmenter, augmentation: Augmentation | None) -> None:
    """Raises an InputError if there is nothing that could be computed once and kept."""
    size = np.full((1, 2), 64, np.int32)
    image = prediction.with_margin(np.zeros((1, 64, 64, 3), np.uint8), size, segmenter)

    def embed(key):
        return segmenter.apply(segmenter.init(key, image, size), image, size, method="embed")

    try:
        if not segmenter.frozen:
            raise ValueError("no part of this segmenter is frozen")
        jax.eval_shape(embed, jax.random.key(0))
    except ValueError as error:
        raise InputError(
            f"{FIELD} is set, but {error}: leave it empty, or choose the segmenter "
            "efficientnet_lite0 with config.segmenter.freeze 'backbone'"
        ) from error
    if augmentation is not None and not augmentation.only_flips:
        raise InputError(
            f"{FIELD} is set, which keeps whole images as they are and mirrored: set config.train."
            "crop, rotation, brightness, contrast and saturation to 0 and scale to (1.0, 1.0), or "
            "leave it empty"
        )


def keep(
    folder: PathLike, split: Split, segmenter: Segmenter, frozen: Any, batch_size: int
) -> Kept:
    """Computes what the folder lacks, and returns the batches that it makes possible.

    Args:
        folder: in which all is kept; made if needed. Processes may share it.
        split: the training images that are used.
        segmenter: has a frozen part, with
        frozen: these parameters.
        batch_size: images at once.

    Raises:
        InputError: the folder cannot be written, or is full.
    """
    folder = writable_folder(on_this_machine(folder, FIELD), FIELD)
    frozen = jax.tree.map(np.asarray, frozen)
    program = _lower(segmenter, frozen)
    network = _digest(program.as_text().encode(), *map(_content, jax.tree.leaves(frozen)))
    paths = [folder / f"{_digest(network, _content(image)).hex()}.npy" for image in split.images]
    kept = Kept(split, paths, segmenter.stride, maps=program.out_info.shape[-1])
    try:
        with lock(folder):  # Another process on this host may be computing the same.
            missing = [row for row in range(len(paths)) if not _is_whole(kept, row)]
            if missing:
                size = sum(math.prod(_shape(kept, row)) for row in missing) * 4 / 1e6
                what = "computing the features of %d images, %.1f MB, into %s"
                logging.info(what, len(missing), size, folder)
                _compute(kept, missing, segmenter, frozen, batch_size)
    except OSError as error:
        raise InputError(
            f"{FIELD}={folder} cannot be filled ({error.strerror or error}): make room there, or "
            "choose another folder; what is there already is not computed again"
        ) from error
    return kept


def _embed(
    segmenter: Segmenter, frozen: Any, image: Pictures, size: Sizes
) -> Float[Array, "n 2 h w F"]:
    """What is kept of images: as they are, and mirrored as `augment` mirrors them."""
    views = (prediction.with_margin(x, size, segmenter) for x in (image, mirror(image, size)))
    apply = [segmenter.apply({"params": frozen}, x, size, method="embed") for x in views]
    return jnp.stack(apply, 1)


def _lower(segmenter: Segmenter, frozen: Any) -> Any:
    """The program that embeds one small image: all that decides what is kept, but the numbers."""
    image, size = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 2), 64, np.int32)
    return jax.jit(_embed, static_argnums=0).lower(segmenter, frozen, image, size)


def _compute(
    kept: Kept, rows: list[int], segmenter: Segmenter, frozen: Any, batch_size: int
) -> None:
    """Writes the files of these rows of the split."""
    embed, part = jax.jit(_embed, static_argnums=0), kept.split.take(rows)
    paths = (kept.paths[row] for row in rows)
    frozen, done, total = jax.device_put(frozen), 0, len(rows)
    # The canvas of all, so that what is computed does not depend on what is there already.
    for batch in part.eval_batches(batch_size=batch_size, canvas=kept.split.canvas()):
        embedded = np.asarray(embed(segmenter, frozen, batch["image"], batch["size"]))
        # The paths come last: where a batch ends, none of them is passed over.
        for maps, size, path in zip(embedded, batch["size"], paths, strict=False):
            height, width = count_cells(size, kept.stride)
            with replacing(path, "wb") as file:
                np.save(file, maps[:, :height, :width])
        before, done = done, min(done + batch_size, total)
        if done * 10 // total > before * 10 // total:
            logging.info("%d of %d images", done, total)


def _is_whole(kept: Kept, row: int) -> bool:
    """Whether the file of a row is there, and as large as it must be."""
    try:
        return np.load(kept.paths[row], mmap_mode="r").shape == _shape(kept, row)
    except UNREADABLE:
        return False


def _shape(kept: Kept, row: int) -> tuple[int, ...]:
    """Of what is kept of a row."""
    return (2, *count_cells(kept.split.sizes[row], kept.stride).tolist(), kept.maps)


def _content(array: bytes | np.ndarray | Array) -> bytes:
    """An encoded image as it is; of an array its shape, its type and its numbers."""
    if isinstance(array, bytes):
        return array
    array = np.asarray(array)
    return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
