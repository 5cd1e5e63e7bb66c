"""Reads the layers of a .caffemodel, a NetParameter of Caffe's caffe.proto, without Caffe."""

import math

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from segadv_jax.errors import InputError
from segadv_jax.weights import files

# The part of caffe.proto that is needed: (name, number, type) of each field, * where it repeats.
# Arrays are packed, which is bytes on the wire: declared as bytes, 100 million numbers are read
# without making a Python object of each.
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


def _compile(schema):
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
    pool = descriptor_pool.DescriptorPool()  # Not the one that all others share.
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffemodel.Net"))


_Net = _compile(_SCHEMA)


def read(path):
    """Reads the layers that have weights, of the old form of file as of the new.

    Returns:
        ({layer: (kernel, bias)}, names of the layers with dilated convolutions). Arrays are f32:
        a bias [O], a kernel [O,I,kh,kw] of a convolution and [O,I] of an inner product, [1,1,O,I]
        in old files.

    Raises:
        InputError: it is no caffemodel, or damaged, or has a layer of anything but kernel and bias.
    """
    files.check(path)
    net = _Net()
    try:
        with open(path, "rb") as file:
            net.ParseFromString(file.read())
    except (message.DecodeError, OSError) as error:
        raise files.damaged(path, "a caffemodel", error) from error
    layers, dilated, problems = {}, set(), []
    for layer in (*net.layers, *net.layer):
        name = layer.name.decode("utf-8", "replace")
        if not layer.blobs:  # It has no parameters: data, ReLU, pooling, ...
            continue
        if name in layers:
            problems.append(f"there are two layers {name}")
        if len(layer.blobs) != 2:
            problems.append(f"{name} has {len(layer.blobs)} arrays, not a kernel and a bias")
            continue
        try:
            kernel, bias = (_array(blob) for blob in layer.blobs)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        # A vector is 1x1x1xO in old files.
        layers[name] = kernel, bias.reshape(-1) if bias.size == bias.shape[-1] else bias
        if max(layer.convolution.dilation, default=1) > 1:
            dilated.add(name)
    if problems:
        raise files.damaged(path, "a caffemodel of convolutions", "; ".join(problems))
    if not layers:
        raise InputError(
            f"{path} has no layer with weights; give a trained .caffemodel, downloaded again"
        )
    return layers, dilated


def _array(blob):
    """The array of a blob; a ValueError if it has not as many values as its shape says."""
    shape = blob.num, blob.channels, blob.height, blob.width
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    values, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    values, dtype = b"".join(values), np.dtype(dtype)
    if not shape or min(shape) < 1 or len(values) != math.prod(shape) * dtype.itemsize:
        size = "x".join(map(str, shape)) or "no shape"
        raise ValueError(f"{len(values)} bytes of {dtype.name} are not an array of {size}")
    with np.errstate(over="ignore"):  # Infinity is reported by name later.
        return np.frombuffer(values, dtype).reshape(shape).astype(np.float32, copy=False)
