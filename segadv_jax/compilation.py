"""What JAX has compiled, kept in a folder for the next process that needs the same program.

JAX finds a program by all that it depends on: itself, the versions of JAX's library and of the
platform, XLA's flags, the kind and the number of devices, on CPUs with their instruction sets. So
machines that share a folder do not take each other's programs. On GPUs what XLA has found out by
trying its kernels (autotuning) is kept beside them, which is JAX's default.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import jax
from absl import logging
from jax.experimental.compilation_cache import compilation_cache

NONE = "none"
# The programs that were not used for longest go where there are more bytes. Those of a run of
# Dilated-8 on a CPU take some ten MB.
LIMIT = 2 * 2**30
_LEAST = 0.1  # Seconds: what compiles faster is not kept.
_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_SIZE = "jax_compilation_cache_max_size"


def keep(folder: str = "") -> None:
    """Keeps what this process compiles from now on, and takes from there what was kept.

    A folder that cannot be used is no error: a warning says so, and nothing is kept.

    Args:
        folder: where; "": JAX_COMPILATION_CACHE_DIR, which is JAX's own and leaves all to it, or if
            that is not set segadv_jax/compiled in the user's cache folder; "none": nowhere.
    """
    if folder == NONE:
        _use(None)
    elif not folder and os.environ.get(_VARIABLE):
        _use(os.environ[_VARIABLE])
    elif "://" in folder:  # A bucket: it has no locks, without which its size has no limit.
        _use(folder)
    else:
        try:
            path = Path(folder).expanduser() if folder else _users()
            path.mkdir(parents=True, exist_ok=True)
            _mend(path)
        except (OSError, RuntimeError, NotImplementedError) as error:
            logging.warning(
                "what is compiled cannot be kept (%s): set config.compilation_cache, or the "
                "variable %s, to a folder that can be written; or the field to none",
                error,
                _VARIABLE,
            )
            _use(None)
            return
        jax.config.update(_SIZE, LIMIT)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST)
        _use(str(path))


@contextlib.contextmanager
def shared(folder: str) -> Iterator[None]:
    """Within, a folder is shared with processes that have it as JAX_COMPILATION_CACHE_DIR.

    These do not limit its size and do not note when a program was used; a process that does would
    fail at each program of theirs.
    """
    before = jax.config.values["jax_compilation_cache_dir"], jax.config.values[_SIZE]
    jax.config.update(_SIZE, -1)
    _use(folder)
    try:
        yield
    finally:
        jax.config.update(_SIZE, before[1])
        _use(before[0])


def _users() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "segadv_jax" / "compiled"


def _mend(path: Path) -> None:
    """Tries the folder; removes what a process was writing when it was killed.

    JAX writes a program, then when it was used: without that it would fail at each later one.
    """
    with filelock.FileLock(path / ".lockfile", timeout=10), tempfile.TemporaryFile(dir=path):
        for program in path.glob("*-cache"):
            if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
                program.unlink()


def _use(folder: str | None) -> None:
    if jax.config.values["jax_compilation_cache_dir"] != folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()  # JAX looks at the setting but once.
