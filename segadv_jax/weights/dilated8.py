"""The layers of Dilated-8 and of its front end, by name, and its released files."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from segadv_jax.models import dilated8
from segadv_jax.weights.caffemodel import Layers
from segadv_jax.weights.files import Flat

FRONT_END = tuple(name for stage in dilated8.FRONT_END for name, *_ in stage)
CONTEXT = tuple(name for name, *_ in dilated8.CONTEXT)
LAYERS = (*FRONT_END, "final", *CONTEXT)
_STAGES = (*dilated8.FRONT_END, dilated8.CONTEXT)
SIDES = {name: side for stage in _STAGES for name, side, *_ in stage} | {"final": 1}  # Of kernels.


def our_name(name: str) -> str:
    """Our name of a caffemodel's layer.

    The released definition calls the front end's last layer fc-final. The published training code
    calls it final, and the context's layers ctx_conv1_1 and so on.
    """
    if name.startswith("ctx_"):
        return f"ct_{name.removeprefix('ctx_')}"
    return "final" if name == "fc-final" else name


def from_caffe(layers: Layers) -> Flat:
    """Converts the layers of a Dilated-8 caffemodel.

    Its input is BGR, ours RGB, minus the same mean: the first kernel's input channels are reversed.

    Args:
        layers: {name: (kernel [O,I,kh,kw], bias [O])} of `caffemodel.read`. It is emptied in the
            process, because a copy of everything takes half a gigabyte.

    Returns:
        {"layer/kernel": f32[kh,kw,I,O], "layer/bias": f32[O]}; kernels of another rank are
        left alone.
    """
    flat = {}
    for name in list(layers):
        kernel, bias = layers.pop(name)
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
        name = our_name(name)
        if name == LAYERS[0] and kernel.ndim == 4:
            kernel = kernel[:, :, ::-1]
        flat[f"{name}/kernel"] = np.ascontiguousarray(kernel, np.float32)
        flat[f"{name}/bias"] = np.array(bias, np.float32)
    return flat


def names_of(layers: Iterable[str]) -> tuple[str, ...]:
    """("layer/kernel", "layer/bias", ...) of layers."""
    return tuple(f"{layer}/{part}" for layer in layers for part in ("kernel", "bias"))


def name_mismatches(wanted: Iterable[str], flat: Flat) -> list[str]:
    """Which of the names `wanted` are missing in `flat`, and which others it has, as lines."""
    missing = [name for name in wanted if name not in flat]
    extra = sorted(name for name in flat if name not in wanted)
    lines = [f"missing {', '.join(missing)}"] if missing else []
    return lines + ([f"not of this network: {', '.join(extra)}"] if extra else [])


def shape_text(array: Any) -> str:
    """The shape of an array as "3x3x64x64"."""
    return "x".join(map(str, array.shape)) or "a single number"


def inconsistencies(flat: Flat, layers: tuple[str, ...]) -> list[str]:
    """What is wrong with parameters, as far as the order of the layers tells.

    Args:
        flat: {"layer/kernel": f32[kh,kw,I,O], "layer/bias": f32[O]}.
        layers: the first of `LAYERS`; each takes the output of the one before it.

    Returns:
        Lines that name what is missing, unknown, or does not fit the layer before it.
    """
    lines = name_mismatches(names_of(layers), flat)
    channels: int | None = 3
    classes: int | None = None
    for layer in layers:
        kernel, bias = (flat.get(name) for name in names_of([layer]))
        side = SIDES[layer]
        if kernel is None:
            channels = None
        elif kernel.ndim != 4 or kernel.shape[:2] != (side, side):
            lines.append(f"{layer}/kernel is {shape_text(kernel)}, not {side}x{side}x...")
            channels = None
        else:
            if channels not in (None, kernel.shape[2]):
                shape = shape_text(kernel)
                lines.append(f"{layer}/kernel is {shape}, but the layer before it has {channels}")
            channels = kernel.shape[3]
        if channels is not None and bias is not None and bias.shape != (channels,):
            lines.append(f"{layer}/bias is {shape_text(bias)}, not {channels}")
        if layer == "final":
            classes = channels
    if layers == LAYERS and None not in (channels, classes) and channels != classes:
        lines.append(f"ct_final has {channels} classes, but final has {classes}")
    return lines
