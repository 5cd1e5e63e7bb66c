"""Dilation by disks against all offsets, one by one."""

import itertools

import jax
import numpy as np

from segadv_jax.metrics.dilation import dilate, disk

HEIGHT, WIDTH = 11, 14


def brute_force(words, reach):
    near = np.zeros_like(words)
    for row, column in zip(*np.nonzero(words), strict=True):
        for r, c in itertools.product(range(HEIGHT), range(WIDTH)):
            if (r - row) ** 2 + (c - column) ** 2 <= reach:
                near[r, c] |= words[row, column]
    return near


def test_every_disk_of_two_tables():
    """Of radius 4 and less in a table of their own and in that of a larger disk."""
    random = np.random.RandomState(0)
    words = random.randint(0, 2**32, (HEIGHT, WIDTH), np.uint64).astype(np.uint32)
    words[random.uniform(size=words.shape) < 0.95] = 0
    small, large = np.arange(5**2), np.arange(5**2) * 6 + 5  # Below 13^2: larger than the map.

    @jax.jit
    def both(bits, small, large):
        disks = disk(small, 4, 12), disk(large, 12, 12)
        alone = jax.lax.map(lambda one: dilate(bits, [one], 4)[0], disk(small, 4, 4))
        return alone, *jax.lax.map(lambda two: dilate(bits, two, 12), disks)

    alone, shared, larger = map(np.asarray, both(words, small, large))
    np.testing.assert_array_equal(alone, shared)
    for reaches, got in ((small, shared), (large, larger)):
        for reach, near in zip(reaches, got, strict=True):
            np.testing.assert_array_equal(near, brute_force(words, reach), err_msg=str(reach))
