"""The networks of this package in PyTorch, to time ours against.

They are written for speed, as one would in PyTorch: channels-last tensors, and no gradient that
nobody uses. Images fill their canvas, so no masks are needed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segadv_jax.models.layers import random_table
from segadv_jax.models.preprocessing import BINOMIAL, RGB_TO_YUV, WINDOW

Maps = Float[Tensor, "n _ _ _"]  # Channels, height, width.


class Conv(nn.Module):
    """Convolution, zero-padded to the same size; with a `table` the connected kernels only."""

    def __init__(self, inputs: int, features: int, kernel: int, table: np.ndarray | None = None):
        super().__init__()
        fan_in = inputs if table is None else len(table)
        self.weight = nn.Parameter(torch.empty(features, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(features))
        self.inputs, self.padding = inputs, kernel // 2
        self.register_buffer("table", None if table is None else torch.from_numpy(table.T.copy()))

    def forward(self, x: Maps) -> Maps:
        weight = self.weight
        if self.table is not None:
            dense = weight.new_zeros(len(weight), self.inputs, *weight.shape[2:])
            rows = torch.arange(len(weight))[:, None]
            weight = dense.index_put((rows, self.table), weight)
            weight = weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def _window(taps, places, length):
    """Weighted means along an axis as a matrix, the weights renormalised at the border."""
    radius = len(taps) // 2
    offsets = np.arange(length)[None] - places[:, None]
    inside = np.abs(offsets) <= radius
    weights = np.where(inside, taps[np.clip(offsets + radius, 0, 2 * radius)], 0)
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def _smooth(x, taps, step=1):
    """Smooths [n,c,H,W] and keeps every `step`-th pixel."""
    rows, columns = (_window(taps, np.arange(0, s, step), s) for s in x.shape[2:])
    return rows @ x.contiguous() @ columns.T


def _expand(x, shape):
    """Interpolates a level of the pyramid to the next finer one."""
    matrices = []
    for length, coarse in zip(shape, x.shape[2:], strict=True):
        offsets = 2 * np.arange(coarse)[None] - np.arange(length)[:, None]
        weights = np.where(np.abs(offsets) <= 2, BINOMIAL[np.clip(offsets + 2, 0, 4)], 0)
        weights = weights / weights.sum(1, keepdims=True)
        matrices.append(torch.from_numpy(weights.astype(np.float32)))
    return matrices[0] @ x @ matrices[1].T


def local_contrast_normalize(x: Maps) -> Maps:
    """Each channel less its local mean, divided by its local standard deviation."""
    centred = x - _smooth(x, WINDOW)
    deviation = _smooth(centred.square(), WINDOW).sqrt()
    mean = deviation.mean((2, 3), keepdim=True)
    return centred / torch.maximum(deviation, mean).clamp(min=1e-4)


def channels_last(x: Maps) -> Maps:
    """The same tensor with its channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


