"""How fast training, evaluation and prediction are here, beside PyTorch, and where the time goes.

    python -m tools.benchmark
    python -m tools.benchmark --peer=torch --json=benchmark.json
    python -m tools.benchmark --only=evaluate,bf,predict,latency
    python -m tools.benchmark --networks=dilated8_largefov --dtype=bfloat16 --batch_size=8 \\
        --train_size=320x320 --evaluate_size=384x512 --peer=torch

It measures each turn of training, evaluation, prediction, compilation, memory, operations, BF and
the input pipelines alone, with the published widths, on images full of noise (what an image shows
does not change how long it takes, but for BF, which gets drawn label maps).

With --peer=torch (pip install -e ".[bench]"), PyTorch runs the same networks and updates, eager and
compiled, on the CPU or on the same GPU. It gets the same weights and images and must return the
same losses and probabilities, in float32 to 1e-4. Then the programs are timed in turns, A B A B, so
that a machine whose speed drifts does not decide. A ratio above 1 means that ours is faster. The
ratios of both players' turn and of evaluation against eager PyTorch are "ratio_train" and
"ratio_evaluate" in the JSON file. BF is always compared with SciPy.

On GPUs or TPUs the turns and the evaluation use all of their kind on this host together.
docs/benchmarks.md says how to read it all.
"""

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

import jax

from segadv_jax import cli, files
from segadv_jax.benchmark import arguments, measure
from segadv_jax.benchmark.cases import IMAGE, KINDS, NETWORKS, ON_ONE_DEVICE, noise
from segadv_jax.campaign import text
from segadv_jax.errors import InputError
from segadv_jax.models.layers import DTYPES

PROGRAM = "tools.benchmark"
ALONE = ("bf", "pipeline")  # Kinds of work that need no network.
LABELS = {"slow": "slow, average"}  # Of rows that are no kind of work.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, work, size = parser.add_argument, (*KINDS, *ALONE), "HEIGHTxWIDTH in pixels"
    add("--networks", type=_names(NETWORKS), default=["multiscale"], help=", ".join(NETWORKS))
    add("--only", type=_names(work), default=list(work), help=f"some of {', '.join(work)}")
    add("--dtype", choices=DTYPES, default="float32", help="of the networks' arithmetic")
    help = "factor on the networks' numbers of maps, but for the light segmenter's"
    add("--width", type=_factor, default=1.0, help=help)
    help = "images per step, over all devices; latency: 1"
    add("--batch_size", type=arguments.positive, default=4, help=help)
    help = f"of patches, {size}; augmented: 160x160"
    add("--train_size", type=arguments.size, default=(160, 160), help=help)
    help = f"of images, for evaluate, predict, latency and bf, {size}"
    add("--evaluate_size", type=arguments.size, default=IMAGE, help=help)
    add("--rounds", type=arguments.positive, default=10, help="rounds of each program, A B A B ...")
    add("--steps", type=arguments.positive, default=3, help="steps in each round")
    add("--peer", choices=["torch"], help="compare with this")
    add("--nocompiled", dest="compiled", action="store_false", help="PyTorch eager only")
    add("--count", action="store_true", help="only count operations, without compiling anything")
    add("--profile", metavar="FOLDER", default="", help="record a trace of each network there")
    add("--json", metavar="FILE", help="where to write all figures")


def main(options: argparse.Namespace) -> None:
    if options.peer:  # JAX would take three quarters of a GPU's memory, and leave PyTorch the rest.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _check(options)
    n, rounds, kinds = options.batch_size, options.rounds, [k for k in KINDS if k in options.only]
    plan = measure.Plan(rounds, options.steps, trace=options.profile)
    if options.peer:
        plan = plan._replace(peers=["eager", "compiled"][: 1 + options.compiled])
    given = {name: value for name, value in vars(options).items() if name != "overrides"}
    result: dict[str, Any] = {"machine": measure.machine(), "options": given, "networks": {}}
    result |= {"bf": {}, "pipeline": {}, "ratio_train": {}, "ratio_evaluate": {}}
    if kinds and not options.count:
        result["product_rate"] = measure.product_rate(options.dtype, rounds=rounds)
        plan = plan._replace(product_rate=result["product_rate"])
    for network in options.networks if kinds else ():
        case = NETWORKS[network](options.width, options.dtype)
        batches = _batches(options, kinds, case.segmenter.num_classes)
        if options.count:
            result["networks"][network] = measure.count(case, batches)
            continue
        figures = result["networks"][network] = measure.measure(network, case, batches, plan)
        for key, kind in (("ratio_train", "both"), ("ratio_evaluate", "evaluate")):
            if kind in figures["ratios"].get("eager", {}):
                result[key][network] = figures["ratios"]["eager"][kind]
    if "bf" in options.only and not options.count:
        result["bf"] = measure.measure_boundaries(options.evaluate_size, n, rounds)
    if "pipeline" in options.only and not options.count:
        result["pipeline"] = measure.measure_pipelines(n, 4 * options.steps, rounds)
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()), end="\n\n")
    print(render(result))
    if options.json:
        files.write_json(options.json, result)


