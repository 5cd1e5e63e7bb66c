"""A light segmenter: EfficientNet-Lite0, pretrained on ImageNet, and a small decoder.

Tan and Le, EfficientNet: Rethinking model scaling for convolutional neural networks, ICML 2019, in
the "Lite" variant that was published with their code: ReLU6, no squeeze-and-excitation, stem and
head of the same width in every size. Batch statistics are folded into the convolutions: there is
nothing but parameters.

**Padding.** The published weights expect TensorFlow's "same" padding, which at stride 2 puts its
zeros behind a map of even size and on both sides of one of odd size, so that what a feature sees
depends on the parity of the image's size at every level. All that is the same as placing the image
at the far end of a box whose sides are multiples of 32, zeros before it, and padding behind only:
32 * ceil(n / 32) = n + the sum of the odd levels' pixels. Here each image is placed so in the
canvas, by its own true size.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from segadv_jax import limits
from segadv_jax.models import layers
from segadv_jax.models.contracts import Embedded, Keys, SegmenterModule
from segadv_jax.models.convolution import convolve
from segadv_jax.models.depthwise import depthwise
from segadv_jax.models.geometry import Maps, count_cells, filter_axes, inside
from segadv_jax.shapes import AnyArray, Images, Sizes

Features = Float[AnyArray, "n h w _"]

TAPS = (4, 8, 16, 32)  # The strides at which the decoder takes features,
TAP_MAPS = (24, 40, 112, 320)  # and their numbers.
BOX = 32  # The last of them: the sides of an image's box are multiples of it.
MEAN, SCALE = 127.0, 128.0  # The network sees (RGB - MEAN) / SCALE.
STEM = 32
# The standard deviation of the taps, roughly; of that at stride 8 on photographs (the validation
# images of Stanford Background) it is 5.75.
TAP_DEVIATION = 6.0


class Stage(NamedTuple):
    """Blocks of the same kind (Tan and Le, Table 1); only the first may have a stride."""

    expansion: int  # Maps inside a block, in multiples of its inputs.
    maps: int
    repeats: int
    stride: int
    kernel: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


def first_cells(size: Sizes, stride: int) -> Sizes:
    """Where an image begins in its box, (row, column) of the maps at a `stride` of up to 32."""
    return (-size % BOX) // stride


def _before(first, shape):
    """True before the `first` (row, column) of each image on a canvas of `shape`."""
    rows = jnp.arange(shape[0])[None, :] < first[:, :1]
    columns = jnp.arange(shape[1])[None, :] < first[:, 1:]
    return (rows[:, :, None] | columns[:, None, :])[..., None]


def zero_outside(maps: Maps, size: Sizes, stride: int) -> Float[Array, "n H W C"]:
    """The maps of boxes with zeros outside the images, as the network's padding has it."""
    first, shape = first_cells(size, stride), maps.shape[1:3]
    within = inside(first + count_cells(size, stride), shape) & ~_before(first, shape)
    return jnp.where(within, maps, 0)


def in_boxes(image: Images, size: Sizes) -> Float[Array, "n _ _ 3"]:
    """Each image at the far end of its box, on a canvas whose sides are multiples of 32."""
    sides = [count_cells(pixels, BOX) * BOX for pixels in image.shape[1:3]]
    after = [(0, side - pixels) for side, pixels in zip(sides, image.shape[1:3], strict=True)]
    padded = jnp.pad(image, [(0, 0), *((BOX + b, a) for b, a in after), (0, 0)])

    def place(one, first):
        return lax.dynamic_slice(one, (*(BOX - first), 0), (*sides, 3))

    return jax.vmap(place)(padded, first_cells(size, 1))


class Pointwise(nn.Module):
    """A 1x1 convolution with bias."""

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: Any = jnp.float32  # Of the arithmetic; parameters are float32.

    @nn.compact
    def __call__(self, x: Maps) -> Float[Array, "n H W O"]:
        shape = (1, 1, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (jnp.asarray(y, self.dtype) for y in (x, kernel, bias))
        # One product of two matrices: on a CPU its gradient takes half the time of a convolution's.
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0] + bias[None]
        return y.reshape(*x.shape[:3], self.features)


