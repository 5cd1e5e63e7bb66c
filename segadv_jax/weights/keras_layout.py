"""Where the arrays lie in a file of Keras's weights: a program that `keras.py` runs, with a path.

A damaged file can crash HDF5's library, or keep it busy for ever, or have it allocate what the file
claims. So the library runs in a process of its own, which has little memory and time and says only
where arrays lie; whoever started it reads them.

Prints a JSON object: {"layers": [[name, [[offset in bytes, shape, dtype], ...]], ...]}, a layer's
kernel first, or {"reason": why the file cannot be read}.
"""

import contextlib
import json
import resource
import sys
from typing import Any

import h5py

SECONDS, BYTES = 10, 2**31  # Of the processor, and of memory. A file takes a fraction of either.
_MOST = 2**24  # Characters that are printed.


def layers(file: h5py.File) -> list[tuple[str, list[Any]]]:
    """The layers that have arrays."""
    if file.userblock_size:
        raise ValueError("something else comes before its content")
    group = _member(file, "model_weights") if "model_weights" in file else file  # A whole model.
    found = []
    if "layer_names" in group.attrs:
        for name in map(_text, group.attrs["layer_names"]):
            layer = _member(group, name)
            arrays = [_member(layer, _text(array)) for array in layer.attrs["weight_names"]]
            found.append((name, arrays))
    elif "layers" in file:  # Keras 3 numbers the arrays and writes the layer's name beside them.
        every = _member(file, "layers")
        for name in every:
            arrays = _member(every, f"{name}/vars")
            numbered = [_member(arrays, number) for number in sorted(arrays, key=int)]
            found.append((_text(arrays.attrs.get("name", name)), numbered))
    return [(name, [_place(array) for array in arrays]) for name, arrays in found if arrays]


def _member(group: Any, path: str) -> Any:
    """What lies at a path in a group, which must not lead out of it."""
    for part in filter(None, path.split("/")):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{part} is not in the file itself")
        group = group[part]
    return group


def _place(array: h5py.Dataset) -> tuple[int, tuple[int, ...], str]:
    offset = array.id.get_offset()
    if offset is None:  # In pieces, compressed, in other files, or never written.
        raise ValueError(f"{array.name} is not stored in one piece")
    return offset, array.shape, array.dtype.str


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def describe(path: str) -> str:
    """The JSON object."""
    try:
        with h5py.File(path, "r") as file:
            said = json.dumps({"layers": layers(file)})
        if len(said) > _MOST:
            raise ValueError("it has too many layers")
        return said
    except Exception as error:  # h5py raises whatever its library meets.
        return json.dumps({"reason": (str(error) or type(error).__name__)[:300]})


if __name__ == "__main__":
    for limit, most in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, BYTES)):
        with contextlib.suppress(ValueError, OSError):  # Not every system knows every limit.
            resource.setrlimit(limit, (most, most + 1))  # The first is told by its own signal.
    print(describe(sys.argv[1]))
