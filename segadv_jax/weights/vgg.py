"""Dilated-8's front end from VGG-16 classifiers of Caffe, Keras, torchvision and timm.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015;
how to turn its inner products into convolutions: Long et al., Fully Convolutional Networks for
Semantic Segmentation, 2015. Each library prepares its images in its own way, which is folded into
the first layer: the front end sees RGB in 0..255 minus MEAN_RGB, and its output is that of the
classifier, exactly so wherever it sees no padding.
"""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.models.dilated8 import MEAN_RGB
from segadv_jax.weights import files
from segadv_jax.weights.caffemodel import Layers
from segadv_jax.weights.dilated8 import FRONT_END, SIDES
from segadv_jax.weights.files import Flat

# The name of each layer of the front end in the files.
_KERAS = {name: f"block{name[4]}_conv{name[6]}" for name in FRONT_END[:-2]}
_KERAS |= {"fc6": "fc1", "fc7": "fc2"}
_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_FEATURES = {name: f"features.{i}" for name, i in zip(FRONT_END[:-2], _PLACES, strict=True)}
_TORCHVISION = _FEATURES | {"fc6": "classifier.0", "fc7": "classifier.3"}
_TIMM = _FEATURES | {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2"}
_CLASSIFIERS = ("fc8", "predictions", "classifier.6", "head.fc")  # Of ImageNet's classes.

# Caffe's and Keras's classifiers subtract a mean; torchvision's and timm's also divide by a
# deviation. RGB in 0..255.
_MEAN_CAFFE = (123.68, 116.779, 103.939)
_MEAN_TORCH = 255 * np.array((0.485, 0.456, 0.406))
_STD_TORCH = 255 * np.array((0.229, 0.224, 0.225))


def from_caffe(layers: Layers) -> Flat:
    """Converts the layers of a caffemodel, which sees BGR minus its mean.

    Args:
        layers: {name: (kernel [O,I,kh,kw], [O,I] or [1,1,O,I], bias [O])} of `caffemodel.read`. It
            is emptied in the process.

    Returns:
        {"layer/kernel": f32[kh,kw,I,O], "layer/bias": f32[O]}, of all layers but the
        classifier's last, also unknown ones. Arrays of other shapes are left alone.
    """
    flat = {}
    for name in list(layers):
        kernel, bias = layers.pop(name)
        if not name.startswith(_CLASSIFIERS):
            flat[f"{name}/kernel"], flat[f"{name}/bias"] = _from_channels_first(name, kernel), bias
    return _fold(flat, reverse=True, mean=_MEAN_CAFFE)


def from_keras(path: PathLike) -> Flat:
    """Reads and converts Keras's weights, .h5 or .weights.h5, to the result of `from_caffe`.

    The published file is vgg16_weights_tf_dim_ordering_tf_kernels.h5.
    """
    files.check(path)
    try:
        with h5py.File(path, "r") as file:
            layers = _keras_layers(file)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise files.damaged(path, "a file of Keras's weights", error) from error
    ours = {theirs: name for name, theirs in _KERAS.items()}
    if not ours.keys() & layers.keys():
        raise InputError(
            f"{path} is not a VGG-16 of Keras: its layers are {', '.join(layers) or 'none'}; give "
            "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
        )
    flat = {}
    for name in list(layers):
        arrays = layers.pop(name)
        if name in _CLASSIFIERS:
            continue
        if len(arrays) != 2:
            reason = f"{name} has {len(arrays)} arrays, not a kernel and a bias"
            raise files.damaged(path, "a VGG-16 of Keras", reason)
        name, (kernel, bias) = ours.get(name, name), arrays
        side = SIDES.get(name, 3)
        if kernel.ndim == 2 and kernel.shape[0] % side**2 == 0:
            kernel = kernel.reshape(side, side, -1, kernel.shape[1])  # Flattened rows first.
        flat[f"{name}/kernel"], flat[f"{name}/bias"] = kernel, bias
    return _fold(flat, reverse=True, mean=_MEAN_CAFFE)


def _keras_layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    """{layer: its arrays, kernel first} of the layers that have any."""
    group = file.get("model_weights", file)  # The file of a whole model has such a group.
    layers: dict[str, list] = {}
    if "layer_names" in group.attrs:
        for name in map(_text, group.attrs["layer_names"]):
            layer = group[name]
            layers[name] = [layer[_text(array)] for array in layer.attrs["weight_names"]]
    elif "layers" in file:  # Keras 3 numbers the arrays and writes the layer's name beside them.
        for name, layer in file["layers"].items():
            arrays = layer["vars"]
            name = _text(arrays.attrs.get("name", name))
            layers[name] = [arrays[i] for i in sorted(arrays, key=int)]
    return {
        name: [np.array(x, np.float32) for x in arrays] for name, arrays in layers.items() if arrays
    }


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def is_torch(tensors: Flat) -> bool:
    """Whether tensors of a safetensors file have the names of torchvision's or timm's VGG."""
    return any(name.startswith("features.") for name in tensors)


def from_torch(tensors: Flat) -> Flat:
    """Converts the state of torchvision's `vgg16` or timm's, which sees (RGB / 255 - mean) / std.

    Args:
        tensors: {"features.0.weight": f32[O,I,kh,kw], "features.0.bias": f32[O], ...}. It is
            emptied in the process.

    Returns:
        As `from_caffe`.
    """
    ours = {theirs: name for name, theirs in (*_TORCHVISION.items(), *_TIMM.items())}
    flat = {}
    for name in list(tensors):
        array = tensors.pop(name)
        layer, _, part = name.rpartition(".")
        if layer in _CLASSIFIERS:
            continue
        layer, part = ours.get(layer, layer), "kernel" if part == "weight" else part
        flat[f"{layer}/{part}"] = _from_channels_first(layer, array) if part == "kernel" else array
    return _fold(flat, reverse=False, mean=_MEAN_TORCH, std=_STD_TORCH)


def _from_channels_first(name: str, kernel: np.ndarray) -> np.ndarray:
    """Converts [O,I,kh,kw], or an inner product's [O,I], whose rows are [I,kh,kw] flattened."""
    side = SIDES.get(name, 3)
    if kernel.ndim == 4 and kernel.shape[:2] == (1, 1) and name.startswith("fc"):
        kernel = kernel[0, 0]
    if kernel.ndim == 2 and kernel.shape[1] % side**2 == 0:
        kernel = kernel.reshape(kernel.shape[0], -1, side, side)
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
    return np.ascontiguousarray(kernel, np.float32)


def _fold(
    flat: Flat,
    reverse: bool,
    mean: Sequence[float] | np.ndarray,
    std: Sequence[float] | np.ndarray = (1.0, 1.0, 1.0),
) -> Flat:
    """Makes the first layer take RGB - MEAN_RGB instead of (RGB - mean) / std, reversed or not.

    k * (x - mean) / std = (k / std) * (x - MEAN_RGB) + sum of (k / std) * (MEAN_RGB - mean).
    """
    flat = {name: np.asarray(array, np.float32) for name, array in flat.items()}
    kernel, bias = flat.get("conv1_1/kernel"), flat.get("conv1_1/bias")
    if kernel is None or bias is None or kernel.ndim != 4 or kernel.shape[2:] != (3, bias.size):
        return flat  # Reported later, with all else that is missing or wrong.
    kernel = kernel[:, :, ::-1] if reverse else kernel
    kernel = kernel.astype(np.float64) / np.asarray(std)[:, None]
    shift = np.einsum("hwio,i->o", kernel, np.subtract(MEAN_RGB, mean))
    flat["conv1_1/kernel"] = kernel.astype(np.float32)
    flat["conv1_1/bias"] = (bias + shift).astype(np.float32)
    return flat
