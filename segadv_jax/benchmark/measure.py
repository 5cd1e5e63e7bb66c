"""Rounds of timed steps, A B A B, so that a machine whose speed drifts does not decide."""

import io
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from segadv_jax.alternation import PLAYERS
from segadv_jax.benchmark import boundaries, contenders
from segadv_jax.benchmark.cases import IMAGE, Batches, Case
from segadv_jax.benchmark.contenders import Ours, Peer
from segadv_jax.data import arrays, scenes
from segadv_jax.models.layers import DTYPES

Spread = dict[str, float]  # {"median", "min", "max"}


class Plan(NamedTuple):
    """How a case is measured."""

    rounds: int  # Of each program,
    steps: int  # with so many steps in each.
    peers: Sequence[str] = ()  # Of PyTorch "eager" and "compiled".
    product_rate: float | None = None  # `product_rate`, for the share of it.
    trace: str = ""  # The folder for a trace of so many steps of each kind of work; "" for none.


def rate(seconds: Sequence[float], batch_size: int, count: int) -> Spread:
    """Images per second of rounds of `count` batches that took `seconds`."""
    return spread([batch_size * count / s for s in seconds])


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def count(case: Case, batches: Batches) -> dict[str, Any]:
    """The operations of each kind of work, as `measure` returns them; nothing is compiled."""
    ours = Ours(case, batches)
    rows = {kind: {"gflop": ours.gflop(kind)} for kind in batches}
    return _with_slow({"rows": rows, "peers": {}, "ratios": {}, "peak_mib": {}})


def measure(name: str, case: Case, batches: Batches, plan: Plan) -> dict[str, Any]:
    """The figures of a case.

    Args:
        name: of the case, for messages.
        case: what is measured.
        batches: of each kind of work to measure.
        plan: how it is measured.

    Returns:
        {"rows": {kind: {"images_per_second", ...}}, "peers": {peer: {kind: images per second}},
        "ratios": {peer: {kind: how many times as fast ours is}}, "peak_mib", "torch": versions}.

    Raises:
        InputError: a peer's losses are not ours.
    """
    ours, steps = Ours(case, batches), plan.steps
    rows = {kind: ours.compile(kind) for kind in batches}
    others = {peer: Peer(case, batches, ours.params, peer == "compiled") for peer in plan.peers}
    speeds: dict[str, dict[str, Spread]] = {peer: {} for peer in others}
    ratios: dict[str, dict[str, Spread]] = {peer: {} for peer in others}
    for kind, batch in batches.items():
        programs: dict[str, Ours | Peer] = {"ours": ours}
        if kind != "augmented":  # Its random numbers are JAX's.
            programs |= others
        _check_same(kind, programs, case.dtype)
        seconds: dict[str, list[float]] = {program: [] for program in programs}
        for _ in range(plan.rounds):
            for each, program in programs.items():
                seconds[each].append(program.run(kind, steps)[0])
        images, mine, row = len(batch["image"]), seconds.pop("ours"), rows[kind]
        row["images_per_second"] = rate(mine, images, steps)
        if row["gflop"] and plan.product_rate:
            steps_per_second = row["images_per_second"]["median"] / images
            row["share"] = row["gflop"] * 1e9 * steps_per_second / plan.product_rate
        for peer, theirs in seconds.items():
            speeds[peer][kind] = rate(theirs, images, steps)
            ratios[peer][kind] = spread([b / a for a, b in zip(mine, theirs, strict=True)])
        print(f"{name}, {kind}: measured", file=sys.stderr)
    memory = {"ours": peak_mib()} | {peer: program.close() for peer, program in others.items()}
    if plan.trace:
        _trace(ours, batches, steps, os.path.join(plan.trace, name))
    result = {"rows": rows, "peers": speeds, "ratios": ratios, "peak_mib": memory}
    return _with_slow(result | {"torch": {peer: p.version for peer, p in others.items()}})


def _with_slow(figures):
    """The figures with the average of the slow schedule's turns, and operations beside others'."""
    rows = figures["rows"]
    both = [rows[kind] for kind in ("segmenter", "adversary") if kind in rows]
    if len(both) == 2:
        rows["slow"] = {}
        if all(row["gflop"] for row in both):
            rows["slow"]["gflop"] = sum(row["gflop"] for row in both) / 2
        if all("images_per_second" in row for row in both):
            times = [1 / row["images_per_second"]["median"] for row in both]
            rows["slow"]["images_per_second"] = {"median": 2 / sum(times)}
    standard = rows.get("standard", {}).get("gflop")
    for kind, row in rows.items():
        if standard and row.get("gflop") and kind in (*PLAYERS, "slow"):
            row["of_standard"] = row["gflop"] / standard
    return figures


