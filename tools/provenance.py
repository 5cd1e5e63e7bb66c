"""Where figures come from: the commit, the command and the machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from segadv_jax.errors import InputError
from tools import results_files

ROOT = Path(__file__).resolve().parents[1]


def record(path, program, processes, **settings):
    """Adds to a JSON file how runs are made: commits, commands, machine, and the settings.

    Args:
        path: of the file, which is made if it is not there.
        program: the module that was started.
        processes: runs at a time.
        **settings: what else to record, as it is now.

    Raises:
        InputError: this is no git checkout, or the file is damaged.
    """
    recorded = results_files.read_json(path) if Path(path).exists() else {}
    recorded = {"commits": [], "commands": []} | recorded | settings
    for name, value in (("commits", commit()), ("commands", command(program))):
        if value not in recorded[name]:
            recorded[name].append(value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    recorded["machine"] = {
        "processor": _processor(),
        "cores": cores,
        "processes": processes,
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
    }
    results_files.write_json(path, recorded)


def commit():
    """The commit of the code, with a note if files differ from it."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if changed else "")


def command(program):
    """The command line, ready to be pasted."""
    return shlex.join(["python", "-m", program, *sys.argv[1:]])


def git(*arguments, cwd=ROOT):
    result = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if result.returncode:
        raise InputError(f"git {arguments[0]}: {result.stderr.strip()}; run this in a git checkout")
    return result.stdout.strip()


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
