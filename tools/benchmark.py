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
import sys
from typing import Any

import jax

from segadv_jax import cli, files
from segadv_jax.benchmark import measure, pipelines, table
from segadv_jax.benchmark.contenders import IMAGE, KINDS, NETWORKS, noise
from segadv_jax.errors import InputError

PROGRAM = "tools.benchmark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, work = parser.add_argument, (*KINDS, "pipeline")
    add("--networks", type=_names(NETWORKS), default=["multiscale"], help=", ".join(NETWORKS))
    add("--only", type=_names(work), default=list(work), help=f"some of {', '.join(work)}")
    add("--batch_size", type=_positive, default=4, help="images per step, over all devices")
    add(
        "--train_size",
        type=_size,
        default=(160, 160),
        help="of patches, HEIGHTxWIDTH in pixels; augmented: 160x160",
    )
    add("--evaluate_size", type=_size, default=IMAGE, help="of images, HEIGHTxWIDTH in pixels")
    add("--rounds", type=_positive, default=10, help="rounds of each program, A B A B ...")
    add("--steps", type=_positive, default=3, help="steps in each round")
    add("--peer", choices=["torch"], help="compare with this")
    add("--nocompiled", dest="compiled", action="store_false", help="PyTorch eager only")
    add("--json", metavar="FILE", help="where to write all figures")


def main(options: argparse.Namespace) -> None:
    _check(options)
    given = {name: value for name, value in vars(options).items() if name != "overrides"}
    result: dict[str, Any] = {"machine": measure.machine(), "options": given}
    result |= {"networks": {}, "pipeline": {}, "ratio_train": {}, "ratio_evaluate": {}}
    kinds = [kind for kind in KINDS if kind in options.only]
    for network in options.networks if kinds else ():
        figures = result["networks"][network] = _measure(network, kinds, options)
        for key, kind in (("ratio_train", "both"), ("ratio_evaluate", "evaluate")):
            if kind in figures["ratios"].get("eager", {}):
                result[key][network] = figures["ratios"]["eager"][kind]
    if "pipeline" in options.only:
        count = 4 * options.steps
        result["pipeline"] = pipelines.measure(options.batch_size, count, options.rounds)
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()), end="\n\n")
    print(table.render(result))
    if options.json:
        files.write_json(options.json, result)


def _measure(network: str, kinds: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one network."""
    n = options.batch_size
    batches = {
        "train": noise(n, *options.train_size),
        "augmented": noise(n, *IMAGE),
        "evaluate": noise(n, *options.evaluate_size),
    }
    peers = ["eager", "compiled"][: 1 + options.compiled] if options.peer else []
    return measure.measure(network, kinds, batches, options.rounds, options.steps, peers)


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


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
