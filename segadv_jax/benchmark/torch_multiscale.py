"""The multi-scale segmenter in PyTorch, `models.MultiScale`, and its adversary, `TwoBranch`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segadv_jax.benchmark.torch_layers import (
    Images,
    Maps,
    Params,
    channels_last,
    constant,
    conv,
    in_float32,
    local_contrast_normalize,
    means,
    pool,
    rectify,
    smooth,
)
from segadv_jax.models.layers import random_table
from segadv_jax.models.preprocessing import BINOMIAL, RGB_TO_YUV

Verdicts = Float[Tensor, "n p q"]
Tables = list[Tensor | None]
TAPS = tuple(BINOMIAL.tolist())
YUV = tuple(map(tuple, RGB_TO_YUV.tolist()))


def connections(trunk: Params) -> Tables:
    """The connection tables of Flax's trunk's second and third layer; None where it is dense."""
    tables: Tables = []
    for layer in (2, 3):
        kernel = trunk[f"conv{layer}"]["kernel"]
        inputs = len(trunk[f"conv{layer - 1}"]["bias"])
        features, fan_in = kernel.shape[:2]
        table = random_table(inputs, fan_in, features, seed=layer).T
        tables.append(None if fan_in == inputs else torch.tensor(table, device=kernel.device))
    return tables


@torch.no_grad()
@in_float32
def pyramid(image: Images) -> list[Maps]:
    """The three levels of the YUV image's pyramid, normalised, the finest first."""
    yuv = constant(YUV, image.device)
    image = torch.einsum("nchw,yc->nyhw", image / 255, yuv)
    levels = []
    for _ in range(2):
        smaller = smooth(image, TAPS, 2)
        rows, columns = (
            means((fine, side), (1, 2), TAPS, image.device)
            for fine, side in zip(image.shape[2:], smaller.shape[2:], strict=True)
        )
        levels.append(image - rows @ smaller @ columns.T)
        image = smaller
    return [local_contrast_normalize(x) for x in [*levels, image]]


def segment(params: Params, image: Images, *, tables: Tables) -> tuple[Maps, None]:
    """(The class logits at the label cells, of stride 4; no features.)"""
    trunk, features = params["trunk"], []
    luma, chroma, bias = (trunk["conv1"][name] for name in ("luma", "chroma", "bias"))
    for level, x in enumerate(pyramid(image)):
        by_luma = F.conv2d(x[:, :1], luma, bias[: len(luma)], padding=3)
        by_chroma = F.conv2d(x[:, 1:], chroma, bias[len(luma) :], padding=3)
        x = torch.tanh(pool(channels_last(torch.cat([by_luma, by_chroma], 1))))
        x = torch.tanh(pool(conv(x, trunk["conv2"], tables[0])))
        x = torch.tanh(conv(x, trunk["conv3"], tables[1]))
        features.append(F.interpolate(x, scale_factor=2**level, mode="nearest"))
    height, width = features[0].shape[2:]
    x = torch.cat([x[..., :height, :width] for x in features], 1)
    x = conv(torch.tanh(conv(x, params["hidden"])), params["classifier"])
    return x.float(), None


@in_float32
def _normalized(image, stride):
    x = image / 255 if stride == 4 else F.avg_pool2d(image / 255, stride // 4)
    return local_contrast_normalize(x)


def embed_image(params: Params, seen: Maps, *, stride: int, sees: str, leak: float) -> Maps:
    """The image branch of `models.TwoBranch`, of pixels or of features."""
    if sees == "features":
        return rectify(conv(seen, params["image1"]), leak)
    with torch.no_grad():
        x = _normalized(seen, stride)
    for name in ("image1", "image2"):
        x = rectify(pool(conv(x, params[name])), leak)
    return x


def judge(params: Params, label_map: Maps, embedded: Maps, *, leak: float) -> Verdicts:
    """The logits of `models.TwoBranch` that blocks of the label map are ground truth."""
    x = torch.cat([rectify(conv(label_map, params["label"]), leak), embedded], 1)
    for name in ("fused1", "fused2"):
        x = rectify(pool(conv(x, params[name])), leak)
    x = rectify(conv(x, params["fused3"]), leak)
    return conv(x, params["prediction"])[:, 0].float()
