"""What the commands that train many runs share: arguments, files and messages."""

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import comparison, pool, runs
from segadv_jax.campaign.arms import RESULTS, SUMMARY, Arms, plan
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES

COLUMNS: tuple[str, ...] = ("arm", "seed", "split", *PAPER_MEASURES, "mce", "step")
COLUMNS += ("segmenter_updates", "validation_mean_iou", "images", "path")


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


def train(options: argparse.Namespace, planned: Sequence[runs.Run]) -> pool.Failures:
    """`pool.run_all` as the command line says; the runs of a workdir share compiled programs."""
    return pool.run_all(planned, options.processes, options.program, cache_folder(options))


def cache_folder(options: argparse.Namespace) -> str:
    """Where the runs of a workdir keep compiled programs.

    By machine: what is compiled for one processor need not run on another.
    """
    return os.path.abspath(os.path.join(options.workdir, ".compiled", platform.node()))


def carry_out(
    options: argparse.Namespace,
    arms: Arms,
    seeds: Iterable[int],
    pairs: Iterable[tuple[str, str]] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any], pool.Failures]:
    """Trains what is not done, or nothing with --table_only, and writes what there is.

    Returns the rows, which are also in `results.csv`, their summary, in `summary.json`, and the
    failures. Raises an InputError if the workdir cannot be used, or holds other runs.
    """
    if options.table_only and not files.is_folder(options.workdir):
        raise InputError(f"--workdir={options.workdir}: no such folder; there is no table to show")
    if files.is_remote(options.workdir) and not options.table_only:
        what = "the folders of runs are locked while they are trained, which a store cannot"
        raise InputError(f"--workdir={options.workdir}: {what}; name a folder of this machine")
    files.writable_folder(options.workdir, "--workdir")
    planned = plan(options.workdir, arms, seeds)
    for run in planned:
        runs.check_arguments(run)
    failures = [] if options.table_only else train(options, planned)
    rows = runs.results(planned)
    summary = comparison.summarize(rows, arms, pairs)
    files.write_csv(files.to_path(options.workdir) / RESULTS, COLUMNS, rows)
    files.write_json(files.to_path(options.workdir) / SUMMARY, summary)
    return rows, summary, failures


def report_failures(failures: pool.Failures) -> int:
    """Says on stderr which runs failed, why, and what to do; returns the exit status."""
    for run, why in failures:
        print(f"failed: {run.name}, {why}; see {run.log}", file=sys.stderr)
    if failures:
        print("the same command tries the failed runs again", file=sys.stderr)
    return 1 if failures else 0
