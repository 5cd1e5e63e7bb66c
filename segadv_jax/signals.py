"""SIGTERM and Ctrl-C as a request to stop."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """Raised where a signal comes, to end the process with status 128 + signal."""


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
    """Where nobody catches SIGTERM and Ctrl-C, they raise `Stopped`; a second one kills."""

    def stop(number: int, frame: object) -> None:
        _let_kill()
        raise Stopped(128 + number)

    with _handled(stop):
        yield


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
