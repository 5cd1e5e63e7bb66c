"""The devices of this host: the mapped axis, the only `pmap` calls, and what goes on each of them.

A step is written for one device. It adds up over `axis_name` what belongs to the whole batch, and
with `axis_name=None` it is the step of a single device.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

AXIS = "batch"
Tree = TypeVar("Tree")


def map_train_step(step: Callable) -> Callable:
    """A training step (state, batch, key, turn, updates, axis_name) -> (state, metrics), mapped.

    It takes the replicated state, which it donates, a batch with a leading device axis, and the
    turn as a static argument. What it returns is replicated, without a device axis.
    """
    return jax.pmap(
        functools.partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, None, None, None),
        out_axes=(None, None),
        static_broadcasted_argnums=3,
        donate_argnums=0,
    )


def map_eval_step(step: Callable) -> Callable:
    """An evaluation step (params, totals, batch, axis_name) -> totals over all devices.

    It takes replicated params and totals, the latter donated, and a batch with a device axis.
    """
    return jax.pmap(
        functools.partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
        donate_argnums=1,
    )


def replicate(tree: Tree) -> Tree:
    """A copy of `tree` on each device of this host, placed as the mapped steps return it.

    Placed otherwise, the first step's output would differ from its input and the step be compiled
    twice. It is a copy because the steps donate their state: the original would be deleted.
    """
    sharding = NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())

    def copy(x):
        return jax.make_array_from_callback(x.shape, sharding, np.array(x).__getitem__)

    return jax.tree.map(copy, tree)


def shard(batch: dict[str, Any]) -> dict[str, Any]:
    """A host's batch {name: [n,...]} with a leading device axis, as the mapped steps take it.

    A batch within it, of a number of rows of its own, comes out the same.
    """
    devices = jax.local_device_count()
    return {
        name: shard(value)
        if isinstance(value, dict)
        else value.reshape(devices, -1, *value.shape[1:])
        for name, value in batch.items()
        if name != "id"  # Names are for people; a device holds numbers.
    }


class Shards(NamedTuple):
    """How each device's part of a batch becomes a figure of the whole; axis None: one device."""

    axis_name: str | None

    def sum(self, tree: Any) -> Any:
        """The sum of `tree` over the devices."""
        return tree if self.axis_name is None else lax.psum(tree, self.axis_name)

    def fraction(self, number_and_count: tuple[Array, Array]) -> Array:
        """What a (number, count) of this device is a part of, as a fraction of the whole."""
        number, count = self.sum(number_and_count)
        return number / jnp.maximum(count, 1)

    def norm(self, cotangent: Array) -> Array:
        """The norm of a gradient at a batch's maps."""
        return jnp.sqrt(self.sum(jnp.sum(jnp.square(cotangent))))

    def row_keys(self, key: Key[Array, ""], rows: int) -> Key[Array, " n"]:
        """fold_in(key, r) for each of this device's rows, which are counted over all devices."""
        numbers = jnp.arange(rows)
        if self.axis_name is not None:
            numbers = numbers + lax.axis_index(self.axis_name) * rows
        return jax.vmap(lambda row: jax.random.fold_in(key, row))(numbers)
