"""Training, evaluation and prediction in PyTorch, to time ours against.

Written for speed, as one would in PyTorch: tensors are channels-last, no gradient is taken that
nobody uses, the adversary's image branch and its verdict on the synthetic map are computed once,
all parameters are updated in one call, and nothing waits for the device while steps are made. With
"bfloat16" the networks run under `torch.autocast`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import torch
import torch._functorch.config
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segadv_jax import VOID
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.benchmark import torch_dilated8, torch_efficientnet, torch_multiscale
from segadv_jax.benchmark.cases import LAM, MOMENTUM, ON_ONE_DEVICE, Batches, Case
from segadv_jax.benchmark.contenders import EVERY, Found, peak_resident_mib
from segadv_jax.benchmark.torch_layers import Maps, Params, as_tensors, channels_last
from segadv_jax.models import EfficientNetLite, TwoBranch
from segadv_jax.models.dilated8 import Dilated8
from segadv_jax.train_state import split_frozen

Verdicts = Float[Tensor, "n p q"]


def functions(case: Case, params: Params) -> list[Callable[..., Any]]:
    """A case's networks: (parameters, image) -> (logits, features); `embed_image`; `judge`."""
    segmenter, adversary = case.segmenter, case.adversary
    if isinstance(segmenter, Dilated8):
        segment: Callable = torch_dilated8.segment
    elif isinstance(segmenter, EfficientNetLite):
        fields: dict[str, Any] = {"stride": segmenter.stride, "frozen": bool(segmenter.frozen)}
        segment = functools.partial(torch_efficientnet.segment, **fields)
    else:
        tables = torch_multiscale.connections(params[SEGMENTER]["trunk"])
        segment = functools.partial(torch_multiscale.segment, tables=tables)
    leak = {"leak": adversary.leak}
    if not isinstance(adversary, TwoBranch):
        judge = functools.partial(torch_dilated8.judge, stages=adversary.stages, **leak)
        return [segment, torch_dilated8.embed_image, judge]
    fields = {"stride": segmenter.stride, "sees": adversary.sees, **leak}
    embed_image = functools.partial(torch_multiscale.embed_image, **fields)
    return [segment, embed_image, functools.partial(torch_multiscale.judge, **leak)]


def mean_bce(logits: Verdicts, is_real: bool, weights: Verdicts) -> Float[Tensor, ""]:
    """The mean of Eq. 1's binary cross-entropy over the weighted predictions."""
    losses = F.softplus(-logits if is_real else logits)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


