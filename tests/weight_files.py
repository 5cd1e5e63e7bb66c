"""Files of weights as other programs write them, encoded by hand."""

import struct

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
