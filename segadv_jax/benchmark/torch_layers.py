"""What the networks in PyTorch share: parameters, layers, filters along the axes of an image.

Tensors are channels-last, and images fill their canvas, so that no masks are needed.
"""

import functools
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segadv_jax.models.preprocessing import LEAST_CONTRAST, WINDOW

Params = dict[str, Any]  # A tree of tensors, by the names of the Flax modules.
Maps = Float[Tensor, "n _ _ _"]  # Channels, height, width.
Images = Float[Tensor, "n 3 H W"]
Taps = tuple[float, ...]
_WINDOW = tuple(WINDOW.tolist())


def as_tensors(params: Params, device: str) -> Params:
    """Copies a tree of Flax's parameters, the dimensions of its kernels in PyTorch's order."""

    def copy(array):
        if array.ndim > 1:
            array = array.reshape((1, 1, *array.shape)[-4:]).transpose(3, 2, 0, 1)
        tensor = torch.tensor(array, device=device)
        return (channels_last(tensor) if array.ndim > 1 else tensor).requires_grad_()

    return jax.tree.map(copy, params)


def channels_last(x: Maps) -> Maps:
    """The same tensor with its channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def conv(x: Maps, layer: Params, table: Tensor | None = None) -> Maps:
    """Convolution, zero-padded to the same size; with a `table` its kernels are sparse."""
    kernel = layer["kernel"]
    if table is not None:
        dense = kernel.new_zeros(len(kernel), x.shape[1], *kernel.shape[2:])
        rows = torch.arange(len(kernel), device=x.device)[:, None]
        kernel = channels_last(dense.index_put((rows, table), kernel))
    return F.conv2d(x, kernel, layer["bias"], padding=kernel.shape[-1] // 2)


def pool(x: Maps) -> Maps:
    """2x2 max-pooling; a last odd row or column is pooled on its own."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def rectify(x: Maps, leak: float) -> Maps:
    return F.leaky_relu(x, leak) if leak else F.relu(x)


def made_once(function):
    """The function, whose tensors are made once; torch.compile would make them in each step."""
    cached = functools.cache(function)

    @torch.compiler.assume_constant_result
    def run(*args):
        return cached(*args)

    return run


@made_once
def constant(values: tuple, device: torch.device) -> Tensor:
    """Numbers as a tensor."""
    return torch.tensor(values, device=device)


@made_once
def means(
    shape: tuple[int, int], steps: tuple[int, int], taps: Taps, device: torch.device
) -> Float[Tensor, "out in"]:
    """Weighted means along an axis as a matrix of a `shape`: its outputs, its inputs.

    Output i is in the middle of `taps`, and both lie `steps` apart.
    """
    radius = len(taps) // 2
    places, inputs = (step * np.arange(side) for step, side in zip(steps, shape, strict=True))
    offset = inputs - places[:, None]
    near = np.asarray(taps)[np.clip(offset + radius, 0, 2 * radius)]
    weights = np.where(np.abs(offset) <= radius, near, 0)
    weights = weights / weights.sum(1, keepdims=True)  # Renormalised at the border.
    return torch.tensor(weights.astype(np.float32), device=device)


def smooth(x: Maps, taps: Taps, step: int = 1) -> Maps:
    """Smooths [n,c,H,W] and keeps every `step`-th pixel."""
    rows, columns = (
        means((-(-side // step), side), (step, 1), taps, x.device) for side in x.shape[2:]
    )
    return rows @ x.contiguous() @ columns.T


def local_contrast_normalize(x: Maps) -> Maps:
    """Each channel less its local mean, divided by its local standard deviation."""
    centred = x - smooth(x, _WINDOW)
    deviation = smooth(centred.square(), _WINDOW).sqrt()
    mean = deviation.mean((2, 3), keepdim=True)
    return channels_last(centred / torch.maximum(deviation, mean).clamp(min=LEAST_CONTRAST))


def in_float32(function):
    """The function in float32, whatever `torch.autocast` says around it."""

    @functools.wraps(function)
    def run(x, *args, **kwargs):
        with torch.autocast(x.device.type, enabled=False):
            return function(x.float(), *args, **kwargs)

    return run
