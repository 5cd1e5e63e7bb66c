"""Which image is where: in which batch, in which row, on which process. No images, only numbers."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from segadv_jax.errors import InputError

_PARTS = 2**31  # A stream of random numbers that the order of no epoch uses.
PADDING = -1  # Stands for no image; it fills up the last batch of an evaluation.


def permutation(n: int, seed: int, epoch: int, stream: int) -> Int64[np.ndarray, " n"]:
    """Returns the order of one epoch.

    `stream` separates independent orders of one run that share a seed. RandomState is used
    because NumPy has frozen its stream: the order is the same under every NumPy version.
    """
    return np.random.RandomState([seed, epoch, stream]).permutation(n).astype(np.int64)


def part(n: int, fraction: float, seed: int) -> Int64[np.ndarray, " m"]:
    """The sorted rows of a random part of a split: m = round(fraction * n), at least 1.

    With the same seed, a larger part contains every smaller one.
    """
    chosen = np.random.RandomState([seed, 0, _PARTS]).permutation(n)
    return np.sort(chosen[: max(1, round(fraction * n))])


def check_batch_size(n: int, batch_size: int) -> None:
    """Raises an InputError if batches cannot be made of `n` training images."""
    if not 1 <= batch_size <= n:
        raise InputError(
            f"config.train.batch_size is {batch_size}, but the training split has {n} images:"
            f" choose a batch size from 1 to {n}, or use more of the split (config.data.train,"
            " config.data.fraction)"
        )


def train_rows(n: int, batch_size: int, seed: int, stream: int, start: int) -> Iterator[np.ndarray]:
    """Yields forever the rows i64[batch_size] of batch `start`, `start` + 1, ...

    Batch b of epoch e is `permutation(n, seed, e, stream)[b * batch_size : (b + 1) * batch_size]`;
    the remainder of an epoch is dropped. Of what comes before `start`, only the order of its epoch
    is computed.

    Raises:
        InputError: a batch is larger than the split, or not positive.
    """
    check_batch_size(n, batch_size)
    return _rows(n, batch_size, seed, stream, start)


def _rows(n, batch_size, seed, stream, start):
    epoch, batch = divmod(start, n // batch_size)
    while True:
        order = permutation(n, seed, epoch, stream)
        for first in range(batch * batch_size, n - batch_size + 1, batch_size):
            yield order[first : first + batch_size]
        epoch, batch = epoch + 1, 0


def eval_rows(n: int, batch_size: int) -> Int64[np.ndarray, "batches batch_size"]:
    """Returns rows that cover 0 .. n - 1 once, then `PADDING`."""
    rows = np.arange(-(-n // batch_size) * batch_size)
    return np.where(rows < n, rows, PADDING).reshape(-1, batch_size)


def process_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """Returns the slice of a global batch that belongs to one process.

    Raises:
        InputError: a batch that the processes cannot share evenly.
    """
    if batch_size < 1 or batch_size % process_count:
        raise InputError(
            f"the batch size is {batch_size}, but must be a positive multiple of the number of"
            f" processes, {process_count}"
        )
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)
