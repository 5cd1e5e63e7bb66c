"""The progress of several runs on stderr."""

import sys
import time

from tqdm import tqdm

from segadv_jax.campaign import runs

LOOK = 1.0  # Seconds between two looks at the files of a run,
SAY = 60.0  # and between two lines on its progress where there is no terminal.


class Line:
    """The progress of a run: a moving line on a terminal; elsewhere one is printed now and then.

    `slot` is its place among the lines, from 0; no two at a time have the same.
    """

    def __init__(self, run: runs.Run, slot: int):
        self.run = run
        self._said = 0, 0.0  # (updates, when) of the last line on the progress.
        self._looked = 0.0
        self._waits = False
        self._bar = tqdm(
            desc=run.name,
            position=slot,
            leave=False,
            bar_format="{desc}: |{bar:20}| {elapsed}{postfix}",
            total=1,
            disable=not sys.stderr.isatty(),
        )

    def say(self, text: str) -> None:
        tqdm.write(f"{time.strftime('%H:%M:%S')} {self.run.name}: {text}", file=sys.stderr)
        sys.stderr.flush()

    def wait(self) -> None:
        """Says, once, that the run waits for a process that works in its folder."""
        process = runs.worker(self.run.folder)
        if process is not None and not self._waits:
            self._waits = True
            self.say(f"waits for process {process}, which is at work in {self.run.folder}")

    def start(self) -> None:
        """Says that the run starts or resumes."""
        known = self.run.workdir.progress()
        self._said = known[0] if known else 0, time.monotonic()
        self.say(f"resumes, {_describe(*known)}" if known else "starts")

    def look(self) -> None:
        """Shows how far the run has come."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        known = self.run.workdir.progress()
        if known:
            self._bar.n, self._bar.total = known[:2]
            self._bar.set_postfix_str(_describe(*known), refresh=False)
            updates, when = self._said
            if self._bar.disable and known[0] != updates and now - when >= SAY:
                self._said = known[0], now
                self.say(_describe(*known))
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def _describe(updates: int, total: int, mean_iou: float) -> str:
    return f"{updates} of {total} updates, validation mean IoU {100 * mean_iou:.1f} %"