class Training:
    """Both networks, their optimizers, and the steps of this package; as `contenders.Peer`."""

    def __init__(
        self,
        case: Case,
        batches: Batches,
        params: Params,
        compiled: bool,
        device: str = "cpu",
        exact: bool = True,
    ):
        self._case, self._initial, self._device = case, params, device
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not exact
        self._batches = {
            kind: [
                torch.from_numpy(batch[name]).to("cpu" if kind in ON_ONE_DEVICE else device)
                for name in ("image", "label")
            ]
            for kind, batch in batches.items()
        }
        self.reset()
        networks = functions(case, self._params)
        if compiled:
            # The gradient passes through the verdict on the synthetic map twice.
            torch._functorch.config.donated_buffer = False
            networks = [torch.compile(network) for network in networks]
        self._segment, self._embed_image, self._judge = networks

    def reset(self) -> None:
        self._params = as_tensors(self._initial, self._device)
        trained, frozen = split_frozen(self._params[SEGMENTER], self._case.segmenter.frozen)
        for parameter in jax.tree.leaves(frozen):
            parameter.requires_grad_(False)
        players = self._params | {SEGMENTER: trained}
        self._leaves = {player: jax.tree.leaves(params) for player, params in players.items()}
        self._optimizers = {
            player: torch.optim.SGD(self._leaves[player], rate, momentum=MOMENTUM, foreach=True)
            for player, rate in zip((SEGMENTER, ADVERSARY), self._case.rates, strict=True)
        }

    def run(self, kind: str, count: int) -> tuple[float, Found]:
        self._wait()
        begin = time.perf_counter()
        for _ in range(count):
            found = self.step(kind)
        self._wait()
        seconds = time.perf_counter() - begin
        if kind in ON_ONE_DEVICE:
            return seconds, {"probabilities": found["probabilities"][:, ::EVERY, ::EVERY].numpy()}
        return seconds, {name: x.item() for name, x in found.items() if name != "confusion"}

    def peak_mib(self) -> float:
        """The most memory that this process has had, on the device that it ran on."""
        if self._device == "cpu":
            return peak_resident_mib()
        return torch.cuda.max_memory_allocated() / 2**20

    def step(self, kind: str) -> dict[str, Tensor]:
        """One step; what it found."""
        if kind in ON_ONE_DEVICE:
            return {"probabilities": self._predict(kind)}
        return self._evaluate() if kind == "evaluate" else self._train(kind)

    def _wait(self):
        if self._device != "cpu":
            torch.cuda.synchronize()

    def _networks(self):
        """The context in which the networks are called."""
        enabled = self._case.dtype == "bfloat16"
        return torch.autocast(self._device, torch.bfloat16, enabled=enabled)

    def _train(self, turn: str) -> dict[str, Tensor]:
        """Plays one turn; returns its losses."""
        image, label = self._batches[turn]
        label, theta, gradients = self._at_cells(label), self._params[ADVERSARY], {}
        for parameter in self._leaves[ADVERSARY]:  # What takes no gradient costs no backward pass.
            parameter.requires_grad_(turn != "segmenter")
        with torch.set_grad_enabled(turn != "adversary"):
            image, logits, features = self._look(image)
            mce = F.cross_entropy(logits, label, ignore_index=VOID)
        losses, objective = {"mce": mce.detach()}, mce
        if turn != "standard":
            weights = F.max_pool2d((label != VOID).float(), 4, ceil_mode=True)
            real, synthetic = self._encode(logits, label, image)
            with self._networks():
                embedded = self._embed_image(theta, image if features is None else features)
                on_synthetic = self._judge(theta, synthetic, embedded)
        if turn in ("segmenter", "both"):
            term = mean_bce(on_synthetic, True, weights)
            losses["adversarial_term"], objective = term.detach(), mce + LAM * term
        if turn in ("adversary", "both"):
            with self._networks():
                on_real = self._judge(theta, real, embedded)
            terms = {
                "bce_real": mean_bce(on_real, True, weights),
                "bce_synthetic": mean_bce(on_synthetic, False, weights),
            }
            losses |= {name: term.detach() for name, term in terms.items()}
            gradients[ADVERSARY] = torch.autograd.grad(
                sum(terms.values()), self._leaves[ADVERSARY], retain_graph=turn == "both"
            )
        if turn != "adversary":
            gradients[SEGMENTER] = torch.autograd.grad(objective, self._leaves[SEGMENTER])
        for player in PLAYERS[turn]:
            for leaf, gradient in zip(self._leaves[player], gradients[player], strict=True):
                leaf.grad = gradient
            self._optimizers[player].step()
        return losses

    @torch.no_grad()  # Not inference mode, in which torch.compile refuses its own constants.
    def _evaluate(self) -> dict[str, Tensor]:
        """Evaluates the batch: {"confusion": i64[C,C], "mce"}."""
        image, label = self._batches["evaluate"]
        _, logits, _ = self._look(image)
        mce = F.cross_entropy(logits, self._at_cells(label), ignore_index=VOID)
        predicted, labelled = self._at_pixels(logits).argmax(1), label != VOID
        classes = logits.shape[1]
        # Void has an index of its own, beyond the last.
        index = torch.where(labelled, label.long() * classes + predicted, classes**2)
        confusion = torch.bincount(index.flatten(), minlength=classes**2 + 1)[:-1]
        return {"mce": mce, "confusion": confusion.reshape(classes, classes)}

    @torch.no_grad()
    def _predict(self, kind: str) -> Float[Tensor, "n H W C"]:
        """Class probabilities at the pixels, from main memory to main memory."""
        image, _ = self._batches[kind]
        _, logits, _ = self._look(image.to(self._device))
        return self._at_pixels(logits).permute(0, 2, 3, 1).contiguous().cpu()

    def _look(self, image):
        """(The image without its margin, f32[n,3,H,W]; logits; what an adversary sees.)"""
        image = image.permute(0, 3, 1, 2)
        wide = torch_dilated8.with_margin(image, self._case.segmenter.margin)
        with self._networks():
            logits, features = self._segment(self._params[SEGMENTER], channels_last(wide.float()))
        return channels_last(image.float()), logits, features

    def _at_cells(self, label):
        """The labels at the label cells, as indices."""
        first, stride = int(self._case.segmenter.offset + 0.5), self._case.segmenter.stride
        return label[:, first::stride, first::stride].long()

    def _at_pixels(self, logits: Maps) -> Maps:
        """Class probabilities at the pixels of images whose sides are multiples of the stride."""
        stride, x = self._case.segmenter.stride, torch.softmax(logits, 1)
        if self._case.segmenter.offset:
            return F.interpolate(x, scale_factor=stride, mode="bilinear")
        height, width = (stride * (cells - 1) + 1 for cells in x.shape[2:])
        x = F.interpolate(x, (height, width), mode="bilinear", align_corners=True)
        return F.pad(x, (0, stride - 1) * 2, "replicate")

    def _encode(self, logits, label, image):
        """(real, synthetic) of the case's encoding, void zeroed in both."""
        classes, labelled = logits.shape[1], label != VOID
        real = F.one_hot(torch.where(labelled, label, 0), classes) * labelled[..., None]
        maps = real.permute(0, 3, 1, 2).float(), torch.softmax(logits, 1) * labelled[:, None]
        if self._case.encoding == "product":
            colours = torch_dilated8.colours(image)[:, None]
            maps = tuple((x[:, :, None] * colours).flatten(1, 2) for x in maps)
        return [channels_last(x) for x in maps]
