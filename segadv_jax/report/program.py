"""What the programs that write the pages share."""

import argparse
from collections.abc import Sequence

from segadv_jax.campaign import command_line, provenance


def add_arguments(parser: argparse.ArgumentParser, stages: Sequence[str], page: str) -> None:
    """Adds the stage, the folders, `docs/PAGE` among them, and those of a pool of processes."""
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--workdir", default="", help="folder of the runs")
    parser.add_argument("--archives", default="", help="folder with iccv09Data.tar.gz")
    parser.add_argument("--data_dir", default="", help="where prepared data is kept")
    parser.add_argument(
        "--results", default=str(provenance.ROOT / "docs" / page), help="folder to write"
    )
    command_line.add_pool_arguments(parser)


def data_fields(options: argparse.Namespace) -> list[str]:
    """The fields of a configuration that say where the data lies."""
    given = {"archives": options.archives, "data_dir": options.data_dir}
    return [f"--config.data.{name}={value}" for name, value in given.items() if value]