def _batches(options, kinds, classes):
    """Images for each kind of work."""
    batches = {}
    for kind in kinds:
        size = options.evaluate_size
        if kind not in ("evaluate", *ON_ONE_DEVICE):
            size = IMAGE if kind == "augmented" else options.train_size
        batches[kind] = noise(1 if kind == "latency" else options.batch_size, *size, classes)
    return batches


def render(result: Mapping[str, Any]) -> str:
    """The table of each network's figures, and the lines of what needs none, as text."""
    blocks, lines = [_table(*item) for item in result["networks"].items()], []
    if rate := result.get("product_rate"):
        lines += [f"products of matrices alone: {rate / 1e12:.3g} TFLOP/s on each device"]
    for kind, row in result["bf"].items():
        ours, scipy, ratio = (row[name] for name in ("images_per_second", "scipy", "ratio"))
        lines += [
            f"BF, {kind} maps: {ours['median']:.1f} images/s, SciPy {scipy['median']:.1f}, ratio "
            f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        ]
    for name, speed in result["pipeline"].items():
        lines += [f"input pipeline alone, {name}: {speed['median']:.0f} images/s"]
    return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else [])])


def _table(network, figures):
    spread, cost = ("median", "min", "max"), ("compile_seconds", "gflop", "temporary_mib")
    titles = [network, "images/s", "min", "max", "compile s", "GFLOP/step", "temporary MiB"]
    titles += ["of standard", "% of products"]
    for peer in figures["peers"]:
        titles += [f"torch {peer}", "ratio", "min", "max"]
    rows = [titles]
    for kind, row in figures["rows"].items():
        cells = [LABELS.get(kind, kind), *_numbers(row.get("images_per_second", {}), spread, ".2f")]
        cells += [*_numbers(row, cost, ".1f"), *_numbers(row, ["of_standard"], ".2f")]
        share = {"share": 100 * row["share"]} if "share" in row else {}
        cells += _numbers(share, ["share"], ".0f")
        for peer, speeds in figures["peers"].items():
            cells += _numbers(speeds.get(kind, {}), ["median"], ".2f")
            cells += _numbers(figures["ratios"][peer].get(kind, {}), spread, ".2f")
        rows.append(cells)
    return text.table([*rows, *([line] for line in _lines(figures))])


def _lines(figures):
    """What a table of a network says below it."""
    rows, lines = figures["rows"], []
    speeds = {"ours": rows.get("latency", {}).get("images_per_second")}
    speeds |= {f"torch {peer}": kinds.get("latency") for peer, kinds in figures["peers"].items()}
    ms = {name: [1e3 / speed[k] for k in speed] for name, speed in speeds.items() if speed}
    if ms:
        times = (f"{name} {t[0]:.1f} ({t[2]:.1f} to {t[1]:.1f})" for name, t in ms.items())
        lines += [f"latency of one image in ms: {', '.join(times)}"]
    slow, both = (rows.get(kind, {}).get("gflop") for kind in ("slow", "both"))
    if slow and both:
        lines += [f"operations of the slow schedule's average step: {slow / both:.2f} of both's"]
    if memory := figures["peak_mib"]:
        of_each = ", ".join(f"{name} {mib:.0f}" for name, mib in memory.items())
        lines += [f"peak memory in MiB: {of_each}"]
    return lines


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
    if options.peer:
        _check_peer()
    if options.profile:
        files.writable_folder(options.profile, "--profile: this folder")
    if options.json:
        if os.path.isdir(options.json):
            raise InputError(f"--json={options.json} is a folder; name a file")
        files.writable_folder(os.path.dirname(options.json) or ".", "--json: its folder")


def _check_peer():
    if importlib.util.find_spec("torch") is None:
        hint = 'install it with pip install -e ".[bench]"'
        raise InputError(f"--peer=torch: PyTorch is not installed; {hint}")
    platform, number = jax.default_backend(), jax.local_device_count()
    if platform not in ("cpu", "gpu"):
        raise InputError(
            f"--peer=torch: PyTorch would run on the CPU and JAX on the {platform}; set "
            "JAX_PLATFORMS=cpu to compare them there"
        )
    if platform == "gpu" and number > 1:
        raise InputError(
            f"--peer=torch: PyTorch would run on one GPU and JAX on {number}; set "
            "CUDA_VISIBLE_DEVICES=0"
        )


def _factor(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


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
