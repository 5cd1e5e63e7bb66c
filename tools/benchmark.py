"""How fast training and evaluation are here, turn by turn, and beside PyTorch.

    python -m tools.benchmark
    python -m tools.benchmark --peer=torch --json=benchmark.json

Measured with the published widths, on images full of noise (arithmetic takes no notice): each turn
of training, evaluation, compilation, memory, operations, and the input pipeline on its own.

With --peer=torch (pip install -e ".[bench]") the same networks and update in PyTorch, eager
and compiled, get the same weights and images and must return the same losses to 1e-4. Then they are
timed in turns with ours, A B A B, so that a machine whose speed drifts does not decide. A ratio
above 1 means that ours is faster; those of both players' turn and of evaluation against eager are
"ratio_train" and "ratio_evaluate" of the JSON file. What PyTorch runs is in tools/torch_peer.py.

On a GPU or TPU it measures that device, all of its kind on this host together.
"""

import argparse
import importlib.util
import io
import json
import os
import platform
import resource
import statistics
import sys
import time

import jax
import numpy as np
from PIL import Image

from segadv_jax.data import arrays, scenes
from segadv_jax.errors import InputError
from tools import command_line
from tools.contenders import IMAGE, KINDS, NETWORKS, Ours, Peer, check_same, noise


def rate(seconds, batch_size, count):
    """Images per second of the turns that took `seconds`: {"median", "min", "max"}."""
    return spread([batch_size * count / s for s in seconds])


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def peak_mib():
    """The most memory that this process had: on its device, or on a CPU in all."""
    of_device = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in stats for stats in of_device):
        return max(stats["peak_bytes_in_use"] for stats in of_device) / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def measure(network, options):
    """Figures of one network: (rows {kind: {...}}, ratios {program: {kind: {...}}}, memory)."""
    fields, n = NETWORKS[network], options.batch_size
    batches = {
        "train": noise(n, *options.train_size),
        "augmented": noise(n, *IMAGE),
        "evaluate": noise(n, *options.evaluate_size),
    }
    ours = Ours(fields, batches)
    kinds = [kind for kind in KINDS if kind in options.only]
    rows = {kind: ours.compile(kind) for kind in kinds}
    peers = {}
    if options.peer:
        names = ("eager", "compiled") if options.compiled else ("eager",)
        peers = {name: Peer(fields, batches, ours.params, name == "compiled") for name in names}
    ratios, peer_rows = {name: {} for name in peers}, {name: {} for name in peers}
    for kind in kinds:
        programs = {"ours": ours}
        programs |= peers if kind != "augmented" else {}  # Its random numbers are JAX's.
        losses = {}
        for name, program in programs.items():  # Also what is compiled or allocated once.
            program.reset()
            losses[name] = [program.run(kind, 1)[1] for _ in range(2)]
        for name in programs.keys() - {"ours"}:
            for one, other in zip(losses["ours"], losses[name], strict=True):
                check_same(kind, one, other)
        seconds = {name: [] for name in programs}
        for _ in range(options.rounds):
            for name, program in programs.items():
                seconds[name].append(program.run(kind, options.steps)[0])
        rows[kind]["images_per_second"] = rate(seconds["ours"], n, options.steps)
        for name in programs.keys() - {"ours"}:
            pairs = zip(seconds[name], seconds["ours"], strict=True)
            ratios[name][kind] = spread([theirs / mine for theirs, mine in pairs])
            peer_rows[name][kind] = rate(seconds[name], n, options.steps)
        print(f"{network}, {kind}: measured", file=sys.stderr)
    memory = {"ours": peak_mib()} | {name: peer.close() for name, peer in peers.items()}
    versions = {name: peer.version for name, peer in peers.items()}
    if {"segmenter", "adversary"} <= rows.keys():
        times = [1 / rows[k]["images_per_second"]["median"] for k in ("segmenter", "adversary")]
        rows["slow"] = {"images_per_second": {"median": 2 / sum(times)}}
    return {
        "rows": rows,
        "peers": peer_rows,
        "ratios": ratios,
        "peak_mib": memory,
        "torch": versions,
    }


def pipelines(batch_size, count, rounds):
    """Images per second that the input pipelines alone deliver, {name: {"median", ...}}."""
    split = _drawn(64)
    settings = {"batch_size": batch_size, "canvas": IMAGE, "seed": 0}
    sources = {"arrays": arrays.train_batches(split, **settings)}
    try:
        from segadv_jax.data import pipeline
        from segadv_jax.data.builders import png
    except ImportError:
        print("tf.data: TensorFlow is not installed", file=sys.stderr)
    else:
        encoded = [_jpeg(image) for image in split.images]
        labels = [png(label) for label in split.labels]
        encoded = pipeline.Split(split.ids, encoded, labels, split.sizes)
        sources["tf.data"] = pipeline.train_batches(encoded, **settings)
    rates = {}
    for name, batches in sources.items():
        for _ in range(8):  # Fills tf.data's buffers, which count for nothing.
            next(batches)
        seconds = []
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(count):
                next(batches)
            seconds.append(time.perf_counter() - begin)
        rates[name] = rate(seconds, batch_size, count)
    return rates


