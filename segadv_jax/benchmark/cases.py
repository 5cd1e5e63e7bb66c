"""What is timed: networks with their adversaries, kinds of work, and images full of noise."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from segadv_jax import VOID
from segadv_jax.alternation import PLAYERS
from segadv_jax.augment import Augmentation
from segadv_jax.data import Batch
from segadv_jax.models import ADVERSARIES, EfficientNetLite, MultiScale, TwoBranch
from segadv_jax.models.adversary import FIELDS_OF_VIEW
from segadv_jax.models.contracts import AdversaryModule, SegmenterModule
from segadv_jax.models.dilated8 import Dilated8

# The turns; both players' on patches that are cut, flipped, rotated and scaled from whole images;
# evaluation; whole images to class probabilities at their pixels, and one image alone.
KINDS = (*PLAYERS, "augmented", "evaluate", "predict", "latency")
ON_ONE_DEVICE = ("predict", "latency")  # As the command `predict` works.
IMAGE = (240, 320)  # Height and width of most images of Stanford Background.
# Those of configs/stanford.py.
MOMENTUM, LAM = 0.9, 2 / 16
AUGMENTATION = Augmentation(crop=160, flip=True, rotation=8.0, scale=(0.9, 1.1))

Batches = Mapping[str, Batch]  # By kind of work.


@dataclasses.dataclass(frozen=True)
class Case:
    """A segmenter, its adversary, and how that is shown label maps."""

    segmenter: SegmenterModule
    adversary: AdversaryModule
    encoding: str = "basic"  # Of `encodings.ENCODINGS`.
    rates: tuple[float, float] = (0.02, 1e-3)  # The players' learning rates, of SGD.
    gain: float = 2.0  # Of the initial kernels, times their inputs: the variance of each weight.

    @property
    def dtype(self) -> str:
        """Of the arithmetic: "float32" or "bfloat16"."""
        return getattr(self.segmenter, "dtype", "float32")


def _multiscale(width, dtype, sparse):
    """That of configs/stanford.py."""

    def maps(*numbers):
        return tuple(max(2, round(width * number)) for number in numbers)

    segmenter = MultiScale(
        8, widths=maps(16, 64, 256), hidden=maps(1024)[0], sparse=sparse, dtype=dtype
    )
    adversary = TwoBranch(
        label_features=maps(64)[0],
        image_features=maps(16, 64),
        fused_features=maps(128, 256, 512),
        stride=segmenter.stride,
        dtype=dtype,
    )
    return Case(segmenter, adversary)


def _light(width, dtype, freeze):
    """That of configs/stanford_light.py; only EfficientNet-Lite0 as it is has weights."""
    del width
    segmenter = EfficientNetLite(8, freeze=freeze, dtype=dtype)
    adversary = TwoBranch(
        image_branch="features",
        label_features=32,
        fused_features=(64, 128, 128),
        leak=0.2,
        stride=segmenter.stride,
        dtype=dtype,
    )
    return Case(segmenter, adversary, gain=1.4)


def _dilated8(width, dtype, adversary):
    """That of configs/voc_largefov.py:product, without dropout: masks are each program's own.

    Over its many layers the initial weights take colours in 0..255 to logits of about 1.
    """
    segmenter = Dilated8(21, width=width, dropout=0.0, dtype=dtype)
    judge = ADVERSARIES[adversary](stride=segmenter.stride, width=width, dtype=dtype)
    return Case(segmenter, judge, "product", rates=(1e-6, 1e-4), gain=1.4)


# By name: from the factor on the numbers of maps and the type of the arithmetic.
NETWORKS: dict[str, Callable[[float, str], Case]] = {
    "multiscale": functools.partial(_multiscale, sparse=True),
    "multiscale_dense": functools.partial(_multiscale, sparse=False),
    "efficientnet_lite0": functools.partial(_light, freeze="backbone"),
    "efficientnet_lite0_tuned": functools.partial(_light, freeze="none"),
} | {f"dilated8_{name}": functools.partial(_dilated8, adversary=name) for name in FIELDS_OF_VIEW}


def noise(batch_size: int, height: int, width: int, classes: int = 8) -> Batch:
    """A batch with random pixels, and random labels in squares, some of them void."""
    random = np.random.RandomState(0)
    label = random.randint(0, classes, (batch_size, -(-height // 8), -(-width // 8)))
    label = np.where(random.uniform(size=label.shape) < 0.1, VOID, label).astype(np.uint8)
    return {
        "image": random.randint(0, 256, (batch_size, height, width, 3)).astype(np.uint8),
        "label": label.repeat(8, 1).repeat(8, 2)[:, :height, :width],
        "size": np.tile(np.array([height, width], np.int32), (batch_size, 1)),
        "mask": np.ones(batch_size, np.float32),
    }
