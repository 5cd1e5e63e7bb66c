"""How fast the input pipeline of a configuration is here, and how many cores feed a TPU slice.

    python -m tools.benchmark_input --config=voc_largefov --config.data.archives=FOLDER \\
        --config.data.allow_partial --images=10582

The training images are repeated up to --images, drawn, decoded, padded and put on this host's
devices as training does. "decoded" draws from images that lie decoded in memory: what is left is
copying, in one thread. Of images of "one pixel" all is left that is done for one image after the
other, whatever the number of cores. With --chip_rate, what one chip trains per second
(docs/benchmarks.md has it from tools.compile_for_tpu), it also says how many cores feed 1, 16 and
256 chips.
"""

import argparse
import os
import sys

from segadv_jax import cli, compilation, configuration, experiment
from segadv_jax.benchmark import arguments, input_pipeline
from segadv_jax.campaign import text

PROGRAM = "tools.benchmark_input"
DECODED = 400  # So many images are held decoded: a gigabyte holds about 1700 of VOC's.
SLICES = (1, 16, 256)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="NAME[:VARIANT]", help="file or name")
    images = "to draw; VOC's number if unset"
    parser.add_argument("--images", type=arguments.positive, default=10582, help=images)
    parser.add_argument("--batch_size", type=arguments.positive, default=32, help="of this host")
    parser.add_argument("--chip_rate", type=float, help="images per second that a chip trains on")


def main(options: argparse.Namespace) -> None:
    config = configuration.load(options.config, options.overrides)
    compilation.keep(config.compilation_cache)
    split = experiment.load_data(config).read(config.data.train)
    images, batch_size = options.images, options.batch_size
    whole = input_pipeline.repeat(split, images)
    in_memory = input_pipeline.repeat(input_pipeline.decoded(split, DECODED), images)
    small = input_pipeline.of_one_pixel(images)
    rows = [
        input_pipeline.measure("decode and pad", whole, images, batch_size, shard=False),
        input_pipeline.measure("decode, pad and shard", whole, images, batch_size),
        input_pipeline.measure("decoded: pad and shard", in_memory, images, batch_size),
        input_pipeline.measure("one pixel: hand over", small, images, batch_size),
    ]
    height, width = whole.canvas()
    print(f"{len(split.ids)} images repeated to {images}, canvas {height}x{width}, batches of")
    print(f"{batch_size}, {os.cpu_count()} cores\n")
    head = ("pipeline", "images/s", "ms of a core/image", "images/s and core", "load")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        numbers = (row.images / row.seconds, 1000 / row.per_core_second, row.per_core_second)
        lines.append((row.name, *(f"{number:.1f}" for number in numbers), f"{row.load:.1f}"))
    print(text.table(lines))
    if options.chip_rate:
        for chips in SLICES:
            cores = input_pipeline.cores_to_feed(chips, options.chip_rate, rows[1].per_core_second)
            print(f"{chips} chips at {options.chip_rate:g} images/s each: {cores} such cores")


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
