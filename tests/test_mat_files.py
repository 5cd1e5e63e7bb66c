"""MATLAB's files: read as SciPy reads them, unless they would crash it or fill the memory."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from segadv_jax.data import mat_files

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
SIDES, CELLS = struct.pack("<2i", 1, 1), struct.pack("<2I", 1, 0)
SIDES_2_27 = struct.pack("<2i", 2**14, 2**13)
SHORT = struct.pack("<2Hi", 5, 4, 2**27)  # A side within its element's tag.


def element(kind, content):
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(inner, sides=SIDES):
    return element(14, element(6, CELLS) + element(5, sides) + element(1, b"") + inner)


def packed(content):
    content = zlib.compress(content)
    return struct.pack("<2I", 15, len(content)) + content


@pytest.mark.parametrize("compressed", [True, False])
def test_what_scipy_writes_comes_back(compressed):
    label, file = np.arange(12, dtype=np.uint8).reshape(3, 4), io.BytesIO()
    content = {"GTcls": {"Segmentation": label, "Boundaries": [label, label], "name": "x"}}
    scipy.io.savemat(file, content, do_compression=compressed)
    found = mat_files.read(file.getvalue())["GTcls"]["Segmentation"][0, 0]
    np.testing.assert_array_equal(found, label)


def nested(depth):
    content = matrix(b"")
    for _ in range(depth):
        content = matrix(content)
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER + nested(50), "without end"),
        (HEADER + packed(nested(50)), "without end"),
        (HEADER + element(1, b"") * 200_000, "without end"),
        (HEADER + packed(bytes(2**25)), "larger than"),
        (HEADER + packed(element(1, bytes(2**23))) * 3, "larger than"),
        (HEADER + matrix(b"", struct.pack("<2i", 2**20, 2**11)), "more than .* values"),
        (HEADER + matrix(b"", struct.pack("<40i", *[1] * 40)), "more than .* values"),
        (HEADER + element(14, element(6, CELLS) + SHORT), "more than .* values"),
        (HEADER + element(14, element(5, CELLS) + element(6, SIDES_2_27)), "more than .* values"),
        # Flags of another size than SciPy takes them for, with sides that it would read.
        (HEADER + element(14, struct.pack("<2I", 6, 0) + CELLS + element(5, SIDES_2_27)), "flags"),
        (HEADER + element(14, struct.pack("<2HI", 6, 4, 0) + element(5, SIDES_2_27)), "flags"),
        (b"MATLAB 7.3" + HEADER[10:], "no file of MATLAB 5"),
        (b"", "no file of MATLAB 5"),
    ],
)
def test_what_is_too_much_is_refused_before_scipy_sees_it(content, reason, monkeypatch):
    monkeypatch.setattr(mat_files.scipy.io, "loadmat", lambda file: pytest.fail("it is read"))
    with pytest.raises(ValueError, match=reason):
        mat_files.read(content)
