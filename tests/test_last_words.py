"""One line where another process was lost; all else that C++ writes to stderr is passed on."""

import itertools
import logging

import jax
import pytest

from segadv_jax import cli, last_words

# What jaxlib 0.10 writes when the process that holds the coordination service is killed, shortened.
SIGNS = [
    "W1128 21:58:23.269021   11409 preemption_sync_manager.cc:147] Failed to retrieve preemption\n",
    "Additional GRPC error information from remote target coordination_service:\n",
    "E1128 21:58:23.269098   11409 coordination_service_agent.cc:289] Polled an error\n",
]
FATAL = [
    "F1128 21:58:23.269103   11409 client.h:80] Terminating process because the JAX distributed "
    "service detected fatal errors. absl::Status: UNAVAILABLE: Failed to send RPC\n",
    ":UNKNOWN:Error received from peer\n",
    "*** Check failure stack trace: ***\n",
    "    @     0x7f086c240634  absl::lts_20260107::log_internal::LogMessage::SendToLog()\n",
]
OTHERS = ["[Gloo] Rank 0 is connected to 1 peer ranks.\n", "E1128 21:58:23 1 other.cc:1] no\n"]


def filtered(*lines):
    return list(last_words.filtered(lines, "1"))


def test_other_lines_are_passed_on_at_once():
    passed = last_words.filtered(iter([*OTHERS, *SIGNS]), "0")
    assert [next(passed) for _ in OTHERS] == OTHERS
    assert list(passed) == SIGNS  # Nothing came after them that ends the process.


def test_a_lost_process_is_one_line():
    said = filtered(*OTHERS, *SIGNS, *FATAL)
    assert said[:-1] == OTHERS
    assert said[-1].startswith(
        "error in process 1: another process has ended or cannot be reached (UNAVAILABLE: Failed to"
    )
    assert said[-1].count("\n") == 1 and said[-1].endswith("goes on from the last checkpoint\n")


@pytest.mark.parametrize("order", [1, -1])
def test_it_is_one_line_as_well_if_python_and_jax_both_say_it(order):
    ours = [["lost: Gloo: Connection reset by peer\n"], [*SIGNS, *FATAL]][::order]
    said = filtered(*ours[0], *ours[1])
    assert len(said) == 1 and said[0].startswith("error in process 1: another process")


def test_a_long_reason_is_cut():
    (said,) = filtered(f"lost: {'x' * 9999}\n")
    assert len(said) < 700


def after(*errors):
    """The last of them, each raised from the one before."""
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[-1]


# As a thread of Orbax raises it that writes a checkpoint.
WRITING = after(jax.errors.JaxRuntimeError("UNAVAILABLE: closed"), TimeoutError("a barrier"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (jax.errors.JaxRuntimeError("INTERNAL: Gloo"), "INTERNAL: Gloo"),
        (WRITING, "UNAVAILABLE: closed"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: memory"), None),
        (after(jax.errors.JaxRuntimeError("NOT_FOUND: it"), ValueError("a file")), None),
        (TimeoutError("a barrier"), None),
        (None, None),
    ],
)
def test_an_error_for_want_of_another_process_is_told_from_others(error, reason):
    found = last_words.lost(error)
    assert found is None if reason is None else str(found) == reason


@pytest.mark.parametrize(
    ("others", "error", "shown"),
    [(True, WRITING, False), (True, TimeoutError("it"), True), (False, WRITING, True)],
)
def test_what_ends_the_process_in_one_line_is_not_said_by_a_thread(
    monkeypatch, capsys, others, error, shown
):
    monkeypatch.setattr(cli, "_process", lambda: " in process 1" if others else "")
    cli.show_messages()
    given = (logging.ERROR, "/lib/orbax/checkpoint.py", 1, "not committed", None)
    logging.getLogger().handle(logging.LogRecord("absl", *given, (type(error), error, None)))
    assert ("not committed" in capsys.readouterr().err) == shown