class Spatial(nn.Module):
    """A convolution with bias over maps in boxes, ReLU6 after it; depthwise, or of all maps."""

    kernel: int
    stride: int
    features: int = 0  # 0: each map by itself.
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Maps) -> Float[Array, "n h w O"]:
        features, side = self.features or x.shape[-1], self.kernel
        inputs = x.shape[-1] if self.features else 1
        shape = (side, side, inputs, features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (features,))
        before = (side - self.stride) // 2
        padding = ((before, side - self.stride - before),) * 2
        apply, more = (convolve, -inputs % 4) if self.features else (depthwise, 0)
        x, kernel, bias = (jnp.asarray(y, self.dtype) for y in (x, kernel, bias))
        # On a CPU XLA's convolution of four maps takes half the time of one of three.
        x = jnp.pad(x, [(0, 0), (0, 0), (0, 0), (0, more)])
        kernel = jnp.pad(kernel, [(0, 0), (0, 0), (0, more), (0, 0)])
        y = apply(x, kernel, stride=self.stride, padding=padding)
        return nn.relu6(y + bias.reshape(1, 1, 1, -1))


class Block(nn.Module):
    """An inverted residual (Sandler et al., MobileNetV2, CVPR 2018): expand, depthwise, project."""

    stage: Stage
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Maps, size: Sizes, at: int) -> Float[Array, "n h w O"]:
        """Maps at stride `at` of the image; the result is at `at` times the block's stride."""
        inputs, y = x, x
        if self.stage.expansion > 1:
            maps = self.stage.expansion * x.shape[-1]
            y = nn.relu6(Pointwise(maps, dtype=self.dtype, name="expand")(y))
        y = zero_outside(y, size, at)
        y = Spatial(self.stage.kernel, self.stride, dtype=self.dtype, name="depthwise")(y)
        y = Pointwise(self.stage.maps, dtype=self.dtype, name="project")(y)
        return y + inputs if y.shape == inputs.shape else y


class Backbone(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Images, size: Sizes) -> list[Float[Array, "n _ _ _"]]:
        """The features of images of true `size` at the strides `TAPS`, linear outputs.

        Each map lies in its box: the image's cell (0, 0) is at `first_cells(size, stride)`. What
        lies outside the images has no meaning.
        """
        x = in_boxes((image - MEAN) / SCALE, size)
        x = Spatial(3, 2, STEM, self.dtype, name="stem")(zero_outside(x, size, 1))
        make: Any = nn.remat(Block, static_argnums=3) if self.remat else Block
        at, number, by_stride = 2, 0, {}
        for stage in STAGES:
            for repeat in range(stage.repeats):
                stride, number = stage.stride if repeat == 0 else 1, number + 1
                block = make(stage, stride, self.dtype, name=f"block{number}")
                x, at = block(x, size, at), at * stride
            by_stride[at] = x
        return [by_stride[stride].astype(jnp.float32) for stride in TAPS]


def to_cells(
    tap: Maps, size: Sizes, tap_stride: int, shape: Sequence[int], stride: int, offset: float
) -> Float[Array, "n h w C"]:
    """A tap at the label cells: cell i of `shape` (h, w) lies at pixel `stride * i + offset`.

    In its box, cell i of a tap is centred on pixel `s * i + s - 1`, s being its stride, as zeros
    are padded behind. Between cells the features are interpolated bilinearly; beyond the first and
    the last cell of the image theirs are held.
    """
    first, cells = first_cells(size, tap_stride), count_cells(size, tap_stride)
    matrices = []
    for axis, side in enumerate(shape):
        pixel = stride * jnp.arange(side)[None] + offset + first_cells(size, 1)[:, axis, None]
        place = (pixel - (tap_stride - 1)) / tap_stride
        lowest, last = first[:, axis, None], (first + cells)[:, axis, None] - 1
        place = jnp.clip(place, lowest, last)[:, :, None]
        distance = jnp.abs(place - jnp.arange(tap.shape[1 + axis])[None, None])
        matrices.append(jnp.maximum(1 - distance, 0))
    return filter_axes(tap, *matrices)


