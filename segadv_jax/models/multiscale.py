"""The multi-scale network of Farabet et al. (2013), the segmenter for Stanford Background.

Learning hierarchical features for scene labeling, PAMI 35(8). A three-level Laplacian pyramid of
the YUV image passes through one trunk whose weights are shared by the levels; the coarser levels'
features are up-sampled, and a two-layer classifier sees all three at each label cell.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segadv_jax import limits
from segadv_jax.models import layers
from segadv_jax.models.contracts import Keys, SegmenterModule
from segadv_jax.models.geometry import count_cells, shrink
from segadv_jax.models.preprocessing import laplacian_pyramid, local_contrast_normalize, rgb_to_yuv
from segadv_jax.shapes import Images, Sizes

LEVELS = limits.Range(1, 16, whole=True)
SHRINK = limits.Range(1, 64, whole=True)


class Trunk(nn.Module):
    """conv7-pool-conv7-pool-conv7, applied to one level: field of view 46x46 of its pixels.

    Of the 16 maps of the first layer 10 see Y and 6 see UV. With `sparse` each map of the second
    and of the third layer sees a random half of the maps before it, as in the original.
    """

    widths: Sequence[int] = (16, 64, 256)
    sparse: bool = True
    activation: str = "tanh"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, level: Images, size: Sizes) -> Float[Array, "n h w features"]:
        """The features of a YUV level of true `size`, at ceil(H/4) x ceil(W/4) places."""
        first, second, third = self.widths
        activate = layers.ACTIVATIONS[self.activation]
        from_luma = round(first * 10 / 16)
        # One convolution of three maps is twice as fast on a CPU as two of one and of two.
        tables = {
            "luma": np.full((1, from_luma), 0),
            "chroma": np.array([[1], [2]]).repeat(first - from_luma, 1),
        }
        dtype = self.dtype
        x = layers.SparseConv(tables, 7, dtype, name="conv1")(level, size)
        for layer, features in ((2, second), (3, third)):
            # Both activations are monotone: pooling first gives the same values, and only a quarter
            # of them has to be activated.
            x, size = activate(layers.max_pool(x, size)), count_cells(size, 2)
            if self.sparse:
                table = layers.random_table(x.shape[-1], x.shape[-1] // 2, features, seed=layer)
                x = layers.SparseConv({"kernel": table}, 7, dtype, name=f"conv{layer}")(x, size)
            else:
                x = layers.Conv(features, 7, dtype=dtype, name=f"conv{layer}")(x, size)
        return activate(x)


class PyramidDense(nn.Module):
    """A dense layer over the levels' maps, up-sampled to the finest level and concatenated.

    It is applied to each level before the up-sampling, which repeats cells: that gives the same
    result with less than half of the arithmetic.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Float[Array, "n _ _ _"]]) -> Float[Array, "n h w features"]:
        """The layer at the finest level, which comes first; each next level is half as large."""
        inputs = [x.shape[-1] for x in levels]
        shape = (sum(inputs), self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        levels, kernel, bias = jax.tree.map(self.dtype, ([*levels], kernel, bias))
        kernels = jnp.split(kernel, np.cumsum(inputs)[:-1])
        y = levels[-1] @ kernels[-1]
        for x, part in zip(levels[-2::-1], kernels[-2::-1], strict=True):
            coarser, y = y, x @ part
            repeated = jnp.repeat(jnp.repeat(coarser, 2, axis=1), 2, axis=2)
            y = y + repeated[:, : y.shape[1], : y.shape[2]]
        return y + bias.reshape(1, 1, 1, -1)


class MultiScale(SegmenterModule):
    """Multi-scale segmenter.

    Its two 2x2 poolings make cell i of the pixels 4i .. 4i+3, whose middle is 4i + 1.5.
    """

    num_classes: int
    widths: Sequence[int] = (16, 64, 256)  # Maps of the trunk's three layers.
    hidden: int = 1024  # Width of the classifier's hidden layer.
    sparse: bool = True  # Connection tables, as published; or dense layers.
    activation: str = "tanh"  # As published; or "relu".
    # "levels" normalises each pyramid level of the YUV image (Farabet et al.); "rgb" normalises the
    # RGB image and builds the pyramid from that (supplement of Luc et al., Section 1).
    lcn: str = "levels"
    levels: int = 3  # Of the pyramid.
    shrink: int = 1  # Area means make the image this many times smaller; label cells grow with it.
    dtype: str = "float32"  # Of the arithmetic, or "bfloat16"; parameters and logits are float32.
    remat: bool = False  # The backward pass computes the activations within a level again.

    def __post_init__(self) -> None:
        layers.check_fields(
            self, activation=layers.ACTIVATIONS, lcn=("levels", "rgb"), dtype=layers.DTYPES
        )
        limits.check_each("widths", self.widths, limits.SIZE._replace(least=2), 3, 3)
        limits.check("hidden", self.hidden, limits.SIZE)
        limits.check("levels", self.levels, LEVELS)
        limits.check("shrink", self.shrink, SHRINK)
        super().__post_init__()

    @property
    def stride(self) -> int:
        return 4 * self.shrink

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        """Area means over the label cells of RGB with its contrast normalised.

        The supplement normalises it so for both networks (Section 1); its mean is near 0
        everywhere.
        """
        smaller, size = shrink(image / 255, size, self.shrink)
        return shrink(local_contrast_normalize(smaller, size), size, 4)[0]

    @nn.compact
    def __call__(self, image: Images, size: Sizes, keys: Keys = None) -> Float[Array, "n h w C"]:
        """Class logits at the label cells; nothing is random here."""
        del keys
        image, size = shrink(image / 255, size, self.shrink)
        if self.lcn == "rgb":
            image = local_contrast_normalize(image, size)
        dtype = layers.DTYPES[self.dtype]
        make = nn.remat(Trunk) if self.remat else Trunk
        trunk = make(tuple(self.widths), self.sparse, self.activation, dtype, name="trunk")
        features = []
        for level, level_size in laplacian_pyramid(rgb_to_yuv(image), size, self.levels):
            if self.lcn == "levels":
                level = local_contrast_normalize(level, level_size)
            features.append(trunk(level, level_size))
        x = layers.ACTIVATIONS[self.activation](
            PyramidDense(self.hidden, dtype, name="hidden")(features)
        )
        return nn.Dense(self.num_classes, dtype=dtype, name="classifier")(x).astype(jnp.float32)
