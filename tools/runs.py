"""One run of ``main.py``: a folder and, while it is at work, a process of its own.

The folder holds, besides what ``main.py`` leaves there, ``arguments.json`` (what the run was made
with), ``log.txt`` (all that it printed) and ``lock``, which is locked for as long as a process
works in the folder.
"""

import contextlib
import csv
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from typing import NamedTuple

import ml_collections

from configs import common
from segadv_jax import history
from segadv_jax.errors import InputError
from segadv_jax.measures import MEASURES

COLUMNS = ("arm", "seed", "split", *MEASURES, "mce", "step", "segmenter_updates")
COLUMNS += ("validation_mean_iou", "images", "path")


class Run(NamedTuple):
    """One training of one arm.

    Attributes:
        arm: name of its configuration, by which results are put together.
        seed: ``config.seed``.
        folder: its ``--workdir``.
        arguments: the other arguments of ``main.py``, each as "--name=value" or "--name".
    """

    arm: str
    seed: int
    folder: str
    arguments: tuple[str, ...]

    @property
    def name(self):
        return f"{self.arm}/seed_{self.seed}"

    @property
    def log(self):
        return os.path.join(self.folder, "log.txt")


def results(runs):
    """A row for each run that is done: a dict with the keys ``COLUMNS``.

    ``split`` is the test split, ``step`` and ``segmenter_updates`` are those of the checkpoint that
    the validation selected, ``validation_mean_iou`` is what it was selected by.

    Raises:
        InputError: a file of a run is damaged.
    """
    rows = []
    for run in runs:
        result = read_result(run.folder)
        if result is not None:
            result |= {"arm": run.arm, "seed": run.seed, "path": run.folder}
            rows.append({name: result.get(name) for name in COLUMNS})
    return rows


def read_result(folder, split=""):
    """What a run arrived at on a split, by default its test split; None as long as it is not done.

    Done is a run that was trained to the end and has its evaluation: one of a checkpoint on the way
    does not count.

    Raises:
        InputError: a file is damaged.
    """
    path = os.path.join(folder, "config.json")
    try:
        with open(path) as file:
            config = json.load(file)
        split, updates = split or config["data"]["test"], config["train"]["updates"]
        path = os.path.join(folder, "history.csv")
        evaluation = os.path.join(folder, "eval", f"{split}.json")
        rows = history.read(path) if os.path.exists(path) else []
        if not rows and os.path.exists(evaluation):
            raise ValueError("it has no rows, but the run has an evaluation")
        if not rows or rows[-1]["segmenter_updates"] < updates:
            patience = config["train"].get("patience", 0)
            if not patience or not history.exhausted(rows, patience, config["evaluate"]["every"]):
                return None
        path = evaluation
        with open(path) as file:
            result = json.load(file)
        for name in MEASURES:  # All have to be there.
            if result[name] is not None and not 0 <= result[name] <= 1:
                raise ValueError(f"{name} is {result[name]}")
        selected = {row["step"]: row for row in rows}[result["step"]]
        result |= {
            "split": split,
            "segmenter_updates": int(selected["segmenter_updates"]),
            "validation_mean_iou": selected.get("validation_mean_iou"),
        }
    except FileNotFoundError:
        return None
    except (csv.Error, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}); mend it, or delete {folder} to "
            "make the run anew"
        ) from error
    return result


def read_config(workdir):
    """The configuration of a run, as it was recorded; fields that came later have their defaults.

    Raises:
        InputError: the folder is no run's, or the file is damaged.
    """
    path = os.path.join(workdir, "config.json")

    def frozen(value):
        """Tuples, which modules take, for JSON's lists."""
        if isinstance(value, dict):
            return {name: frozen(item) for name, item in value.items()}
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    try:
        with open(path) as file:
            recorded = frozen(json.load(file))
        defaults = common.get_config().to_dict()
        for name, value in recorded.items():
            # Networks have fields of their own.
            if isinstance(value, dict) and name not in ("segmenter", "adversary"):
                recorded[name] = defaults.get(name, {}) | value
        return ml_collections.ConfigDict(defaults | recorded)
    except FileNotFoundError as error:
        raise InputError(f"--workdir={workdir}: no config.json is there; name a run") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error})") from error


