"""The two programs that are timed: the steps of this package, and the same in PyTorch.

Both have `reset()`, which goes back to the initial weights, and `run(kind, count)`, which makes so
many steps and returns the seconds that they took and the last one's losses. A kind of work is a
turn, "augmented" (both players, on patches that are cut, flipped, rotated and scaled from whole
images) or "evaluate".
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID, devices, encodings, optimizers
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.augment import Augmentation
from segadv_jax.data import Batch
from segadv_jax.errors import InputError
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.losses import Objective
from segadv_jax.models import MultiScale, TwoBranch
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.efficientnet_lite import EfficientNetLite
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState, evaluated, split_frozen
from segadv_jax.train_step import train_step

CLASSES = 8
# The adversary is in each case `TwoBranch` on pixels, for label maps of the segmenter's stride.
NETWORKS: dict[str, SegmenterModule] = {
    "multiscale": MultiScale(CLASSES, sparse=True),
    "multiscale_dense": MultiScale(CLASSES, sparse=False),
    "efficientnet_lite0": EfficientNetLite(CLASSES),
    "efficientnet_lite0_tuned": EfficientNetLite(CLASSES, freeze="none"),
}
KINDS = (*PLAYERS, "augmented", "evaluate")
IMAGE = (240, 320)  # Height and width of most images of Stanford Background.
# Those of configs/stanford.py.
RATES, MOMENTUM, LAM = (0.02, 1e-3), 0.9, 2 / 16
AUGMENTATION = Augmentation(crop=160, flip=True, rotation=8.0, scale=(0.9, 1.1))
TOLERANCE = 1e-4  # The most by which the two programs' losses may differ.

Batches = Mapping[str, Batch]  # By kind of work.
Losses = dict[str, float]


def noise(batch_size: int, height: int, width: int) -> Batch:
    """A batch with random pixels, and random labels in squares, some of them void."""
    random = np.random.RandomState(0)
    label = random.randint(0, CLASSES, (batch_size, -(-height // 8), -(-width // 8)))
    label = np.where(random.uniform(size=label.shape) < 0.1, VOID, label).astype(np.uint8)
    return {
        "image": random.randint(0, 256, (batch_size, height, width, 3)).astype(np.uint8),
        "label": label.repeat(8, 1).repeat(8, 2)[:, :height, :width],
        "size": np.tile(np.array([height, width], np.int32), (batch_size, 1)),
        "mask": np.ones(batch_size, np.float32),
    }


class Ours:
    """The steps of this package, as the loops call them; `params` hold both players' all."""

    def __init__(self, segmenter: SegmenterModule, batches: Batches):
        adversary = TwoBranch(stride=segmenter.stride)
        optimizer = optimizers.alternate(
            *(optimizers.player("sgd", rate, MOMENTUM) for rate in RATES)
        )
        self._setup = Setup(segmenter, adversary, encodings.basic, optimizer, Objective(lam=LAM))
        self._key, self.compiled = jax.random.key(0), dict[str, Any]()
        self._batches = {kind: devices.shard(batch) for kind, batch in batches.items()}
        image, size = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
        cells = 64 // segmenter.stride
        label_map = jnp.zeros((1, cells, cells, CLASSES))
        params = {
            SEGMENTER: jax.jit(segmenter.init)(self._key, image, size)["params"],
            ADVERSARY: jax.jit(adversary.init)(self._key, label_map, image, size)["params"],
        }
        self.params = jax.tree.map(_without_zeros, params)
        self.reset()

    def reset(self) -> None:
        trained, frozen = split_frozen(self.params[SEGMENTER], self._setup.segmenter.frozen)
        params = self.params | {SEGMENTER: trained}
        step, opt_state = jnp.zeros((), jnp.int32), self._setup.optimizer.init(params)
        self._state = devices.replicate(TrainState(step, params, opt_state, frozen=frozen))

    def compile(self, kind: str) -> dict[str, Any]:
        """Compiles the step of a kind of work, which has to come before it is run.

        Returns:
            {"compile_seconds", "gflop": of one step, "temporary_mib"}; None where JAX cannot say.
        """
        arguments = self.arguments(kind)
        if kind == "evaluate":
            step = functools.partial(eval_step, segmenter=self._setup.segmenter)
            mapped: Any = devices.map_eval_step(step)
        else:
            augmentation, turn = (AUGMENTATION, "both") if kind == "augmented" else (None, kind)
            setup = dataclasses.replace(self._setup, augmentation=augmentation)
            mapped = devices.map_train_step(functools.partial(train_step, setup=setup))
            arguments = (*arguments[:3], turn, *arguments[3:])
        begin = time.perf_counter()
        compiled = self.compiled[kind] = mapped.lower(*arguments).compile()
        seconds = time.perf_counter() - begin
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        return {
            "compile_seconds": seconds,
            "gflop": cost["flops"] / 1e9 if "flops" in cost else None,
            "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        }

    def run(self, kind: str, count: int) -> tuple[float, Losses]:
        begin = time.perf_counter()
        for _ in range(count):
            result = self.compiled[kind](*self.arguments(kind))
            if kind != "evaluate":
                self._state, result = result
        result = jax.device_get(result)
        jax.block_until_ready(self._state)
        seconds = time.perf_counter() - begin
        if kind == "evaluate":
            result = {"mce": result["mce"] / result["cells"]}
        return seconds, {name: float(value) for name, value in result.items()}

    def arguments(self, kind: str) -> tuple:
        """What a compiled step is called with, without its static turn."""
        batch = self._batches[kind]
        if kind == "evaluate":
            return evaluated(self._state), devices.replicate(zero_totals(CLASSES)), batch
        return self._state, batch, self._key, np.int32(0)  # Lambda does not change.


def _without_zeros(array):
    """A copy with noise for zeros: behind a kernel of zeros no loss could tell programs apart."""
    noise = np.random.RandomState(0).normal(0, 0.1, array.shape)
    return np.where(array == 0, noise, array).astype(np.float32)


class Peer:
    """The PyTorch program, in a process of its own; `params` are those of `Ours`.

    Raises:
        InputError: the process has ended, here or in a method.
    """

    def __init__(
        self, segmenter: SegmenterModule, batches: Batches, params: dict[str, Any], compiled: bool
    ):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        # The settings follow over the pipe: `start` would wait for ever for a process that ends
        # before it has read them.
        self.version: str = self._ask(segmenter, batches, params, compiled)

    def reset(self) -> None:
        self._ask("reset")

    def run(self, kind: str, count: int) -> tuple[float, Losses]:
        return self._ask("run", kind, count)

    def close(self) -> float:
        """Ends the process; returns its peak memory in MiB."""
        peak = self._ask("peak")
        self._connection.close()
        self._process.join()
        return peak

    def _ask(self, *request):
        try:
            self._connection.send(request)
            return self._connection.recv()
        except (EOFError, OSError):
            raise InputError("--peer=torch: its process ended; its message is above") from None


def _serve(connection):
    """Carries out what a `Peer` asks for, until it closes the connection."""
    import torch

    from segadv_jax.benchmark.torch_peer import Training

    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    training = Training(*connection.recv())
    answers = {"reset": training.reset, "run": training.run, "peak": peak_resident_mib}
    connection.send(str(torch.__version__))  # As it is, it would import PyTorch where it arrives.
    with contextlib.suppress(EOFError):
        while True:
            name, *arguments = connection.recv()
            connection.send(answers[name](*arguments))


def peak_resident_mib() -> float:
    """The most main memory that this process has had."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def check_same(kind: str, ours: Losses, theirs: Losses) -> None:
    """Raises an InputError if one of the losses differs by more than `TOLERANCE`."""
    for name, value in theirs.items():
        if not abs(ours[name] - value) <= TOLERANCE * max(1, abs(value)):
            raise InputError(
                f"{kind}: {name} is {ours[name]:.6f} here and {value:.6f} in PyTorch; the two "
                "programs do not do the same, and were not timed"
            )
