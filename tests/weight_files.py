"""Files of weights as other programs write them, encoded by hand."""

import io
import struct
import zipfile

import numpy as np

CONVOLUTIONS = {"conv1": 2, "conv2": 2, "conv3": 3, "conv4": 3, "conv5": 3}
CONTEXT = ("ct_conv1_1", "ct_conv1_2", "ct_conv2_1", "ct_conv3_1", "ct_conv4_1", "ct_conv5_1")
CONTEXT += ("ct_fc1",)
WIDTHS = {"conv1": 4, "conv2": 5, "conv3": 6, "conv4": 7, "conv5": 8, "fc6": 9, "fc7": 10}
WIDTHS |= {"ct_conv1": 6, "ct_conv2": 7, "ct_conv3": 8, "ct_conv4": 9, "ct_conv5": 10, "ct_fc1": 11}
SIDES = {"fc6": 7, "fc7": 1, "final": 1, "ct_final": 1}
DILATIONS = {"conv5": 2, "fc6": 4, "ct_conv2": 2, "ct_conv3": 4, "ct_conv4": 8, "ct_conv5": 16}
FRONT_END = [f"{n}_{i + 1}" for n, count in CONVOLUTIONS.items() for i in range(count)]
FRONT_END += ["fc6", "fc7"]
DILATED8 = [*FRONT_END, "final", *CONTEXT, "ct_final"]


def group(name):
    """conv1_2 -> conv1, fc6 -> fc6."""
    return name if name.startswith("fc") or "final" in name or name == "ct_fc1" else name[:-2]


def random_layers(names, classes=3, seed=0, widths=WIDTHS):
    """{name: (kernel f32[O,I,kh,kw], bias f32[O])}, scaled to keep the size of activations."""
    rng, layers, inputs = np.random.default_rng(seed), {}, 3
    for name in names:
        outputs, side = widths.get(group(name), classes), SIDES.get(name, 3)
        scale = np.sqrt(2 / (inputs * side**2))
        kernel = scale * rng.standard_normal((outputs, inputs, side, side))
        bias = 0.1 * rng.standard_normal(outputs)
        layers[name], inputs = (kernel.astype("f4"), bias.astype("f4")), outputs
    return layers


def ours(layers):
    """The tree of {name: (kernel [O,I,kh,kw], bias)}; the input's colours stay as they are."""
    return {
        name: {"kernel": np.einsum("oihw->hwio", kernel), "bias": bias}
        for name, (kernel, bias) in layers.items()
    }


def same(a, b):
    """Asserts that two trees are equal, and `a` is f32."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, dict):
            same(value, b[name])
        else:
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, b[name])


def convolve(x, kernel, bias, pad=0, dilation=1):
    """[C,H,W] with [O,I,kh,kw], as Caffe and PyTorch define it."""
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad)])
    rows, columns = np.array(x.shape[1:]) - dilation * (np.array(kernel.shape[2:]) - 1)
    out = bias[:, None, None].astype("f8")
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            y, z = i * dilation, j * dilation
            shifted = x[:, y : y + rows, z : z + columns]
            out = out + np.tensordot(kernel[:, :, i, j].astype("f8"), shifted, 1)
    return out


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    """A field of the wire format: an int as a varint, bytes and text with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def floats(array):
    return struct.pack(f"<{array.size}f", *array.ravel().tolist())


def blob(array, form="shape"):
    """A BlobProto: "shape" is the form since 2015, "legacy" the one before, "double" has f64."""
    if form == "legacy":
        sizes = (1,) * (4 - array.ndim) + array.shape
        dims = b"".join(field(i + 1, size) for i, size in enumerate(sizes))
        return dims + field(5, floats(array))
    shape = field(7, field(1, b"".join(map(varint, array.shape))))
    if form == "double":
        return field(8, struct.pack(f"<{array.size}d", *array.ravel().tolist())) + shape
    return field(5, floats(array)) + shape


