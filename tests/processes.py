"""Processes in tests: waited for without a race, and interrupted at a known place."""

import os
import signal
import subprocess
import sys
import time

LIMIT = 1800.0  # Seconds. It ends a test that hangs, on a slow machine too, and decides nothing.


def end_of(process):
    """Waits for a process: (exit status, what it wrote to stdout, and to stderr)."""
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output, errors


def wait_until(condition, process=None):
    """Waits for `condition()`; fails if the process, which is to bring it about, has ended."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def kill_with_parent():
    """Kills the process that started this one, and this one."""
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def call_after_step(step, action, replace=setattr):
    """Has `action()` called after a step of training; `replace` is setattr, or that of a patch."""
    from segadv_jax.training_run import TrainingRun

    asked = TrainingRun.stop_requested

    def stop_requested(run, after):
        if after == step:
            action()
        return asked(run, after)

    replace(TrainingRun, "stop_requested", stop_requested)


def train_until_step(step, action):
    """Runs main.py as the command line says, and calls `action()` after a step of training."""
    from segadv_jax import cli

    call_after_step(step, action)
    cli.main(sys.argv[1:])
