"""Kills a training with SIGKILL again and again, and compares it with one left in peace.

    python -m tools.kill --config=tests/small_synthetic.py:adversarial --workdir=FOLDER \\
        --kills=20 --seed=0 --config.data.data_dir=DATA --config.train.checkpoint_every=1

First the command runs to its end in FOLDER/first, and again in FOLDER/whole: both must leave the
same. Then it is started in FOLDER/killed_0 and killed,
and started again, until it has come to its end; then in FOLDER/killed_1, until there were as many
kills as wanted. Each start is killed at a moment of its own: while a checkpoint is being written,
as soon as one is finished and older ones are deleted, as soon as a row of the history is added,
before the first step, in the final evaluation, or after any part of the time that the whole run
took. After each kill the checkpoints must be readable that a start may need, and the next start
must go on from the latest. At the end all that the run left must be the same byte for byte,
parameters, both optimizers' states and history.csv included.
"""

import argparse
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from segadv_jax import cli
from segadv_jax.campaign import text
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.metrics.names import SELECTING
from segadv_jax.workdir import Workdir

PROGRAM = "tools.kill"
POLL = 0.001  # Seconds between two looks at the folder.
SLACK = 0.2  # Up to so many seconds after a moment the process is killed, half of the times.
PARTS = 24  # A checkpoint that is being written has up to so many files and folders.
# Of each start of a process and of each run on its own: when it was, what machine it was on, means
# over the steps since then.
OF_A_START = ("events.out.", "environment.json", "watched.json")


class Look(NamedTuple):
    """What an observer sees of a run's folder at a moment."""

    parts: int  # Files and folders of the checkpoints that are being written.
    finished: frozenset[str]  # The names of those that are written.
    rows: int  # Lines of the history.
    prepared: int  # When the last start was about to begin, in ns.
    ended: bool

    @classmethod
    def at(cls, folder: Path) -> "Look":
        found = [path.name for path in _listed(folder / "checkpoints")]
        writing = [folder / "checkpoints" / name for name in found if not name.isdigit()]
        try:
            prepared = (folder / "parameters.txt").stat().st_mtime_ns
            rows = (folder / "history.csv").read_bytes().count(b"\n")
        except FileNotFoundError:
            prepared, rows = 0, 0
        return cls(
            sum(1 + sum(1 for _ in _listed(path, "**/*")) for path in writing),
            frozenset(name for name in found if name.isdigit()),
            rows,
            prepared,
            (folder / "ended.json").exists(),
        )


def _listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What is in a folder, in which files come and go."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


# What is to be seen before a process is killed: of a look now, one at its start, and a number.
Moment = Callable[[Look, Look, int], bool]
MOMENTS: dict[str, Moment] = {
    # What an earlier one left unfinished is cleared away meanwhile.
    "writing": lambda now, then, n: now.prepared > then.prepared and now.parts >= n > 0,
    "written": lambda now, then, n: bool(now.finished - then.finished),
    "validated": lambda now, then, n: now.rows > max(then.rows, 1),
    "prepared": lambda now, then, n: now.prepared > then.prepared,
    "evaluating": lambda now, then, n: now.ended and not then.ended,
    "any": lambda now, then, n: False,
}
WEIGHTS = {"writing": 8, "written": 3, "validated": 3, "prepared": 1, "evaluating": 1, "any": 4}


class Outcome(NamedTuple):
    """What became of a process that was to be killed."""

    killed: bool  # Else it ended before the moment came.
    status: int
    said: str


def kill(
    command: Sequence[str],
    folder: Path,
    moment: str,
    number: int = 1,
    delay: float = 0.0,
    limit: float = float("inf"),
) -> Outcome:
    """Starts a command that trains in `folder`, and kills it at one of `MOMENTS`.

    Args:
        number: of files and folders that a checkpoint must have, of the moment "writing".
        delay: so many seconds after the moment.
        limit: or so many seconds after the start, if that is sooner.
    """
    then, begin = Look.at(folder), time.monotonic()
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        try:
            while process.poll() is None and time.monotonic() - begin < limit:
                if MOMENTS[moment](Look.at(folder), then, number):
                    time.sleep(delay)
                    break
                time.sleep(POLL)
        finally:
            killed = process.poll() is None  # A signal may have ended it that was not ours.
            process.kill()
        status = process.wait()
    return Outcome(killed, status, log.read_text())


def latest(folder: Path) -> int | None:
    """The latest finished checkpoint of a run; None without any.

    Raises:
        InputError: it, or one that a validation selected, cannot be read.
    """
    workdir = Workdir(folder)
    if not workdir.has_checkpoints():
        return None
    with Checkpoints(workdir, to_read=True) as checkpoints:
        needed = {checkpoints.latest_step(), *map(checkpoints.best_step, SELECTING)}
        for step in needed:
            if step is not None:
                checkpoints.contents(step)
        return checkpoints.latest_step()