def new_layer(name, kind, blobs=(), form="shape", dilation=1):
    """A LayerParameter, with the other fields that Caffe writes."""
    content = field(1, name) + field(2, kind) + field(3, "below") + field(4, name)
    if blobs:
        content += b"".join(field(7, blob(array, form)) for array in blobs)
        content += field(6, b"\x0d" + struct.pack("<f", 1)) + field(10, 0)
        convolution = field(1, len(blobs[1])) + field(4, 3)
        content += field(106, convolution + (field(18, dilation) if dilation > 1 else b""))
    return field(100, content)


V1_TYPES = {"Convolution": 4, "ReLU": 18, "Pooling": 17, "InnerProduct": 14, "Dropout": 6}
V1_TYPES |= {"Softmax": 20}


def old_layer(name, kind, blobs=(), form="legacy", dilation=1):
    """A V1LayerParameter."""
    content = field(2, "below") + field(3, name) + field(4, name) + field(5, V1_TYPES[kind])
    content += b"".join(field(6, blob(array, form)) for array in blobs)
    if blobs:
        content += b"\x3d" + struct.pack("<f", 1) + b"\x3d" + struct.pack("<f", 2)  # blobs_lr
        content += field(10, field(1, len(blobs[1])))
    return field(2, content)


def parts_of_a_net(layers, layer=new_layer, form="shape", last="ct_final", dilated=True):
    """The top-level fields of a NetParameter: `layers`, and layers without weights."""
    parts = [field(1, "net"), field(3, "data"), field(8, field(1, bytes([1, 3, 90, 90])))]
    if layer is old_layer:
        parts[2:] = [field(4, size) for size in (10, 3, 224, 224)]
    for name, (kernel, bias) in layers.items():
        kind = "Convolution" if kernel.ndim == 4 else "InnerProduct"
        dilation = DILATIONS.get(group(name), 1) if dilated else 1
        parts.append(layer(name, kind, (kernel, bias), form, dilation))
        tail = name.removeprefix("ct_").removeprefix("ctx_").lstrip("convf")
        if name != last and "final" not in name:
            parts.append(layer(f"relu{tail}", "ReLU"))
        if name in ("conv1_2", "conv2_2", "conv3_3"):
            parts.append(layer(f"pool{tail[0]}", "Pooling"))
        if name in ("fc6", "fc7"):
            parts.append(layer(f"drop{tail}", "Dropout"))
    return [*parts, layer("prob", "Softmax")]


def released(layers):
    """`layers` under the names of the released Dilated-8."""
    return {"fc-final" if name == "final" else name: value for name, value in layers.items()}


def write_dilated8(path, layers):
    """The released file with these layers."""
    path.write_bytes(b"".join(parts_of_a_net(released(layers))))
    return path


def vgg_classifier(layers, flatten=True):
    """{name: (kernel, bias)} of a Caffe classifier: the front end, as matrices, and fc8."""
    rng = np.random.default_rng(1)
    last = rng.standard_normal((5, len(layers["fc7"][1]), 1, 1)).astype("f4")
    layers = layers | {"fc8": (last, np.zeros(5, "f4"))}
    if flatten:
        for name in ("fc6", "fc7", "fc8"):
            kernel, bias = layers[name]
            layers[name] = kernel.reshape(len(kernel), -1), bias
    return layers


def write_vgg(path, layers):
    """A file like the published classifier."""
    net = parts_of_a_net(vgg_classifier(layers), old_layer, "legacy", "fc8", dilated=False)
    path.write_bytes(b"".join(net))
    return path


# What torch.save writes: instructions of a pickle, and the values of tensors.
TORCH_KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u1": "Byte"}


def text(value):
    value = value.encode()
    return b"X" + struct.pack("<I", len(value)) + value


def number(value):
    return b"J" + struct.pack("<i", value)


def items(*values):
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def named(module, name):
    """A class or function."""
    return f"c{module}\n{name}\n".encode()


