"""SIGTERM and Ctrl-C as a request to stop."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


_AGAIN = 0.01  # Seconds after which a signal comes again that found nobody to stop.


class Stopped(SystemExit):
    """Raised where a signal comes, to end the process with status 128 + signal."""

    @property
    def number(self) -> int:
        return int(self.code or 0) - 128


@contextlib.contextmanager
def stop_signals(second_kills: bool = False) -> Iterator[list[int]]:
    """Catches SIGTERM and Ctrl-C; yields the numbers of those caught so far, a list that grows.

    With `second_kills` a second one ends the process at once. Python lets only the main thread
    handle signals: in another thread nothing is caught.
    """
    caught: list[int] = []

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        if second_kills:
            _let_kill()

    with _handled(catch):
        yield caught


@contextlib.contextmanager
def signals_raised() -> Iterator[None]:
    """Where nobody catches SIGTERM and Ctrl-C, they raise `Stopped`; a second one kills.

    Python drops what is raised while it clears objects away, as a signal may be that comes just
    then: it is sent again.
    """

    def stop(number: int, frame: object) -> None:
        _let_kill()
        raise Stopped(128 + number)

    def see_dropped(dropped: "sys.UnraisableHookArgs") -> None:
        error = dropped.exc_value
        if not isinstance(error, Stopped):
            before(dropped)
        elif signal.getsignal(error.number) == signal.SIG_DFL:  # Else nobody waits any more.
            for number in _NUMBERS:
                signal.signal(number, stop)
            threading.Timer(_AGAIN, os.kill, (os.getpid(), error.number)).start()

    before, sys.unraisablehook = sys.unraisablehook, see_dropped
    try:
        with _handled(stop):
            yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def deadly() -> Iterator[None]:
    """Lets SIGTERM and Ctrl-C kill, as is needed where C++ waits: Python would not hear of them.

    What is called within may take SIGTERM for itself, as JAX's client does for preemption: unless
    something is raised, it stays so.
    """
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (_NUMBERS if ours else ())}
    if ours:
        _let_kill()
    try:
        yield
    except BaseException:
        for number, former in before.items():
            signal.signal(number, former)
        raise
    if ours:
        signal.signal(signal.SIGINT, before[signal.SIGINT])


def _let_kill() -> None:
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handles the signals with `handler`, then as before."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in (_NUMBERS if ours else ())}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
