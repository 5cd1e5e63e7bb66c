"""Several runs at a time, each in a process of its own."""

import collections
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from segadv_jax.campaign import runs
from segadv_jax.campaign.display import Display
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import describe
from segadv_jax.signals import stop_signals

POLL = 0.2  # Seconds between two looks at the processes.

Failures = list[tuple[Run, str]]


def run_all(
    todo: Sequence[Run], processes: int = 1, program: str = "", cache: str = ""
) -> Failures:
    """Trains and evaluates the runs that are not done; resumes those that were stopped.

    All processes have equally many CPU cores: with another number of cores a CPU adds up in another
    order, and results differ in their last bits. If a process of a campaign that was killed still
    works in a run's folder, the run waits for it.

    SIGTERM and Ctrl-C are passed on: the runs save a checkpoint and end. A second one ends them at
    once. Signals are caught in the main thread only.

    Args:
        todo: runs, each with a folder of its own, in the order in which to start them.
        processes: how many at a time.
        program: path of a program to run instead of `segadv_jax train`; empty: none.
        cache: folder through which the runs share compiled programs; empty: they do not.

    Returns:
        [(run, why it failed)]; the other runs are done.

    Raises:
        InputError: a folder was made with other arguments, or a file in it is damaged. Then nothing
            was started.
        SystemExit: after a signal, with status 128 + signal.
    """
    for run in todo:
        runs.check_arguments(run)
    todo = [run for run in todo if run.workdir.result() is None]
    # Those that a process works on come first: it uses its share of the machine already.
    todo = sorted(todo, key=lambda run: runs.worker(run.folder) is None)
    passed_on = 0
    with (
        stop_signals() as caught,
        Display() as display,
        closing(_Pool(todo, processes, program, _environment(cache), display)) as pool,
    ):
        while pool.advance(stopping=bool(caught)):
            for _ in caught[passed_on:]:
                passed_on += 1
                pool.terminate()
            time.sleep(POLL)
    if caught:
        alive = [f"{run.name}, process {pid}" for run in todo if (pid := runs.worker(run.folder))]
        at_work = f" (still at work: {'; '.join(alive)})" if alive else ""
        print(f"stopped; the same command resumes{at_work}", file=sys.stderr, flush=True)
        raise SystemExit(128 + caught[0])
    return pool.failures


def _environment(cache: str) -> dict[str, str]:
    ours = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # They share the GPU's memory.
        # Large pages for the arrays of a step: a tenth faster on a CPU (docs/benchmarks.md).
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    if cache:
        ours["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(cache)
    return ours | os.environ


@dataclasses.dataclass(eq=False)
class _Job:
    """A run that has its turn.

    Attributes:
        run: the run.
        slot: 0 .. processes - 1; no two jobs at a time have the same.
        process: None while it waits for another process to leave the run's folder.
        log_begin: where the process's part of the log begins, in bytes.
    """

    run: Run
    slot: int
    process: subprocess.Popen | None = None
    log_begin: int = 0


class _Pool:
    """The runs that wait and those that have their turn.

    Attributes:
        failures: [(run, why)] of the runs that ended without being done.
    """

    def __init__(
        self,
        todo: Sequence[Run],
        processes: int,
        program: str,
        environment: dict[str, str],
        display: Display,
    ):
        self.failures: Failures = []
        self._waiting = collections.deque(todo)
        self._jobs: list[_Job] = []
        self._processes = processes
        self._program = program
        self._environment = environment
        self._display = display

    def advance(self, stopping: bool) -> bool:
        """Starts what can start and looks after what is at work; whether there is more to do."""
        if not stopping:
            free = sorted(set(range(self._processes)) - {job.slot for job in self._jobs})
            for slot in free[: len(self._waiting)]:
                self._jobs.append(_Job(self._waiting.popleft(), slot))
        for job in list(self._jobs):
            if stopping and job.process is None:
                self._jobs.remove(job)
                continue
            outcome = self._look_after(job)
            if outcome is not None:
                self._jobs.remove(job)
                self._display.remove(job.slot)
                self._report(job.run, outcome, stopping)
        return bool(self._jobs or (self._waiting and not stopping))

    def terminate(self) -> None:
        """Asks all processes to stop; asked again, they end at once."""
        for job in self._jobs:
            if job.process is not None:
                job.process.terminate()

    def close(self) -> None:
        """Leaves no process behind."""
        self.terminate()
        for job in self._jobs:
            if job.process is not None:
                job.process.wait()

    def _look_after(self, job: _Job) -> str | None:
        """None if there is more to do, "" if the run is done, else why it failed."""
        try:
            if job.process is None:
                return self._start(job)
            if job.process.poll() is None:
                self._display.look(job.run, job.slot)
                return None
            return runs.why_failed(job.run, job.process.returncode, job.log_begin)
        except (InputError, OSError) as error:
            return str(error)

    def _start(self, job: _Job) -> str | None:
        """Starts the job's process, unless another one works in the folder or the run is done."""
        run = job.run
        with runs.locked(run.folder) as lock:
            if lock is None:
                self._display.wait(run)
                return None
            if run.workdir.result() is not None:
                return ""
            runs.check_arguments(run)  # Another campaign may have made the folder meanwhile.
            self._display.start(run)
            cores = _cores(job.slot, self._processes)
            started = runs.start(run, lock, self._program, self._environment, cores)
            job.process, job.log_begin = started
        return None

    def _report(self, run: Run, outcome: str, stopping: bool) -> None:
        if not outcome:
            result = run.workdir.result()
            assert result is not None
            self._display.say(run, f"done, {result['split']} in %: {describe(result)}")
        elif stopping:
            self._display.say(run, "stopped")
        else:
            self._display.say(run, f"failed, {outcome}; see {run.log}")
            self.failures.append((run, outcome))


def _cores(slot: int, processes: int) -> list[int]:
    """The CPU cores of a slot, equally many for each; shared if there are fewer than processes."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    count = max(1, len(cores) // processes)
    first = slot * count % len(cores)
    return cores[first : first + count]
