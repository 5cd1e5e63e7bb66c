"""Training and evaluation in PyTorch, to time ours against.

As one would write them in PyTorch for speed: the image branch of the adversary and its verdict on
the synthetic map are computed once, and all parameters are updated in one call. `serve` runs in a
process of its own, so that threads and memory of the two libraries do not get in each other's way.
"""

import os
import time
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from segadv_jax import VOID
from segadv_jax.benchmark.measure import peak_resident_mib
from segadv_jax.benchmark.torch_networks import MultiScale, TwoBranch, channels_last, load


def mean_bce(
    logits: Float[Tensor, "n p q"], is_real: bool, weights: Float[Tensor, "n p q"]
) -> Float[Tensor, ""]:
    """The mean of Eq. 1's binary cross-entropy over the weighted predictions."""
    losses = F.softplus(-logits if is_real else logits)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


class Training:
    """Both networks, their optimizers, and the steps of this package on tensors.

    Args:
        segmenter, adversary: the networks, initialised.
        lam: lambda of Eq. 1.
        rates: each player's learning rate.
        momentum: of both.
        compiled: with torch.compile.
    """

    def __init__(
        self,
        segmenter: MultiScale,
        adversary: TwoBranch,
        lam: float,
        rates: tuple[float, float],
        momentum: float,
        compiled: bool,
    ):
        self.lam = lam
        self.networks: list[nn.Module] = [segmenter, adversary]
        self.optimizers = [
            torch.optim.SGD(network.parameters(), rate, momentum=momentum, foreach=True)
            for network, rate in zip(self.networks, rates, strict=True)
        ]
        functions = (segmenter, adversary, adversary.embed_image)
        if compiled:
            # The gradient passes through the verdict on the synthetic map twice.
            torch._functorch.config.donated_buffer = False
            functions = tuple(map(torch.compile, functions))
        self.segment, self.judge, self.embed_image = functions

    def train(
        self, image: UInt8[Tensor, "n H W 3"], label: UInt8[Tensor, "n H W"], turn: str
    ) -> dict[str, float]:
        """Plays one turn; returns its losses."""
        image = channels_last(image.permute(0, 3, 1, 2).float())
        label = label[:, 2::4, 2::4].long()
        segmenter, adversary = (list(network.parameters()) for network in self.networks)
        for parameter in adversary:  # What takes no gradient costs no backward pass.
            parameter.requires_grad_(turn != "segmenter")
        with torch.set_grad_enabled(turn != "adversary"):
            logits = self.segment(image)
            mce = F.cross_entropy(logits, label, ignore_index=VOID)
        losses, objective = {"mce": mce}, mce
        if turn != "standard":
            weights = F.max_pool2d((label != VOID).float(), 4, ceil_mode=True)
            real, synthetic = _encode(logits, label)
            embedded = self.embed_image(image)
            on_synthetic = self.judge(synthetic, embedded)
        if turn in ("segmenter", "both"):
            term = losses["adversarial_term"] = mean_bce(on_synthetic, True, weights)
            objective = mce + self.lam * term
        if turn in ("adversary", "both"):
            losses["bce_real"] = mean_bce(self.judge(real, embedded), True, weights)
            losses["bce_synthetic"] = mean_bce(on_synthetic, False, weights)
            loss = losses["bce_real"] + losses["bce_synthetic"]
            gradients = torch.autograd.grad(loss, adversary, retain_graph=turn == "both")
        if turn != "adversary":
            self._update(0, torch.autograd.grad(objective, segmenter))
        if turn in ("adversary", "both"):
            self._update(1, gradients)
        return {name: value.item() for name, value in losses.items()}

    def _update(self, player, gradients):
        for parameter, gradient in zip(self.networks[player].parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizers[player].step()

    @torch.no_grad()  # Not inference mode, in which torch.compile refuses its own constants.
    def evaluate(
        self, image: UInt8[Tensor, "n H W 3"], label: UInt8[Tensor, "n H W"]
    ) -> tuple[Int64[np.ndarray, "C C"], float]:
        """Evaluates one batch: (confusion matrix, cross-entropy)."""
        image = channels_last(image.permute(0, 3, 1, 2).float())
        logits = self.segment(image)
        mce = F.cross_entropy(logits, label[:, 2::4, 2::4].long(), ignore_index=VOID)
        probabilities = F.interpolate(torch.softmax(logits, 1), label.shape[1:], mode="bilinear")
        predicted, classes = probabilities.argmax(1), logits.shape[1]
        labelled = label != VOID
        index = label[labelled].long() * classes + predicted[labelled]
        confusion = torch.bincount(index, minlength=classes**2).reshape(classes, classes)
        return confusion.numpy(), mce.item()


def _encode(logits, label):
    """The *basic* encoding: (real, synthetic), void zeroed in both."""
    labelled = label != VOID
    real = F.one_hot(torch.where(labelled, label, 0), logits.shape[1]) * labelled[..., None]
    return real.permute(0, 3, 1, 2).float(), torch.softmax(logits, 1) * labelled[:, None]


def serve(connection: Connection) -> None:
    """Answers the requests of `contenders.Peer`, after its settings, until it says "end"."""
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    (settings,) = connection.recv()
    batches = {
        name: [torch.from_numpy(batch[key]) for key in ("image", "label")]
        for name, batch in settings["batches"].items()
    }
    training = _start(settings)
    connection.send(torch.__version__)
    while True:
        try:
            request, *arguments = connection.recv()
        except EOFError:  # The benchmark has ended early.
            return
        if request == "end":
            connection.send(peak_resident_mib())
            return
        if request == "reset":
            training = _start(settings)
            connection.send(None)
        else:
            connection.send(_run(training, batches, *arguments))


def _start(settings):
    """The training before its first step."""
    params = settings["params"]
    classes = len(params["segmenter"]["classifier"]["bias"])
    networks = MultiScale(classes, **settings["fields"]), TwoBranch(classes)
    for network, player in zip(networks, ("segmenter", "adversary"), strict=True):
        load(network, params[player])
        network.to(memory_format=torch.channels_last)
    names = ("lam", "rates", "momentum", "compiled")
    return Training(*networks, **{name: settings[name] for name in names})


def _run(training, batches, kind, count):
    """`count` steps: (seconds, the last step's losses)."""
    begin = time.perf_counter()
    for _ in range(count):
        if kind == "evaluate":
            losses = {"mce": training.evaluate(*batches["evaluate"])[1]}
        else:
            losses = training.train(*batches["train"], kind)
    return time.perf_counter() - begin, losses
