"""What every split is: examples in memory, in a fixed order, and the batches made of them."""

import abc
from collections.abc import Iterable, Iterator
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int32

from segadv_jax.data.order import eval_rows, process_rows, train_rows
from segadv_jax.errors import InputError

Batch = dict[str, np.ndarray]


class Split(abc.ABC):
    """Examples in a fixed order. Which rows make a batch is decided here, for all splits alike.

    Attributes:
        ids: names, N of them.
        sizes: i32[N,2], (height, width) of each image.
    """

    def __init__(self, ids: list[str], sizes: Int32[np.ndarray, "N 2"]):
        self.ids, self.sizes = ids, sizes

    @abc.abstractmethod
    def take(self, rows: Iterable[SupportsIndex]) -> "Split":
        """The split of the examples in `rows`."""

    @abc.abstractmethod
    def _batches(
        self, rows: Iterable[np.ndarray], count: int, canvas: tuple[int, int]
    ) -> Iterator[Batch]:
        """The batches of given rows, as `segadv_jax.data` describes them.

        Args:
            rows: per batch i64[count]. A row `order.PADDING` has image 0, label 255, the size of
                the canvas, mask 0 and the id "".
            count: rows per batch.
            canvas: (height, width); every image fits into it.
        """

    def canvas(self, multiple: int = 16) -> tuple[int, int]:
        """(height, width) of the largest image, rounded up to a `multiple`."""
        height, width = -(-self.sizes.max(axis=0) // multiple) * multiple
        return int(height), int(width)

    def train_batches(
        self,
        *,
        batch_size: int,
        canvas: tuple[int, int],
        seed: int,
        stream: int = 0,
        start: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """An endless iterator of training batches, the first of which is batch `start`.

        The global batch of `batch_size` rows is that of `order.train_rows`; process p of P gets its
        contiguous rows from `p * batch_size // P` on, padded to `canvas` (height, width).

        Raises:
            InputError: the processes cannot share a batch evenly, a batch is larger than the split,
                or an image is larger than the canvas. It is raised at the call.
        """
        rows = train_rows(len(self.ids), batch_size, seed, stream, start)
        return self._share(rows, process_rows(batch_size, process_index, process_count), canvas)

    def eval_batches(
        self,
        *,
        batch_size: int,
        canvas: tuple[int, int],
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """An iterator that covers every example exactly once, in order.

        The processes share the rows as in `train_batches`. All of them get the same number of
        batches, all of the same shape: rows with mask 0 fill up the last one.

        Raises:
            InputError: as in `train_batches`.
        """
        mine = process_rows(batch_size, process_index, process_count)
        return self._share(eval_rows(len(self.ids), batch_size), mine, canvas)

    def _share(
        self, rows: Iterable[np.ndarray], mine: slice, canvas: tuple[int, int]
    ) -> Iterator[Batch]:
        """The batches of one process, which are the rows `mine` of every global batch."""
        for name, size in zip(self.ids, self.sizes, strict=True):
            if np.any(size > canvas):
                raise InputError(
                    f"the image {name} is {size[0]}x{size[1]} (height x width), larger than the"
                    f" canvas {canvas[0]}x{canvas[1]}"
                )
        return self._batches((batch[mine] for batch in rows), mine.stop - mine.start, canvas)
