"""The two programs that are timed: the steps of this package, and the same in PyTorch.

Both have `reset()`, which goes back to the initial weights, and `run(kind, count)`, which makes so
many steps of a kind of work (see `cases`) and returns the seconds that they took and what the last
one found: losses, or class probabilities.
"""

import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import devices, encodings, optimizers, prediction
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.benchmark.cases import (
    AUGMENTATION,
    LAM,
    MOMENTUM,
    ON_ONE_DEVICE,
    Batches,
    Case,
)
from segadv_jax.errors import InputError
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.losses import Objective
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState, evaluated, split_frozen
from segadv_jax.train_step import train_step

# The most by which the two programs may differ: in exact float32, and where one of them rounds the
# factors of its products to bfloat16 or TF32 (eight and eleven bits), in its own places.
EXACT, ROUNDED = 1e-4, 3e-2
EVERY = 7  # Of the probabilities every so many pixels, in both directions, are compared.

Found = dict[str, Any]  # Losses, or {"probabilities": f32[n,H/7,W/7,C]}.


class Ours:
    """The steps of this package, as the loops call them; `params` hold both players' all."""

    def __init__(self, case: Case, batches: Batches):
        optimizer = optimizers.alternate(
            *(optimizers.player("sgd", rate, MOMENTUM) for rate in case.rates)
        )
        encode = encodings.ENCODINGS[case.encoding]
        self._setup = Setup(case.segmenter, case.adversary, encode, optimizer, Objective(lam=LAM))
        self._key, self.compiled = jax.random.key(0), dict[str, Any]()
        self._batches = {
            kind: batch if kind in ON_ONE_DEVICE else devices.shard(batch)
            for kind, batch in batches.items()
        }
        self.params = initial(case)
        self._shown = (
            jax.device_put(self.params[SEGMENTER]) if {*ON_ONE_DEVICE} & {*batches} else {}
        )
        self.reset()

    def reset(self) -> None:
        trained, frozen = split_frozen(self.params[SEGMENTER], self._setup.segmenter.frozen)
        params = self.params | {SEGMENTER: trained}
        step, opt_state = jnp.zeros((), jnp.int32), self._setup.optimizer.init(params)
        self._state = devices.replicate(TrainState(step, params, opt_state, frozen=frozen))

    def _step(self, kind):
        """The step of a kind of work on one device, and its turn if it has one."""
        segmenter = self._setup.segmenter
        if kind in ON_ONE_DEVICE:
            return functools.partial(prediction.predict, segmenter=segmenter), ()
        if kind == "evaluate":
            return functools.partial(eval_step, segmenter=segmenter), ()
        augmentation, turn = (AUGMENTATION, "both") if kind == "augmented" else (None, kind)
        setup = dataclasses.replace(self._setup, augmentation=augmentation)
        return functools.partial(train_step, setup=setup), (turn,)

    def gflop(self, kind: str) -> float | None:
        """The floating-point operations of one step on each device, in 1e9; None if unknown.

        They are those of plain convolutions, as GPUs and TPUs compute them: a CPU that gets by with
        fewer is as fast as if it had done them all. They are counted before XLA's optimisations:
        afterwards, a GPU's are hidden in calls of libraries.
        """
        step, turn = self._step(kind)
        arguments = self.arguments(kind)
        if kind not in ON_ONE_DEVICE:
            place = 2 if kind == "evaluate" else 1  # Of the batch, whose first axis is devices'.
            rows = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), arguments[place]
            )
            arguments = (*arguments[:place], rows, *arguments[place + 1 :])
        traced = jax.jit(step, static_argnums=3 if turn else ()).trace(
            *arguments[:3], *turn, *arguments[3:]
        )
        cost = traced.lower(lowering_platforms=("tpu",)).cost_analysis() or {}
        return cost["flops"] / 1e9 if "flops" in cost else None

    def compile(self, kind: str) -> dict[str, Any]:
        """Compiles the step of a kind of work, which has to come before it is run.

        Returns:
            {"compile_seconds", "gflop", "temporary_mib"}; None where JAX cannot say.
        """
        step, turn = self._step(kind)
        if kind in ON_ONE_DEVICE:
            mapped: Any = jax.jit(step)
        else:
            mapped = devices.map_train_step(step) if turn else devices.map_eval_step(step)
        arguments = self.arguments(kind)
        lowered = mapped.lower(*arguments[:3], *turn, *arguments[3:])
        begin = time.perf_counter()
        compiled = self.compiled[kind] = lowered.compile()
        seconds, memory = time.perf_counter() - begin, compiled.memory_analysis()
        return {
            "compile_seconds": seconds,
            "gflop": self.gflop(kind),
            "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        }

    def run(self, kind: str, count: int) -> tuple[float, Found]:
        begin = time.perf_counter()
        arguments = self.arguments(kind)
        for _ in range(count):
            result = self.compiled[kind](*arguments)
            if kind in ON_ONE_DEVICE:
                result = np.asarray(result)
            elif kind == "evaluate":  # Totals go from step to step, as in `evaluate.accumulate`.
                arguments = (arguments[0], result, arguments[2])
            else:
                self._state, result = result
                arguments = (self._state, *arguments[1:])
        result = jax.device_get(result)
        jax.block_until_ready(self._state)
        seconds = time.perf_counter() - begin
        if kind in ON_ONE_DEVICE:
            return seconds, {"probabilities": result[:, ::EVERY, ::EVERY]}
        if kind == "evaluate":
            result = {"mce": result["mce"] / result["cells"]}
        return seconds, {name: float(value) for name, value in result.items()}

    def arguments(self, kind: str) -> tuple:
        """What a compiled step is called with, without its static turn."""
        batch = self._batches[kind]
        if kind in ON_ONE_DEVICE:  # From main memory, as a photograph comes.
            return self._shown, batch["image"], batch["size"]
        if kind == "evaluate":
            totals = zero_totals(self._setup.segmenter.num_classes)
            return evaluated(self._state), devices.replicate(totals), batch
        return self._state, batch, self._key, np.int32(0)  # Lambda does not change.


def initial(case: Case) -> dict[str, Any]:
    """Random parameters of both players, as NumPy arrays; none is 0.

    Behind a kernel of zeros, which some layers begin with, no loss could tell programs apart.
    """
    segmenter, adversary, key = case.segmenter, case.adversary, jax.random.key(0)
    side, size = 64, jnp.full((1, 2), 64)
    image, wide = (jnp.zeros((1, s, s, 3)) for s in (side, side + 2 * segmenter.margin))

    def initialize():
        own = segmenter.init(key, wide, size)
        logits = segmenter.apply(own, wide, size)
        colours = segmenter.apply({}, image, size, method="colours")
        label = jnp.zeros(logits.shape[:3], jnp.uint8)
        label_map, _ = encodings.ENCODINGS[case.encoding](logits, label, colours)
        seen = image
        if adversary.sees == "features":
            seen = segmenter.apply(own, wide, size, method="features")
        params = {SEGMENTER: own, ADVERSARY: adversary.init(key, label_map, seen, size)}
        return {name: tree["params"] for name, tree in params.items()}

    random = np.random.default_rng(0)

    def draw(shape):
        array = random.standard_normal(shape.shape, np.float32)
        inputs = math.prod(shape.shape[:-1])
        return array * np.float32(math.sqrt(case.gain / inputs) if array.ndim > 1 else 0.1)

    return jax.tree.map(draw, jax.eval_shape(initialize))  # Compiles nothing.


class Peer:
    """The PyTorch program, in a process of its own; `params` are those of `Ours`.

    It runs on the CPU or, where JAX has a GPU, on the first one.

    Raises:
        InputError: the process has ended, here or in a method.
    """

    def __init__(self, case: Case, batches: Batches, params: dict[str, Any], compiled: bool):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        # The settings follow over the pipe: `start` would wait for ever for a process that ends
        # before it has read them.
        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self.version: str = self._ask(case, batches, params, compiled, device, exact_products())

    def reset(self) -> None:
        self._ask("reset")

    def run(self, kind: str, count: int) -> tuple[float, Found]:
        return self._ask("run", kind, count)

    def close(self) -> float:
        """Ends the process; returns its peak memory in MiB."""
        peak = self._ask("peak_mib")
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
    jax.config.update("jax_platforms", "cpu")  # The GPU's memory is PyTorch's here.
    import torch

    from segadv_jax.benchmark.torch_peer import Training

    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    training = Training(*connection.recv())
    connection.send(str(torch.__version__))  # As it is, it would import PyTorch where it arrives.
    with contextlib.suppress(EOFError):
        while True:
            name, *arguments = connection.recv()
            connection.send(getattr(training, name)(*arguments))


def peak_resident_mib() -> float:
    """The most main memory that this process has had."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def exact_products() -> bool:
    """Whether float32 is multiplied as float32: on GPUs JAX rounds to TF32 unless told otherwise.

    It is told by JAX_DEFAULT_MATMUL_PRECISION=highest in the environment.
    """
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return jax.default_backend() == "cpu" or chosen in ("highest", "float32")


def check_same(kind: str, ours: Found, theirs: Found, tolerance: float = EXACT) -> None:
    """Raises an InputError if what the programs found differs by more than the tolerance.

    Of numbers above 1 the difference is relative.
    """
    for name, value in theirs.items():
        difference = np.abs(ours[name] - value) / np.maximum(1, np.abs(value))
        if not np.max(difference) <= tolerance:
            worst = np.unravel_index(np.argmax(difference), np.shape(difference))
            mine, other = np.asarray(ours[name])[worst], np.asarray(value)[worst]
            raise InputError(
                f"{kind}: {name} is {mine:.6f} here and {other:.6f} in PyTorch; the two programs "
                "do not do the same, and were not timed"
            )
