"""Signals as a request to stop."""

import signal
import threading

import pytest

from segadv_jax.signals import stop_signals

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


def test_another_thread_leaves_the_handlers_alone():
    before, seen = handlers(), []

    def look():
        with stop_signals() as caught:
            seen.append((handlers(), caught))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(before, [])]
