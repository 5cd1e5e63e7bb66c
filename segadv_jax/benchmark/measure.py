"""Rounds of timed steps, A B A B, so that a machine whose speed drifts does not decide."""

import os
import platform
import resource
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import jax

from segadv_jax.benchmark.contenders import NETWORKS, Batches, Ours, Peer, check_same

Spread = dict[str, float]  # {"median", "min", "max"}


def rate(seconds: Sequence[float], batch_size: int, count: int) -> Spread:
    """Images per second of rounds of `count` batches that took `seconds`."""
    return spread([batch_size * count / s for s in seconds])


def spread(values: Sequence[float]) -> Spread:
    """The median of the values, the least and the largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(
    network: str,
    kinds: Sequence[str],
    batches: Batches,
    rounds: int,
    steps: int,
    peers: Sequence[str] = (),
) -> dict[str, Any]:
    """The figures of one network.

    Args:
        network: one of `NETWORKS`.
        kinds: of work, of `KINDS`.
        batches: as of `Ours`, all of the same number of images.
        rounds: of each program.
        steps: in each round.
        peers: of PyTorch "eager" and "compiled".

    Returns:
        {"rows": {kind: {"images_per_second", ...}}, "peers": {peer: {kind: images per second}},
        "ratios": {peer: {kind: how many times as fast ours is}}, "peak_mib", "torch": {peer:
        version}}.

    Raises:
        InputError: a peer's losses are not ours.
    """
    fields, images = NETWORKS[network], len(batches["train"]["image"])
    ours = Ours(fields, batches)
    rows: dict[str, dict[str, Any]] = {kind: dict(ours.compile(kind)) for kind in kinds}
    others = {name: Peer(fields, batches, ours.params, name == "compiled") for name in peers}
    ratios: dict[str, dict[str, Spread]] = {name: {} for name in others}
    speeds: dict[str, dict[str, Spread]] = {name: {} for name in others}
    for kind in kinds:
        programs: dict[str, Ours | Peer] = {"ours": ours}
        if kind != "augmented":  # Its random numbers are JAX's.
            programs |= others
        _check_losses(kind, programs)
        seconds = _time(kind, programs, rounds, steps)
        mine = seconds.pop("ours")
        rows[kind]["images_per_second"] = rate(mine, images, steps)
        for name, theirs in seconds.items():
            ratios[name][kind] = spread([b / a for a, b in zip(mine, theirs, strict=True)])
            speeds[name][kind] = rate(theirs, images, steps)
        print(f"{network}, {kind}: measured", file=sys.stderr)
    memory = {"ours": peak_mib()} | {name: peer.close() for name, peer in others.items()}
    if {"segmenter", "adversary"} <= rows.keys():
        times = [1 / rows[k]["images_per_second"]["median"] for k in ("segmenter", "adversary")]
        rows["slow"] = {"images_per_second": {"median": 2 / sum(times)}}
    versions = {name: peer.version for name, peer in others.items()}
    result = {"rows": rows, "peers": speeds, "ratios": ratios, "peak_mib": memory}
    return result | {"torch": versions}


def _check_losses(kind, programs):
    """Two steps of each program from the initial weights: their losses must be the same.

    They also get out of the way what is compiled or allocated once.
    """
    losses = {}
    for name, program in programs.items():
        program.reset()
        losses[name] = [program.run(kind, 1)[1] for _ in range(2)]
    ours = losses.pop("ours")
    for theirs in losses.values():
        for one, other in zip(ours, theirs, strict=True):
            check_same(kind, one, other)


def _time(kind, programs, rounds, steps):
    """The seconds of each program's rounds, {name: [float]}; the programs take turns."""
    seconds = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            seconds[name].append(program.run(kind, steps)[0])
    return seconds


def peak_mib() -> float:
    """The most memory that this process has had: on its devices or, on a CPU, in all."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in of_device for of_device in stats):
        return max(of_device["peak_bytes_in_use"] for of_device in stats) / 2**20
    return peak_resident_mib()


def peak_resident_mib() -> float:
    """The most main memory that this process has had."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    devices = jax.local_devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cores": cores,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
