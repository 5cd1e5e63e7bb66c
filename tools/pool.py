"""Several runs at a time, each in its process, with a line of progress for each."""

import collections
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tqdm import tqdm

from segadv_jax import measures
from segadv_jax.errors import InputError
from tools import runs

MAIN = str(Path(__file__).resolve().parents[1] / "main.py")
POLL = 0.2  # Seconds between two looks at the processes,
LOOK = 1.0  # at the files of a run,
SAY = 60.0  # and between two lines on a run's progress where there is no terminal.


@dataclasses.dataclass
class _Job:
    """A run that has its turn.

    Attributes:
        run: runs.Run.
        slot: 0 .. processes - 1; no two jobs at a time have the same.
        process: None while it waits for another process to leave the run's folder.
        log_begin: where the process's part of the log begins, in bytes.
    """

    run: runs.Run
    slot: int
    process: subprocess.Popen | None = None
    log_begin: int = 0


def run_all(todo, processes=1, program=MAIN, cache=""):
    """Trains and evaluates the runs that are not done; goes on with those that were stopped.

    All processes have equally many CPU cores. With another number of cores a CPU adds up in another
    order, and results differ in their last bits. A run in whose folder a process is still at work,
    of a campaign that was killed, is waited for.

    SIGTERM and Ctrl-C are passed on: the runs save a checkpoint and end. A second one ends them at
    once. That takes the main thread.

    Args:
        todo: list of runs.Run, each with a folder of its own, in the order in which to start them.
        processes: how many at a time.
        program: path of ``main.py``.
        cache: folder through which the runs share compiled programs; empty: they do not.

    Returns:
        [(run, why it failed, as text)]; the other runs are done.

    Raises:
        InputError: a folder was made with other arguments, or a file in it is damaged. Then nothing
            was started.
        SystemExit: after a signal, with status 128 + signal.
    """
    for run in todo:
        runs.check_arguments(run)
    todo = [run for run in todo if runs.read_result(run.folder) is None]
    # First those that a process works on: it uses its share of the machine already.
    todo.sort(key=lambda run: runs.worker(run.folder) is None)
    waiting = collections.deque(todo)
    environment = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # They share the GPU's memory.
        # Large pages for the arrays of a step: a tenth faster on a CPU (docs/benchmarks.md).
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(cache)
    environment |= os.environ
    jobs, failures, passed_on = [], [], 0

    with _stop_signals() as caught, _Display() as display, _ended_with(jobs):
        while jobs or (waiting and not caught):
            for slot in set(range(processes)) - {job.slot for job in jobs}:
                if waiting and not caught:
                    jobs.append(_Job(waiting.popleft(), slot))
            for job in list(jobs):
                if caught and job.process is None:
                    jobs.remove(job)
                    continue
                outcome = _advance(job, display, program, environment, _share(job.slot, processes))
                if outcome is None:
                    continue
                jobs.remove(job)
                display.remove(job)
                if outcome == "":
                    result = runs.read_result(job.run.folder)
                    display.say(job, f"done, {result['split']} in %: {measures.describe(result)}")
                elif caught:
                    display.say(job, "stopped")
                else:
                    display.say(job, f"failed, {outcome}; see {job.run.log}")
                    failures.append((job.run, outcome))
            while passed_on < len(caught):
                passed_on += 1
                for job in jobs:
                    if job.process is not None:
                        job.process.terminate()
            time.sleep(POLL)
    if caught:
        alive = [f"{run.name}, process {pid}" for run in todo if (pid := runs.worker(run.folder))]
        alive = f" (still at work: {'; '.join(alive)})" if alive else ""
        print(f"stopped; the same command goes on from there{alive}", file=sys.stderr, flush=True)
        raise SystemExit(128 + caught[0])
    return failures


def _advance(job, display, program, environment, cores):
    """Looks after a job: None if there is more to do, "" if the run is done, else why it failed."""
    run = job.run
    try:
        if job.process is None:
            with runs.locked(run.folder) as lock:
                if lock is None:
                    display.wait(job)
                    return None
                if runs.read_result(run.folder) is not None:
                    return ""
                runs.check_arguments(run)  # Another campaign may have made the folder meanwhile.
                display.start(job)
                job.process, job.log_begin = runs.start(run, lock, program, environment, cores)
            return None
        if job.process.poll() is None:
            display.look(job)
            return None
        return runs.why_failed(run, job.process.returncode, job.log_begin)
    except (InputError, OSError) as error:
        return str(error)


def _share(slot, processes):
    """The CPU cores of a slot, equally many for each; shared if there are fewer than processes."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = sorted(os.sched_getaffinity(0))
    count = max(1, len(cores) // processes)
    first = slot * count % len(cores)
    return cores[first : first + count]


@contextlib.contextmanager
def _stop_signals():
    """Catches SIGTERM and Ctrl-C; yields the list of those caught."""
    caught = []
    ours = threading.current_thread() is threading.main_thread()  # Others cannot handle signals.
    numbers = (signal.SIGTERM, signal.SIGINT) if ours else ()
    before = {number: signal.signal(number, lambda n, _: caught.append(n)) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ended_with(jobs):
    """Leaves no process behind, whatever is raised."""
    try:
        yield
    finally:
        for job in jobs:
            if job.process is not None:
                job.process.terminate()
                job.process.wait()


class _Display:
    """What happens, on stderr: on a terminal a moving line per job, else a line now and then."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()
        self._bars = {}  # By slot.
        self._looked = {}  # By slot: when a file of the run was last read.
        self._said = {}  # By folder: (updates, when) of the last line on the run's progress.
        self._waiting = set()  # Folders of the runs of which that was said.

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for bar in self._bars.values():
            bar.close()

    def say(self, job, text):
        tqdm.write(f"{time.strftime('%H:%M:%S')} {job.run.name}: {text}", file=sys.stderr)
        sys.stderr.flush()

    def wait(self, job):
        process = runs.worker(job.run.folder)
        if process is not None and job.run.folder not in self._waiting:
            self._waiting.add(job.run.folder)
            self.say(job, f"waits for process {process}, which is at work in {job.run.folder}")

    def start(self, job):
        known = runs.progress(job.run.folder)
        self._said[job.run.folder] = known[0] if known else 0, time.monotonic()
        self.say(job, f"goes on, {self._describe(*known)}" if known else "starts")

    def look(self, job):
        now = time.monotonic()
        if now - self._looked.get(job.slot, 0) < LOOK:
            return
        self._looked[job.slot] = now
        known = runs.progress(job.run.folder)
        if self._terminal:
            if job.slot not in self._bars:
                form = "{desc}: |{bar:20}| {elapsed}{postfix}"
                self._bars[job.slot] = tqdm(
                    desc=job.run.name, position=job.slot, leave=False, bar_format=form, total=1
                )
            bar = self._bars[job.slot]
            if known:
                bar.n, bar.total = known[:2]
                bar.set_postfix_str(self._describe(*known), refresh=False)
            bar.refresh()
        elif known:
            updates, when = self._said[job.run.folder]
            if known[0] != updates and now - when >= SAY:
                self._said[job.run.folder] = known[0], now
                self.say(job, self._describe(*known))

    def remove(self, job):
        if job.slot in self._bars:
            self._bars.pop(job.slot).close()

    @staticmethod
    def _describe(updates, total, mean_iou):
        return f"{updates} of {total} updates, validation mean IoU {100 * mean_iou:.1f} %"
