"""Several runs at a time, each in a process of its own."""

import collections
import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from segadv_jax.campaign import display, runs
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import describe
from segadv_jax.signals import stop_signals

POLL = 0.2  # Seconds between two looks at the processes.
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # They share the GPU's memory.
    # Large pages for the arrays of a step, which are kept for the next one: faster on a CPU
    # (docs/benchmarks.md).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1:"
    "glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864",
}

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

    `program` is the path of one to run instead of `segadv_jax train`, if not empty; `cache` is a
    folder through which the runs share compiled programs. Returns [(run, why it failed)].

    Raises:
        InputError: a folder was made with other arguments, or a file in it is damaged. Then nothing
            was started.
        SystemExit: after a signal, with status 128 + signal.
    """
    for run in todo:
        runs.check_arguments(run)
    todo = [run for run in todo if run.workdir.result() is None]
    # Those that a process works on come first: it uses its share of the machine already.
    todo.sort(key=lambda run: runs.worker(run.folder) is None)
    environment = ENVIRONMENT | os.environ
    if cache:
        environment.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath(cache))
    waiting = collections.deque(todo)
    jobs: dict[int, Iterator[None]] = {}  # By slot.
    passed_on = 0
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(stop_signals())
        pool = _Pool(processes, program, environment, caught)
        stack.callback(pool.end)
        while jobs or (waiting and not caught):
            for slot in range(processes):
                if slot not in jobs and waiting and not caught:
                    jobs[slot] = pool.carry_out(waiting.popleft(), slot)
                if slot in jobs and next(jobs[slot], True):
                    del jobs[slot]
            for _ in caught[passed_on:]:
                passed_on += 1
                pool.terminate()
            if jobs:
                time.sleep(POLL)
    if caught:
        alive = [f"{run.name}, process {pid}" for run in todo if (pid := runs.worker(run.folder))]
        at_work = f" (still at work: {'; '.join(alive)})" if alive else ""
        print(f"stopped; the same command resumes{at_work}", file=sys.stderr, flush=True)
        raise SystemExit(128 + caught[0])
    return pool.failures


@dataclasses.dataclass
class _Pool:
    """What the runs that have their turn share, their processes, and those that failed."""

    processes: int
    program: str
    environment: dict[str, str]
    caught: list[int]  # Signals.
    started: list[subprocess.Popen] = dataclasses.field(default_factory=list)
    failures: Failures = dataclasses.field(default_factory=list)

    def carry_out(self, run: Run, slot: int) -> Iterator[None]:
        """Starts a run's process and looks after it; yields when it is the others' turn."""
        with contextlib.closing(display.Line(run, slot)) as line:
            process: subprocess.Popen | None = None
            try:
                while process is None:
                    with runs.locked(run.folder) as lock:
                        if lock is None:
                            line.wait()
                        elif run.workdir.result() is not None:
                            break
                        else:
                            process = self._start(run, slot, line, lock)
                    yield
                    if process is None and self.caught:
                        return
                while process and process.poll() is None:
                    line.look()
                    yield
                why = runs.why_failed(run, process.returncode) if process else ""
            except (InputError, OSError) as error:
                why = str(error)
            result = None if why else run.workdir.result()
            if result:
                line.say(f"done, {result['split']} in %: {describe(result)}")
            elif self.caught:
                line.say("stopped")
            else:
                line.say(f"failed, {why}; see {run.log}")
                self.failures.append((run, why))

    def _start(self, run, slot, line, lock):
        runs.check_arguments(run)  # Another campaign may have made the folder meanwhile.
        line.start()
        cores = _cores(slot, self.processes)
        process = runs.start(run, lock, self.program, self.environment, cores)
        self.started.append(process)
        return process

    def terminate(self) -> None:
        """Asks all processes to stop; asked again, they end at once."""
        for process in self.started:
            process.terminate()

    def end(self) -> None:
        self.terminate()
        for process in self.started:
            process.wait()


def _cores(slot: int, processes: int) -> list[int]:
    """The CPU cores of a slot, equally many for each; shared if there are fewer than processes."""
    cores = sorted(runs.free_cores())
    count = max(1, len(cores) // processes)
    first = slot * count % max(1, len(cores))
    return cores[first : first + count]
