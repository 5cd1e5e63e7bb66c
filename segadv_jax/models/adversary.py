"""Adversaries: networks that tell ground-truth label maps from a segmenter's (Section 3.2)."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from segadv_jax.models.geometry import count_cells, shrink
from segadv_jax.models.layers import Conv, max_pool
from segadv_jax.models.preprocessing import local_contrast_normalize

_he_normal = nn.initializers.he_normal()


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
      shrink: that of the segmenter, whose label maps are at a quarter of the smaller image.
      spectral_norm: divide each kernel by its largest singular value (``layers.Conv``).
    """

    label_features: int = 64
    image_features: Sequence[int] = (16, 64)
    fused_features: Sequence[int] = (128, 256, 512)
    branch_kernel: int = 5
    fused_kernel: int = 3
    shrink: int = 1
    spectral_norm: bool = False

    def __post_init__(self):
        if len(self.image_features) != 2:
            raise ValueError(f"image_features is {self.image_features}: set two numbers")
        if len(self.fused_features) < 2:
            raise ValueError(f"fused_features is {self.fused_features}: set two numbers or more")
        super().__post_init__()

    # Side, in label cells, of the block that is pooled into one prediction.
    block = 4

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
        x, size = shrink(image / 255, size, self.shrink)
        x = local_contrast_normalize(x, size)
        for conv in self.image:
            x, size = nn.relu(max_pool(conv(x, size), size)), count_cells(size, 2)
        return x

    def judge(self, label_map, seen, size):
        """Logit that a label map is ground truth.

        Args:
          label_map: f32[n,h,w,C'], encoded, at a quarter of the (shrunk) image's resolution.
          seen: f32[n,h,w,64], of ``see``.
          size: i32[n,2] true image sizes in pixels.

        Returns:
          f32[n,ceil(h/4),ceil(w/4),1].
        """
        if seen.shape[:3] != label_map.shape[:3]:
            raise ValueError(
                "This adversary takes label maps at a quarter of the image's resolution, "
                f"{seen.shape[1:3]} cells for this image canvas, and got {label_map.shape[1:3]}."
            )
        size = count_cells(size, 4 * self.shrink)
        x = jnp.concatenate([nn.relu(self.label(label_map, size)), seen], -1)
        for i, conv in enumerate(self.fused):
            x = conv(x, size)
            if i < 2:
                x, size = max_pool(x, size), count_cells(size, 2)
            x = nn.relu(x)
        return self.prediction(x, size)

    def __call__(self, label_map, image, size):
        """``judge`` of a label map beside its image: f32[n,ceil(h/4),ceil(w/4),1]."""
        return self.judge(label_map, self.see(image, size), size)
