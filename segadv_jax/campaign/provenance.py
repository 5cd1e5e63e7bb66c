"""Where figures come from: the commit, the command and the machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def record(path: files.PathLike, program: str, processes: int, **settings: Any) -> None:
    """Adds to a JSON file how runs are made: commits, commands, machine, and the settings.

    Args:
        path: of the file, which is made if it is not there.
        program: the module that was started.
        processes: runs at a time.
        **settings: what else to record, as it is now.

    Raises:
        InputError: this is not a git checkout, or the file is damaged.
    """
    try:
        recorded = files.read_json(path, "restore it")
    except FileNotFoundError:
        recorded = {}
    recorded = {"commits": [], "commands": []} | recorded | settings
    for name, value in (("commits", commit()), ("commands", command(program))):
        if value not in recorded[name]:
            recorded[name].append(value)
    recorded["machine"] = machine() | {"processes": processes}
    files.write_json(path, recorded)


def machine() -> dict[str, Any]:
    """The processor, the CPU cores that this process may use, and the versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
    }


def commit() -> str:
    """The commit of the code, with a note if files differ from it."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if changed else "")


def command(program: str) -> str:
    """The command line that started this process, ready to be pasted."""
    return shlex.join(["python", "-m", program, *sys.argv[1:]])


def git(*arguments: str, cwd: files.PathLike = ROOT) -> str:
    """What a git command prints; raises an InputError if it fails."""
    result = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if result.returncode:
        raise InputError(f"git {arguments[0]}: {result.stderr.strip()}; run this in a git checkout")
    return result.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
