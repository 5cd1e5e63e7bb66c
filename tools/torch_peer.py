"""The networks and the update of this package in PyTorch, to time ours against.

Written as one would write them in PyTorch for speed: channels-last tensors, no gradient that nobody
uses, the image branch of the adversary and its verdict on the synthetic map computed once, the
update of all parameters in one call. Images fill their canvas, so that no masks are needed; void is
handled. `serve` runs in a process of its own, lest threads and memory of the two libraries
get in each other's way.
"""

import os
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from segadv_jax import VOID
from segadv_jax.models.layers import random_table
from segadv_jax.models.preprocessing import BINOMIAL, RGB_TO_YUV, gaussian


class Conv(nn.Module):
    """Convolution, zero-padded to the same size; with a `table` the connected kernels only."""

    def __init__(self, inputs, features, kernel, table=None):
        super().__init__()
        fan_in = inputs if table is None else len(table)
        self.weight = nn.Parameter(torch.empty(features, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(features))
        self.inputs, self.padding = inputs, kernel // 2
        self.register_buffer("table", None if table is None else torch.from_numpy(table.T.copy()))

    def forward(self, x):
        weight = self.weight
        if self.table is not None:
            dense = weight.new_zeros(len(weight), self.inputs, *weight.shape[2:])
            rows = torch.arange(len(weight))[:, None]
            weight = dense.index_put((rows, self.table), weight)
            weight = weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def window(taps, places, length):
    """Weighted means along an axis as a matrix, the weights renormalised at the border."""
    radius = len(taps) // 2
    offsets = np.arange(length)[None] - places[:, None]
    inside = np.abs(offsets) <= radius
    weights = np.where(inside, taps[np.clip(offsets + radius, 0, 2 * radius)], 0)
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def smooth(x, taps, step=1):
    """Smooths [n,c,H,W] and keeps every `step`-th pixel."""
    rows, columns = (window(taps, np.arange(0, s, step), s) for s in x.shape[2:])
    return rows @ x.contiguous() @ columns.T


def expand(x, shape):
    """Interpolates a level of the pyramid to the next finer one."""
    matrices = []
    for length, coarse in zip(shape, x.shape[2:], strict=True):
        offsets = 2 * np.arange(coarse)[None] - np.arange(length)[:, None]
        weights = np.where(np.abs(offsets) <= 2, BINOMIAL[np.clip(offsets + 2, 0, 4)], 0)
        weights = weights / weights.sum(1, keepdims=True)
        matrices.append(torch.from_numpy(weights.astype(np.float32)))
    return matrices[0] @ x @ matrices[1].T


def local_contrast_normalize(x):
    taps = gaussian(3.75, 7)
    centred = x - smooth(x, taps)
    deviation = smooth(centred.square(), taps).sqrt()
    mean = deviation.mean((2, 3), keepdim=True)
    return centred / torch.maximum(deviation, mean).clamp(min=1e-4)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


class MultiScale(nn.Module):
    """The segmenter, of stride 4."""

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

    def preprocess(self, image):
        image = torch.einsum("nchw,yc->nyhw", image / 255, self.yuv)
        levels = []
        for _ in range(self.levels - 1):
            smaller = smooth(image, BINOMIAL, 2)
            levels.append(image - expand(smaller, image.shape[2:]))
            image = smaller
        return [channels_last(local_contrast_normalize(x)) for x in [*levels, image]]

    def trunk(self, x):
        x = torch.cat([self.luma(x[:, :1]), self.chroma(x[:, 1:])], 1)
        x = torch.tanh(F.max_pool2d(channels_last(x), 2, ceil_mode=True))
        x = torch.tanh(F.max_pool2d(self.conv2(x), 2, ceil_mode=True))
        return torch.tanh(self.conv3(x))

    def forward(self, image):
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
    """The adversary; `see` is its image branch."""

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

    def see(self, image):
        with torch.no_grad():
            x = channels_last(local_contrast_normalize(image / 255))
        for conv in (self.image1, self.image2):
            x = F.max_pool2d(F.relu(conv(x)), 2, ceil_mode=True)
        return x

    def forward(self, label_map, seen):
        x = torch.cat([F.relu(self.label(label_map)), seen], 1)
        for i in range(1, self.fused + 1):
            x = F.relu(getattr(self, f"fused{i}")(x))
            if i <= 2:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        return self.prediction(x)[:, 0]


def load(module, tree):
    """Copies the parameters of the Flax module of the same name."""
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


def mean_bce(logits, is_real, weights):
    losses = F.softplus(-logits if is_real else logits)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


class Training:
    """Both networks, their optimizers, and the steps of `segadv_jax.steps` on tensors."""

    def __init__(self, segmenter, adversary, lam, rates, momentum, compiled):
        self.lam = lam
        self.networks = (segmenter, adversary)
        self.optimizers = [
            torch.optim.SGD(network.parameters(), rate, momentum=momentum, foreach=True)
            for network, rate in zip(self.networks, rates, strict=True)
        ]
        self.segment, self.judge, self.see = segmenter, adversary, adversary.see
        if compiled:
            # The verdict on the synthetic map is gone back through twice.
            torch._functorch.config.donated_buffer = False
            self.segment = torch.compile(segmenter)
            self.judge, self.see = torch.compile(adversary), torch.compile(adversary.see)

    def update(self, player, gradients):
        for parameter, gradient in zip(self.networks[player].parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizers[player].step()

    def train(self, image, label, turn):
        """One turn; returns the losses as {name: float}."""
        image = channels_last(image.permute(0, 3, 1, 2).float())
        label = label[:, 2::4, 2::4].long()
        segmenter, adversary = (list(network.parameters()) for network in self.networks)
        labelled = label != VOID
        losses = {}
        with torch.set_grad_enabled(turn != "adversary"):
            logits = self.segment(image)
            mce = F.cross_entropy(logits, label, ignore_index=VOID)
        losses["mce"] = mce
        objective = mce
        if turn != "standard":
            weights = F.max_pool2d(labelled.float(), 4, ceil_mode=True)
            synthetic = torch.softmax(logits, 1) * labelled[:, None]
            real = F.one_hot(torch.where(labelled, label, 0), logits.shape[1]) * labelled[..., None]
            real = real.permute(0, 3, 1, 2).float()
            for parameter in adversary:  # What takes no gradient costs no backward pass.
                parameter.requires_grad_(turn != "segmenter")
            seen = self.see(image)
            on_synthetic = self.judge(synthetic, seen)
        if turn in ("segmenter", "both"):
            term = mean_bce(on_synthetic, True, weights)
            losses["adversarial_term"] = term
            objective = mce + self.lam * term
        if turn in ("adversary", "both"):
            on_real = self.judge(real, seen)
            losses["bce_real"] = mean_bce(on_real, True, weights)
            losses["bce_synthetic"] = mean_bce(on_synthetic, False, weights)
            loss = losses["bce_real"] + losses["bce_synthetic"]
            gradients = torch.autograd.grad(loss, adversary, retain_graph=turn == "both")
        if turn != "adversary":
            self.update(0, torch.autograd.grad(objective, segmenter))
        if turn in ("adversary", "both"):
            self.update(1, gradients)
        return {name: value.item() for name, value in losses.items()}

    @torch.no_grad()  # Not inference mode, in which torch.compile refuses its own constants.
    def evaluate(self, image, label):
        """One batch of an evaluation; returns (confusion i64[C,C], mce)."""
        image = channels_last(image.permute(0, 3, 1, 2).float())
        logits = self.segment(image)
        mce = F.cross_entropy(logits, label[:, 2::4, 2::4].long(), ignore_index=VOID)
        probabilities = F.interpolate(torch.softmax(logits, 1), label.shape[1:], mode="bilinear")
        predicted, classes = probabilities.argmax(1), logits.shape[1]
        labelled = label != VOID
        index = label[labelled].long() * classes + predicted[labelled]
        confusion = torch.bincount(index, minlength=classes**2).reshape(classes, classes)
        return confusion.numpy(), mce.item()


def serve(connection, settings):
    """Answers the requests of `tools.benchmark` over a pipe until it says "end"."""
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    batches = {
        name: [torch.from_numpy(batch[key]) for key in ("image", "label")]
        for name, batch in settings["batches"].items()
    }
    params = settings["params"]
    classes = params["segmenter"]["classifier"]["bias"].shape[0]
    keywords = {key: settings[key] for key in ("lam", "rates", "momentum", "compiled")}

    def start():
        segmenter, adversary = MultiScale(classes, **settings["fields"]), TwoBranch(classes)
        load(segmenter, params["segmenter"])
        load(adversary, params["adversary"])
        networks = [x.to(memory_format=torch.channels_last) for x in (segmenter, adversary)]
        return Training(*networks, **keywords)

    training = start()
    connection.send(torch.__version__)
    while True:
        try:
            request, *arguments = connection.recv()
        except EOFError:  # The benchmark has ended early.
            return
        if request == "end":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            connection.send(peak / (2**20 if sys.platform == "darwin" else 2**10))
            return
        if request == "reset":
            training = start()
            connection.send(None)
            continue
        kind, count = arguments
        begin = time.perf_counter()
        for _ in range(count):
            if kind == "evaluate":
                losses = {"mce": training.evaluate(*batches["evaluate"])[1]}
            else:
                losses = training.train(*batches["train"], kind)
        connection.send((time.perf_counter() - begin, losses))
