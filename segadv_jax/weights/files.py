"""Files of weights: which of them are read at all, and our own safetensors.

Inside this package the parameters of a network are a flat dict {"layer/kernel": array}.
"""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util
from safetensors import SafetensorError, safe_open

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike, replacing

Flat = dict[str, np.ndarray]
Shape = tuple[int | None, ...]  # None: any size.

FORMAT = "segadv_jax"
TORCH = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin")  # Suffixes of PyTorch's files.
_WIDER = {"F16", "F32", "F64"}


def check(path: PathLike) -> None:
    """Raises an InputError unless `path` is a file that is not empty."""
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file of weights")
    if not os.path.isfile(path):
        raise InputError(f"{path}: there is no such file; check the path, or download it")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it; change its permissions")
    if not os.path.getsize(path):
        raise InputError(f"{path} is empty; download or copy it again")


def damaged(path: PathLike, what: str, reason: object) -> InputError:
    """The InputError about a file that is not `what` its name says, such as "a caffemodel"."""
    with open(path, "rb") as file:
        start = file.read(4)
    # PyTorch writes a ZIP archive with a pickle; older versions wrote a bare pickle.
    pickled = start == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")
    if pickled and os.path.splitext(path)[1].lower() not in TORCH:
        return InputError(
            f"{path} is a pickle or a ZIP archive, not {what}; if PyTorch wrote it, name it .pth: "
            "its tensors are read without running the programs that a pickle may hold"
        )
    reason = shown(" ".join(str(reason)[:300].split()), 300)
    return InputError(f"{path} is damaged or not {what} ({reason}); download or copy it again")


def unwarned() -> np.errstate:
    """Lets numbers become infinite or NaN without a warning: they are reported by name later."""
    return np.errstate(over="ignore", invalid="ignore")


def shown(text: str, most: int = 200) -> str:
    """At most so many characters of a text of a file, on one line, that any terminal can show."""
    return text[:most] if text[:most].isprintable() else ascii(text[:most])


def listed(names: Iterable[str], most: int = 100) -> str:
    """Names of a file, of many the first."""
    first = list(itertools.islice(names, most + 1))
    more = ", ..." if len(first) > most else ""
    return ", ".join(map(shown, first[:most])) + more


def layers(flat: Flat) -> list[str]:
    """The names of the layers, in the order of the file."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in flat))


def mismatches(flat: Flat, expected: Mapping[str, Shape]) -> list[str]:
    """What is missing, unknown or of another shape, as lines."""
    missing = [name for name in expected if name not in flat]
    extra = sorted(flat.keys() - expected.keys())
    lines = [f"missing {', '.join(missing)}"] if missing else []
    lines += [f"not of this network: {listed(extra)}"] if extra else []
    for name, shape in expected.items():
        if name not in flat:
            continue
        found = flat[name].shape
        fits = [side in (None, other) for side, other in zip(shape, found, strict=False)]
        if len(found) != len(shape) or not all(fits):
            lines.append(f"{name} is {_text(found)}, not {_text(shape)}")
    return lines


def _text(shape: Shape) -> str:
    return "x".join("?" if side is None else str(side) for side in shape) or "a single number"


@contextlib.contextmanager
def _opened(path: PathLike) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise damaged(path, "a safetensors file", error) from error


def read_tensors(path: PathLike) -> tuple[Flat, dict[str, str]]:
    """The tensors of a safetensors file, as float32, and what it says about itself.

    Raises:
        InputError: the file is damaged, or a tensor is not F16, F32 or F64.
    """
    with _opened(path) as file:
        names = list(file.keys())
        dtypes = {name: file.get_slice(name).get_dtype() for name in names}
        other = [f"{name} is {dtype}" for name, dtype in dtypes.items() if dtype not in _WIDER]
        if other:
            raise InputError(f"{path}: {listed(other)}; save it as float32")
        with unwarned():
            tensors = {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
        return tensors, file.metadata() or {}


def metadata(path: PathLike) -> dict[str, str]:
    """What a safetensors file says about itself; empty for any other file."""
    if os.path.splitext(path)[1].lower() != ".safetensors":
        return {}
    with _opened(path) as file:
        return file.metadata() or {}


def save(
    path: PathLike, params: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a tree of parameters as safetensors, the whole file or nothing.

    They are float32 under names such as "trunk/conv1/kernel"; `metadata` is stored beside
    {"format": "segadv_jax"}.

    Raises:
        InputError: the file cannot be written.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    tensors = {name: np.ascontiguousarray(x, np.float32) for name, x in flat.items()}
    about = {"format": FORMAT, **(metadata or {})}
    try:
        with replacing(path, "wb") as file:
            file.write(safetensors.numpy.save(tensors, about))
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be written ({reason}); choose another place") from error
