"""Reads the state dict in a file of PyTorch without PyTorch, and without running anything in it.

Such a file is a pickle, which is a list of instructions, and the values of tensors. There are two
forms: the ZIP archive that `torch.save` writes since 2020, and the pickles in a row from before.
What the instructions may do is up to `torch_pickle.py`.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.weights import files
from segadv_jax.weights.files import Flat, shown, unwarned
from segadv_jax.weights.torch_pickle import STORAGES, Damaged, Foreign, Storage, Tensor, run

_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # The number in the first pickle of the old form;
_VERSION = 1001  # that in the second.
_FLOATING = {f"torch.{name}Storage" for name in ("Float", "Double", "Half", "BFloat16")}
_MOST_MEMBERS = 65_536
_MOST_GROWTH = 4  # The tensors' bytes per byte of the file: halves are doubled, some are shared.
_OF_ZIPFILE = ValueError, EOFError, OSError, OverflowError, NotImplementedError
_ALONE = "save the tensors alone: torch.save(model.state_dict(), PATH)"


def read(path: PathLike) -> Flat:
    """The floating-point tensors of a state dict as float32, in their order.

    Tensors of integers, which count batches, are left out. A dictionary that holds the state dict
    as "state_dict" or "model", as training programs write it, is as good.

    Raises:
        InputError: the file is damaged, not of PyTorch, or holds anything but a state dict.
    """
    content = Path(path).read_bytes()
    try:
        if content.startswith(b"PK\x03\x04"):
            state, storages = _read_archive(content)
        elif content.startswith(b"\x80") and _MAGIC in content[:32]:
            state, storages = _read_pickles(content)
        else:
            raise Damaged("it begins as no file of torch.save does")
        return _arrays(_tensors(state), storages, _MOST_GROWTH * len(content))
    except Foreign as error:
        raise InputError(f"{path} is not a state dict of PyTorch: {error}; {_ALONE}") from error
    except Damaged as error:
        raise files.damaged(path, "a state dict of PyTorch", error) from error


def _read_archive(content: bytes) -> tuple[Any, dict[str, memoryview]]:
    """The object in a ZIP archive, and the bytes of the storages in it by their key."""
    members = _members(content)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Foreign("it is another ZIP archive, without data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise Foreign("its numbers are not little-endian")
    prefix = f"{folder}data/"
    storages = {
        name.removeprefix(prefix): data for name, data in members.items() if name.startswith(prefix)
    }
    return run(io.BytesIO(members[pickles[0]])), storages


def _members(content: bytes) -> dict[str, memoryview]:
    """The files in a ZIP archive, none of them compressed, as parts of `content`."""
    if content.count(b"PK\x01\x02") > _MOST_MEMBERS:
        raise Foreign(f"it is a ZIP archive of more than {_MOST_MEMBERS} files")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        if any(
            entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries
        ):
            raise Foreign("it is a compressed or encrypted ZIP archive")
        if sum(entry.file_size for entry in entries) > len(content):
            raise Damaged("its parts are larger than the whole")
        members = {}
        for entry in entries:
            start = entry.header_offset + 30  # The lengths of a name and of a comment end there.
            start += sum(struct.unpack_from("<HH", content, start - 4))
            data = memoryview(content)[start : start + entry.file_size]
            if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
                raise Damaged(f"the checksum of {shown(entry.filename)} is wrong")
            members[entry.filename] = data
        return members
    except (zipfile.BadZipFile, struct.error, *_OF_ZIPFILE) as error:
        raise Damaged(error) from error


def _read_pickles(content: bytes) -> tuple[Any, dict[str, memoryview]]:
    """The same of the form before 2020."""
    file = io.BytesIO(content)
    _, version, system = run(file), run(file), run(file)
    if type(version) is not int or version != _VERSION:
        raise Foreign("it is of an unknown version")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise Foreign("its numbers are not little-endian")
    known: dict[str, Storage] = {}
    state, keys = run(file, known), run(file)
    storages, end = {}, file.tell()
    for key in keys if type(keys) is list else [None]:
        if type(key) is not str or key not in known or key in storages:
            raise Damaged("its list of storages is not that of its tensors")
        storage = known[key]
        start = end + 8
        end = start + storage.size * np.dtype(STORAGES[storage.kind]).itemsize
        if end > len(content):
            raise Damaged(f"it ends within the storage {shown(key)}")
        if struct.unpack_from("<q", content, start - 8) != (storage.size,):
            raise Damaged(f"the storage {shown(key)} is of another size than its tensor's")
        storages[key] = memoryview(content)[start:end]
    return state, storages


def _tensors(state: Any) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict, or of that which a dictionary holds."""
    if type(state) is not dict:
        raise Foreign("it holds no dictionary of tensors")
    for name in ("state_dict", "model"):
        if type(state.get(name)) is dict:
            state = state[name]
            break
    others = [name for name, value in state.items() if type(value) is not Tensor]
    if others:
        names = ", ".join(shown(str(name)) for name in others[:5])
        raise Foreign(f"it holds {names}{', ...' if len(others) > 5 else ''} besides tensors")
    for name in state:
        if type(name) is not str or name != shown(name):
            raise Damaged(f"{shown(str(name))} is no name of a tensor")
    found = {name: value for name, value in state.items() if value.storage.kind in _FLOATING}
    if not found:
        raise Foreign("it holds no floating-point tensor")
    return found


def _arrays(tensors: Mapping[str, Tensor], storages: Mapping[str, memoryview], most: int) -> Flat:
    """The values of tensors, which take at most so many bytes."""
    flat: Flat = {}
    for name, tensor in tensors.items():
        flat[name] = _array(name, tensor, storages.get(tensor.storage.key))
        most -= flat[name].nbytes
        if most < 0:
            raise Damaged("its tensors are larger than its storages")
    return flat


def _array(name: str, tensor: Tensor, data: memoryview | None) -> np.ndarray:
    """The values of a tensor, whose dimensions may lie in any order in its storage."""
    kind, count = tensor.storage.kind, tensor.storage.size
    dtype = np.dtype(STORAGES[kind])
    if data is None or len(data) != count * dtype.itemsize:
        raise Damaged(f"the values of {name} are not all there")
    size, values = tensor.size, math.prod(tensor.size)
    order = sorted(range(len(size)), key=lambda axis: (-tensor.stride[axis], -size[axis]))
    step = 1
    for axis in reversed(order):
        if size[axis] < 1 or size[axis] > 1 and tensor.stride[axis] != step:
            raise Damaged(f"{name} has no values or not each of its own")
        step *= size[axis]
    if not 0 <= tensor.offset <= count - values:
        raise Damaged(f"{name} is not within its storage")
    array = np.frombuffer(data, dtype, values, tensor.offset * dtype.itemsize)
    if "BFloat16" in kind:  # The upper half of a float32.
        array = (array.astype("<u4") << 16).view("<f4")
    array = array.reshape([size[axis] for axis in order]).transpose(np.argsort(order))
    with unwarned():
        return np.array(array, np.float32, order="C")
