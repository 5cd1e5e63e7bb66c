"""Dilated-8 and its adversaries in PyTorch: `models.Dilated8`, as published, and `FieldOfView`."""

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from segadv_jax.benchmark.torch_layers import (
    Images,
    Maps,
    Params,
    constant,
    conv,
    pool,
    rectify,
    smooth,
)
from segadv_jax.models.adversary import Stages
from segadv_jax.models.dilated8 import CONTEXT, CONTEXT_BORDER, FRONT_END, MEAN_RGB, POOLED

Verdicts = Float[Tensor, "n p q"]
# A cell's colour is the mean of the pixels around its own, those at half a stride in half.
AROUND = (0.5, *([1.0] * 7), 0.5)


def with_margin(image: UInt8[Tensor, "n 3 H W"], margin: int) -> UInt8[Tensor, "n 3 _ _"]:
    """The image with its reflection around it."""
    for axis in (2, 3) if margin else ():
        places = np.pad(np.arange(image.shape[axis]), margin, "reflect")
        image = image.index_select(axis, constant(tuple(places.tolist()), image.device))
    return image


def centre(image: Images) -> Images:
    """The image less the mean colour."""
    return image - constant(MEAN_RGB, image.device)[:, None, None]


def colours(image: Images) -> Maps:
    """What the *product* encoding shows of an image without its margin, at the label cells."""
    return smooth(centre(image), AROUND, 8)


def segment(params: Params, image: Images) -> tuple[Maps, None]:
    """(The class logits at the label cells, of an image with its margin; no features.)"""
    x = centre(image)
    for number, layers in enumerate(FRONT_END):
        for name, _, dilation, _ in layers:
            x = F.relu(_valid(x, params[name], dilation))
        if number < POOLED:
            x = F.max_pool2d(x, 2)
    x = F.pad(_valid(x, params["final"], 1), CONTEXT_BORDER * 2)
    for name, _, dilation, _ in CONTEXT:
        x = _valid(x, params[name], dilation)
        x = x if name == "ct_final" else F.relu(x)
    return x.float(), None


def _valid(x, layer, dilation):
    """Convolution without padding."""
    return F.conv2d(x, layer["kernel"], layer["bias"], dilation=dilation)


def embed_image(params: Params, seen: Maps) -> None:
    """These adversaries see the label map alone."""
    del params, seen


def judge(
    params: Params, label_map: Maps, embedded: None, *, stages: Stages, leak: float
) -> Verdicts:
    """The logits of `models.FieldOfView` that blocks of the label map are ground truth."""
    del embedded
    x, number, total = label_map, 0, sum(map(len, stages))
    for pooled, stage in enumerate(stages):
        x = pool(x) if pooled else x
        for _ in stage:
            number += 1
            x = conv(x, params[f"conv{number}"])
            x = x if number == total else rectify(x, leak)
    synthetic, real = x.float().unbind(1)
    return real - synthetic
