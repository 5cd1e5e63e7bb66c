"""Signals as a request to stop."""

import signal
import threading
import time

import pytest

from segadv_jax import cli
from segadv_jax.signals import Stopped, signals_raised, stop_signals

NUMBERS = (signal.SIGTERM, signal.SIGINT)


def handlers():
    return [signal.getsignal(number) for number in NUMBERS]


def test_signals_are_caught_in_their_order_and_handlers_restored():
    before = handlers()
    with stop_signals() as caught:
        assert caught == []
        for number in (*NUMBERS, signal.SIGTERM):
            signal.raise_signal(number)
        assert caught == [*NUMBERS, signal.SIGTERM]
    assert handlers() == before


@pytest.mark.parametrize("first", NUMBERS)
def test_a_second_signal_kills(first):
    before = handlers()
    with stop_signals(second_kills=True) as caught:
        signal.raise_signal(first)
        assert caught == [first] and handlers() == [signal.SIG_DFL] * 2
    assert handlers() == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_nobody_catches_is_raised(number):
    before = handlers()
    with pytest.raises(Stopped) as stop, signals_raised():
        with stop_signals() as caught:
            signal.raise_signal(number)
        assert caught == [number]
        try:
            signal.raise_signal(number)
        finally:
            assert handlers() == [signal.SIG_DFL] * 2  # A second one would kill.
    assert stop.value.code == 128 + number and handlers() == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_command_that_a_signal_stops_ends_with_a_line(number, capsys):
    """As one that is stopped before its loop begins."""
    before = handlers()
    with pytest.raises(SystemExit) as end:
        cli.report_errors(lambda argv: signal.raise_signal(number), [])
    assert end.value.code == 128 + number and handlers() == before
    output, errors = capsys.readouterr()
    assert not output and errors.startswith("stopped; the same command") and errors.count("\n") == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_comes_while_an_object_is_cleared_away_comes_again(number):
    """Python drops what `__del__` and the callbacks of weak references raise."""

    class Dying:
        def __del__(self):
            cleared.append(number)
            signal.raise_signal(number)

    before, cleared = handlers(), []
    with pytest.raises(Stopped) as stop, signals_raised():
        dying = Dying()
        del dying
        assert cleared  # And nothing was raised yet.
        while True:
            time.sleep(0.001)
    assert stop.value.code == 128 + number and handlers() == before


def test_another_thread_leaves_the_handlers_alone():
    before, seen = handlers(), []

    def look():
        with stop_signals() as caught, signals_raised():
            seen.append((handlers(), caught))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(before, [])]