def _check_same(kind, programs, dtype):
    """Two steps from the initial weights, in which the programs must do the same; they warm up."""
    found = {}
    for name, program in programs.items():
        program.reset()
        found[name] = [program.run(kind, 1)[1] for _ in range(2)]
    ours = found.pop("ours")
    exact = dtype == "float32" and contenders.exact_products()
    tolerance = contenders.EXACT if exact else contenders.ROUNDED
    for theirs in found.values():
        for one, other in zip(ours, theirs, strict=True):
            contenders.check_same(kind, one, other, tolerance)


def _trace(ours, batches, steps, folder):
    """Records some more steps of each kind of work for TensorBoard and Perfetto."""
    with jax.profiler.trace(folder):
        for kind in batches:
            with jax.profiler.TraceAnnotation(kind):
                ours.run(kind, steps)


def product_rate(dtype: str, side: int = 0, rounds: int = 10) -> float:
    """Operations per second of one device in the best of some products of large square matrices.

    Of float32 they are as exact as JAX is told to make them, as in the networks.
    """
    side = side or (1024 if jax.default_backend() == "cpu" else 8192)
    x = jnp.asarray(np.random.RandomState(0).normal(size=(side, side)), DTYPES[dtype])
    multiply, best = jax.jit(jnp.matmul), float("inf")
    multiply(x, x).block_until_ready()
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(4):
            product = multiply(x, x)
        product.block_until_ready()
        best = min(best, time.perf_counter() - begin)
    return 4 * 2 * side**3 / best


def measure_boundaries(size: tuple[int, int], batch_size: int, rounds: int) -> dict[str, Any]:
    """BF: {kind of maps: {"images_per_second", "scipy": the same of SciPy, "ratio"}}."""
    figures = {}
    for kind, seconds in boundaries.seconds(size, batch_size, rounds).items():
        mine, theirs = seconds["ours"], seconds["scipy"]
        figures[kind] = {
            "images_per_second": rate(mine, batch_size, 1),
            "scipy": rate(theirs, batch_size, 1),
            "ratio": spread([b / a for a, b in zip(mine, theirs, strict=True)]),
        }
    return figures


def peak_mib() -> float:
    """The most memory that this process has had: on its devices or, on a CPU, in all."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in of_device for of_device in stats):
        return max(of_device["peak_bytes_in_use"] for of_device in stats) / 2**20
    return contenders.peak_resident_mib()


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    devices = jax.local_devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    description = {"devices": f"{len(devices)} x {devices[0].device_kind}", "cores": cores}
    exact = "as float32" if contenders.exact_products() else "rounded by the device"
    description |= {"python": platform.python_version(), "jax": jax.__version__}
    return description | {"products of float32": exact}


def measure_pipelines(batch_size: int, count: int, rounds: int) -> dict[str, Spread]:
    """Images per second of each pipeline: {"arrays", and "tf.data" if TensorFlow is installed}."""
    rates = {}
    for name, split in _splits(64).items():
        batches = split.train_batches(batch_size=batch_size, canvas=IMAGE, seed=0)
        for _ in range(8):  # Fills tf.data's buffers, which is not timed.
            next(batches)
        seconds = []
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(count):
                next(batches)
            seconds.append(time.perf_counter() - begin)
        rates[name] = rate(seconds, batch_size, count)
    return rates


def _splits(count):
    """Drawn scenes, enlarged to the size of a photograph, as each pipeline holds them."""
    images, labels = [], []
    for index in range(count):
        image, label = map(Image.fromarray, scenes.draw(np.random.RandomState(index)))
        images.append(np.asarray(image.resize(IMAGE[::-1], Image.Resampling.BICUBIC)))
        labels.append(np.asarray(label.resize(IMAGE[::-1], Image.Resampling.NEAREST)))
    drawn = arrays.Arrays([f"scene_{i}" for i in range(count)], images, labels)
    try:
        from segadv_jax.data import builders, pipeline
    except ImportError:
        print("tf.data: TensorFlow is not installed", file=sys.stderr)
        return {"arrays": drawn}
    encoded = [_jpeg(image) for image in images], [builders.png(label) for label in labels]
    return {"arrays": drawn, "tf.data": pipeline.Encoded(drawn.ids, *encoded, drawn.sizes)}


def _jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()
