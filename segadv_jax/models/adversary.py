"""Adversaries: networks that tell ground-truth label maps from a segmenter's (Section 3.2)."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from segadv_jax import VOID, limits
from segadv_jax.models.contracts import AdversaryModule, Seen, Verdicts
from segadv_jax.models.geometry import Pixels, count_cells, inside, shrink
from segadv_jax.models.layers import (
    DTYPES,
    Conv,
    check_fields,
    max_pool,
    rectify,
    torch_uniform,
)
from segadv_jax.models.preprocessing import local_contrast_normalize
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps, Sizes

_he_normal = nn.initializers.he_normal()


class TwoBranch(AdversaryModule):
    """The adversary for Stanford Background (Figure 1 of the paper and of its supplement).

    The label map and the locally contrast-normalised RGB image pass through a branch each; both
    have 64 channels when they are fused, so that neither signal dominates. After two poolings there
    are 4x4 = 16 times fewer predictions than label cells, each with a view of 30x30 cells. The
    channels are those in the figure; the paper does not print the kernel sizes (5x5 in the
    branches, 3x3 after them), which come from an independent reimplementation. ReLU after every
    convolution but the last.

    The image branch can take the segmenter's own features instead of pixels, which is ours: they
    lie at the label cells, and a 1x1 convolution brings them to as many channels as the label
    branch has.
    """

    label_features: int = 64  # Channels of the label branch.
    # Those of the image branch on pixels; a pooling after each.
    image_features: Sequence[int] = (16, 64)
    fused_features: Sequence[int] = (128, 256, 512)  # After the fusion; a pooling after two.
    image_branch: str = "pixels"  # What it takes: "pixels", or the segmenter's "features".
    # A multiple of 4 on pixels: area means bring the image to four times the resolution of the
    # label maps.
    stride: int = 4
    leak: float = 0.0  # Slope of the ReLU below 0.
    spectral_norm: bool = False  # See `layers.Conv`.
    dtype: str = "float32"  # Of the arithmetic, or "bfloat16"; parameters and logits are float32.

    block = 4

    def __post_init__(self) -> None:
        check_fields(self, image_branch=("pixels", "features"), dtype=DTYPES)
        if self.image_branch == "pixels" and self.stride % 4:
            raise ValueError(
                f"two_branch takes a segmenter whose stride is a multiple of 4, not {self.stride}, "
                "unless image_branch is 'features'"
            )
        limits.check("label_features", self.label_features, limits.SIZE)
        limits.check_each("image_features", self.image_features, limits.SIZE, 2, 2)
        limits.check_each("fused_features", self.fused_features, limits.SIZE, 2, 16)
        super().__post_init__()

    def setup(self) -> None:
        conv = functools.partial(
            Conv,
            kernel_init=_he_normal,
            spectral_norm=self.spectral_norm,
            dtype=DTYPES[self.dtype],
        )

        def convs(name, widths, kernel):
            return [conv(maps, kernel, name=f"{name}{i}") for i, maps in enumerate(widths, 1)]

        if self.image_branch == "features":
            self.image = convs("image", (self.label_features,), 1)
        else:
            self.image = convs("image", self.image_features, 5)
        self.label = conv(self.label_features, 5)
        self.fused = convs("fused", self.fused_features, 3)
        self.prediction = conv(1, 3)

    @property
    def sees(self) -> str:
        return self.image_branch

    def embed_image(self, image: Seen, size: Sizes) -> Float[Array, "n h w features"]:
        """The image branch: its features at the label cells."""
        if self.image_branch == "features":
            (conv,) = self.image
            return rectify(conv(image, count_cells(size, self.stride)), self.leak)
        x, size = shrink(image / 255, size, self.stride // 4)
        x = local_contrast_normalize(x, size)
        for conv in self.image:
            x, size = rectify(max_pool(conv(x, size), size), self.leak), count_cells(size, 2)
        return x

    def judge(
        self, label_map: CellMaps, embedded: Float[AnyArray, "n _ _ features"], size: Sizes
    ) -> Verdicts:
        """The logits that blocks of a label map are ground truth: ceil(h/4) x ceil(w/4)."""
        x, size = self._fuse(label_map, embedded, size)
        return self.prediction(x, size).astype(jnp.float32)

    def describe(
        self, label_map: CellMaps, embedded: Float[AnyArray, "n _ _ features"], size: Sizes
    ) -> Float[Array, "n rows columns maps"]:
        """The maps before the last convolution."""
        return self._fuse(label_map, embedded, size)[0].astype(jnp.float32)

    def _fuse(self, label_map, embedded, size):
        """The maps of blocks, and their true numbers."""
        if embedded.shape[:3] != label_map.shape[:3]:
            raise ValueError(
                f"This adversary takes label maps at stride {self.stride}: "
                f"{embedded.shape[1:3]} cells for these {self.sees}, not {label_map.shape[1:3]}"
            )
        size = count_cells(size, self.stride)
        x = jnp.concatenate([rectify(self.label(label_map, size), self.leak), embedded], -1)
        for i, conv in enumerate(self.fused):
            x = conv(x, size)
            if i < 2:
                x, size = max_pool(x, size), count_cells(size, 2)
            x = rectify(x, self.leak)
        return x, size


Stages = Sequence[Sequence[tuple[int, int]]]
# Supplement, Table 1: (kernel, maps) of each convolution, top to bottom; a pooling between stages.
FIELDS_OF_VIEW: dict[str, Stages] = {
    "largefov": (((3, 96), (3, 128), (3, 128)), ((3, 256), (3, 256)), ((3, 512), (3, 2))),
    "smallfov": (((3, 96), (1, 128)), ((3, 256), (1, 256)), ((3, 512), (1, 2))),
    "largefov_light": (((3, 96), (3, 128), (3, 128)), ((3, 128), (3, 128)), ((3, 256), (3, 2))),
    "smallfov_light": (((3, 96), (1, 128)), ((3, 128), (1, 128)), ((3, 256), (1, 2))),
}


class FieldOfView(AdversaryModule):
    """The adversaries for PASCAL VOC 2012 (supplement, Table 1): they see the label map alone.

    ReLU after every convolution but the last, which has a map for "synthetic" and one for "ground
    truth": under their softmax the logit that a map is ground truth is the difference. A prediction
    sees 34x34 label cells in LargeFOV, 18x18 in SmallFOV.

    The paper states neither the padding nor the initialisation. The kernels' is Torch's, with which
    the printed learning rates work. The *product* encoding shows colours in 0..255: a network that
    keeps the variance of its input has logits in the tens there and diverges after a single step at
    a rate of 0.1.
    """

    stages: Stages
    stride: int = 8
    # "same": zeros at the true border. "valid": no prediction sees beyond the border, and the cells
    # near it belong to no block.
    padding: str = "same"
    width: float = 1.0  # Factor on all numbers of maps but the last; 1 is the paper's network.
    leak: float = 0.0  # Slope of the ReLU below 0.
    spectral_norm: bool = False  # See `layers.Conv`.
    dtype: str = "float32"  # Of the arithmetic, or "bfloat16"; parameters and logits are float32.

    def __post_init__(self) -> None:
        check_fields(self, padding=("same", "valid"), dtype=DTYPES)
        super().__post_init__()

    @property
    def block(self) -> int:
        return 2 ** (len(self.stages) - 1)

    @property
    def field_of_view(self) -> int:
        """Side in label cells of what one prediction sees."""
        return self.block + 2 * self._border()

    @property
    def least_cells(self) -> int:
        return 1 if self.padding == "same" else self.field_of_view

    def _border(self) -> int:
        """Label cells that a prediction sees on each side of its block."""
        kernels = [(2**i, kernel) for i, stage in enumerate(self.stages) for kernel, _ in stage]
        return sum(jump * (kernel // 2) for jump, kernel in kernels)

    def _predictions(self, cells: Pixels) -> Pixels:
        """Number of predictions along `cells` without padding."""
        return (cells - self.field_of_view) // self.block + 1

    def block_labels(self, label: CellLabels, size: Sizes) -> UInt8[AnyArray, "n rows columns"]:
        """The cell labels of which `block` by `block` belong to one prediction.

        Without padding these are the cells in the blocks of the predictions, void where a
        prediction would see beyond the true border.
        """
        if self.padding == "same":
            return label
        border, cells = self._border(), jnp.asarray(label)
        for axis, side in ((1, label.shape[1]), (2, label.shape[2])):
            end = border + self.block * self._predictions(side)
            cells = lax.slice_in_dim(cells, border, end, axis=axis)
        blocks = self._predictions(count_cells(size, self.stride))
        return jnp.where(inside(self.block * blocks, cells.shape[1:])[..., 0], cells, VOID)

    def judge(self, label_map: CellMaps, embedded: None, size: Sizes) -> Verdicts:
        """The logits that blocks of a label map are ground truth: ceil(h/4) x ceil(w/4).

        Without padding there are floor((h - field of view) / 4) + 1 in a column and as many in a
        row, and too small a map raises a ValueError.
        """
        del embedded
        synthetic, real = jnp.split(self._convolve(label_map, size)[1].astype(jnp.float32), 2, -1)
        return real - synthetic

    def describe(
        self, label_map: CellMaps, embedded: None, size: Sizes
    ) -> Float[Array, "n rows columns maps"]:
        """The maps before the last convolution, of as many blocks as there are predictions.

        Without padding, those of a last convolution that takes more than one cell are cut to them.
        """
        del embedded
        maps, last = self._convolve(label_map, size)
        cut = (maps.shape[1] - last.shape[1]) // 2
        return maps[:, cut : cut + last.shape[1], cut : cut + last.shape[2]].astype(jnp.float32)

    @nn.compact
    def _convolve(self, label_map, size):
        """The maps before the last convolution, and after it."""
        height, width = label_map.shape[1:3]
        if min(height, width) < self.least_cells:
            raise ValueError(
                f"a label map of {height}x{width} cells is too small for this adversary without "
                f"padding, which sees {self.field_of_view}x{self.field_of_view}"
            )
        dtype, padding, size = DTYPES[self.dtype], self.padding, count_cells(size, self.stride)
        conv = functools.partial(
            Conv, kernel_init=torch_uniform, spectral_norm=self.spectral_norm, dtype=dtype
        )
        x, number, total = jnp.asarray(label_map, dtype), 0, sum(map(len, self.stages))
        before = x
        for pooled, stage in enumerate(self.stages):
            if pooled:
                x, size = max_pool(x, size if padding == "same" else None), count_cells(size, 2)
            for kernel, maps in stage:
                number += 1
                before, features = x, maps if number == total else max(1, round(self.width * maps))
                x = conv(features, kernel, padding=padding.upper(), name=f"conv{number}")(x, size)
                x = x if number == total else rectify(x, self.leak)
        return before, x
