"""Adversaries: networks that tell ground-truth label maps from a segmenter's (Section 3.2)."""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from segadv_jax import VOID
from segadv_jax.models.geometry import count_cells, inside, shrink
from segadv_jax.models.layers import DTYPES, Conv, max_pool
from segadv_jax.models.preprocessing import local_contrast_normalize

_he_normal = nn.initializers.he_normal()
# Uniform within 1 / sqrt(fan-in): what Torch's convolutions begin with unless told otherwise.
_torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class TwoBranch(nn.Module):
    """The adversary for Stanford Background (Figure 1 of the paper and of its supplement).

    The label map and the locally contrast-normalised RGB image pass through a branch each; both
    have 64 channels when they are fused, lest one signal dominates. Two poolings after that leave
    4x4 = 16 times fewer predictions than label cells, each with a view of 30x30 cells. Channels are
    those drawn in the figure; the paper does not print the kernel sizes, which come from an
    independent reimplementation. ReLU after every convolution but the last.

    Attributes:
      label_features: channels of the label branch.
      image_features: channels of the image branch, which is pooled after each of its two layers.
      fused_features: channels after the fusion; the first two layers are pooled.
      branch_kernel: kernel of both branches.
      fused_kernel: kernel after the fusion.
      stride: the segmenter's, a multiple of 4: the image is seen at four times the label maps'
        resolution, by area means.
      spectral_norm: divide each kernel by its largest singular value (``layers.Conv``).
    """

    label_features: int = 64
    image_features: Sequence[int] = (16, 64)
    fused_features: Sequence[int] = (128, 256, 512)
    branch_kernel: int = 5
    fused_kernel: int = 3
    stride: int = 4
    spectral_norm: bool = False

    def __post_init__(self):
        if self.stride % 4:
            raise ValueError(
                f"two_branch takes a segmenter whose stride is a multiple of 4, not {self.stride}"
            )
        if len(self.image_features) != 2:
            raise ValueError(f"image_features is {self.image_features}: set two numbers")
        if len(self.fused_features) < 2:
            raise ValueError(f"fused_features is {self.fused_features}: set two numbers or more")
        super().__post_init__()

    # Side, in label cells, of the block that is pooled into one prediction.
    block = 4
    least_cells = 1  # The least side of a map that any prediction can be made of.

    def setup(self):
        conv = functools.partial(Conv, kernel_init=_he_normal, spectral_norm=self.spectral_norm)

        def convs(name, widths, kernel):
            return [
                conv(features, kernel, name=f"{name}{i}") for i, features in enumerate(widths, 1)
            ]

        self.image = convs("image", self.image_features, self.branch_kernel)
        self.label = conv(self.label_features, self.branch_kernel)
        self.fused = convs("fused", self.fused_features, self.fused_kernel)
        self.prediction = conv(1, self.fused_kernel)

    def see(self, image, size):
        """The image branch, which looks at the image once for both of its label maps.

        Args:
          image: f32[n,H,W,3], RGB in 0..255.
          size: i32[n,2] true image sizes in pixels.

        Returns:
          f32[n,h,w,64], at the label cells.
        """
        x, size = shrink(image / 255, size, self.stride // 4)
        x = local_contrast_normalize(x, size)
        for conv in self.image:
            x, size = nn.relu(max_pool(conv(x, size), size)), count_cells(size, 2)
        return x

    def judge(self, label_map, seen, size):
        """Logit that a label map is ground truth.

        Args:
          label_map: f32[n,h,w,C'], encoded, at the segmenter's stride.
          seen: f32[n,h,w,64], of ``see``.
          size: i32[n,2] true image sizes in pixels.

        Returns:
          f32[n,ceil(h/4),ceil(w/4),1].
        """
        if seen.shape[:3] != label_map.shape[:3]:
            raise ValueError(
                f"This adversary takes label maps at stride {self.stride}, {seen.shape[1:3]} cells "
                f"for this image canvas, and got {label_map.shape[1:3]}."
            )
        size = count_cells(size, self.stride)
        x = jnp.concatenate([nn.relu(self.label(label_map, size)), seen], -1)
        for i, conv in enumerate(self.fused):
            x = conv(x, size)
            if i < 2:
                x, size = max_pool(x, size), count_cells(size, 2)
            x = nn.relu(x)
        return self.prediction(x, size)

    def judged(self, label, size):
        """The cell labels u8[n,h,w] that ``block`` by ``block`` belong to one prediction: all."""
        del size
        return label

    def __call__(self, label_map, image, size):
        """``judge`` of a label map beside its image: f32[n,ceil(h/4),ceil(w/4),1]."""
        return self.judge(label_map, self.see(image, size), size)


# Supplement, Table 1: (kernel, maps) of each convolution, top to bottom.
POOL = "pool"
FIELDS_OF_VIEW = {
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


class FieldOfView(nn.Module):
    """The adversaries for PASCAL VOC 2012 (supplement, Table 1): they see the label map alone.

    ReLU after every convolution but the last, which has a map for "synthetic" and one for "ground
    truth": under their softmax the logit that a map is ground truth is the difference. A prediction
    sees 34x34 label cells in LargeFOV, 18x18 in SmallFOV. The paper states neither the padding nor
    the initialisation. The latter is Torch's, with which the printed learning rates work: shown
    colours in steps of 0..255, as *product* does, a network that keeps its input's variance gives
    logits in the tens and is gone after a single step at a rate of 0.1.

    Attributes:
      layers: one of ``FIELDS_OF_VIEW``.
      stride: the segmenter's.
      padding: "same", zeros at the true border, or "valid": no prediction sees beyond the border,
        and what lies near it is judged in nobody's block.
      width: the numbers of maps, but the last, are multiplied by this. 1 is the paper's network.
      spectral_norm: divide each kernel by its largest singular value (``layers.Conv``).
      dtype: "float32" or "bfloat16", of the arithmetic; parameters and logits are float32.
    """

    layers: Sequence[tuple[int, int] | str]
    stride: int = 8
    padding: str = "same"
    width: float = 1.0
    spectral_norm: bool = False
    dtype: str = "float32"

    def __post_init__(self):
        for field, known in (("padding", ("same", "valid")), ("dtype", tuple(DTYPES))):
            value = getattr(self, field)
            if value not in known:
                raise ValueError(f"{field} is {value!r}; known: {', '.join(known)}")
        if not 0 < self.width < math.inf:
            raise ValueError(f"width is {self.width}: set it above 0, to a finite number")
        super().__post_init__()

    @property
    def block(self):
        """Side, in label cells, of the block that is pooled into one prediction."""
        return 2 ** list(self.layers).count(POOL)

    @property
    def field_of_view(self):
        """Side in label cells of what one prediction sees."""
        return self.block + 2 * self._border()

    @property
    def least_cells(self):
        """The least side in label cells of a map that any prediction can be made of."""
        return 1 if self.padding == "same" else self.field_of_view

    def _border(self):
        """Label cells that a prediction sees on each side of its block."""
        border, jump = 0, 1
        for layer in self.layers:
            if layer == POOL:
                jump *= 2
            else:
                border += jump * (layer[0] // 2)
        return border

    def _predictions(self, cells):
        """Number of predictions along ``cells``, an int or an integer array, without padding."""
        return (cells - self.field_of_view) // self.block + 1

    def judged(self, label, size):
        """The cell labels that ``block`` by ``block`` belong to one prediction.

        Args:
          label: u8[n,h,w] cell labels.
          size: i32[n,2] true image sizes in pixels.

        Returns:
          u8[n,h,w]; without padding those that the predictions' blocks lie on, void where a
          prediction would see beyond the true border.
        """
        if self.padding == "same":
            return label
        border, predictions = self._border(), [self._predictions(side) for side in label.shape[1:]]
        for axis, count in enumerate(predictions, 1):
            label = lax.slice_in_dim(label, border, border + self.block * count, axis=axis)
        blocks = self._predictions(count_cells(size, self.stride))
        return jnp.where(inside(self.block * blocks, label.shape[1:])[..., 0], label, VOID)

    def see(self, image, size):
        """Nothing: these adversaries do not look at the image."""
        del image, size

    @nn.compact
    def judge(self, label_map, seen, size):
        """Logit that a label map is ground truth.

        Args:
          label_map: f32[n,h,w,C'], encoded.
          seen: None, of ``see``.
          size: i32[n,2] true image sizes in pixels.

        Returns:
          f32[n,ceil(h/4),ceil(w/4),1]; without padding a prediction less for every 4 cells of the
          field of view beyond the block.

        Raises:
          ValueError: the map is too small to be judged without padding.
        """
        del seen
        if min(label_map.shape[1:3]) < self.least_cells:
            height, width = label_map.shape[1:3]
            raise ValueError(
                f"a label map of {height}x{width} cells is too small for this adversary without "
                f"padding, which sees {self.field_of_view}x{self.field_of_view}"
            )
        dtype, same = DTYPES[self.dtype], self.padding == "same"
        size = count_cells(size, self.stride)
        x, number = label_map.astype(dtype), 0
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

    def __call__(self, label_map, image, size):
        """``judge`` of a label map, whatever the image."""
        return self.judge(label_map, self.see(image, size), size)
