"""Where figures come from: the commit, the command and the machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import runs
from segadv_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def record(path: files.PathLike, program: str, processes: int, **settings: Any) -> None:
    """Adds to a JSON file how runs are made: commits, commands, machine, and the settings.

    `program` is the module that was started, `processes` are the runs at a time. Raises an
    InputError if this is not a git checkout, or if the file is damaged.
    """
    before = files.read_json(path, "restore it") if os.path.exists(path) else {}
    recorded: dict[str, Any] = {"commits": [], "commands": []} | before | settings
    for name, value in (("commits", commit()), ("commands", command(program))):
        recorded[name] = joined(recorded[name], [value])
    this = machine(processes)
    recorded["machines"] = joined(machines(recorded), [this])
    recorded["machine"] = this
    files.write_json(path, recorded)


def machine(processes: int) -> dict[str, Any]:
    """This machine, on which so many runs are made at a time."""
    return {
        "processor": _processor(),
        "cores": len(runs.free_cores()) or os.cpu_count(),
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
        "processes": processes,
    }


def described(machines: Iterable[Mapping[str, Any]]) -> str:
    """ "AMD EPYC, 2 cores, 2 runs at a time, Python 3.11.7, jax 0.10.2; ..."."""
    return "; ".join(
        f"{each['processor']}, {_counted(each['cores'], 'core')}, "
        f"{_counted(each['processes'], 'run')} at a time, Python {each['python']}, "
        f"jax {each['jax']}"
        for each in machines
    )


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def machines(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All machines of what `record` wrote; older versions recorded the last one alone."""
    last = [recorded["machine"]] if "machine" in recorded else []
    return recorded.get("machines", last)


def joined(before: Iterable[Any], more: Iterable[Any]) -> list[Any]:
    """Both without what comes twice, in order."""
    result: list[Any] = []
    for each in (*before, *more):
        if each not in result:
            result.append(each)
    return result


def add(path: Path, how: Mapping[str, Any]) -> None:
    """Adds to a JSON file what `record` wrote elsewhere; raises an InputError if it is damaged."""
    before = files.read_json(path, "restore it") if path.exists() else {}
    for name in ("commits", "commands"):
        how = {**how, name: joined(before.get(name, []), how[name])}
    files.write_json(path, {**how, "machines": joined(machines(before), machines(how))})


def commit() -> str:
    """The commit of the code, with a note if it differs from it or has files beside it."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    changed += git("status", "--porcelain", "--", "segadv_jax", "configs", "tools", "main.py")
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


def check_committed(path: Path) -> None:
    """Raises an InputError if a file is not committed as it is."""
    known = git("ls-files", "--", path.name, cwd=path.parent)
    changed = git("status", "--porcelain", "--", path.name, cwd=path.parent)
    if changed or not known:
        raise InputError(f"{path} is not committed; commit it before the test images are read")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
