"""One run of a campaign: a folder and, while it is being trained, a process of its own.

The folder holds, besides what the run itself leaves (see `workdir.py`), `arguments.json` (what the
run was made with), `log.txt` (all that it printed) and `lock`, which is locked for as long as a
process works in the folder.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.workdir import Workdir

COLUMNS: tuple[str, ...] = ("arm", "seed", "split", *PAPER_MEASURES, "mce", "step")
COLUMNS += ("segmenter_updates", "validation_mean_iou", "images", "path")


class Run(NamedTuple):
    """One training of one arm.

    Attributes:
        arm: name of its configuration, by which results are put together.
        seed: `config.seed`.
        folder: its `--workdir`.
        arguments: the other arguments of `segadv_jax train`, each as "--name=value" or "--name".
    """

    arm: str
    seed: int
    folder: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.arm}/seed_{self.seed}"

    @property
    def log(self) -> Path:
        return Path(self.folder, "log.txt")

    @property
    def workdir(self) -> Workdir:
        return Workdir(self.folder)


def results(runs: Iterable[Run], columns: Sequence[str] = COLUMNS) -> list[dict[str, Any]]:
    """A row for each run that is done: a dict with the keys `columns`, None where it has no value.

    `split` is the test split, `step` and `segmenter_updates` are those of the checkpoint that
    the validation selected, `validation_mean_iou` is what it was selected by; other columns are
    of the evaluation.

    Raises:
        InputError: a file of a run is damaged.
    """
    rows = []
    for run in runs:
        result = run.workdir.result()
        if result is not None:
            result |= {"arm": run.arm, "seed": run.seed, "path": run.folder}
            rows.append({name: result.get(name) for name in columns})
    return rows


def check_arguments(run: Run) -> None:
    """Raises an InputError if the run's folder was made with other arguments than the run has.

    A run begins with its configuration or a checkpoint: before, the program has refused its
    arguments or not yet read them.
    """
    if not (run.workdir.config_path.exists() or run.workdir.checkpoints_path.exists()):
        return
    remedy = f"choose another --workdir, or delete {run.folder} to make the run again"
    path = _arguments_path(run)
    try:
        before = _by_name(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise InputError(
            f"{run.folder} holds a run without {path.name}, so that nobody knows what it was "
            f"made with; {remedy}"
        ) from error
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise files.damaged(path, error, remedy) from error
    now = _by_name(_arguments(run))
    for name in before | now:
        if before.get(name) != now.get(name):
            raise InputError(
                f"{run.folder} was made with other arguments: {before.get(name, f'no {name}')} "
                f"there, {now.get(name, f'no {name}')} here; {remedy}"
            )


def _arguments_path(run: Run) -> Path:
    return Path(run.folder, "arguments.json")


def _arguments(run: Run) -> list[str]:
    """All that makes the run what it is, wherever its folder lies."""
    return [*run.arguments, f"--config.seed={run.seed}"]


def _by_name(arguments: Iterable[str]) -> dict[str, str]:
    """{"--name": "--name=value"}: the last one counts, and otherwise the order does not matter."""
    return {argument.partition("=")[0]: argument for argument in arguments}


@contextlib.contextmanager
def locked(folder: files.PathLike) -> Iterator[int | None]:
    """Locks a run's folder, which is made if needed.

    Yields:
        A file descriptor, or None if a process works in the folder. The lock lasts until this
        process and the one that `start` gave the descriptor to have closed it.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(_lock_path(folder), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield descriptor if free else None
    finally:
        os.close(descriptor)


def worker(folder: files.PathLike) -> str | None:
    """The id of the process that works in a run's folder; None if there is none."""
    if not _lock_path(folder).exists():
        return None
    with locked(folder) as lock:
        if lock is not None:
            return None
    return _lock_path(folder).read_text().strip()


def _lock_path(folder: files.PathLike) -> Path:
    return Path(folder, "lock")


def start(
    run: Run,
    lock: int,
    program: str,
    environment: Mapping[str, str],
    cores: Collection[int] = (),
) -> tuple[subprocess.Popen, int]:
    """Starts the run's process, which begins the run or resumes it.

    The process inherits the lock: it is held for as long as the process lives, even if this one is
    killed. The process has a session of its own: Ctrl-C on the terminal does not reach it.

    Args:
        run: the run.
        lock: of `locked`.
        program: path of a program to run instead of `segadv_jax train`; empty: none.
        environment: of the process.
        cores: numbers of the CPU cores that it may use; none: those of this process.

    Returns:
        (process, length of the log in bytes before it).
    """
    with files.replacing(_arguments_path(run)) as file:
        json.dump(_arguments(run), file, indent=2)
    train = [program] if program else ["-m", "segadv_jax", "train"]
    command = [sys.executable, *train, *_arguments(run), f"--workdir={run.folder}"]
    with open(run.log, "ab") as log, _on(cores):
        begin = log.tell()
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
    os.pwrite(lock, str(process.pid).encode(), 0)
    return process, begin


@contextlib.contextmanager
def _on(cores: Collection[int]) -> Iterator[None]:
    """Keeps this thread, and so the processes that it starts, on some of the CPU cores."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def why_failed(run: Run, status: int, begin: int) -> str:
    """Why a run is not done though its process has ended, with the last error in its log.

    Args:
        run: the run.
        status: the process's `returncode`.
        begin: where the process's part of the log begins, in bytes.

    Returns:
        The reason; "" if the run is done.

    Raises:
        InputError: a file of the run is damaged.
    """
    if run.workdir.result() is not None:
        return ""
    if status < 0:
        why = f"killed by {signal.Signals(-status).name}"
    elif status > 0:
        why = f"exit status {status}"
    else:
        why = "ended without an evaluation on its test split"
    with open(run.log, "rb") as file:
        file.seek(begin)
        lines = re.split(r"[\r\n]+", file.read().decode(errors="replace"))
    errors = [
        line.strip() for line in lines if re.match(r"(error:|[\w.]+(Error|Exception)\b)", line)
    ]
    return ": ".join([why, *errors[-1:]])
