"""The programs that `tools.benchmark` times: the steps of this package, and those of PyTorch.

Both have `reset()`, back to the initial weights, and `run(kind, count)`. A kind of work is a
turn, "augmented" (both players, on patches that are cut, flipped, rotated and scaled from whole
images) or "evaluate".
"""

import multiprocessing
import time

import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID, encodings, optimizers, steps
from segadv_jax.errors import InputError
from segadv_jax.models import MultiScale, TwoBranch
from segadv_jax.train_state import TrainState

CLASSES = 8
NETWORKS = {"multiscale": {"sparse": True}, "multiscale_dense": {"sparse": False}}
TURNS = ("standard", "segmenter", "adversary", "both")
KINDS = (*TURNS, "augmented", "evaluate")
IMAGE = (240, 320)  # Height and width of most images of Stanford Background.
RATES, MOMENTUM, LAM = (0.02, 1e-3), 0.9, 2 / 16  # Those of configs/stanford.py.
AUGMENT = {"crop": 160, "flip": True, "rotation": 8.0, "scale": (0.9, 1.1)}
NO_UPDATES = np.int32(0)  # Lambda does not change.
TOLERANCE = 1e-4  # Within which both programs' losses have to agree.


def noise(batch_size, height, width):
    """A batch of `data` with random pixels and labels in squares, some of them void."""
    random = np.random.RandomState(0)
    label = random.randint(0, CLASSES, (batch_size, -(-height // 8), -(-width // 8)))
    label = np.where(random.uniform(size=label.shape) < 0.1, VOID, label).astype(np.uint8)
    return {
        "image": random.randint(0, 256, (batch_size, height, width, 3)).astype(np.uint8),
        "label": label.repeat(8, 1).repeat(8, 2)[:, :height, :width],
        "size": np.tile(np.int32([height, width]), (batch_size, 1)),
        "mask": np.ones(batch_size, np.float32),
    }


class Ours:
    """The steps of this package, as the loops call them, on one batch for each kind of work."""

    def __init__(self, fields, batches):
        self.segmenter, self.adversary = MultiScale(CLASSES, **fields), TwoBranch()
        rates = [optimizers.sgd(rate, MOMENTUM) for rate in RATES]
        self.optimizer = optimizers.alternate(*rates)
        fixed = {
            "segmenter": self.segmenter,
            "adversary": self.adversary,
            "encode": encodings.basic,
            "optimizer": self.optimizer,
            "lam": LAM,
        }
        self.train_step = steps.parallel_train_step(**fixed)
        self.augmented_step = steps.parallel_train_step(**fixed, augment=AUGMENT)
        self.eval_step = steps.parallel_eval_step(segmenter=self.segmenter)
        self.batches = {kind: steps.shard(batch) for kind, batch in batches.items()}
        self.compiled, self.key = {}, jax.random.key(0)
        image, size = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
        label_map = jnp.zeros((1, 16, 16, CLASSES))
        self.params = {
            "segmenter": jax.jit(self.segmenter.init)(self.key, image, size)["params"],
            "adversary": jax.jit(self.adversary.init)(self.key, label_map, image, size)["params"],
        }
        self.params = jax.tree.map(np.asarray, self.params)
        self.reset()

    def reset(self):
        """Back to the initial weights and no momentum."""
        step, params = jnp.zeros((), jnp.int32), self.params
        self.state = steps.replicate(TrainState(step, params, self.optimizer.init(params)))

    def _arguments(self, kind):
        """What a kind's compiled step is called with."""
        batch = self.batches["train" if kind in TURNS else kind]
        if kind == "evaluate":
            totals = steps.replicate(steps.zero_totals(CLASSES))
            return self.state.params["segmenter"], totals, batch
        return self.state, batch, self.key

    def compile(self, kind):
        """{"compile_seconds", "gflop": of one step, "temporary_mib"}, None where JAX cannot say."""
        step = {"evaluate": self.eval_step, "augmented": self.augmented_step}
        step = step.get(kind, self.train_step)
        turn = {"evaluate": (), "augmented": ("both", NO_UPDATES)}.get(kind, (kind, NO_UPDATES))
        begin = time.perf_counter()
        compiled = step.lower(*self._arguments(kind), *turn).compile()
        seconds = time.perf_counter() - begin
        self.compiled[kind] = compiled
        cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
        return {
            "compile_seconds": seconds,
            "gflop": cost["flops"] / 1e9 if "flops" in cost else None,
            "temporary_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
        }

    def run(self, kind, count):
        """`count` steps: (seconds, the last step's losses {name: float})."""
        begin = time.perf_counter()
        for _ in range(count):
            updates = () if kind == "evaluate" else (NO_UPDATES,)
            result = self.compiled[kind](*self._arguments(kind), *updates)
            if kind != "evaluate":
                self.state, result = result
        result = jax.device_get(result)
        jax.block_until_ready(self.state)
        seconds = time.perf_counter() - begin
        if kind == "evaluate":
            return seconds, {"mce": float(result["mce"] / result["cells"])}
        return seconds, {name: float(value) for name, value in result.items()}


class Peer:
    """The PyTorch program in a process of its own."""

    def __init__(self, fields, batches, params, compiled):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        settings = {"fields": fields, "rates": RATES, "momentum": MOMENTUM, "lam": LAM}
        settings |= {"batches": batches, "params": params, "compiled": compiled}
        self.process = context.Process(target=_serve, args=(theirs, settings), daemon=True)
        self.process.start()
        theirs.close()
        self.version = self._receive()

    def _receive(self):
        try:
            return self.connection.recv()
        except EOFError:
            raise InputError("--peer=torch: its process ended; its message is above") from None

    def ask(self, *request):
        self.connection.send(request)
        return self._receive()

    def reset(self):
        self.ask("reset")

    def run(self, kind, count):
        return self.ask("run", kind, count)

    def close(self):
        """Ends the process; returns its peak memory in MiB."""
        peak = self.ask("end")
        self.process.join()
        return peak


def _serve(connection, settings):
    from tools import torch_peer

    torch_peer.serve(connection, settings)


def check_same(kind, ours, theirs):
    """Raises an InputError if one of the losses differs by more than `TOLERANCE`."""
    for name, value in theirs.items():
        if not abs(ours[name] - value) <= TOLERANCE * max(1, abs(value)):
            raise InputError(
                f"{kind}: {name} is {ours[name]:.6f} here and {value:.6f} in PyTorch; the two "
                "programs do not do the same, and were not timed"
            )
