"""Weights of networks from files, and into files; nothing is ever unpickled.

    params = weights.load("dilation8_pascal_voc.caffemodel", shapes)
    params = weights.load_vgg("VGG_ILSVRC_16_layers.caffemodel", params)
    weights.save("weights.safetensors", params)

Files that can be read:
- our safetensors, {"layer/kernel": [kh,kw,I,O], "layer/bias": [O]}, of any network;
- the Dilated-8 that Yu and Koltun released (Multi-Scale Context Aggregation by Dilated
  Convolutions, 2016), a .caffemodel;
- VGG-16 classifiers: .caffemodel, Keras's .h5, torchvision's or timm's .safetensors.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.weights import caffemodel, dilated8, files, vgg
from segadv_jax.weights.files import Flat, check, metadata, read, save

__all__ = ["Weights", "check", "check_complete", "load", "load_vgg", "metadata", "read"]
__all__ += ["read_any", "save"]

Kind = Literal["front_end", "dilated8", "other"]


class Weights(NamedTuple):
    """What a file of weights holds. Layers may be missing or unknown: see `check_complete`.

    Attributes:
        kind: "front_end" of VGG-16, which is Dilated-8's conv1_1 to fc7 and nothing else;
            "dilated8"; or "other".
        flat: {"layer/kernel": f32[kh,kw,I,O], "layer/bias": f32[O]}.
        metadata: what a safetensors file says about itself.
    """

    kind: Kind
    flat: Flat
    metadata: dict[str, str]


def load(path: PathLike, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The complete parameters of a network.

    Args:
        path: of our safetensors, or of a Dilated-8 .caffemodel.
        shapes: tree whose leaves have a `shape`.

    Returns:
        The same tree of NumPy arrays f32.

    Raises:
        InputError: the file cannot be read, is a VGG-16 classifier, or does not fit. The error
            names all arrays that are missing, unknown, of another shape or not finite.
    """
    found = read_any(path)
    if found.kind == "front_end":
        raise InputError(
            f"{path} is a VGG-16 classifier, which has only the front end of this network: to "
            f"train from it, use vgg:{path}"
        )
    return _fit(path, found.flat, shapes)


def load_vgg(path: PathLike, initial: Mapping[str, Any]) -> dict[str, Any]:
    """Dilated-8 whose front end, conv1_1 to fc7, is a VGG-16 classifier.

    Args:
        path: of a VGG-16 classifier, or of our safetensors with only the front end.
        initial: Dilated-8's parameters, of which the other layers are kept.

    Returns:
        Tree of NumPy arrays f32 like `initial`.

    Raises:
        InputError: the file cannot be read, is a whole network, or does not fit, as in `load`.
    """
    found = read_any(path)
    if found.kind != "front_end":
        raise InputError(
            f"{path} is a whole network, not a VGG-16 classifier: use {path} without vgg:"
        )
    absent = [name for name in dilated8.FRONT_END if name not in initial]
    if absent:
        raise InputError(
            f"vgg:{path} is for Dilated-8, but this segmenter has no layer {', '.join(absent)}; "
            "choose that segmenter or other weights"
        )
    front_end = _fit(path, found.flat, {name: initial[name] for name in dilated8.FRONT_END})
    kept = {name: np.asarray(x, np.float32) for name, x in files.flatten(initial).items()}
    return files.unflatten(kept) | front_end


def read_any(path: PathLike) -> Weights:
    """Reads any of the files above without knowing the network.

    Raises:
        InputError: the file cannot be read, is none of these, or holds values that are not finite.
    """
    suffix = os.path.splitext(path)[1].lower()
    files.check(path)
    if suffix == ".safetensors":
        found = _read_safetensors(path)
    elif suffix == ".caffemodel":
        found = _read_caffemodel(path)
    elif suffix in (".h5", ".hdf5"):
        found = Weights("front_end", vgg.from_keras(path), {})
    else:
        raise InputError(f"{path}: not a file of weights; give .safetensors, .caffemodel or .h5")
    wrong = [name for name, array in found.flat.items() if not np.isfinite(array).all()]
    if wrong:
        raise InputError(
            f"{path} has values that are not finite in {', '.join(wrong)}; give other weights"
        )
    return found


def _read_safetensors(path: PathLike) -> Weights:
    flat, about = files.read_tensors(path)
    if vgg.is_torch(flat):
        return Weights("front_end", vgg.from_torch(flat), about)
    return Weights(_kind(name.rpartition("/")[0] for name in flat), flat, about)


def _read_caffemodel(path: PathLike) -> Weights:
    layers, dilated = caffemodel.read(path)
    names = ", ".join(layers)
    if _kind(map(dilated8.our_name, layers)) == "dilated8":
        return Weights("dilated8", dilated8.from_caffe(layers), {})
    if not layers.keys() & set(dilated8.FRONT_END):
        raise InputError(f"{path} is neither Dilated-8 nor VGG-16: its layers are {names}")
    if dilated:
        # No classifier has these layers. Read as one, it would get the wrong mean silently.
        raise files.damaged(path, "a VGG-16", f"it is Dilated-8, but ends after {names}")
    return Weights("front_end", vgg.from_caffe(layers), {})


def _kind(names: Iterable[str]) -> Kind:
    """The kind of network whose layers have these names."""
    layers, front_end = set(names), set(dilated8.FRONT_END)
    if layers and layers <= front_end:
        return "front_end"
    beyond = layers & {"final", *dilated8.CONTEXT}
    return "dilated8" if beyond and (layers & front_end or len(beyond) > 1) else "other"


def check_complete(path: PathLike, kind: Kind, flat: Flat) -> None:
    """Raises an InputError that names all arrays that are missing, unknown or inconsistent.

    Args:
        path: of the file, for the message.
        kind: "dilated8" or "front_end".
        flat: the parameters, as in `Weights`.
    """
    layers = dilated8.LAYERS if kind == "dilated8" else dilated8.FRONT_END
    if kind == "dilated8" and os.path.splitext(path)[1].lower() == ".safetensors":
        # Unlike a caffemodel, it cannot end early, and its network may have no context module.
        if not set(dilated8.names_of(dilated8.CONTEXT)) & flat.keys():
            layers = (*dilated8.FRONT_END, "final")
    lines = dilated8.inconsistencies(flat, layers)
    if lines:
        what = "Dilated-8" if kind == "dilated8" else "VGG-16"
        raise InputError(f"{path} is not a complete {what}: {'; '.join(lines)}; give a whole file")


def _fit(path: PathLike, flat: Flat, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """`flat` as a tree like `shapes`; an InputError names all that does not fit."""
    wanted = files.flatten(shapes)
    lines = dilated8.name_mismatches(wanted, flat)
    lines += [
        f"{name} is {dilated8.shape_text(flat[name])}, not {dilated8.shape_text(ours)}"
        for name, ours in wanted.items()
        if name in flat and flat[name].shape != tuple(ours.shape)
    ]
    if lines:
        raise InputError(
            f"{path} does not fit this network: {'; '.join(lines)}. Set config.segmenter (width, "
            "widths, context) and the data set's classes as the file has them, or give another "
            "file; a classifier needs its fully connected layers"
        )
    return files.unflatten(flat)
