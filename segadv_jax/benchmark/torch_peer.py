"""The networks of this package in PyTorch, their training and evaluation, to time ours against.

They are written for speed, as one would in PyTorch: tensors are channels-last, no gradient is taken
that nobody uses, the adversary's image branch and its verdict on the synthetic map are computed
once, and all parameters are updated in one call. Images fill their canvas, so no masks are needed.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import torch._functorch.config
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from segadv_jax import VOID
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.benchmark import torch_efficientnet
from segadv_jax.benchmark.contenders import CLASSES, LAM, MOMENTUM, RATES, Batches, Losses
from segadv_jax.models import MultiScale
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.layers import random_table
from segadv_jax.models.preprocessing import BINOMIAL, LEAST_CONTRAST, RGB_TO_YUV, WINDOW
from segadv_jax.train_state import split_frozen

Params = dict[str, Any]  # A tree of tensors, by the names of the Flax modules.
Maps = Float[Tensor, "n _ _ _"]  # Channels, height, width.
Images = Float[Tensor, "n 3 H W"]
Verdicts = Float[Tensor, "n p q"]
YUV = torch.from_numpy(RGB_TO_YUV)


def as_tensors(params: Params) -> Params:
    """Copies a tree of Flax's parameters, the dimensions of its kernels in PyTorch's order."""

    def copy(array):
        if array.ndim == 1:
            return torch.from_numpy(array.copy()).requires_grad_()
        kernel = array.reshape((1, 1, *array.shape)[-4:]).transpose(3, 2, 0, 1)
        return channels_last(torch.from_numpy(kernel.copy())).requires_grad_()

    return jax.tree.map(copy, params)


def connections(trunk: Params) -> list[Tensor | None]:
    """The connection tables of Flax's trunk's second and third layer; None where it is dense."""
    tables: list[Tensor | None] = []
    for layer in (2, 3):
        inputs = len(trunk[f"conv{layer - 1}"]["bias"])
        fan_in, features = trunk[f"conv{layer}"]["kernel"].shape[2:]
        table = random_table(inputs, fan_in, features, seed=layer)
        tables.append(None if len(table) == inputs else torch.from_numpy(table.T.copy()))
    return tables


def channels_last(x: Maps) -> Maps:
    """The same tensor with its channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def _conv(x, layer, table=None):
    """Convolution, zero-padded to the same size; with a `table` its kernels are sparse."""
    kernel = layer["kernel"]
    if table is not None:
        dense = kernel.new_zeros(len(kernel), x.shape[1], *kernel.shape[2:])
        rows = torch.arange(len(kernel))[:, None]
        kernel = channels_last(dense.index_put((rows, table), kernel))
    return F.conv2d(x, kernel, layer["bias"], padding=kernel.shape[-1] // 2)


def _pool(x):
    return F.max_pool2d(x, 2, ceil_mode=True)


def _filter(x, taps, offsets):
    """Weighted means along both axes, by the offset of each input from each output's middle."""
    radius, matrices = len(taps) // 2, []
    for offset in offsets:
        near = taps[np.clip(offset + radius, 0, 2 * radius)]
        weights = np.where(np.abs(offset) <= radius, near, 0)
        weights = weights / weights.sum(1, keepdims=True)  # Renormalised at the border.
        matrices.append(torch.from_numpy(weights.astype(np.float32)))
    return matrices[0] @ x.contiguous() @ matrices[1].T


def _smooth(x, taps, step=1):
    """Smooths [n,c,H,W] and keeps every `step`-th pixel."""
    return _filter(x, taps, [np.arange(s) - np.arange(0, s, step)[:, None] for s in x.shape[2:]])


def local_contrast_normalize(x: Maps) -> Maps:
    """Each channel less its local mean, divided by its local standard deviation."""
    centred = x - _smooth(x, WINDOW)
    deviation = _smooth(centred.square(), WINDOW).sqrt()
    mean = deviation.mean((2, 3), keepdim=True)
    return channels_last(centred / torch.maximum(deviation, mean).clamp(min=LEAST_CONTRAST))


@torch.no_grad()
def pyramid(image: Images) -> list[Maps]:
    """The three levels of the YUV image's pyramid, normalised, the finest first."""
    image = torch.einsum("nchw,yc->nyhw", image / 255, YUV)
    levels = []
    for _ in range(2):
        smaller = _smooth(image, BINOMIAL, 2)
        sides = zip(smaller.shape[2:], image.shape[2:], strict=True)
        offsets = [2 * np.arange(side) - np.arange(finer)[:, None] for side, finer in sides]
        levels.append(image - _filter(smaller, BINOMIAL, offsets))
        image = smaller
    return [local_contrast_normalize(x) for x in [*levels, image]]


def segment(params: Params, image: Images, *, tables: list[Tensor | None]) -> Maps:
    """The class logits of `models.MultiScale` at the label cells, of stride 4."""
    trunk, features = params["trunk"], []
    luma, chroma, bias = (trunk["conv1"][name] for name in ("luma", "chroma", "bias"))
    for level, x in enumerate(pyramid(image)):
        by_luma = F.conv2d(x[:, :1], luma, bias[: len(luma)], padding=3)
        by_chroma = F.conv2d(x[:, 1:], chroma, bias[len(luma) :], padding=3)
        x = torch.tanh(_pool(channels_last(torch.cat([by_luma, by_chroma], 1))))
        x = torch.tanh(_pool(_conv(x, trunk["conv2"], tables[0])))
        x = torch.tanh(_conv(x, trunk["conv3"], tables[1]))
        features.append(F.interpolate(x, scale_factor=2**level, mode="nearest"))
    height, width = features[0].shape[2:]
    x = torch.cat([x[..., :height, :width] for x in features], 1)
    return _conv(torch.tanh(_conv(x, params["hidden"])), params["classifier"])


def embed_image(params: Params, image: Images, *, stride: int) -> Maps:
    """The image branch of `models.TwoBranch`."""
    with torch.no_grad():
        x = image / 255 if stride == 4 else F.avg_pool2d(image / 255, stride // 4)
        x = local_contrast_normalize(x)
    for name in ("image1", "image2"):
        x = _pool(F.relu(_conv(x, params[name])))
    return x


def judge(params: Params, label_map: Maps, embedded: Maps) -> Verdicts:
    """The logits of `models.TwoBranch` that blocks of the label map are ground truth."""
    x = torch.cat([F.relu(_conv(label_map, params["label"])), embedded], 1)
    for name in ("fused1", "fused2"):
        x = _pool(F.relu(_conv(x, params[name])))
    return _conv(F.relu(_conv(x, params["fused3"])), params["prediction"])[:, 0]


def mean_bce(logits: Verdicts, is_real: bool, weights: Verdicts) -> Float[Tensor, ""]:
    """The mean of Eq. 1's binary cross-entropy over the weighted predictions."""
    losses = F.softplus(-logits if is_real else logits)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


class Training:
    """Both networks, their optimizers, and the steps of this package; as `contenders.Peer`."""

    def __init__(
        self, segmenter: SegmenterModule, batches: Batches, params: Params, compiled: bool
    ):
        self._initial, self._frozen, self._stride = params, segmenter.frozen, segmenter.stride
        self._batches = {
            kind: [torch.from_numpy(batch[name]) for name in ("image", "label")]
            for kind, batch in batches.items()
        }
        fields: dict[str, Any] = {"stride": segmenter.stride, "frozen": bool(segmenter.frozen)}
        functions: list[Callable] = [torch_efficientnet.segment, judge, embed_image]
        if isinstance(segmenter, MultiScale):
            functions[0], fields = segment, {"tables": connections(params[SEGMENTER]["trunk"])}
        if compiled:
            # The gradient passes through the verdict on the synthetic map twice.
            torch._functorch.config.donated_buffer = False
            functions = [torch.compile(function) for function in functions]
        self._segment = functools.partial(functions[0], **fields)
        self._judge = functions[1]
        self._embed_image = functools.partial(functions[2], stride=segmenter.stride)
        self.reset()

    def reset(self) -> None:
        self._params = as_tensors(self._initial)
        trained, frozen = split_frozen(self._params[SEGMENTER], self._frozen)
        for parameter in jax.tree.leaves(frozen):
            parameter.requires_grad_(False)
        players = self._params | {SEGMENTER: trained}
        self._leaves = {player: jax.tree.leaves(params) for player, params in players.items()}
        self._optimizers = {
            player: torch.optim.SGD(self._leaves[player], rate, momentum=MOMENTUM, foreach=True)
            for player, rate in zip((SEGMENTER, ADVERSARY), RATES, strict=True)
        }

    def run(self, kind: str, count: int) -> tuple[float, Losses]:
        begin = time.perf_counter()
        for _ in range(count):
            losses = {"mce": self.evaluate()[1]} if kind == "evaluate" else self.train(kind)
        return time.perf_counter() - begin, losses

    def train(self, turn: str) -> Losses:
        """Plays one turn; returns its losses."""
        image, label = self._batches[turn]
        label, theta, gradients = self._at_cells(label), self._params[ADVERSARY], {}
        for parameter in self._leaves[ADVERSARY]:  # What takes no gradient costs no backward pass.
            parameter.requires_grad_(turn != "segmenter")
        with torch.set_grad_enabled(turn != "adversary"):
            image, logits = self._logits(image)
            mce = F.cross_entropy(logits, label, ignore_index=VOID)
        losses, objective = {"mce": mce}, mce
        if turn != "standard":
            weights = F.max_pool2d((label != VOID).float(), 4, ceil_mode=True)
            real, synthetic = _encode(logits, label)
            embedded = self._embed_image(theta, image)
            on_synthetic = self._judge(theta, synthetic, embedded)
        if turn in ("segmenter", "both"):
            term = losses["adversarial_term"] = mean_bce(on_synthetic, True, weights)
            objective = mce + LAM * term
        if turn in ("adversary", "both"):
            on_real = self._judge(theta, real, embedded)
            losses["bce_real"] = mean_bce(on_real, True, weights)
            losses["bce_synthetic"] = mean_bce(on_synthetic, False, weights)
            loss = losses["bce_real"] + losses["bce_synthetic"]
            leaves = self._leaves[ADVERSARY]
            gradients[ADVERSARY] = torch.autograd.grad(loss, leaves, retain_graph=turn == "both")
        if turn != "adversary":
            gradients[SEGMENTER] = torch.autograd.grad(objective, self._leaves[SEGMENTER])
        for player in PLAYERS[turn]:
            for leaf, gradient in zip(self._leaves[player], gradients[player], strict=True):
                leaf.grad = gradient
            self._optimizers[player].step()
        return {name: value.item() for name, value in losses.items()}

    @torch.no_grad()  # Not inference mode, in which torch.compile refuses its own constants.
    def evaluate(self) -> tuple[Int64[np.ndarray, "C C"], float]:
        """Evaluates the batch: (confusion matrix, cross-entropy)."""
        image, label = self._batches["evaluate"]
        _, logits = self._logits(image)
        mce = F.cross_entropy(logits, self._at_cells(label), ignore_index=VOID)
        probabilities = F.interpolate(torch.softmax(logits, 1), label.shape[1:], mode="bilinear")
        predicted, labelled = probabilities.argmax(1), label != VOID
        index = label[labelled].long() * CLASSES + predicted[labelled]
        confusion = torch.bincount(index, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
        return confusion.numpy(), mce.item()

    def _logits(self, image):
        """(The image as the networks take it, the segmenter's logits.)"""
        image = channels_last(image.permute(0, 3, 1, 2).float())
        return image, self._segment(self._params[SEGMENTER], image)

    def _at_cells(self, label):
        """The labels at the label cells, as indices."""
        return label[:, self._stride // 2 :: self._stride, self._stride // 2 :: self._stride].long()


def _encode(logits, label):
    """The *basic* encoding: (real, synthetic), void zeroed in both."""
    labelled = label != VOID
    real = F.one_hot(torch.where(labelled, label, 0), CLASSES) * labelled[..., None]
    return real.permute(0, 3, 1, 2).float(), torch.softmax(logits, 1) * labelled[:, None]