EMPTY = named("collections", "OrderedDict") + b")R"


def torch_storage(key, kind, size, legacy=False):
    fields = text("storage"), named("torch", f"{kind}Storage"), text(key), text("cpu")
    return items(*fields, number(size), *([b"N"] if legacy else [])) + b"Q"


def torch_tensor(storage, size, stride=None, offset=0):
    """A tensor in a `storage`; by default its last dimension is the quickest."""
    if stride is None:
        stride = [int(np.prod(size[i + 1 :])) for i in range(len(size))]
    places = items(*map(number, size)), items(*map(number, stride))
    fields = items(storage, number(offset), *places, b"\x89", EMPTY)
    return named("torch._utils", "_rebuild_tensor_v2") + fields + b"R"


def torch_dict(entries):
    """A state dict of encoded values, with the versions of its modules."""
    content = b"".join(text(name) + value for name, value in entries.items())
    return EMPTY + b"(" + content + b"u" + b"}" + text("_metadata") + EMPTY + b"sb"


def pickled(body):
    return b"\x80\x02" + body + b"."


def torch_legacy(body, storages):
    """The form before 2020; `storages` are arrays by their keys."""
    system = b"}(" + text("protocol_version") + number(1001) + text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    magic = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
    head = b"".join(map(pickled, (magic, number(1001), system, body, keys)))
    values = (struct.pack("<q", x.size) + x.tobytes() for x in storages.values())
    return head + b"".join(values)


def torch_archive(body, storages, order=b"little", method=zipfile.ZIP_STORED):
    """The form since then."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled(body))
        archive.writestr("archive/byteorder", order)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


TORCH_FORMS = {"legacy": torch_legacy, "archive": torch_archive}


def torch_file(arrays, form="archive"):
    """A state dict of these arrays, each with a storage of its own."""
    # No key is another one with a bit flipped.
    storages = {f"{i}:{name}": array for i, (name, array) in enumerate(arrays.items())}
    tensors = {}
    for key, array in storages.items():
        kind = TORCH_KINDS[array.dtype.str[1:]]
        storage = torch_storage(key, kind, array.size, form == "legacy")
        tensors[key.partition(":")[2]] = torch_tensor(storage, array.shape)
    return TORCH_FORMS[form](torch_dict(tensors), storages)


LITE0 = ((1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 3, 3), (6, 112, 3, 5))
LITE0 += ((6, 192, 4, 5), (6, 320, 1, 3))  # (expansion, maps, repeats, kernel) of each stage.


def efficientnet_classifier(seed=0):
    """The arrays of an EfficientNet-Lite0 classifier in PyTorch, drawn by chance."""
    rng, arrays = np.random.default_rng(seed), {}

    def add(layer, norm, *shape):
        kernel = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        arrays[f"{layer}.weight"] = kernel.astype("f4")
        for part, low in (
            ("weight", 0.5),
            ("bias", -1),
            ("running_mean", -1),
            ("running_var", 0.5),
        ):
            arrays[f"{norm}.{part}"] = rng.uniform(low, 1.5, shape[0]).astype("f4")
        arrays[f"{norm}.num_batches_tracked"] = np.array(7, "i8")

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    inputs, number = 32, 0
    for expansion, maps, repeats, side in LITE0:
        for _ in range(repeats):
            block, inner = f"_blocks.{number}.", expansion * inputs
            if expansion > 1:
                add(f"{block}_expand_conv", f"{block}_bn0", inner, inputs, 1, 1)
            add(f"{block}_depthwise_conv", f"{block}_bn1", inner, 1, side, side)
            add(f"{block}_project_conv", f"{block}_bn2", maps, inner, 1, 1)
            inputs, number = maps, number + 1
    add("_conv_head", "_bn1", 8, inputs, 1, 1)  # Left out: as small as can be.
    return arrays | {"_fc.weight": np.ones((3, 8), "f4"), "_fc.bias": np.zeros(3, "f4")}
