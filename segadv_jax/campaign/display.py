"""The progress of several runs on stderr."""

import sys
import time

from tqdm import tqdm

from segadv_jax.campaign import runs
from segadv_jax.campaign.runs import Run

LOOK = 1.0  # Seconds between two looks at the files of a run,
SAY = 60.0  # and between two lines on its progress where there is no terminal.


class Display:
    """Shows a moving line per run on a terminal, and elsewhere prints a line now and then.

    A slot is the number of the line, from 0; no two runs at a time have the same.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bars: dict[int, tqdm] = {}  # By slot.
        self._looked: dict[int, float] = {}  # By slot: when the run's files were last read.
        # By folder: (updates, when) of the last line on the run's progress.
        self._said: dict[str, tuple[int, float]] = {}
        self._waiting: set[str] = set()  # Folders of the runs that are known to wait.

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def say(self, run: Run, text: str) -> None:
        """Prints a line about a run."""
        tqdm.write(f"{time.strftime('%H:%M:%S')} {run.name}: {text}", file=sys.stderr)
        sys.stderr.flush()

    def wait(self, run: Run) -> None:
        """Says, once, that the run waits for a process that works in its folder."""
        process = runs.worker(run.folder)
        if process is not None and run.folder not in self._waiting:
            self._waiting.add(run.folder)
            self.say(run, f"waits for process {process}, which is at work in {run.folder}")

    def start(self, run: Run) -> None:
        """Says that the run starts or resumes."""
        known = run.workdir.progress()
        self._said[run.folder] = known[0] if known else 0, time.monotonic()
        self.say(run, f"resumes, {_describe(*known)}" if known else "starts")

    def look(self, run: Run, slot: int) -> None:
        """Shows how far the run has come, if it is time to."""
        now = time.monotonic()
        if now - self._looked.get(slot, 0) < LOOK:
            return
        self._looked[slot] = now
        known = run.workdir.progress()
        if self._terminal:
            if slot not in self._bars:
                form = "{desc}: |{bar:20}| {elapsed}{postfix}"
                self._bars[slot] = tqdm(
                    desc=run.name, position=slot, leave=False, bar_format=form, total=1
                )
            bar = self._bars[slot]
            if known:
                bar.n, bar.total = known[:2]
                bar.set_postfix_str(_describe(*known), refresh=False)
            bar.refresh()
        elif known:
            updates, when = self._said[run.folder]
            if known[0] != updates and now - when >= SAY:
                self._said[run.folder] = known[0], now
                self.say(run, _describe(*known))

    def remove(self, slot: int) -> None:
        """Takes a run's line away."""
        if slot in self._bars:
            self._bars.pop(slot).close()


def _describe(updates: int, total: int, mean_iou: float) -> str:
    return f"{updates} of {total} updates, validation mean IoU {100 * mean_iou:.1f} %"