class MultiScale(nn.Module):
    """The segmenter, of stride 4; its arguments are those of `models.MultiScale`."""

    def __init__(self, num_classes, widths=(16, 64, 256), hidden=1024, sparse=True, levels=3):
        super().__init__()
        first, second, third = widths
        from_luma = round(first * 10 / 16)
        self.levels = levels
        self.luma = Conv(1, from_luma, 7)
        self.chroma = Conv(2, first - from_luma, 7)
        tables = {2: None, 3: None}
        if sparse:
            tables = {2: random_table(first, first // 2, second, seed=2)}
            tables[3] = random_table(second, second // 2, third, seed=3)
        self.conv2 = Conv(first, second, 7, tables[2])
        self.conv3 = Conv(second, third, 7, tables[3])
        self.hidden = nn.Conv2d(levels * third, hidden, 1)
        self.classifier = nn.Conv2d(hidden, num_classes, 1)
        self.register_buffer("yuv", torch.from_numpy(RGB_TO_YUV))

    def preprocess(self, image: Float[Tensor, "n 3 H W"]) -> list[Maps]:
        """The levels of the YUV image's pyramid, the finest first."""
        image = torch.einsum("nchw,yc->nyhw", image / 255, self.yuv)
        levels = []
        for _ in range(self.levels - 1):
            smaller = _smooth(image, BINOMIAL, 2)
            levels.append(image - _expand(smaller, image.shape[2:]))
            image = smaller
        return [channels_last(local_contrast_normalize(x)) for x in [*levels, image]]

    def trunk(self, x: Maps) -> Maps:
        """The features of one level."""
        x = torch.cat([self.luma(x[:, :1]), self.chroma(x[:, 1:])], 1)
        x = torch.tanh(F.max_pool2d(channels_last(x), 2, ceil_mode=True))
        x = torch.tanh(F.max_pool2d(self.conv2(x), 2, ceil_mode=True))
        return torch.tanh(self.conv3(x))

    def forward(self, image: Float[Tensor, "n 3 H W"]) -> Maps:
        """Class logits at the label cells."""
        with torch.no_grad():
            levels = self.preprocess(image)
        features = [self.trunk(x) for x in levels]
        height, width = features[0].shape[2:]
        features = [
            F.interpolate(x, scale_factor=2**k, mode="nearest")[..., :height, :width]
            for k, x in enumerate(features)
        ]
        return self.classifier(torch.tanh(self.hidden(torch.cat(features, 1))))


class TwoBranch(nn.Module):
    """The adversary, as `models.TwoBranch`; `maps` are the channels of a label map."""

    def __init__(self, maps, label_features=64, image_features=(16, 64), fused=(128, 256, 512)):
        super().__init__()
        self.image1 = Conv(3, image_features[0], 5)
        self.image2 = Conv(image_features[0], image_features[1], 5)
        self.label = Conv(maps, label_features, 5)
        widths = (label_features + image_features[1], *fused)
        for i in range(len(fused)):
            setattr(self, f"fused{i + 1}", Conv(widths[i], widths[i + 1], 3))
        self.prediction = Conv(widths[-1], 1, 3)
        self.fused = len(fused)

    def embed_image(self, image: Float[Tensor, "n 3 H W"]) -> Maps:
        """The image branch."""
        with torch.no_grad():
            x = channels_last(local_contrast_normalize(image / 255))
        for conv in (self.image1, self.image2):
            x = F.max_pool2d(F.relu(conv(x)), 2, ceil_mode=True)
        return x

    def forward(self, label_map: Maps, embedded: Maps) -> Float[Tensor, "n p q"]:
        """The logits that blocks of the label map are ground truth."""
        x = torch.cat([F.relu(self.label(label_map)), embedded], 1)
        for i in range(1, self.fused + 1):
            x = F.relu(getattr(self, f"fused{i}")(x))
            if i <= 2:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        return self.prediction(x)[:, 0]


def load(module: nn.Module, tree: Mapping[str, Any]) -> None:
    """Copies the parameters of the Flax module of the same name.

    Raises:
        ValueError: the PyTorch module lacks one of them.
    """
    tensors = {}
    for name, layer in tree.items():
        if name == "trunk":  # No module of its own here.
            load(module, layer)
            continue
        if name == "conv1":
            biases = np.split(np.asarray(layer["bias"]), [layer["luma"].shape[-1]])
            for table, bias in zip(("luma", "chroma"), biases, strict=True):
                load(module, {table: {"kernel": layer[table], "bias": bias}})
            continue
        kernel = np.asarray(layer["kernel"])
        kernel = kernel.reshape((1, 1, *kernel.shape)[-4:]).transpose(3, 2, 0, 1)
        tensors[f"{name}.weight"] = torch.from_numpy(kernel.copy())
        tensors[f"{name}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    wrong = set(tensors) - set(module.state_dict())
    if wrong:
        raise ValueError(f"the PyTorch network has no {', '.join(sorted(wrong))}")
    module.load_state_dict(tensors, strict=False)
