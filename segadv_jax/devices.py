"""The devices of this host: the mapped axis, the only `pmap` calls, and what goes on each of them.

A step is written for one device. It adds up over `axis_name` what belongs to the whole batch, and
with `axis_name=None` it is the step of a single device.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

AXIS = "batch"
Tree = TypeVar("Tree")


def map_train_step(step: Callable, devices: Sequence[Any] | None = None) -> Callable:
    """A training step (state, batch, key, turn, updates, axis_name) -> (state, metrics), mapped.

    It takes the replicated state, which it donates, a batch with a leading device axis, and the
    turn as a static argument. What it returns is replicated, without a device axis. The devices are
    all that there are, unless others are given to compile for.
    """
    return jax.pmap(
        functools.partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, None, None, None),
        out_axes=(None, None),
        static_broadcasted_argnums=3,
        donate_argnums=0,
        devices=devices,
    )


def keyed(step: Callable) -> Callable:
    """A training step that makes its key: fold_in(wrap_key_data(data), number) of (data, number).

    A key that is made between two steps, operation by operation, takes the devices' time; and one
    that several hosts hold would be read back from the devices at each step.
    """

    def play(state, batch, parts_of_key, turn, updates, **others):
        data, number = parts_of_key
        key = jax.random.fold_in(jax.random.wrap_key_data(data), number)
        return step(state, batch, key, turn, updates, **others)

    return play


def map_eval_step(step: Callable, rows: bool = False) -> Callable:
    """An evaluation step (params, totals, batch, axis_name) -> totals over all devices.

    It takes replicated params and totals, the latter donated, and a batch with a device axis. With
    `rows` the step returns (totals, what belongs to the rows of the batch), which stays where it
    is, with a device axis.
    """
    return jax.pmap(
        functools.partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, 0) if rows else None,
        donate_argnums=1,
    )


def replicate(tree: Tree) -> Tree:
    """A copy of `tree` on each device of this host, placed as the mapped steps return it.

    Placed otherwise, the first step's output would differ from its input and the step be compiled
    twice. It is a copy because the steps donate their state: the original would be deleted.
    """
    return jax.device_put(jax.device_get(tree), _placed(PartitionSpec()), may_alias=False)


def shard(batch: dict[str, Any]) -> dict[str, Any]:
    """A host's batch {name: [n,...]}, with a leading device axis and each device's rows on it.

    So the mapped steps take it, and nothing is moved when they begin. It returns before all is
    there. A batch within the batch, of a number of rows of its own, comes out the same.
    """
    count = jax.local_device_count()

    def split(rows):
        if isinstance(rows, dict):  # Names are for people; a device holds numbers.
            return {name: split(value) for name, value in rows.items() if name != "id"}
        return rows.reshape(count, -1, *rows.shape[1:])

    return jax.device_put(split(batch), _placed(PartitionSpec(AXIS)))


def _placed(spec: PartitionSpec) -> NamedSharding:
    """Over the devices of this host in the order in which `pmap` has them."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), spec)


class Shards(NamedTuple):
    """How each device's part of a batch becomes a figure of the whole; axis None: one device."""

    axis_name: str | None

    def sum(self, tree: Any) -> Any:
        """The sum of `tree` over the devices."""
        return tree if self.axis_name is None else lax.psum(tree, self.axis_name)

    def row_keys(self, key: Key[Array, ""], rows: int) -> Key[Array, " n"]:
        """fold_in(key, r) for each of this device's rows, which are counted over all devices."""
        numbers = jnp.arange(rows)
        if self.axis_name is not None:
            numbers = numbers + lax.axis_index(self.axis_name) * rows
        return jax.vmap(lambda row: jax.random.fold_in(key, row))(numbers)