def progress(folder):
    """(segmenter's updates at the last validation, all updates, mean IoU on the validation split).

    None before the first validation, and for a moment while a file is being written.
    """
    try:
        with open(os.path.join(folder, "config.json")) as file:
            total = json.load(file)["train"]["updates"]
        last = history.read(os.path.join(folder, "history.csv"))[-1]
        return int(last["segmenter_updates"]), total, last["validation_mean_iou"]
    except (csv.Error, OSError, IndexError, KeyError, TypeError, ValueError):
        return None


def check_arguments(run):
    """Raises an InputError if the run's folder was made with other arguments than the run has.

    Only ``config.json`` or a checkpoint makes a run: before, ``main.py`` has refused or not yet
    read its arguments.
    """
    if not any(os.path.exists(os.path.join(run.folder, x)) for x in ("config.json", "checkpoints")):
        return
    path = os.path.join(run.folder, "arguments.json")
    remedy = f"choose another --workdir, or delete {run.folder} to make the run anew"
    try:
        with open(path) as file:
            before = _by_name(json.load(file))
    except FileNotFoundError as error:
        raise InputError(
            f"{run.folder} holds a run without arguments.json, so that nobody knows what it was "
            f"made with; {remedy}"
        ) from error
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); {remedy}") from error
    now = _by_name(_arguments(run))
    for name in before | now:
        if before.get(name) != now.get(name):
            raise InputError(
                f"{run.folder} was made with other arguments: {before.get(name, f'no {name}')} "
                f"there, {now.get(name, f'no {name}')} here; {remedy}"
            )


def _arguments(run):
    """All that makes the run what it is, wherever its folder lies."""
    return [*run.arguments, f"--config.seed={run.seed}"]


def _by_name(arguments):
    """{"--name": "--name=value"}: what comes last holds, and otherwise the order is no matter."""
    return {argument.partition("=")[0]: argument for argument in arguments}


@contextlib.contextmanager
def locked(folder):
    """Locks a run's folder, which is made if needed.

    Yields:
        A file descriptor, or None if a process works in the folder. The lock lasts until the
        descriptor is closed by this process, and by the one that ``start`` gave it to.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield descriptor if free else None
    finally:
        os.close(descriptor)


def worker(folder):
    """The id of the process that works in a run's folder, as text; None if there is none."""
    path = os.path.join(folder, "lock")
    if not os.path.exists(path):
        return None
    with locked(folder) as lock:
        if lock is not None:
            return None
    with open(path) as file:
        return file.read().strip()


def start(run, lock, program, environment, cores=()):
    """Starts the run's process, or one that goes on with it.

    The process inherits the lock: it is held for as long as the process lives, even if this one is
    killed. In a session of its own it gets no Ctrl-C from the terminal, only what it is sent.

    Args:
        run: Run.
        lock: of ``locked``.
        program: path of ``main.py``.
        environment: dict, of the process.
        cores: numbers of the CPU cores that it may use; none: those of this process.

    Returns:
        (subprocess.Popen, length of the log in bytes before it).
    """
    path = os.path.join(run.folder, "arguments.json")
    with open(f"{path}.part", "w") as file:
        json.dump(_arguments(run), file, indent=2)
    os.replace(f"{path}.part", path)
    command = [sys.executable, program, *_arguments(run), f"--workdir={run.folder}"]
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
def _on(cores):
    """This thread, and so the processes that it starts, on some of the CPU cores."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def why_failed(run, status, begin):
    """What an ended process died of, with the last error line of its log; "" if the run is done.

    Args:
        run: Run.
        status: the process's ``returncode``.
        begin: place in the log where the process's part of it begins, in bytes.

    Raises:
        InputError: a file of the run is damaged.
    """
    if read_result(run.folder) is not None:
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
    error = [
        line.strip() for line in lines if re.match(r"(error:|[\w.]+(Error|Exception)\b)", line)
    ]
    return ": ".join([why, *error[-1:]])
