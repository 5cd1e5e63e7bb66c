"""Reads the layers of a .caffemodel, a NetParameter of Caffe's caffe.proto, without Caffe."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from segadv_jax.files import PathLike
from segadv_jax.weights import files
from segadv_jax.weights.files import Flat

# The part of caffe.proto that is needed: (name, number, type) of each field, * where it repeats.
# Arrays are packed, so they are bytes in the file. They are declared as bytes here: otherwise each
# of 100 million numbers would become a Python object.
_SCHEMA = {
    "Shape": (("dim", 1, "int64*"),),
    "Blob": (
        ("num", 1, "int64"),
        ("channels", 2, "int64"),
        ("height", 3, "int64"),
        ("width", 4, "int64"),
        ("data", 5, "bytes*"),
        ("shape", 7, "Shape"),
        ("double_data", 8, "bytes*"),
    ),
    "Convolution": (("dilation", 18, "uint32*"),),
    "OldLayer": (("name", 4, "bytes"), ("blobs", 6, "Blob*"), ("convolution", 10, "Convolution")),
    "Layer": (("name", 1, "bytes"), ("blobs", 7, "Blob*"), ("convolution", 106, "Convolution")),
    "Net": (("layers", 2, "OldLayer*"), ("layer", 100, "Layer*")),
}


def _compile(schema: Mapping[str, tuple]) -> Any:
    """The class of the message "Net"."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffemodel.proto", package="caffemodel")
    for name, fields in schema.items():
        added = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            kind, star, _ = kind.partition("*")
            label = field.LABEL_REPEATED if star else field.LABEL_OPTIONAL
            new = added.field.add(name=field_name, number=number, label=label)
            if kind in schema:
                new.type, new.type_name = field.TYPE_MESSAGE, f".caffemodel.{kind}"
            else:
                new.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()  # Not the pool that all programs share.
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffemodel.Net"))


_Net = _compile(_SCHEMA)
# A file may ask for a message of hundreds of bytes with two of its own. Real ones have thousands.
_MOST_FIELDS = 100_000
_MOST_DIMENSIONS = 32


def read(path: PathLike) -> tuple[Flat, bool]:
    """The parameters, from the old or the new form of file, and whether any layer is dilated.

    Kernels of convolutions are f32[O,I,kh,kw], those of inner products [O,I], or [1,1,O,I] in old
    files.

    Raises:
        InputError: the file is not a caffemodel, is damaged, or has a layer whose arrays are not a
            kernel and a bias.
    """
    net = _Net()
    try:
        with open(path, "rb") as file:
            content = file.read()
        if _count_fields(memoryview(content)) > _MOST_FIELDS:
            raise message.DecodeError(f"it has more than {_MOST_FIELDS:,} fields")
        net.ParseFromString(content)
    except (message.DecodeError, OSError) as error:
        raise files.damaged(path, "a caffemodel", error) from error
    flat: Flat = {}
    dilated, problems = False, []
    for layer in (*net.layers, *net.layer):
        if not layer.blobs:  # It has no parameters: data, ReLU, pooling, ...
            continue
        name = files.shown(layer.name.decode("utf-8", "replace"))
        if f"{name}/kernel" in flat:
            problems.append(f"there are two layers {name}")
        if len(layer.blobs) != 2:
            problems.append(f"{name} has {len(layer.blobs)} arrays, not a kernel and a bias")
            continue
        try:
            kernel, bias = map(_array, layer.blobs)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        # A vector is 1x1x1xO in old files.
        bias = bias.reshape(-1) if bias.size == bias.shape[-1] else bias
        flat[f"{name}/kernel"], flat[f"{name}/bias"] = kernel, bias
        dilated |= max(layer.convolution.dilation, default=1) > 1
    if not flat and not problems:
        problems.append("it has no layer with weights")
    if problems:
        raise files.damaged(path, "a caffemodel of convolutions", "; ".join(problems))
    return flat, dilated


def _array(blob: Any) -> np.ndarray:
    """The array of a blob; a ValueError if it has more or fewer values than its shape says."""
    shape = blob.num, blob.channels, blob.height, blob.width
    if blob.HasField("shape"):
        if len(blob.shape.dim) > _MOST_DIMENSIONS:
            raise ValueError(f"an array of {len(blob.shape.dim)} dimensions")
        shape = tuple(blob.shape.dim)
    parts, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    values, kind = b"".join(parts), np.dtype(dtype)
    if not shape or min(shape) < 1 or len(values) != math.prod(shape) * kind.itemsize:
        size = "x".join(map(str, shape)) or "no shape"
        raise ValueError(f"{len(values)} bytes of {kind.name} are not an array of {size}")
    with files.unwarned():
        return np.frombuffer(values, kind).reshape(shape).astype(np.float32, copy=False)


def _count_fields(content: memoryview, kind: str = "Net") -> int:
    """The fields of a message and of those in it, at least as many as are decoded.

    Of many it stops above `_MOST_FIELDS`. What is damaged is left to the decoder.
    """
    inner = {number: name.rstrip("*") for _, number, name in _SCHEMA[kind]}
    count = place = 0
    while place < len(content) and count <= _MOST_FIELDS:
        key, place = _varint(content, place)
        number, wire = (key & 0xFFFFFFFF) >> 3, key & 7
        count += 1
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire in (0, 2):
            value, place = _varint(content, place)
            size = value if wire == 2 else 0
            if wire == 2 and inner.get(number) in _SCHEMA:
                count += _count_fields(content[place : place + size], inner[number])
        place += size
    return count


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """A number of the wire format, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            break
        byte, place = content[place], place + 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value, place