class EfficientNetLite(SegmenterModule):
    """EfficientNet-Lite0's features, fused at the label cells by a small decoder.

    A 1x1 convolution takes each tap to one width; their sum passes through ReLU, a 3x3 convolution,
    ReLU and a 1x1 convolution to the classes. Each tap is interpolated to the label cells before
    its 1x1 convolution: with bilinear weights that is the same as after it, and a frozen backbone
    then has no gradient to interpolate.
    """

    num_classes: int
    output_stride: int = 8  # Pixels of a label cell: 8 or 4.
    decoder_width: int = 64  # Maps of the decoder.
    dropout: float = 0.0  # Before the last layer.
    freeze: str = "backbone"  # What is not trained: "backbone" or "none".
    dtype: str = "float32"  # Of the arithmetic, or "bfloat16"; parameters and logits are float32.
    remat: bool = False  # The backward pass computes the activations within a block again.

    def __post_init__(self) -> None:
        layers.check_fields(self, freeze=("backbone", "none"), dtype=layers.DTYPES)
        if self.output_stride not in (4, 8):
            raise ValueError(f"output_stride is {self.output_stride}: set it to 8 or 4")
        limits.check("decoder_width", self.decoder_width, limits.SIZE)
        super().__post_init__()

    @property
    def stride(self) -> int:
        return self.output_stride

    @property
    def pretrained(self) -> tuple[str, ...]:
        return ("backbone",)

    @property
    def frozen(self) -> tuple[str, ...]:
        return self.pretrained if self.freeze == "backbone" else ()

    def setup(self) -> None:
        dtype = layers.DTYPES[self.dtype]
        self.backbone = Backbone(dtype, self.remat)
        self.decoder = Decoder(self.num_classes, self.decoder_width, self.dropout, dtype)

    def features(self, image: Images, size: Sizes) -> Float[Array, "n h w 40"]:
        """The backbone's 40 maps of stride 8, of about unit variance, at the label cells.

        While the backbone is trained they are its present features, without a gradient to it: a
        copy of the initial one would double the cost of a step, and drift away from what the
        segmenter sees.
        """
        return self.features_of(self.embed(image, size))

    def embed(self, image: Images, size: Sizes) -> Float[Array, "n h w 496"]:
        """All taps at the label cells, one after the other."""
        cells = [count_cells(pixels, self.stride) for pixels in image.shape[1:3]]
        taps = [
            to_cells(tap, size, stride, cells, self.stride, self.offset)
            for stride, tap in zip(TAPS, self.backbone(image, size), strict=True)
        ]
        return jnp.concatenate(taps, -1)

    def features_of(self, embedded: Embedded) -> Float[Array, "n h w 40"]:
        return _split(embedded)[1] / TAP_DEVIATION

    def decide(self, embedded: Embedded, size: Sizes, keys: Keys = None) -> Float[Array, "n h w C"]:
        """Class logits at the label cells."""
        return self.decoder(_split(embedded), count_cells(size, self.stride), keys)

    def __call__(self, image: Images, size: Sizes, keys: Keys = None) -> Float[Array, "n h w C"]:
        """Class logits at the label cells."""
        return self.decide(self.embed(image, size), size, keys)


def _split(embedded):
    """The taps, which `EfficientNetLite.embed` has joined."""
    return jnp.split(jnp.asarray(embedded), np.cumsum(TAP_MAPS)[:-1].tolist(), axis=-1)


class Decoder(nn.Module):
    """From the taps at the label cells to class logits."""

    num_classes: int
    width: int
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, taps: Sequence[Features], cells: Sizes, keys: Keys
    ) -> Float[Array, "n h w C"]:
        """Logits of maps with so many `cells` in the images."""
        # As if the taps had unit variance. Where the first activations are in the tens instead,
        # validation after 400 updates was 6 points of mean IoU behind.
        init = nn.initializers.variance_scaling(2 / TAP_DEVIATION**2, "fan_in", "truncated_normal")
        named = zip(TAPS, taps, strict=True)
        pointwise = functools.partial(Pointwise, dtype=self.dtype)
        x = sum(pointwise(self.width, init, name=f"from{stride}")(tap) for stride, tap in named)
        x = layers.Conv(self.width, 3, dtype=self.dtype, name="fuse")(nn.relu(x), cells)
        x = layers.dropout(nn.relu(x), keys, 0, self.dropout)
        logits = pointwise(self.num_classes, nn.initializers.zeros, name="classifier")(x)
        return logits.astype(jnp.float32)
