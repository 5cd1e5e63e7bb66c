"""What the commands that train many runs share: arguments, files and messages."""

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import pool, runs
from segadv_jax.campaign.arms import RESULTS, SUMMARY
from segadv_jax.campaign.pool import Failures
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a campaign."""
    parser.add_argument("--workdir", required=True, help="folder of the campaign")
    parser.add_argument("--seeds", required=True, help="as 0,1,2: a run of each arm with each")
    parser.add_argument("--table_only", action="store_true", help="start nothing, show the table")
    add_pool_arguments(parser)


def add_pool_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those that `train` takes beside `workdir`."""
    parser.add_argument("--processes", type=_positive, default=1, help="runs at a time")
    # For tests: a path of a program to run instead of `segadv_jax train`.
    parser.add_argument("--program", default="", help=argparse.SUPPRESS)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def train(options: argparse.Namespace, planned: Sequence[Run]) -> Failures:
    """`pool.run_all` as the command line says; the runs of a workdir share compiled programs."""
    # By machine: what is compiled for one processor need not run on another.
    cache = os.path.join(options.workdir, ".compiled", platform.node())
    return pool.run_all(planned, options.processes, options.program, cache)


def carry_out(options: argparse.Namespace, planned: Sequence[Run]) -> Failures:
    """`train`, or nothing with --table_only.

    Raises:
        InputError: the workdir cannot be used, or holds runs that were made with other arguments.
    """
    if options.table_only and not os.path.isdir(options.workdir):
        raise InputError(f"--workdir={options.workdir}: no such folder; there is no table to show")
    files.writable_folder(options.workdir, "--workdir")
    if not options.table_only:
        return train(options, planned)
    for run in planned:
        runs.check_arguments(run)
    return []


def write_results(
    workdir: files.PathLike, rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Writes `results.csv`, with the columns `runs.COLUMNS`, and `summary.json`; their paths."""
    results_path, summary_path = Path(workdir, RESULTS), Path(workdir, SUMMARY)
    files.write_csv(results_path, runs.COLUMNS, rows)
    files.write_json(summary_path, summary)
    return results_path, summary_path


def report_failures(failures: Failures) -> int:
    """Says on stderr which runs failed, why, and what to do; returns the exit status."""
    for run, why in failures:
        print(f"failed: {run.name}, {why}; see {run.log}", file=sys.stderr)
    if failures:
        print("the same command tries the failed runs again", file=sys.stderr)
    return 1 if failures else 0
