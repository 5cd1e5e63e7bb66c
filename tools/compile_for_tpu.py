"""Compiles the training steps of a configuration for a slice of TPU chips, without having one.

    python -m tools.compile_for_tpu --topology=v5e:4x4 --config=configs/voc_largefov.py:product \\
        --config.train.batch_size=128 --config.segmenter.dtype=bfloat16 \\
        --config.adversary.dtype=bfloat16

Needs libtpu: pip install -e ".[tpu]", on Linux. It prints per turn what each chip needs: memory,
arithmetic, bytes summed over the chips, and from the rates that Google publishes the least time of
a step, what bounds it, and the part of the chip's peak rate that this is. No data is read: give the
number of classes, and of whole images the canvas. docs/benchmarks.md shows the table and says how
to read it.
"""

import argparse
import functools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from segadv_jax import cli, compilation, configuration, experiment, files
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.benchmark import ahead_of_time, arguments
from segadv_jax.benchmark.ahead_of_time import Chip, Figures
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.preparation import check_shares
from segadv_jax.report import markdown

PROGRAM = "tools.compile_for_tpu"
# The turns of each schedule.
TURNS = {"standard": ("standard",), "simultaneous": ("both",)}
ALTERNATING = (SEGMENTER, ADVERSARY)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topology", required=True, help="the slice, such as v5e:4x4 or v5e:1x1")
    about = "file or name"
    parser.add_argument("--config", required=True, metavar="NAME[:VARIANT]", help=about)
    turns = f"of {', '.join(PLAYERS)}; those of the configuration if not given"
    parser.add_argument("--turns", help=turns)
    classes = "of the data; 21, VOC's, if not given"
    parser.add_argument("--classes", type=int, default=21, help=classes)
    parser.add_argument(
        "--canvas",
        type=arguments.size,
        default=(512, 512),
        metavar="HEIGHTxWIDTH",
        help="that holds all images, in pixels; 512x512 if not given",
    )
    parser.add_argument("--json", metavar="FILE", help="where to write all figures")


def main(options: argparse.Namespace) -> None:
    config = configuration.load(options.config, options.overrides)
    compilation.keep(config.compilation_cache)
    turns = _turns(options.turns, config)
    experiment.check_numbers(config)
    setup = experiment.build(config, options.classes).setup
    if setup.adversary is None and turns != ["standard"]:
        raise InputError(
            f"--turns={options.turns}: config.alternation.schedule is 'standard', without an "
            "adversary; choose another schedule, or the turn standard"
        )
    chip, chips = ahead_of_time.slice_of(options.topology)
    batch = _batch(config, options.canvas, len(chips))
    patch = (config.train.crop, config.train.crop) if config.train.crop else options.canvas
    state = jax.eval_shape(lambda: initialize(setup, config.seed, patch, options.classes))
    figures, seconds = {}, {}
    figures_of = functools.partial(ahead_of_time.figures_of, parts=setup.accumulate)
    for turn in turns:
        print(f"{turn}: compiling for {options.topology} ...", file=sys.stderr, flush=True)
        begin = time.time()
        compiled = ahead_of_time.compile_step(setup, state, batch, turn, chips)
        figures[turn], seconds[turn] = figures_of(compiled), time.time() - begin
        print(f"{turn}: compiled in {seconds[turn]:.0f} s", file=sys.stderr, flush=True)
    rows = {turn: _summary(figure, chip, len(chips)) for turn, figure in figures.items()}
    if set(ALTERNATING) <= rows.keys():
        both = [rows[player] for player in ALTERNATING]
        rows["average of the two"] = {k: sum(row[k] for row in both) / 2 for k in both[0]}
    for row in rows.values():
        row["images_per_second"] = config.train.batch_size / row["step"]
        row["efficiency"] = row["arithmetic"] / row["step"]
    print(_table(rows))
    if options.json:
        given = {k: v for k, v in vars(options).items() if k != "json"}
        said = {"jax": jax.__version__, "compile_seconds": seconds, "turns": rows}
        files.write_json(Path(options.json), given | said)


# Each column: its title, what it shows of `_summary`, how many of that are one, its decimals.
_COLUMNS = (
    ("memory, GB", "memory", 1e9, 2),
    ("of it temporary", "temporary", 1e9, 2),
    ("TFLOP", "flops", 1e12, 3),
    ("traffic, GB", "traffic", 1e9, 2),
    ("summed, MB", "reduced", 1e6, 1),
    ("arithmetic, ms", "arithmetic", 1e-3, 2),
    ("memory, ms", "memory_seconds", 1e-3, 2),
    ("sum, ms", "reduction", 1e-3, 2),
    ("step, ms", "step", 1e-3, 2),
    ("images/s", "images_per_second", 1, 0),
    ("of peak, %", "efficiency", 0.01, 0),
)


def _summary(figures: Figures, chip: Chip, chips: int) -> dict[str, float]:
    """What is shown and written of a turn; bytes, operations and seconds of one chip."""
    seconds = figures.seconds(chip, chips)
    seconds["memory_seconds"] = seconds.pop("memory")
    return {**figures._asdict(), "memory": figures.memory, **seconds}


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    head = ["turn", *(title for title, *_ in _COLUMNS)]
    return markdown.table(
        head,
        [
            [turn, *(f"{row[name] / unit:.{digits}f}" for _, name, unit, digits in _COLUMNS)]
            for turn, row in rows.items()
        ],
    )


def _batch(config: ConfigDict, canvas: tuple[int, int], chips: int) -> dict[str, Any]:
    """The shapes of a batch of the configuration, over all chips."""
    check_shares(config, chips)
    count = config.train.batch_size
    batch: dict[str, Any] = ahead_of_time.batch_shapes(count, canvas)
    if config.data.unlabelled:
        more = ahead_of_time.batch_shapes(config.train.unlabelled_batch_size or count, canvas)
        batch["unlabelled"] = {name: more[name] for name in ("image", "size")}
    return batch


def _turns(text: str | None, config: ConfigDict) -> list[str]:
    turns = text.split(",") if text else TURNS.get(config.alternation.schedule, ALTERNATING)
    for turn in turns:
        if turn not in PLAYERS:
            raise InputError(f"--turns={text}: {turn!r} is none of {', '.join(PLAYERS)}")
    return list(turns)


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
