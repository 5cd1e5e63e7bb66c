"""How many connected regions label maps fall into, and how many of those are specks.

An adversary that wants structure may make too much of it: the numbers of a prediction are to be
read beside those of the truth.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float32, Int32, Integer, UInt8

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray

SPECK = 50  # Pixels: smaller regions are specks.
_SUMS = ("regions", "specks", "regions_true", "specks_true")


def count_regions(
    classes: Integer[AnyArray, "n H W"],
) -> tuple[Int32[Array, " n"], Int32[Array, " n"]]:
    """The numbers of regions and of specks in each map, whose negative values belong to no region.

    A region is of one class and connected by the 4-neighbourhood.
    """
    n, height, width = classes.shape
    places = jnp.arange(height * width).reshape(height, width)
    linked = [_equals_the_next(classes, axis) for axis in (1, 2)]

    def spread(parents):
        """The least root of a place and its neighbours, handed to the place's own root."""
        least = parents
        for axis, link in zip((1, 2), linked, strict=True):
            least = _least_of_neighbours(least, link, axis)
        flat, least = parents.reshape(n, -1), least.reshape(n, -1)
        flat = jax.vmap(lambda root, new: new.at[root].min(new))(flat, least)
        for _ in range(2):  # Pointer jumping: distances to the root shrink fourfold.
            flat = jnp.take_along_axis(flat, flat, -1)
        return flat.reshape(parents.shape)

    def advance(state):
        parents, _ = state
        new = spread(parents)
        return new, jnp.any(new != parents)

    start = jnp.broadcast_to(places, classes.shape)
    parents, _ = lax.while_loop(lambda state: state[1], advance, (start, jnp.array(True)))
    real = classes >= 0
    roots = jnp.where(real, parents, height * width).reshape(n, -1)
    pixels = jax.vmap(lambda root: jnp.bincount(root, length=height * width + 1)[:-1])(roots)
    number = jnp.sum(pixels > 0, -1, dtype=jnp.int32)
    return number, jnp.sum((pixels > 0) & (pixels < SPECK), -1, dtype=jnp.int32)


def image_sums(
    prediction: Integer[AnyArray, "n H W"], label: UInt8[AnyArray, "n H W"]
) -> dict[str, Float32[Array, ""]]:
    """Sums over the images of a batch; "region_images" is the number of those with a label.

    Void pixels belong to no region in either map, so that both are cut alike.
    """
    known = label != VOID
    sums: dict[str, Array] = {}
    for values, suffix in ((prediction, ""), (label, "_true")):
        number, specks = count_regions(jnp.where(known, values.astype(jnp.int32), -1))
        sums |= {f"regions{suffix}": number, f"specks{suffix}": specks}
    sums["region_images"] = jnp.any(known, (1, 2))
    return {name: jnp.sum(value, dtype=jnp.float32) for name, value in sums.items()}


def zeros() -> dict[str, Float32[Array, ""]]:
    """The sums of `image_sums` over no image."""
    return {name: jnp.zeros(()) for name in (*_SUMS, "region_images")}


def measures(totals: Mapping[str, Any]) -> dict[str, float]:
    """Means per image of the totals; NaN without an image."""
    images = float(totals["region_images"])
    return {name: float(totals[name]) / images if images else float("nan") for name in _SUMS}


def _equals_the_next(classes, axis):
    """Whether a place and the next one along an axis belong together; the axis is one shorter."""
    length = classes.shape[axis]
    here, there = (lax.slice_in_dim(classes, k, length - 1 + k, axis=axis) for k in (0, 1))
    return (here == there) & (here >= 0)


def _least_of_neighbours(x, link, axis):
    """The least of a value and those before and after it along an axis, where they are linked."""
    length = x.shape[axis]
    here, there = (lax.slice_in_dim(x, k, length - 1 + k, axis=axis) for k in (0, 1))
    least = jnp.where(link, jnp.minimum(here, there), 2**31 - 1)
    pads = [[(0, 0)] * axis + [pad] + [(0, 0)] * (2 - axis) for pad in ((0, 1), (1, 0))]
    for pad in pads:
        x = jnp.minimum(x, jnp.pad(least, pad, constant_values=2**31 - 1))
    return x
