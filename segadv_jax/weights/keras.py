"""Reads the arrays in a file of Keras's weights, .h5 or .weights.h5."""

import json
import math
import mmap
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from segadv_jax.files import PathLike
from segadv_jax.weights import files

_LAYOUT = os.path.join(os.path.dirname(__file__), "keras_layout.py")
_SECONDS = 120
_DTYPES = ("<f2", "<f4", "<f8")
_MOST_DIMENSIONS = 32
_MOST_GROWTH = 4  # The arrays' bytes per byte of the file: halves are doubled, some are shared.
_WHAT, _ENDLESS = "a file of Keras's weights", "HDF5 finds no end of it"


def read(path: PathLike) -> dict[str, list[np.ndarray]]:
    """{layer: its arrays, kernel first, f32} of the layers that have any.

    Raises:
        InputError: the file is damaged, or has arrays that are not floating-point numbers stored
            in one piece, as Keras stores them.
    """
    said = _describe(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            return _arrays(said, held)
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise files.damaged(path, _WHAT, error) from error


def _describe(path: PathLike) -> str:
    """What `keras_layout.py` prints."""
    # Each thread of OpenBLAS would take of the little memory that there is.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    program = [sys.executable, "-P", _LAYOUT, os.fspath(path)]
    try:
        done = subprocess.run(
            program,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise files.damaged(path, _WHAT, _ENDLESS) from error
    if done.returncode == -signal.SIGXCPU:
        raise files.damaged(path, _WHAT, _ENDLESS)
    if done.returncode:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[-1]
        raise files.damaged(path, _WHAT, f"HDF5 stops at it with {ended}: {last}")
    return done.stdout.decode(errors="replace")


def _arrays(said: str, content: mmap.mmap | bytes) -> dict[str, list[np.ndarray]]:
    """The arrays that lie in `content` where it is said.

    Raises:
        ValueError: they do not.
    """
    described: dict[str, Any] = json.loads(said)
    if "reason" in described:
        raise ValueError(described["reason"])
    most, found = _MOST_GROWTH * len(content), dict[str, list[np.ndarray]]()
    for name, places in described["layers"]:
        if name in found:
            raise ValueError(f"there are two layers {name}")
        found[name] = []
        for offset, shape, dtype in places:
            if dtype not in _DTYPES:
                raise ValueError(f"{name} has numbers of another kind than float32")
            if len(shape) > _MOST_DIMENSIONS or min([offset, *shape]) < 0:
                raise ValueError(f"{name} has no shape")
            count, each = math.prod(shape), np.dtype(dtype).itemsize
            most -= 4 * count
            if offset + count * each > len(content) or most < 0:
                raise ValueError(f"{name} is larger than the file")
            values = np.frombuffer(content[offset : offset + count * each], dtype)
            with files.unwarned():
                found[name].append(np.array(values.reshape(shape), np.float32))
    return found
