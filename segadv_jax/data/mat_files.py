"""MATLAB's files, read by SciPy once it is known that they do it no harm.

SciPy follows arrays within arrays until its stack ends, and allocates what a file claims.
"""

import io
import math
import struct
import zlib
from typing import Any

import scipy.io

_COMPRESSED, _MATRIX = 15, 14  # Kinds of elements.
_MOST_BYTES, _MOST_VALUES = 2**24, 2**22  # Of a file decompressed; of an array.
_MOST_DEPTH, _MOST_ELEMENTS = 16, 100_000


def read(content: bytes) -> dict[str, Any]:
    """The variables in a file of MATLAB 5 to 7, as `scipy.io.loadmat` returns them.

    Raises:
        ValueError: it is no such file, or is larger or deeper than one of labels can be.
        Exception: whatever SciPy's parser meets.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if not content.startswith(b"MATLAB 5.0") or order is None:
        raise ValueError("it is no file of MATLAB 5")
    _check(memoryview(content)[128:], order, 0, [0, 0])
    return scipy.io.loadmat(io.BytesIO(content))


def _check(
    elements: memoryview, order: str, depth: int, seen: list[int], of_array: bool = False
) -> None:
    """Raises a ValueError if there is too much; `seen` are the elements and the bytes so far.

    The elements of an array begin with its flags and its sides, whatever kinds they say they are.
    Of the flags SciPy reads 16 bytes, tag and all, whatever their tag says.
    """
    place, number = 0, 0
    while place + 8 <= len(elements):
        kind, size = struct.unpack_from(f"{order}II", elements, place)
        seen[0] += 1
        if depth > _MOST_DEPTH or seen[0] > _MOST_ELEMENTS:
            raise ValueError("it has arrays within arrays without end")
        place += 8
        if kind >> 16:  # A few bytes, within the tag.
            body = elements[place - 4 : place][: kind >> 16]
        else:
            body = elements[place : place + size]
            place += size if kind == _COMPRESSED else -(-size // 8) * 8
        number += 1
        if of_array and number == 1 and (kind >> 16 or size != 8):
            raise ValueError("an array's flags are not of 8 bytes")
        if of_array and number == 2:
            sides = struct.unpack_from(f"{order}{len(body) // 4}i", body)
            if len(sides) > 32 or math.prod(sides) > _MOST_VALUES:
                raise ValueError(f"an array has more than {_MOST_VALUES} values")
        elif kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(body, _MOST_BYTES - seen[1] + 1)
            seen[1] += len(unpacked)
            if seen[1] > _MOST_BYTES:
                raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
            _check(memoryview(unpacked), order, depth + 1, seen)
        elif kind == _MATRIX:
            _check(body, order, depth + 1, seen, of_array=True)
