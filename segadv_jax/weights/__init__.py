"""Weights of networks from files, and into files; nothing is ever unpickled.

    params = weights.load("dilation8_pascal_voc.caffemodel", shapes)
    params = weights.load_vgg("VGG_ILSVRC_16_layers.caffemodel", params)
    weights.save("weights.safetensors", params)

What may be read:
- our safetensors, {"layer/kernel": [kh,kw,I,O], "layer/bias": [O]}, of any network;
- the released Dilated-8 of Yu and Koltun, Multi-Scale Context Aggregation by Dilated Convolutions,
  2016, a .caffemodel;
- VGG-16 classifiers: .caffemodel, Keras's .h5, torchvision's or timm's .safetensors.
"""

import os

import numpy as np

from segadv_jax.errors import InputError
from segadv_jax.weights import caffemodel, dilated8, files, vgg
from segadv_jax.weights.files import check, metadata, read, save

__all__ = ["check", "check_complete", "load", "load_vgg", "metadata", "read", "read_any", "save"]


def load(path, shapes):
    """The complete parameters of a network.

    Args:
        path: of our safetensors, or of a Dilated-8 .caffemodel.
        shapes: tree whose leaves have a ``shape``.

    Returns:
        The same tree of NumPy arrays f32.

    Raises:
        InputError: it cannot be read, is a VGG-16 classifier, or does not fit: all that is missing,
            too much, of another shape or not finite is named.
    """
    kind, flat, _ = read_any(path)
    if kind == "front_end":
        raise InputError(
            f"{path} is a VGG-16 classifier, which has no more than the front end: to train from "
            f"it, use vgg:{path}"
        )
    return _fit(path, flat, shapes)


def load_vgg(path, initial):
    """Dilated-8 whose front end, conv1_1 to fc7, is a VGG-16 classifier.

    Args:
        path: of a VGG-16 classifier, or of our safetensors with nothing but the front end.
        initial: Dilated-8's parameters, of which the other layers are kept.

    Returns:
        Tree of NumPy arrays f32 like ``initial``.

    Raises:
        InputError: it cannot be read, is a whole network, or does not fit, as of ``load``.
    """
    kind, flat, _ = read_any(path)
    if kind != "front_end":
        raise InputError(f"{path} is a whole network, no VGG-16 classifier: use {path}, not vgg:")
    absent = [name for name in dilated8.FRONT_END if name not in initial]
    if absent:
        raise InputError(
            f"vgg:{path} is for Dilated-8, but this segmenter has no layer {', '.join(absent)}; "
            "choose that segmenter or other weights"
        )
    front_end = _fit(path, flat, {name: initial[name] for name in dilated8.FRONT_END})
    kept = {name: np.asarray(x, np.float32) for name, x in files.flatten(initial).items()}
    return files.unflatten(kept) | front_end


def read_any(path):
    """Reads a file of weights without knowing the network.

    Args:
        path: of any of the files above.

    Returns:
        (kind, {"layer/kernel": f32[kh,kw,I,O], "layer/bias": f32[O]}, metadata {str: str}). The
        kind is "front_end" of VGG-16 and of nothing but Dilated-8's conv1_1 to fc7, "dilated8", or
        "other". Layers may be missing or too many: see ``check_complete``.

    Raises:
        InputError: it cannot be read, is none of these, or holds values that are not finite.
    """
    suffix = os.path.splitext(path)[1].lower()
    files.check(path)
    metadata = {}
    if suffix == ".safetensors":
        flat, metadata = files.read_tensors(path)
        if vgg.is_torch(flat):
            kind, flat = "front_end", vgg.from_torch(flat)
        else:
            kind = _kind({name.rpartition("/")[0] for name in flat})
    elif suffix == ".caffemodel":
        kind, flat = _read_caffemodel(path)
    elif suffix in (".h5", ".hdf5"):
        kind, flat = "front_end", vgg.from_keras(path)
    else:
        raise InputError(f"{path}: not a file of weights; give .safetensors, .caffemodel or .h5")
    wrong = [name for name, array in flat.items() if not np.isfinite(array).all()]
    if wrong:
        raise InputError(f"{path} is not finite in {', '.join(wrong)}; give weights that are")
    return kind, flat, metadata


def _read_caffemodel(path):
    layers, dilated = caffemodel.read(path)
    kind, names = _kind(map(dilated8.our_name, layers)), ", ".join(layers)
    if kind == "dilated8":
        return kind, dilated8.from_caffe(layers)
    if not layers.keys() & set(dilated8.FRONT_END):
        raise InputError(f"{path} is neither Dilated-8 nor VGG-16: its layers are {names}")
    if dilated:
        # No classifier has these. With the means of the two mixed up it would be silently wrong.
        raise files.damaged(path, "a VGG-16", f"it is Dilated-8, but ends after {names}")
    return "front_end", vgg.from_caffe(layers)


def _kind(layers):
    """The kind of network that layers of these names are, see ``read_any``."""
    layers, front_end = set(layers), set(dilated8.FRONT_END)
    if layers and layers <= front_end:
        return "front_end"
    beyond = layers & {"final", *dilated8.CONTEXT}
    return "dilated8" if beyond and (layers & front_end or len(beyond) > 1) else "other"


def check_complete(path, kind, flat):
    """Raises an InputError that names all that is missing, too much or inconsistent.

    Args:
        path: of the file, for the message.
        kind: "dilated8" or "front_end".
        flat: of ``read_any``.
    """
    layers = dilated8.LAYERS if kind == "dilated8" else dilated8.FRONT_END
    if kind == "dilated8" and os.path.splitext(path)[1].lower() == ".safetensors":
        # Unlike a caffemodel it cannot end early, and may be of a network without a context module.
        if not set(dilated8.names_of(dilated8.CONTEXT)) & flat.keys():
            layers = (*dilated8.FRONT_END, "final")
    lines = dilated8.inconsistencies(flat, layers)
    if lines:
        what = "Dilated-8" if kind == "dilated8" else "VGG-16"
        raise InputError(f"{path} is no complete {what}: {'; '.join(lines)}; give a whole file")


def _fit(path, flat, shapes):
    """``flat`` as a tree like ``shapes``; an InputError names all that does not fit."""
    shapes = files.flatten(shapes)
    lines = dilated8.strangers(shapes, flat)
    lines += [
        f"{name} is {dilated8.size(flat[name])}, not {dilated8.size(wanted)}"
        for name, wanted in shapes.items()
        if name in flat and flat[name].shape != tuple(wanted.shape)
    ]
    if lines:
        raise InputError(
            f"{path} does not fit this network: {'; '.join(lines)}. Set config.segmenter (width, "
            "widths, context) and the data set's classes as the file has them, or give another "
            "file; a classifier needs its fully connected layers"
        )
    return files.unflatten(flat)
