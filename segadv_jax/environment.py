"""With what a run is trained: the command, the versions of libraries, the devices, the commit."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

PACKAGES = (
    *("segadv_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("tensorflow", "tensorflow-cpu"),
)
_ROOT = Path(__file__).resolve().parents[1]


def describe() -> dict[str, Any]:
    """{"command", "started", "python", "system", "packages", "processes", "devices",
    "commit"}, for JSON.

    "packages" are {name: version} of those of `PACKAGES` that are installed; "commit" is None if
    the package does not lie in a git checkout of its own.
    """
    versions = {name: _version(name) for name in PACKAGES}
    kinds = [device.device_kind for device in jax.devices()]
    return {
        "command": command(),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "packages": {name: version for name, version in versions.items() if version},
        "processes": jax.process_count(),
        "devices": [f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)],
        "commit": _commit(),
    }


def command() -> str:
    """The command line of this process, ready to be pasted."""
    program, *arguments = sys.argv
    name = os.path.basename(program)
    start = [name] if name == "segadv_jax" else ["python", program]
    if name == "__main__.py":
        start = ["python", "-m", os.path.basename(os.path.dirname(program))]
    return shlex.join([*start, *arguments])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    if not (_ROOT / ".git").exists():  # Installed: any checkout around it is another project's.
        return None
    try:
        found = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return found + (" with uncommitted changes" if changed else "")


def _git(*arguments):
    done = subprocess.run(
        ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
