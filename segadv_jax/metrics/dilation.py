"""Dilation of maps of bits by Euclidean disks, exact, one radius to an image.

A disk is the union of one stretch of columns in each of its lines, and a stretch the union of two
whose length is a power of two: a table of those serves all the lines of all disks.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, Integer, UInt32

# Lines in one pass over memory: the more, the longer it takes to compile.
_AT_ONCE = 4


def disk(reach: Integer[Array, " n"], radius: int, margin: int) -> Int32[Array, "n {2*radius+1} 3"]:
    """The offsets whose squared distance is `reach` or less, for `dilate`, of each image.

    Args:
        reach: below (radius + 1)^2.
        radius: the largest of all images', in pixels.
        margin: that radius, or that of a larger disk with which the table is shared.

    Returns:
        The two stretches in each line, top to bottom: (level of the table, first column of one,
        of the other).
    """
    lines, half = np.arange(-radius, radius + 1), np.arange(radius + 1)
    left_over = reach[:, None] - np.square(lines)[None]
    # How many columns from the middle on to one side; 0 leaves the line out.
    columns = jnp.sum(left_over[..., None] >= np.square(half)[None, None], -1)
    level = np.array([int(length).bit_length() - 1 for length in 2 * half + 1])
    stretches = np.stack([level + 1, margin - half, margin + half + 1 - 2**level], -1)
    stretches = np.concatenate([np.zeros((1, 3), int), stretches])
    return jnp.asarray(stretches, jnp.int32)[columns]


def dilate(
    words: UInt32[Array, "H W"], disks: Sequence[Int32[Array, "_ 3"]], margin: int
) -> list[UInt32[Array, "H W"]]:
    """The bits of all places around each, for each of an image's disks.

    Args:
        words: whose bits are maps of their own.
        disks: rows of what `disk` returns.
        margin: given to `disk`; at least the largest radius.
    """
    height, width = words.shape
    row, levels = jnp.pad(words, margin), (2 * margin + 1).bit_length()
    # Level k + 1 holds the bits of 2^k columns from each place on, level 0 none.
    table = jnp.zeros((levels + 1, *row.shape), jnp.uint32).at[1].set(row)
    for level in range(1, levels):
        step = 2 ** (level - 1)
        row = row[:, :-step] | row[:, step:]
        table = table.at[level + 1, :, : row.shape[1]].set(row)

    def dilated(stretches):
        first = margin - len(stretches) // 2

        def add(line, near):
            level, *columns = stretches[line]
            for column in columns:
                start = level, first + line, column
                near |= lax.dynamic_slice(table, start, (1, height, width))[0]
            return near

        return lax.fori_loop(0, len(stretches), add, jnp.zeros_like(words), unroll=_AT_ONCE)

    return [dilated(stretches) for stretches in disks]
