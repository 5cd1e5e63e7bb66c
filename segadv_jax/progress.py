"""Bars on stderr, where that is a terminal: short, and gone when all is done."""

import collections
import sys
import time
from typing import Any

import jax
from absl import logging
from tqdm import tqdm

SAY = 60.0  # Seconds between two lines on training where there is no terminal.
_WARMING_UP = 3  # Steps after a compilation that say nothing on how long the rest will take.
_UPDATES = "update {n_fmt} of {total_fmt} |{bar:30}| {desc}"


def is_shown() -> bool:
    """Whether somebody looks: on a terminal, for the first of several hosts."""
    return sys.stderr.isatty() and jax.process_index() == 0


def bar(what: str, images: int) -> tqdm:
    """A bar that counts images; none if `what`, that which is being done, is empty."""
    return tqdm(
        desc=what,
        total=images,
        unit=" images",
        bar_format="{desc} |{bar:30}| {n_fmt} of {total_fmt}{unit}",
        leave=False,
        disable=not (what and is_shown()),
    )


class UpdatesBar:
    """Shows the segmenter's updates that are done, and the loss of the last one.

    A step is done when the devices have done it, not when it was dispatched; nobody waits for that.
    How long the rest will take is said some steps after `restart`. Where there is no terminal, a
    line is said now and then instead.

    Args:
        updates: done so far.
        total: in all.
    """

    def __init__(self, updates: int, total: int):
        self._updates, self._total = updates, total
        self._bar: tqdm | None = None
        self._dispatched: collections.deque[tuple[int, Any]] = collections.deque()
        self._until_timed, self._said = _WARMING_UP, time.monotonic()

    def restart(self) -> None:
        """Forgets how long steps took: something was compiled meanwhile."""
        self._until_timed = _WARMING_UP
        if self._bar is not None:
            self._bar.bar_format = _UPDATES
            self._bar.refresh()

    def add(self, updates: int, loss: Any) -> None:
        """Takes in a step that was dispatched: the updates after it, and its loss, a jax.Array."""
        if not is_shown():
            return
        self._dispatched.append((updates, loss))
        while self._dispatched and self._dispatched[0][1].is_ready():
            self._show(*self._dispatched.popleft())

    def follow(self, steps: int) -> None:
        """Waits for all dispatched steps but the last `steps`, one by one."""
        while len(self._dispatched) > steps:
            self._show(*self._dispatched.popleft())

    def say(self, updates: int, loss: float) -> None:
        """Says how far training is, if nobody sees the bar and nothing was said for long."""
        if not is_shown() and time.monotonic() - self._said > SAY:
            logging.info("update %d of %d, loss %.2f", updates, self._total, loss)
            self.heard()

    def heard(self) -> None:
        """Something was said just now."""
        self._said = time.monotonic()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, updates, loss):
        if self._bar is None:  # Not before a step is done: a run may have ended already.
            self._bar = tqdm(
                initial=self._updates,
                total=self._total,
                bar_format=_UPDATES,
                smoothing=0,
                mininterval=0.5,
                leave=False,
            )
        self._bar.set_description_str(f"loss {float(jax.device_get(loss)):.2f}", refresh=False)
        self._bar.update(updates - self._bar.n)
        self._until_timed -= 1
        if self._until_timed == 0:
            self._bar.initial, self._bar.start_t = self._bar.n, time.time()
        elif self._until_timed < 0 and self._bar.n > self._bar.initial:
            self._bar.bar_format = _UPDATES + ", {remaining} left"
