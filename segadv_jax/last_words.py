"""What a process of several says where another one is lost: one line.

JAX ends a process when its coordination service has lost another, or when the process that holds
the service is gone, with some twenty lines that C++ writes to stderr, and aborts: Python is not
asked. So a helper, this file as a program, passes on what C++ writes, and says that line instead.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

# How JAX's client begins its last message, and how this package says the same.
_FATAL = re.compile(r"F\d{4} .*Terminating process because the JAX distributed service|lost: ")
_SIGNS = re.compile(r"[IWE]\d{4} .*(coordination_service|preemption_sync_manager)")
_LONGEST = 200  # Characters of a reason.
# How JAX's errors begin that are this process's own. Of the others a lost process is the cause.
_OWN = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND")


def listen(index: int) -> None:
    """From now on what C++ writes to stderr goes through `filtered`; Python's own does not."""
    # Without a reference, Python would wait for it.
    global _helper
    _helper = subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, str(index)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert _helper.stdin is not None
    sys.stderr.flush()
    ours = os.dup(2)
    os.dup2(_helper.stdin.fileno(), 2)
    _helper.stdin.close()
    sys.stderr = os.fdopen(ours, "w", buffering=1, errors="backslashreplace")


_helper: subprocess.Popen | None = None


def lost(error: BaseException | None) -> BaseException | None:
    """What says that another of several processes is lost: an error, or that which caused it."""
    # By its name: a program that shows its help does not import JAX only to ask.
    while error is not None and type(error).__name__ != "JaxRuntimeError":
        error = error.__cause__
    return None if str(error).startswith(_OWN) else error


def say_lost(reason: object) -> None:
    """Ends this process as JAX would, with one line that another was lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(2, f"lost: {' '.join(str(reason).split())}\n".encode())
    os.abort()


def filtered(lines: Iterable[str], index: str) -> Iterator[str]:
    """The lines as they come; those on a lost process, and all after them, as one at the end."""
    held: list[str] = []
    lost = ""
    for line in lines:
        if _FATAL.match(line):
            lost = lost or line.partition("absl::Status: ")[2] or line.partition("lost: ")[2]
        elif held or _SIGNS.match(line):
            held.append(line)  # It may be what comes before the end.
        elif not lost:
            yield line
    if lost:
        reason = lost.strip()
        reason = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]} ..."
        yield (
            f"error in process {index}: another process has ended or cannot be reached ({reason}); "
            "what that one said tells why. Start all of them again with the same command: training "
            "goes on from the last checkpoint\n"
        )
    else:
        yield from held


if __name__ == "__main__":
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # It ends when the process does that it listens to.
    sys.stdin.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for said in filtered(sys.stdin, sys.argv[1]):
        sys.stderr.write(said)
        sys.stderr.flush()
