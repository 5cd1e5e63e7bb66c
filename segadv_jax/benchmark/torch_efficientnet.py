"""The light segmenter in PyTorch, `models.EfficientNetLite`.

A stride-2 convolution is padded by hand as TensorFlow does it; images fill their canvas.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segadv_jax.benchmark.torch_layers import Images, Maps, Params, in_float32, made_once
from segadv_jax.models.efficientnet_lite import BOX, MEAN, SCALE, STAGES, TAP_DEVIATION, TAPS


def _pointwise(x, layer):
    return F.conv2d(x, layer["kernel"], layer["bias"])


def _spatial(x, layer, stride):
    """A padded convolution and ReLU6; depthwise where the kernel has one input."""
    kernel, bias = layer["kernel"], layer["bias"]
    groups, side = x.shape[1] // kernel.shape[1], kernel.shape[-1]
    pads = [(-(-n // stride) - 1) * stride + side - n for n in x.shape[2:]]
    padding = [pad // 2 for pad in pads]
    if any(pad % 2 for pad in pads):  # TensorFlow puts the odd one behind.
        (top, bottom), (left, right) = ((pad // 2, pad - pad // 2) for pad in pads)
        x, padding = F.pad(x, (left, right, top, bottom)), [0, 0]
    y = F.conv2d(x, kernel, bias, stride, padding, groups=groups)
    return F.relu6(y, inplace=True)


def backbone(params: Params, image: Images) -> list[Maps]:
    """The features at the strides `TAPS`."""
    x = _spatial((image - MEAN) / SCALE, params["stem"], 2)
    at, number, by_stride = 2, 0, {}
    for stage in STAGES:
        for repeat in range(stage.repeats):
            number += 1
            block, stride, inputs = params[f"block{number}"], stage.stride, x
            stride = stride if repeat == 0 else 1
            if "expand" in block:
                x = F.relu6(_pointwise(x, block["expand"]), inplace=True)
            x = _pointwise(_spatial(x, block["depthwise"], stride), block["project"])
            x = x + inputs if x.shape == inputs.shape else x
            at *= stride
        by_stride[at] = x
    return [by_stride[stride] for stride in TAPS]


@made_once
def _interpolation(
    pixels: int, side: int, tap_stride: int, stride: int, device: torch.device
) -> Tensor:
    """The `side` cells of a tap to the label cells of so many pixels, as a matrix."""
    # With the zeros behind, cell i of images whose sides are multiples of BOX would lie here.
    box = -pixels % BOX
    pixel = stride * np.arange(-(-pixels // stride)) + (stride - 1) / 2 + box
    place = (pixel - (tap_stride - 1)) / tap_stride - box // tap_stride
    distance = np.abs(np.clip(place, 0, side - 1)[:, None] - np.arange(side))
    return torch.tensor(np.maximum(1 - distance, 0).astype(np.float32), device=device)


@in_float32
def _at_cells(tap, size, tap_stride, stride):
    """A tap of images of `size` pixels, interpolated to the label cells."""
    rows, columns = (
        _interpolation(pixels, side, tap_stride, stride, tap.device)
        for pixels, side in zip(size, tap.shape[2:], strict=True)
    )
    x = tap.permute(0, 2, 3, 1)  # As it lies in memory.
    x = (rows @ x.flatten(2)).unflatten(2, x.shape[2:])
    return (columns @ x).permute(0, 3, 1, 2)


def segment(params: Params, image: Images, *, stride: int, frozen: bool) -> tuple[Maps, Maps]:
    """(The class logits at the label cells; what the adversary sees, a constant.)

    There is no gradient for a backbone that is `frozen`.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        taps = [
            _at_cells(tap, image.shape[2:], at, stride)
            for at, tap in zip(TAPS, backbone(params["backbone"], image), strict=True)
        ]
    decoder = params["decoder"]
    named = zip(TAPS, taps, strict=True)
    x = F.relu(sum(_pointwise(tap, decoder[f"from{at}"]) for at, tap in named))
    fuse = decoder["fuse"]
    x = F.relu(F.conv2d(x, fuse["kernel"], fuse["bias"], padding=1))
    return _pointwise(x, decoder["classifier"]).float(), taps[1].detach() / TAP_DEVIATION
