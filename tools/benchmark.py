"""How fast training and evaluation are here, turn by turn, and beside PyTorch.

    python -m tools.benchmark
    python -m tools.benchmark --peer=torch --json=benchmark.json

It measures each turn of training, evaluation, compilation, memory, operations and the input
pipelines alone, with the published widths, on images full of noise (what an image shows does not
change how long it takes).

With --peer=torch (pip install -e ".[bench]"), PyTorch runs the same networks and updates, eager and
compiled. It gets the same weights and images and must return the same losses to 1e-4. Then the
programs are timed in turns, A B A B, so that a machine whose speed drifts does not decide. A ratio
above 1 means that ours is faster. The ratios of both players' turn and of evaluation against eager
PyTorch are "ratio_train" and "ratio_evaluate" in the JSON file.

On a GPU or TPU it measures that device, with all of its kind on this host together.
"""

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import jax

from segadv_jax import cli, files
from segadv_jax.benchmark import measure
from segadv_jax.benchmark.contenders import IMAGE, KINDS, NETWORKS, noise
from segadv_jax.campaign import text
from segadv_jax.errors import InputError

PROGRAM = "tools.benchmark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, work, size = parser.add_argument, (*KINDS, "pipeline"), "HEIGHTxWIDTH in pixels"
    add("--networks", type=_names(NETWORKS), default=["multiscale"], help=", ".join(NETWORKS))
    add("--only", type=_names(work), default=list(work), help=f"some of {', '.join(work)}")
    add("--batch_size", type=_positive, default=4, help="images per step, over all devices")
    help = f"of patches, {size}; augmented: 160x160"
    add("--train_size", type=_size, default=(160, 160), help=help)
    add("--evaluate_size", type=_size, default=IMAGE, help=f"of images, {size}")
    add("--rounds", type=_positive, default=10, help="rounds of each program, A B A B ...")
    add("--steps", type=_positive, default=3, help="steps in each round")
    add("--peer", choices=["torch"], help="compare with this")
    add("--nocompiled", dest="compiled", action="store_false", help="PyTorch eager only")
    add("--json", metavar="FILE", help="where to write all figures")


def main(options: argparse.Namespace) -> None:
    _check(options)
    n, rounds, steps = options.batch_size, options.rounds, options.steps
    sizes = {"augmented": IMAGE, "evaluate": options.evaluate_size}
    kinds = [kind for kind in KINDS if kind in options.only]
    batches = {kind: noise(n, *sizes.get(kind, options.train_size)) for kind in kinds}
    peers = ["eager", "compiled"][: 1 + options.compiled] if options.peer else []
    given = {name: value for name, value in vars(options).items() if name != "overrides"}
    result: dict[str, Any] = {"machine": measure.machine(), "options": given}
    result |= {"networks": {}, "pipeline": {}, "ratio_train": {}, "ratio_evaluate": {}}
    for network in options.networks if kinds else ():
        figures = measure.measure(network, batches, rounds, steps, peers)
        result["networks"][network] = figures
        for key, kind in (("ratio_train", "both"), ("ratio_evaluate", "evaluate")):
            if kind in figures["ratios"].get("eager", {}):
                result[key][network] = figures["ratios"]["eager"][kind]
    if "pipeline" in options.only:
        result["pipeline"] = measure.measure_pipelines(n, 4 * steps, rounds)
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()), end="\n\n")
    print(render(result))
    if options.json:
        files.write_json(options.json, result)


def render(result: Mapping[str, Any]) -> str:
    """The table of each network's figures, and the rates of the input pipelines, as text."""
    blocks = [_table(*item) for item in result["networks"].items()]
    speeds = result["pipeline"].items()
    lines = [f"input pipeline alone, {name}: {s['median']:.0f} images/s" for name, s in speeds]
    return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else [])])


def _table(network, figures):
    spread, cost = ("median", "min", "max"), ("compile_seconds", "gflop", "temporary_mib")
    titles = [network, "images/s", "min", "max", "compile s", "GFLOP/step", "temporary MiB"]
    for peer in figures["peers"]:
        titles += [f"torch {peer}", "ratio", "min", "max"]
    rows = [titles]
    for kind, row in figures["rows"].items():
        cells = [kind, *_numbers(row["images_per_second"], spread, ".2f")]
        cells += _numbers(row, cost, ".1f")
        for peer, speeds in figures["peers"].items():
            cells += _numbers(speeds.get(kind, {}), ["median"], ".2f")
            cells += _numbers(figures["ratios"][peer].get(kind, {}), spread, ".2f")
        rows.append(cells)
    memory = ", ".join(f"{name} {mib:.0f}" for name, mib in figures["peak_mib"].items())
    return text.table([*rows, [f"peak memory in MiB: {memory}"]])


def _numbers(values, names, form):
    """The values of `names`, a dash where there is none."""
    return ["-" if values.get(name) is None else format(values[name], form) for name in names]


def _check(options: argparse.Namespace) -> None:
    """Raises an InputError, before anything is measured, if the options cannot be met."""
    if options.overrides:
        raise InputError(f"{options.overrides[0]}: the benchmark has no configuration to set")
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
    if options.json:
        if os.path.isdir(options.json):
            raise InputError(f"--json={options.json} is a folder; name a file")
        files.writable_folder(os.path.dirname(options.json) or ".", "--json: its folder")


def _size(text):
    sides = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", text)
    if not sides or any(int(side) % 16 for side in sides.groups()):
        raise argparse.ArgumentTypeError(f"{text!r}: give HEIGHTxWIDTH, both multiples of 16")
    return int(sides[1]), int(sides[2])


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


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
