"""Adversaries: networks that tell ground-truth label maps from a segmenter's (Section 3.2)."""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from segadv_jax import VOID
from segadv_jax.models.contracts import AdversaryModule
from segadv_jax.models.geometry import (
    AnyArray,
    CellLabels,
    CellMaps,
    Images,
    Pixels,
    Sizes,
    count_cells,
    inside,
    shrink,
)
from segadv_jax.models.layers import DTYPES, Conv, max_pool
from segadv_jax.models.preprocessing import local_contrast_normalize

_he_normal = nn.initializers.he_normal()
# Uniform within 1 / sqrt(fan-in): what Torch's convolutions begin with unless told otherwise.
_torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class TwoBranch(AdversaryModule):
    """The adversary for Stanford Background (Figure 1 of the paper and of its supplement).

    The label map and the locally contrast-normalised RGB image pass through a branch each; both
    have 64 channels when they are fused, so that neither signal dominates. After two poolings there
    are 4x4 = 16 times fewer predictions than label cells, each with a view of 30x30 cells. The
    channels are those in the figure; the paper does not print the kernel sizes, which come from an
    independent reimplementation. ReLU after every convolution but the last.

    Attributes:
        label_features: channels of the label branch.
        image_features: channels of the image branch, which is pooled after each of its two layers.
        fused_features: channels after the fusion; the first two layers are pooled.
        branch_kernel: kernel of both branches.
        fused_kernel: kernel after the fusion.
        stride: the segmenter's, a multiple of 4: area means bring the image to four times the
            resolution of the label maps.
        spectral_norm: divide each kernel by its largest singular value (`layers.Conv`).
    """

    label_features: int = 64
    image_features: Sequence[int] = (16, 64)
    fused_features: Sequence[int] = (128, 256, 512)
    branch_kernel: int = 5
    fused_kernel: int = 3
    stride: int = 4
    spectral_norm: bool = False

    block = 4

    def __post_init__(self) -> None:
        if self.stride % 4:
            raise ValueError(
                f"two_branch takes a segmenter whose stride is a multiple of 4, not {self.stride}"
            )
        if len(self.image_features) != 2:
            raise ValueError(f"image_features is {self.image_features}: set two numbers")
        if len(self.fused_features) < 2:
            raise ValueError(f"fused_features is {self.fused_features}: set two numbers or more")
        super().__post_init__()

    def setup(self) -> None:
        conv = functools.partial(Conv, kernel_init=_he_normal, spectral_norm=self.spectral_norm)

        def convs(name, widths, kernel):
            return [
                conv(features, kernel, name=f"{name}{i}") for i, features in enumerate(widths, 1)
            ]

        self.image = convs("image", self.image_features, self.branch_kernel)
        self.label = conv(self.label_features, self.branch_kernel)
        self.fused = convs("fused", self.fused_features, self.fused_kernel)
        self.prediction = conv(1, self.fused_kernel)

    def embed_image(self, image: Images, size: Sizes) -> Float[Array, "n h w features"]:
        """The image branch: its features at the label cells."""
        x, size = shrink(image / 255, size, self.stride // 4)
        x = local_contrast_normalize(x, size)
        for conv in self.image:
            x, size = nn.relu(max_pool(conv(x, size), size)), count_cells(size, 2)
        return x

    def judge(
        self,
        label_map: CellMaps,
        embedded: Float[AnyArray, "n _ _ features"],
        size: Sizes,
    ) -> Float[Array, "n rows columns 1"]:
        """The logits that blocks of a label map are ground truth: ceil(h/4) x ceil(w/4).

        Raises:
            ValueError: the label map has another number of cells than the image.
        """
        if embedded.shape[:3] != label_map.shape[:3]:
            raise ValueError(
                f"This adversary takes label maps at stride {self.stride}: "
                f"{embedded.shape[1:3]} cells for this image canvas, not {label_map.shape[1:3]}."
            )
        size = count_cells(size, self.stride)
        x = jnp.concatenate([nn.relu(self.label(label_map, size)), embedded], -1)
        for i, conv in enumerate(self.fused):
            x = conv(x, size)
            if i < 2:
                x, size = max_pool(x, size), count_cells(size, 2)
            x = nn.relu(x)
        return self.prediction(x, size)


POOL: Literal["pool"] = "pool"
Layer = tuple[int, int] | Literal["pool"]
# Supplement, Table 1: (kernel, maps) of each convolution, top to bottom.
FIELDS_OF_VIEW: dict[str, Sequence[Layer]] = {
    "largefov": (
        *((3, 96), (3, 128), (3, 128), POOL),
        *((3, 256), (3, 256), POOL),
        *((3, 512), (3, 2)),
    ),
    "smallfov": (
        *((3, 96), (1, 128), POOL),
        *((3, 256), (1, 256), POOL),
        *((3, 512), (1, 2)),
    ),
    "largefov_light": (
        *((3, 96), (3, 128), (3, 128), POOL),
        *((3, 128), (3, 128), POOL),
        *((3, 256), (3, 2)),
    ),
    "smallfov_light": (
        *((3, 96), (1, 128), POOL),
        *((3, 128), (1, 128), POOL),
        *((3, 256), (1, 2)),
    ),
}


class FieldOfView(AdversaryModule):
    """The adversaries for PASCAL VOC 2012 (supplement, Table 1): they see the label map alone.

    ReLU after every convolution but the last, which has a map for "synthetic" and one for "ground
    truth": under their softmax the logit that a map is ground truth is the difference. A prediction
    sees 34x34 label cells in LargeFOV, 18x18 in SmallFOV.

    The paper states neither the padding nor the initialisation. The latter is Torch's, with which
    the printed learning rates work. The *product* encoding shows colours in 0..255: a network that
    keeps the variance of its input has logits in the tens there and diverges after a single step at
    a rate of 0.1.

    Attributes:
        layers: one of `FIELDS_OF_VIEW`.
        stride: the segmenter's.
        padding: "same", zeros at the true border, or "valid": no prediction sees beyond the border,
            and the cells near it belong to no block.
        width: factor on all numbers of maps but the last. 1 is the paper's network.
        spectral_norm: divide each kernel by its largest singular value (`layers.Conv`).
        dtype: "float32" or "bfloat16", of the arithmetic; parameters and logits are float32.
    """

    layers: Sequence[Layer]
    stride: int = 8
    padding: str = "same"
    width: float = 1.0
    spectral_norm: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for field, known in (("padding", ("same", "valid")), ("dtype", tuple(DTYPES))):
            value = getattr(self, field)
            if value not in known:
                raise ValueError(f"{field} is {value!r}; known: {', '.join(known)}")
        if not 0 < self.width < math.inf:
            raise ValueError(f"width is {self.width}: set it above 0, to a finite number")
        super().__post_init__()

    @property
    def block(self) -> int:
        return 2 ** list(self.layers).count(POOL)

    @property
    def field_of_view(self) -> int:
        """Side in label cells of what one prediction sees."""
        return self.block + 2 * self._border()

    @property
    def least_cells(self) -> int:
        return 1 if self.padding == "same" else self.field_of_view

    def _border(self) -> int:
        """Label cells that a prediction sees on each side of its block."""
        border, jump = 0, 1
        for layer in self.layers:
            if layer == POOL:
                jump *= 2
            else:
                border += jump * (layer[0] // 2)
        return border

    def _predictions(self, cells: Pixels) -> Pixels:
        """Number of predictions along `cells`, an int or an integer array, without padding."""
        return (cells - self.field_of_view) // self.block + 1

    def block_labels(self, label: CellLabels, size: Sizes) -> UInt8[AnyArray, "n rows columns"]:
        """The cell labels of which `block` by `block` belong to one prediction.

        Without padding these are the cells in the blocks of the predictions, void where a
        prediction would see beyond the true border.
        """
        if self.padding == "same":
            return label
        border, predictions = self._border(), [self._predictions(side) for side in label.shape[1:]]
        cells = jnp.asarray(label)
        for axis, count in enumerate(predictions, 1):
            cells = lax.slice_in_dim(cells, border, border + self.block * count, axis=axis)
        blocks = self._predictions(count_cells(size, self.stride))
        return jnp.where(inside(self.block * blocks, cells.shape[1:])[..., 0], cells, VOID)

    @nn.compact
    def judge(
        self, label_map: CellMaps, embedded: None, size: Sizes
    ) -> Float[Array, "n rows columns 1"]:
        """The logits that blocks of a label map are ground truth: ceil(h/4) x ceil(w/4).

        Without padding there is one prediction less for every 4 cells by which the field of view
        exceeds the block.

        Raises:
            ValueError: the map is too small to be judged without padding.
        """
        del embedded
        if min(label_map.shape[1:3]) < self.least_cells:
            height, width = label_map.shape[1:3]
            raise ValueError(
                f"a label map of {height}x{width} cells is too small for this adversary without "
                f"padding, which sees {self.field_of_view}x{self.field_of_view}"
            )
        dtype, same = DTYPES[self.dtype], self.padding == "same"
        size = count_cells(size, self.stride)
        x, number = jnp.asarray(label_map, dtype), 0
        convolutions = sum(layer != POOL for layer in self.layers)
        for layer in self.layers:
            if layer == POOL:
                x, size = max_pool(x, size if same else None), count_cells(size, 2)
                continue
            (kernel, features), number = layer, number + 1
            if number < convolutions:
                features = max(1, round(self.width * features))
            x = Conv(
                features,
                kernel,
                padding=self.padding.upper(),
                kernel_init=_torch_uniform,
                spectral_norm=self.spectral_norm,
                dtype=dtype,
                name=f"conv{number}",
            )(x, size)
            if number < convolutions:
                x = nn.relu(x)
        synthetic, real = jnp.split(x.astype(jnp.float32), 2, -1)
        return real - synthetic
