"""Rounds of timed steps, A B A B, so that a machine whose speed drifts does not decide."""

import io
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from segadv_jax.benchmark import contenders
from segadv_jax.benchmark.contenders import IMAGE, NETWORKS, Batches, Ours, Peer
from segadv_jax.data import arrays, scenes

Spread = dict[str, float]  # {"median", "min", "max"}


def rate(seconds: Sequence[float], batch_size: int, count: int) -> Spread:
    """Images per second of rounds of `count` batches that took `seconds`."""
    return spread([batch_size * count / s for s in seconds])


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(
    network: str, batches: Batches, rounds: int, steps: int, peers: Sequence[str] = ()
) -> dict[str, Any]:
    """The figures of a network, of so many rounds of each program and steps in each round.

    Args:
        network: one of `NETWORKS`.
        batches: of each kind of work to measure; all have the same number of images.
        peers: of PyTorch "eager" and "compiled".

    Returns:
        {"rows": {kind: {"images_per_second", ...}}, "peers": {peer: {kind: images per second}},
        "ratios": {peer: {kind: how many times as fast ours is}}, "peak_mib", "torch": versions}.

    Raises:
        InputError: a peer's losses are not ours.
    """
    segmenter = NETWORKS[network]
    ours = Ours(segmenter, batches)
    rows = {kind: ours.compile(kind) for kind in batches}
    others = {name: Peer(segmenter, batches, ours.params, name == "compiled") for name in peers}
    speeds: dict[str, dict[str, Spread]] = {name: {} for name in peers}
    ratios: dict[str, dict[str, Spread]] = {name: {} for name in peers}
    for kind, batch in batches.items():
        programs: dict[str, Ours | Peer] = {"ours": ours}
        if kind != "augmented":  # Its random numbers are JAX's.
            programs |= others
        _check_losses(kind, programs)
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(rounds):
            for name, program in programs.items():
                seconds[name].append(program.run(kind, steps)[0])
        images, mine = len(batch["image"]), seconds.pop("ours")
        rows[kind]["images_per_second"] = rate(mine, images, steps)
        for name, theirs in seconds.items():
            speeds[name][kind] = rate(theirs, images, steps)
            ratios[name][kind] = spread([b / a for a, b in zip(mine, theirs, strict=True)])
        print(f"{network}, {kind}: measured", file=sys.stderr)
    if {"segmenter", "adversary"} <= rows.keys():
        times = [1 / rows[k]["images_per_second"]["median"] for k in ("segmenter", "adversary")]
        rows["slow"] = {"images_per_second": {"median": 2 / sum(times)}}
    memory = {"ours": peak_mib()} | {name: peer.close() for name, peer in others.items()}
    versions = {name: peer.version for name, peer in others.items()}
    result = {"rows": rows, "peers": speeds, "ratios": ratios}
    return result | {"peak_mib": memory, "torch": versions}


def _check_losses(kind, programs):
    """Two steps from the initial weights, in which the programs must do the same; they warm up."""
    losses = {}
    for name, program in programs.items():
        program.reset()
        losses[name] = [program.run(kind, 1)[1] for _ in range(2)]
    ours = losses.pop("ours")
    for theirs in losses.values():
        for one, other in zip(ours, theirs, strict=True):
            contenders.check_same(kind, one, other)


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
    return description | {"python": platform.python_version(), "jax": jax.__version__}


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
