"""SIGTERM and Ctrl-C as a request to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals(second_kills: bool = False) -> Iterator[list[int]]:
    """Catches SIGTERM and Ctrl-C; yields the numbers of those caught so far, a list that grows.

    With `second_kills` a second one ends the process at once. Python lets only the main thread
    handle signals: in another thread nothing is caught.
    """
    caught: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if ours else ()

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        if second_kills:
            for each in numbers:
                signal.signal(each, signal.SIG_DFL)

    before = {number: signal.signal(number, catch) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
