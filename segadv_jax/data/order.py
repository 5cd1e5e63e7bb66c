"""Which image is where: in which batch, in which row, on which process. No images, only numbers."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from segadv_jax.errors import InputError

_PARTS = 2**31  # A stream of random numbers that the order of no epoch uses.
PADDING = -1  # Stands for no image; it fills up the last batch of an evaluation.


def permutation(n: int, seed: int, epoch: int, stream: int) -> Int64[np.ndarray, " n"]:
    """The order of one epoch.

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


def check_unlabelled_batch_size(n: int, batch_size: int) -> None:
    """Raises an InputError if batches cannot be made of `n` images without labels."""
    if not 1 <= batch_size <= n:
        raise InputError(
            f"config.train.unlabelled_batch_size (as config.train.batch_size if 0) is {batch_size},"
            f" but there are {n} images without labels: choose from 1 to {n}, or more images"
            " (config.data.unlabelled)"
        )


def check_batch_size(n: int, batch_size: int) -> None:
    """Raises an InputError if batches cannot be made of `n` training images."""
    if not 1 <= batch_size <= n:
        raise InputError(
            f"config.train.batch_size is {batch_size}, but the training split has {n} images:"
            f" choose a batch size from 1 to {n}, or use more of the split (config.data.train,"
            " config.data.fraction)"
        )


def train_rows(n: int, batch_size: int, seed: int, stream: int, start: int) -> Iterator[np.ndarray]:
    """The rows i64[batch_size] of batch `start`, `start` + 1, ... without end.

    Batch b of epoch e is `permutation(n, seed, e, stream)[b * batch_size : (b + 1) * batch_size]`;
    the remainder of an epoch is dropped. Of what comes before `start`, only the order of its epoch
    is computed. Errors are those of `check_batch_size`, at the call.
    """
    check_batch_size(n, batch_size)
    per_epoch = n // batch_size
    epoch, batch = divmod(start, per_epoch)
    orders = (permutation(n, seed, e, stream) for e in itertools.count(epoch))
    batches = (order[: per_epoch * batch_size].reshape(-1, batch_size) for order in orders)
    return itertools.islice(itertools.chain.from_iterable(batches), batch, None)


def eval_rows(n: int, batch_size: int) -> Int64[np.ndarray, "batches batch_size"]:
    """Rows that cover 0 .. n - 1 once, then `PADDING`."""
    rows = np.arange(-(-n // batch_size) * batch_size)
    return np.where(rows < n, rows, PADDING).reshape(-1, batch_size)


def process_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """The slice of a global batch that belongs to one process.

    Raises:
        InputError: the processes cannot share a batch evenly.
    """
    if batch_size < 1 or batch_size % process_count:
        raise InputError(
            f"the batch size is {batch_size}, but must be a positive multiple of the number of"
            f" processes, {process_count}"
        )
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)
