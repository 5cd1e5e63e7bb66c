"""Training steps compiled for a slice of TPU chips that nobody has to own, and what they will take.

libtpu compiles for a topology that is only described. What comes out is the program that such a
slice would run, and the compiler says what it needs: memory, operations, traffic. From these and
from the rates that Google publishes for each chip follows the least time of a step. No chip has
confirmed these times.
"""

import functools
import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import devices
from segadv_jax.errors import InputError
from segadv_jax.scene import Setup
from segadv_jax.shapes import Batch
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step


class Chip(NamedTuple):
    """What Google's "TPU architecture" pages publish of a chip."""

    flops: float  # bfloat16 operations per second, a multiplication and an addition being two.
    bandwidth: float  # Bytes per second between the chip and its memory,
    memory: float  # which holds so many bytes.
    interconnect: float  # Bytes per second between a chip and its neighbours, over all its links.


CHIPS = {
    "v5e": Chip(197e12, 819e9, 16e9, 1600e9 / 8),
    "v5p": Chip(459e12, 2765e9, 95e9, 4800e9 / 8),
    "v6e": Chip(918e12, 1640e9, 32e9, 3584e9 / 8),
}
_TOPOLOGY = re.compile(r"(\w+):(\d+(?:x\d+)*)")
_COLLECTIVE = re.compile(
    r"= (?P<shapes>.*?) (all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")


class Figures(NamedTuple):
    """What one step takes on each chip."""

    arguments: float  # Bytes: the state and the batch,
    temporary: float  # what the step needs beside them,
    program: float  # and its code.
    flops: float  # Operations, as the compiler counts them,
    traffic: float  # bytes from and to the chip's memory,
    reduced: float  # and bytes that are summed over the chips.

    @property
    def memory(self) -> float:
        """Bytes of the chip's memory that are taken."""
        return self.arguments + self.temporary + self.program

    def seconds(self, chip: Chip, chips: int) -> dict[str, float]:
        """The least seconds of a step by what takes them.

        Arithmetic and memory can be busy at the same time, so "step" is the longer of the two, with
        the sum over the chips after it: twice (n - 1) / n of its bytes pass each of n chips.
        """
        parts = {
            "arithmetic": self.flops / chip.flops,
            "memory": self.traffic / chip.bandwidth,
            "reduction": 2 * (chips - 1) / chips * self.reduced / chip.interconnect,
        }
        step = max(parts["arithmetic"], parts["memory"]) + parts["reduction"]
        return parts | {"step": step}


def slice_of(topology: str) -> tuple[Chip, list[Any]]:
    """(what a chip can do, the devices) of a slice such as "v5e:4x4".

    Raises:
        InputError: there is no such slice, or libtpu is not installed.
    """
    match = _TOPOLOGY.fullmatch(topology)
    if not match or match[1] not in CHIPS:
        known = ", ".join(CHIPS)
        raise InputError(
            f"--topology={topology}: name a kind of chip ({known}) and the sides of the slice, "
            "such as v5e:4x4"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"--topology={topology}: libtpu, which compiles for it, is not installed; on Linux "
            'pip install -e ".[tpu]" installs it'
        )
    chips = math.prod(map(int, match[2].split("x")))
    # libtpu otherwise asks a server what machine this is, and waits for an answer.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{match[1]}-{chips}")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # It compiles and touches no chip: other programs, a training one too, may have libtpu loaded.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    options = {"chips_per_host_bounds": (1, 1, 1)} if chips == 1 else {}
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:  # JAX has no type for what libtpu says.
        raise InputError(
            f"--topology={topology}: {str(error).splitlines()[0]}; choose another slice"
        ) from error
    return CHIPS[match[1]], list(described.devices)


def compile_step(setup: Setup, state: TrainState, batch: Batch, turn: str, chips: list[Any]) -> Any:
    """The training step of a turn, compiled for these chips.

    The state and the batch, of all chips together, are only shapes.
    """
    step: Any = devices.map_train_step(functools.partial(train_step, setup=setup), chips)
    key = jax.eval_shape(lambda: jax.random.key(0))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return step.lower(state, _shares(batch, len(chips)), key, turn, number).compile()


def figures_of(compiled: Any, parts: int = 1) -> Figures:
    """What the compiler says of a step, which takes its images in so many parts.

    It counts the body of a loop once, and nearly all of such a step is in the body.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    arguments = memory.argument_size_in_bytes
    arguments += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Figures(
        arguments=arguments,
        temporary=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=parts * cost["flops"],
        traffic=parts * cost["bytes accessed"],
        reduced=reduced_bytes(compiled.as_text()),
    )


def reduced_bytes(program: str) -> float:
    """The bytes that pass through collective operations, from the program's text."""
    total = 0.0
    for match in _COLLECTIVE.finditer(program):
        for kind, sides in _SHAPE.findall(match["shapes"]):
            count = math.prod(int(side) for side in sides.split(",") if side)
            total += count * (1 if kind == "pred" else int(re.sub(r"\D", "", kind)) / 8)
    return total


def batch_shapes(rows: int, canvas: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch of so many images on a canvas."""
    return {
        "image": jax.ShapeDtypeStruct((rows, *canvas, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((rows, *canvas), np.uint8),
        "size": jax.ShapeDtypeStruct((rows, 2), np.int32),
    }


def _shares(batch, chips):
    """`devices.shard` of shapes."""

    def share(x):
        return jax.ShapeDtypeStruct((chips, x.shape[0] // chips, *x.shape[1:]), x.dtype)

    return jax.tree.map(share, batch)