def begun_at(said: str) -> int | None:
    """The step at which a start went on, 0 for the first; None where it did not come so far."""
    found = re.search(r"resuming .* at step (\d+) of", said)
    if found:
        return int(found[1])
    return 0 if "compiling" in said else None


def differences(whole: Path, other: Path) -> list[str]:
    """The names of what two runs left that is not the same in both, byte for byte."""
    names = {
        str(path.relative_to(folder))
        for folder in (whole, other)
        for path in folder.rglob("*")
        if path.is_file() and "checkpoints" not in path.relative_to(folder).parts
    }
    names = {name for name in names if not name.startswith(OF_A_START)}
    found = [name for name in sorted(names) if _bytes(whole / name) != _bytes(other / name)]
    found += [
        f"checkpoints: {', '.join(sorted(each))} is there in one only"
        for each in [
            {path.name for path in (whole / "checkpoints").iterdir()}
            ^ {path.name for path in (other / "checkpoints").iterdir()}
        ]
        if each
    ]
    mine, theirs = (_states(folder) for folder in (whole, other))
    return found + [
        f"checkpoint {step}: {jax.tree_util.keystr(path)}"
        for step in sorted(mine.keys() & theirs.keys())
        for path, equal in jax.tree.leaves_with_path(
            jax.tree.map(_same_bytes, mine[step], theirs[step])
        )
        if not equal
    ]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _states(folder: Path) -> dict[int, Any]:
    with Checkpoints(Workdir(folder), to_read=True) as checkpoints:
        return {step: checkpoints.contents(step) for step in checkpoints.steps()}


def _same_bytes(left: Any, right: Any) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    same_kind = (left.shape, left.dtype) == (right.shape, right.dtype)
    return same_kind and left.tobytes() == right.tobytes()


def kill_until_done(
    command: Sequence[str], folder: Path, draw: Callable[[], dict[str, Any]], kills: int
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Starts a command and kills it until it has come to its end, `kills` times at most.

    Returns:
        (of each kill the moment, the step at which that start began and the latest checkpoint that
        it left; what went wrong).
    """
    rows: list[tuple[str, ...]] = []
    wrong: list[str] = []
    before: int | None = None
    while True:
        how = draw() if len(rows) < kills else {"moment": "any"}
        outcome = kill(command, folder, **how)
        begun, after = begun_at(outcome.said), latest(folder)
        if begun is not None and begun != (before or 0):
            wrong.append(f"{folder}: began at step {begun}, but a checkpoint had {before}")
        if (after or 0) < (before or 0):
            wrong.append(f"{folder}: the latest checkpoint was {before} and is {after}")
        before = after
        if not outcome.killed:
            if outcome.status:
                wrong.append(f"{folder}: status {outcome.status}: {outcome.said}")
            return rows, wrong
        rows.append((how["moment"], *("-" if x is None else str(x) for x in (begun, after))))
        print(folder.name, *rows[-1], file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="NAME[:VARIANT]", help="file or name")
    parser.add_argument("--workdir", required=True, help="folder for all runs")
    parser.add_argument("--kills", type=int, default=20, help="how many; 20 if unset")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")


def main(options: argparse.Namespace) -> int:
    folder, draw_from = Path(options.workdir), random.Random(options.seed)
    folder.mkdir(parents=True, exist_ok=True)
    train = [sys.executable, "-m", "segadv_jax", "train", f"--config={options.config}"]

    def command(name: str) -> list[str]:
        return [*train, *options.overrides, f"--workdir={folder / name}"]

    subprocess.run(command("first"), check=True, stdout=subprocess.DEVNULL)  # It compiles.
    begin = time.monotonic()
    subprocess.run(command("whole"), check=True, stdout=subprocess.DEVNULL)
    life = time.monotonic() - begin

    def draw() -> dict[str, Any]:
        (moment,) = draw_from.choices(list(WEIGHTS), list(WEIGHTS.values()))
        delay = draw_from.uniform(0, SLACK) if draw_from.random() < 0.5 else 0.0
        number = draw_from.randint(1, PARTS)
        limit = draw_from.uniform(0, life) if moment == "any" else float("inf")
        return {"moment": moment, "number": number, "delay": delay, "limit": limit}

    rows: list[tuple[str, ...]] = []
    wrong = [f"two undisturbed runs: {x}" for x in differences(folder / "first", folder / "whole")]
    run = 0
    while len(rows) < options.kills:
        killed = folder / f"killed_{run}"
        more, faults = kill_until_done(
            command(killed.name), killed, draw, options.kills - len(rows)
        )
        faults += [f"{killed}: {what} differs" for what in differences(folder / "whole", killed)]
        rows += [(str(run), *row) for row in more]
        wrong += faults
        run += 1
    print(text.table([("run", "killed", "begun at step", "latest checkpoint"), *rows]))
    print(f"\n{len(rows)} kills, {run} runs; a whole run takes {life:.0f} s")
    print("\n".join(wrong) or "all is the same byte for byte, and no checkpoint was lost")
    return 1 if wrong else 0


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