def _drawn(n):
    """Drawn scenes, enlarged to the size of a photograph of Stanford Background."""
    images, labels = [], []
    for index in range(n):
        scene = scenes.draw(np.random.RandomState(index))
        image, label = (
            Image.fromarray(x).resize(IMAGE[::-1], filter)
            for x, filter in zip(scene, (Image.BICUBIC, Image.NEAREST), strict=True)
        )
        images.append(np.asarray(image))
        labels.append(np.asarray(label))
    return arrays.Arrays([f"scene_{index}" for index in range(n)], images, labels)


def _jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def machine():
    """What the figures depend on, as words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = jax.local_devices()
    return {
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cores": cores,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def table(result):
    """The figures of `main` as lines of text."""

    def number(value, form=".1f"):
        return "-" if value is None else format(value, form)

    lines = []
    for network, figures in result["networks"].items():
        titles = ["images/s", "min", "max", "compile s", "GFLOP/step", "temporary MiB"]
        for name in figures["peers"]:
            titles += [f"torch {name}", "ratio", "min", "max"]
        lines += ["", f"{network:<12}" + "".join(f"{title:>15}" for title in titles)]
        for kind, row in figures["rows"].items():
            speed = row["images_per_second"]
            cells = [number(speed.get(key), ".2f") for key in ("median", "min", "max")]
            cells += [number(row.get(k)) for k in ("compile_seconds", "gflop", "temporary_mib")]
            for name in figures["peers"]:
                theirs = figures["peers"][name].get(kind, {})
                ratio = figures["ratios"][name].get(kind, {})
                cells.append(number(theirs.get("median"), ".2f"))
                cells += [number(ratio.get(key), ".2f") for key in ("median", "min", "max")]
            lines.append(f"{kind:<12}" + "".join(f"{cell:>15}" for cell in cells))
        memory = ", ".join(f"{name} {mib:.0f}" for name, mib in figures["peak_mib"].items())
        lines.append(f"peak memory in MiB: {memory}")
    for name, speed in result["pipeline"].items():
        lines += [""] if name == "arrays" else []
        lines.append(f"input pipeline alone, {name}: {speed['median']:.0f} images/s")
    return "\n".join(lines)


def _size(text):
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 16):
        raise argparse.ArgumentTypeError(f"{text!r}: give HEIGHTxWIDTH, 16x16 or more")
    if int(height) % 16 or int(width) % 16:
        raise argparse.ArgumentTypeError(f"{text!r}: give multiples of 16")
    return int(height), int(width)


def _positive(text):
    if not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of 1 or more")
    return int(text)


def _names(known):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r}; known: {', '.join(known)}")
        return names

    return parse


def parse(argv):
    """The options of the command line `argv`, without the program's name."""
    work = (*KINDS, "pipeline")
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--networks", type=_names(NETWORKS), default=["multiscale"], help=", ".join(NETWORKS))
    add("--only", type=_names(work), default=work, help=f"some of {', '.join(work)}")
    add("--batch_size", type=_positive, default=4, help="images per step, over all devices")
    add(
        "--train_size",
        type=_size,
        default=(160, 160),
        help="of patches, HEIGHTxWIDTH in pixels; augmented: 160x160",
    )
    add("--evaluate_size", type=_size, default=IMAGE, help="of images, HEIGHTxWIDTH in pixels")
    add("--rounds", type=_positive, default=10, help="turns of each program, A B A B ...")
    add("--steps", type=_positive, default=3, help="in each turn")
    add("--peer", choices=["torch"], help="compare with this")
    add("--nocompiled", dest="compiled", action="store_false", help="PyTorch eager only")
    add("--json", metavar="FILE", help="where to write all figures")
    return parser.parse_args(argv)


def main(argv):
    """Runs the command line `argv`, without the program's name."""
    options = parse(argv)
    if options.batch_size % jax.local_device_count():
        raise InputError(
            f"--batch_size={options.batch_size}: set it to a multiple of the number of devices, "
            f"{jax.local_device_count()}"
        )
    if options.peer and importlib.util.find_spec("torch") is None:
        hint = 'install it with pip install -e ".[bench]"'
        raise InputError(f"--peer=torch: PyTorch is not installed; {hint}")
    if options.peer and jax.default_backend() != "cpu":
        raise InputError(
            "--peer=torch: the PyTorch program runs on the CPU and JAX on the "
            f"{jax.default_backend()}; set JAX_PLATFORMS=cpu to compare them there"
        )
    folder = os.path.dirname(options.json or "") or "."
    if options.json and (os.path.isdir(options.json) or not os.access(folder, os.W_OK)):
        raise InputError(f"--json={options.json}: not a file that can be written; choose another")
    result = {"machine": machine(), "options": vars(options), "networks": {}, "pipeline": {}}
    result |= {"ratio_train": {}, "ratio_evaluate": {}}
    for network in options.networks if set(options.only) & set(KINDS) else ():
        figures = result["networks"][network] = measure(network, options)
        for key, kind in (("ratio_train", "both"), ("ratio_evaluate", "evaluate")):
            if kind in figures["ratios"].get("eager", {}):
                result[key][network] = figures["ratios"]["eager"][kind]
    if "pipeline" in options.only:
        result["pipeline"] = pipelines(options.batch_size, 4 * options.steps, options.rounds)
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    print(table(result))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    command_line.run(main)
