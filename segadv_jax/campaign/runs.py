"""One run of a campaign: a folder and, while it is being trained, a process of its own.

The folder holds, besides what the run itself leaves (see `workdir.py`), `arguments.json` (what the
run was made with), `log.txt` (all that it printed) and `lock`, which is locked for as long as a
process works in the folder.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.workdir import Workdir

ARGUMENTS = "arguments.json"


class Run(NamedTuple):
    """One training of one arm."""

    arm: str  # By which results are put together.
    seed: int  # Its `config.seed`.
    folder: str  # Its `--workdir`.
    arguments: tuple[str, ...]  # The other ones, each "--name=value" or "--name".

    @property
    def name(self) -> str:
        return f"{self.arm}/seed_{self.seed}"

    @property
    def log(self) -> Path:
        return Path(self.folder, "log.txt")

    @property
    def workdir(self) -> Workdir:
        return Workdir(self.folder)


def results(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """For each run that is done, its `workdir.result()` with its "arm", "seed" and "path"."""
    return [
        result | {"arm": run.arm, "seed": run.seed, "path": run.folder}
        for run in runs
        if (result := run.workdir.result()) is not None
    ]


def check_arguments(run: Run) -> None:
    """Raises an InputError if the run's folder was made with other arguments than the run has.

    A run begins with its configuration or a checkpoint: before, the program has refused its
    arguments or not yet read them.
    """
    if not (run.workdir.config_path.exists() or run.workdir.checkpoints_path.exists()):
        return
    remedy = f"choose another --workdir, or delete {run.folder} to make the run again"
    path = files.to_path(run.folder) / ARGUMENTS
    if not path.exists():
        what = f"holds a run without {path.name}, so that nobody knows what it was made with"
        raise InputError(f"{run.folder} {what}; {remedy}")
    with files.reading(path, remedy):
        recorded = json.loads(files.read_text(path))
        if not isinstance(recorded, list):
            raise ValueError("it is no JSON list")
    before, now = _by_name(map(str, recorded)), _by_name(_arguments(run))
    for name in before | now:
        there, here = (each.get(name, f"no {name}") for each in (before, now))
        if there != here:
            what = f"was made with other arguments: {there} there, {here} here"
            raise InputError(f"{run.folder} {what}; {remedy}")


def _arguments(run: Run) -> list[str]:
    """All that makes the run what it is, wherever its folder lies."""
    return [*run.arguments, f"--config.seed={run.seed}"]


def _by_name(arguments: Iterable[str]) -> dict[str, str]:
    """{"--name": "--name=value"}: the last one counts, and otherwise the order does not matter."""
    return {argument.partition("=")[0]: argument for argument in arguments}


@contextlib.contextmanager
def locked(folder: files.PathLike) -> Iterator[int | None]:
    """Locks a run's folder, which is made if needed, as `files.locked`; `start` passes it on."""
    os.makedirs(folder, exist_ok=True)
    with files.locked(Path(folder, "lock")) as lock:
        yield lock


def worker(folder: files.PathLike) -> str | None:
    """The id of the process that works in a run's folder; None if there is none, or no locks."""
    path = Path(folder, "lock")
    if not path.exists():
        return None
    with contextlib.suppress(OSError), locked(folder) as lock:
        return path.read_text().strip() if lock is None else None
    return None


def start(
    run: Run, lock: int, program: str, environment: Mapping[str, str], cores: Collection[int]
) -> subprocess.Popen:
    """Starts the run's process, which begins the run or resumes it.

    The process inherits the lock: it is held for as long as the process lives, even if this one is
    killed. The process has a session of its own: Ctrl-C on the terminal does not reach it.

    `program` is as in `pool.run_all`; `cores` are those that it may use, or none for all of them.
    """
    with files.replacing(Path(run.folder, ARGUMENTS)) as file:
        json.dump(_arguments(run), file, indent=2)
    train = [program] if program else ["-m", "segadv_jax", "train"]
    command = [sys.executable, *train, *_arguments(run), f"--workdir={run.folder}"]
    with open(run.log, "ab") as log, contextlib.ExitStack() as stack:
        if cores:  # Those of this thread, and so of the process that it starts.
            stack.callback(os.sched_setaffinity, 0, free_cores())
            os.sched_setaffinity(0, cores)
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )
    os.ftruncate(lock, 0)
    os.write(lock, str(process.pid).encode())
    return process


def free_cores() -> set[int]:
    """The CPU cores that this process may use; none where they cannot be chosen."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def why_failed(run: Run, status: int) -> str:
    """Why a run is not done though its process has ended; "" if it is done.

    The reason comes with the last error that the process wrote to the log, if there is one.
    """
    if run.workdir.result() is not None:
        return ""
    why = f"exit status {status}" if status else "ended without an evaluation on its test split"
    if status < 0:
        why = f"killed by {signal.Signals(-status).name}"
    # The last process's part of the log, which begins with its command line.
    log = run.log.read_text("utf-8", "replace").rpartition(f"$ {shlex.quote(sys.executable)} ")[2]
    errors = re.findall(r"^(?:error:|[\w.]+(?:Error|Exception)\b).*", log, re.MULTILINE)
    return ": ".join([why, *errors[-1:]]).strip()
