"""The two programs that are timed: the steps of this package, and the same in PyTorch.

Both have `reset()`, which goes back to the initial weights, and `run(kind, count)`, which makes so
many steps and returns the seconds that they took and the last one's losses. A kind of work is a
turn, "augmented" (both players, on patches that are cut, flipped, rotated and scaled from whole
images) or "evaluate".
"""

import dataclasses
import functools
import multiprocessing
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID, devices, encodings, optimizers
from segadv_jax.alternation import PLAYERS, SEGMENTER
from segadv_jax.augment import Augmentation
from segadv_jax.data import Batch
from segadv_jax.errors import InputError
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.losses import Objective
from segadv_jax.models import MultiScale, TwoBranch
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import Setup, train_step

CLASSES = 8
NETWORKS = {"multiscale": {"sparse": True}, "multiscale_dense": {"sparse": False}}
TURNS = tuple(PLAYERS)
KINDS = (*TURNS, "augmented", "evaluate")
IMAGE = (240, 320)  # Height and width of most images of Stanford Background.
# Those of configs/stanford.py.
RATES, MOMENTUM, LAM = (0.02, 1e-3), 0.9, 2 / 16
AUGMENTATION = Augmentation(crop=160, flip=True, rotation=8.0, scale=(0.9, 1.1))
NO_UPDATES = np.int32(0)  # Lambda does not change.
TOLERANCE = 1e-4  # The most by which the two programs' losses may differ.

Fields = Mapping[str, Any]
Batches = Mapping[str, Batch]
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
    """The steps of this package, as the loops call them.

    Args:
        fields: of the segmenter, as in `NETWORKS`.
        batches: {"train", "augmented", "evaluate": what these kinds of work are given}; those that
            are not run may be missing.
    """

    def __init__(self, fields: Fields, batches: Batches):
        self.setup = Setup(
            MultiScale(CLASSES, **fields),
            TwoBranch(),
            encodings.basic,
            optimizers.alternate(*(optimizers.sgd(rate, MOMENTUM) for rate in RATES)),
            Objective(lam=LAM),
        )
        self.params = _initial_params(self.setup)
        self._batches = {kind: devices.shard(batch) for kind, batch in batches.items()}
        self._key, self._compiled = jax.random.key(0), dict[str, Any]()
        self.reset()

    def reset(self) -> None:
        step, opt_state = jnp.zeros((), jnp.int32), self.setup.optimizer.init(self.params)
        self.state = devices.replicate(TrainState(step, self.params, opt_state))

    def compile(self, kind: str) -> dict[str, float | None]:
        """Compiles the step of a kind of work, which has to come before it is run.

        Returns:
            {"compile_seconds", "gflop": of one step, "temporary_mib"}; None where JAX cannot say.
        """
        arguments = list(self._arguments(kind))
        if kind != "evaluate":
            arguments.insert(3, "both" if kind == "augmented" else kind)
        begin = time.perf_counter()
        compiled = self._mapped(kind).lower(*arguments).compile()
        seconds = time.perf_counter() - begin
        self._compiled[kind] = compiled
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        return {
            "compile_seconds": seconds,
            "gflop": cost["flops"] / 1e9 if "flops" in cost else None,
            "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        }

    def step(self, kind: str) -> dict[str, jax.Array]:
        """Makes one step; returns its metrics or, of an evaluation, its totals, still on a device.

        Raises:
            KeyError: the kind is not compiled.
        """
        result = self._compiled[kind](*self._arguments(kind))
        if kind != "evaluate":
            self.state, result = result
        return result

    def run(self, kind: str, count: int) -> tuple[float, Losses]:
        begin = time.perf_counter()
        for _ in range(count):
            result = self.step(kind)
        result = jax.device_get(result)
        jax.block_until_ready(self.state)
        seconds = time.perf_counter() - begin
        if kind == "evaluate":
            return seconds, {"mce": float(result["mce"] / result["cells"])}
        return seconds, {name: float(value) for name, value in result.items()}

    def _mapped(self, kind: str) -> Any:
        """The step of a kind of work over all devices."""
        if kind == "evaluate":
            step = functools.partial(eval_step, segmenter=self.setup.segmenter)
            return devices.map_eval_step(step)
        augmentation = AUGMENTATION if kind == "augmented" else None
        setup = dataclasses.replace(self.setup, augmentation=augmentation)
        return devices.map_train_step(functools.partial(train_step, setup=setup))

    def _arguments(self, kind: str) -> tuple:
        """What a compiled step is called with: its static turn is left out."""
        batch = self._batches["train" if kind in TURNS else kind]
        if kind == "evaluate":
            return self.state.params[SEGMENTER], devices.replicate(zero_totals(CLASSES)), batch
        return self.state, batch, self._key, NO_UPDATES


def _initial_params(setup):
    """Both players' first parameters, as NumPy arrays."""
    key, image, size = jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    label_map = jnp.zeros((1, 16, 16, CLASSES))
    params = {
        "segmenter": jax.jit(setup.segmenter.init)(key, image, size)["params"],
        "adversary": jax.jit(setup.adversary.init)(key, label_map, image, size)["params"],
    }
    return jax.tree.map(np.asarray, params)


class Peer:
    """The PyTorch program, in a process of its own.

    Args:
        fields, batches: as of `Ours`.
        params: {"segmenter", "adversary": initial parameters}.
        compiled: with torch.compile.

    Raises:
        InputError: the process has ended, here or in a method.
    """

    def __init__(self, fields: Fields, batches: Batches, params: dict[str, Any], compiled: bool):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        settings = {"fields": fields, "rates": RATES, "momentum": MOMENTUM, "lam": LAM}
        settings |= {"batches": batches, "params": params, "compiled": compiled}
        # The settings follow over the pipe: `start` would wait for ever for a process that ends
        # before it has read them.
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.version: str = self._ask(settings)

    def reset(self) -> None:
        self._ask("reset")

    def run(self, kind: str, count: int) -> tuple[float, Losses]:
        return self._ask("run", kind, count)

    def close(self) -> float:
        """Ends the process; returns its peak memory in MiB."""
        peak = self._ask("end")
        self._process.join()
        return peak

    def _ask(self, *request):
        try:
            self._connection.send(request)
            return self._connection.recv()
        except (EOFError, OSError):
            raise InputError("--peer=torch: its process ended; its message is above") from None


def _serve(connection):
    from segadv_jax.benchmark import torch_peer

    torch_peer.serve(connection)


def check_same(kind: str, ours: Losses, theirs: Losses) -> None:
    """Raises an InputError if one of the losses differs by more than `TOLERANCE`."""
    for name, value in theirs.items():
        if not abs(ours[name] - value) <= TOLERANCE * max(1, abs(value)):
            raise InputError(
                f"{kind}: {name} is {ours[name]:.6f} here and {value:.6f} in PyTorch; the two "
                "programs do not do the same, and were not timed"
            )
