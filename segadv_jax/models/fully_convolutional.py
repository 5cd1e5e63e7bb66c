"""An adversary of strided convolutions on the label map alone."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from segadv_jax import limits
from segadv_jax.models.contracts import AdversaryModule, Verdicts
from segadv_jax.models.geometry import count_cells, shrink
from segadv_jax.models.layers import DTYPES, Conv, check_fields, rectify, torch_uniform
from segadv_jax.shapes import CellMaps, Sizes


class FullyConvolutional(AdversaryModule):
    """The discriminator of Hung et al., at the size that `features` gives it.

    Hung et al., Adversarial learning for semi-supervised semantic segmentation (BMVC 2018), in
    their words the discriminator network: 4x4 convolutions of stride 2, all but the last followed
    by a leaky ReLU. Theirs have 64, 128, 256, 512 and 1 channels on maps of full resolution: a
    prediction for 32x32 pixels. Label cells are coarser, so that fewer convolutions do: with two
    before the last a prediction pools 8x8 cells and sees 22x22. As in their program, the
    kernels' initialisation is Torch's.

    They bring the predictions back to the resolution of the map; here the cells of a block share
    one, as they do before the other adversaries.
    """

    features: Sequence[int] = (64, 128)  # Of the convolutions before the last, which has one.
    stride: int = 4
    leak: float = 0.2  # Slope of the ReLU below 0.
    spectral_norm: bool = False  # See `layers.Conv`.
    dtype: str = "float32"  # Of the arithmetic, or "bfloat16"; parameters and logits are float32.

    def __post_init__(self) -> None:
        check_fields(self, dtype=DTYPES)
        limits.check_each("features", self.features, limits.SIZE, 1, 8)
        super().__post_init__()

    @property
    def block(self) -> int:
        return 2 ** (len(self.features) + 1)

    def judge(self, label_map: CellMaps, embedded: None, size: Sizes) -> Verdicts:
        """The logits that blocks are ground truth: ceil(h / block) x ceil(w / block)."""
        del embedded
        return self._convolve(label_map, size)[2].astype(jnp.float32)

    def describe(
        self, label_map: CellMaps, embedded: None, size: Sizes
    ) -> Float[Array, "n rows columns maps"]:
        """The maps before the last convolution, their means over a prediction's block."""
        del embedded
        maps, cells, _ = self._convolve(label_map, size)
        return shrink(maps.astype(jnp.float32), cells, 2)[0]

    @nn.compact
    def _convolve(self, label_map, size):
        """The maps before the last convolution, the true numbers of their cells, the logits."""
        conv = functools.partial(
            Conv,
            kernel=4,
            stride=2,
            kernel_init=torch_uniform,
            spectral_norm=self.spectral_norm,
            dtype=DTYPES[self.dtype],
        )
        x, size = jnp.asarray(label_map), count_cells(size, self.stride)
        for number, features in enumerate((*self.features, 1), 1):
            before, cells = x, size
            # A last odd row or column has an output of its own.
            padding = [(1, 1 + side % 2) for side in x.shape[1:3]]
            x = conv(features, padding=padding, name=f"conv{number}")(x, size)
            size = count_cells(size, 2)
            if number <= len(self.features):
                x = rectify(x, self.leak)
        return before, cells, x
