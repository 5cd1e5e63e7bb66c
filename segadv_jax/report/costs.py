"""What a training costs: operations, memory, and the time that it takes on this machine."""

import collections
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from segadv_jax import devices, evaluate, experiment, soundness, streams, validation
from segadv_jax.alternation import ADVERSARY, SEGMENTER, Alternation
from segadv_jax.campaign import text
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.metrics.names import SELECTING
from segadv_jax.preparation import Assembled
from segadv_jax.train_state import TrainState, evaluated
from segadv_jax.train_step import train_step

# A step is timed so often after the first, as long as this takes no more seconds.
REPEATS, PATIENCE = 3, 20.0


class Cost(NamedTuple):
    """Of a step, over all devices but for the memory, which is that of each."""

    gflop: float | None  # None where JAX cannot say.
    mebibytes: float | None
    compiling: float  # Seconds,
    seconds: float  # and those of one step.


def measure(
    mapped: Any, arguments: tuple, play: Callable[[Callable], Any]
) -> tuple[Cost, list[Any]]:
    """Compiles a mapped step of `devices` and makes a few steps.

    Args:
        mapped: the step.
        arguments: to compile it for, with those that are static.
        play: makes a step with the compiled one, which takes no static arguments.

    Returns:
        (its cost, what each call of `play` returned).
    """
    begin = time.perf_counter()
    compiled = mapped.lower(*arguments).compile()
    compiling, seconds, results = time.perf_counter() - begin, list[float](), list[Any]()
    while len(results) <= REPEATS and sum(seconds) < PATIENCE:
        begin = time.perf_counter()
        results.append(jax.block_until_ready(play(compiled)))
        seconds.append(time.perf_counter() - begin)
    operations, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    gflop = mebibytes = None
    if "flops" in operations:
        gflop = operations["flops"] * jax.local_device_count() / 1e9
    if memory:
        used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        used += memory.output_size_in_bytes - memory.alias_size_in_bytes
        mebibytes = used / 2**20
    # The first may have had to wait for memory.
    return Cost(gflop, mebibytes, compiling, statistics.median(seconds[1:] or seconds)), results


def duration(seconds: float) -> str:
    """About how long something takes: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 2:
        return "a second"
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def describe(
    config: ConfigDict, found: Assembled, state: TrainState, images: Mapping[str, int]
) -> str:
    """What a training costs, from a few steps of each turn and of evaluation, as text.

    Args:
        config: of the training.
        found: what it stands for.
        state: any.
        images: {"training", "validation", "test": how many}.

    Raises:
        soundness.UnsoundError: a step is not sound.
    """
    turns = found.experiment.alternation
    counts = turns_of(turns, config.train.updates)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    params = evaluated(state)
    trained = _play_turns(config, found, devices.replicate(state), counts)
    batches, evaluations = _batches(config, images), dict[str, Cost]()
    structure = {"validation": config.evaluate.history_bf, "test": config.evaluate.bf}
    for what, wanted in structure.items():
        same = evaluations and wanted == structure["validation"]
        evaluations[what] = (
            evaluations["validation"]._replace(compiling=0.0)
            if same
            else _play_evaluation(config, found, params, wanted)
        )
    rows = [["step", "GFLOP", "memory, MiB", "compiling, s", "seconds", "times"]]
    number = -(-config.train.updates // config.evaluate.every)
    times = {**counts, "validation": number * batches["validation"], "test": batches["test"]}
    all_costs = trained | evaluations
    for name, cost in all_costs.items():
        figures = [_number(cost.gflop), _number(cost.mebibytes), f"{cost.compiling:.0f}"]
        shown = "training" if name in ("standard", "both") else name
        rows.append([shown, *figures, f"{cost.seconds:.3f}", str(times[name])])
    parts = {
        "training": sum(trained[turn].seconds * counts[turn] for turn in trained),
        f"{number} validations": evaluations["validation"].seconds * times["validation"],
        "the evaluation at the end": evaluations["test"].seconds * times["test"],
        "compiling": sum(cost.compiling for cost in all_costs.values()),
    }
    in_all = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    kept = 1 + len(SELECTING)
    return "\n".join(
        [
            f"Costs, on {len(jax.devices())} x {jax.devices()[0].device_kind}:",
            text.table(rows),
            f"about {duration(sum(parts.values()))}: {in_all}",
            f"checkpoints: {state_bytes / 2**20:.0f} MiB each, {kept} at most",
        ]
    )


def turns_of(turns: Alternation, updates: int) -> dict[str, int]:
    """How often each turn is played until the segmenter has had its updates."""
    return dict(collections.Counter(map(turns.turn, range(turns.steps(updates)))))


def _play_turns(
    config: ConfigDict, found: Assembled, state: Any, counts: dict[str, int]
) -> dict[str, Cost]:
    """The costs of a step of each turn, on the first batch.

    Raises:
        soundness.UnsoundError: a step is not sound.
    """
    setup = found.experiment.setup
    batches = streams.make(
        config, found.images, setup.segmenter, state.frozen, {SEGMENTER: 0, ADVERSARY: 0}
    )
    # Only the segmenter's have images without labels in them.
    players = {turn: ADVERSARY if turn == "adversary" else SEGMENTER for turn in counts}
    first = {player: devices.shard(next(batches[player])) for player in {*players.values()}}
    batches.clear()  # TensorFlow complains of iterators that outlive Python.
    mapped = devices.map_train_step(functools.partial(train_step, setup=setup))
    key, updates, found_costs = jax.random.key(config.seed), np.int32(0), {}
    for turn in counts:
        batch = first[players[turn]]

        def play(step, batch=batch):
            nonlocal state
            state, metrics = step(state, batch, key, updates)
            return metrics

        arguments = (state, batch, key, turn, updates)
        found_costs[turn], metrics = measure(mapped, arguments, play)
        for number, each in enumerate(metrics, 1):
            soundness.check(each, {"step": number, "segmenter_updates": number})
    return found_costs


def _batches(config: ConfigDict, images: Mapping[str, int]) -> dict[str, int]:
    """How many batches a validation takes, and an evaluation of the test images."""
    size = _batch_size(config)
    measured = images["validation"], min(config.evaluate.train_images, images["training"])
    batches = {"validation": sum(-(-number // size) for number in measured)}
    return batches | {"test": -(-images["test"] // size)}


def _batch_size(config: ConfigDict) -> int:
    """Of an evaluation, over all devices."""
    return -(-config.evaluate.batch_size // jax.device_count()) * jax.device_count()


def _play_evaluation(config: ConfigDict, found: Assembled, params: Any, structure: bool) -> Cost:
    """The cost of evaluating the first validation images, with or without BF and its like."""
    split, segmenter = found.images.validation, found.experiment.setup.segmenter
    step = functools.partial(
        eval_step,
        segmenter=experiment.in_tiles(segmenter, config.evaluate.tile),
        boundaries=evaluate.boundaries_of(config, split) if structure else None,
    )
    canvas = validation.shared_canvas(*found.images[:2])
    batches = split.eval_batches(batch_size=_batch_size(config), canvas=canvas)
    batch = devices.shard(next(batches))
    zeros, params = (
        zero_totals(len(found.data_set.class_names), structure),
        devices.replicate(params),
    )
    arguments = params, devices.replicate(zeros), batch

    def play(step):
        return step(params, devices.replicate(zeros), batch)

    cost, _ = measure(devices.map_eval_step(step), arguments, play)
    return cost


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
