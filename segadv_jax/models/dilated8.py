"""Dilated-8, the segmenter for PASCAL VOC 2012.

Yu and Koltun, Multi-scale context aggregation by dilated convolutions, ICLR 2016. The *front end*
is VGG-16 without its last two poolings; the layers after them are dilated instead. It predicts
class maps at an eighth of the image's resolution. The *context module* looks at these maps alone,
with dilations that grow to 16, and refines them. Layers have the names of the published model.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segadv_jax import limits
from segadv_jax.models.contracts import Keys, SegmenterModule
from segadv_jax.models.geometry import cell_means, count_cells, nearest_pixels
from segadv_jax.models.layers import DTYPES, Conv, check_fields, dropout, max_pool, zero_outside
from segadv_jax.shapes import Images, Sizes

# The mean colour of the training images, subtracted from RGB in 0..255.
MEAN_RGB = (116.52, 111.36, 102.93)

# Stages of (layer, kernel, dilation, maps). A 2x2 pooling follows each of the first three.
FRONT_END = (
    (("conv1_1", 3, 1, 64), ("conv1_2", 3, 1, 64)),
    (("conv2_1", 3, 1, 128), ("conv2_2", 3, 1, 128)),
    (("conv3_1", 3, 1, 256), ("conv3_2", 3, 1, 256), ("conv3_3", 3, 1, 256)),
    (("conv4_1", 3, 1, 512), ("conv4_2", 3, 1, 512), ("conv4_3", 3, 1, 512)),
    (("conv5_1", 3, 2, 512), ("conv5_2", 3, 2, 512), ("conv5_3", 3, 2, 512)),
    (("fc6", 7, 4, 4096), ("fc7", 1, 1, 4096)),
)
POOLED = 3
# (layer, kernel, dilation, maps per class in the large module; the basic module has one).
CONTEXT = (
    *(("ct_conv1_1", 3, 1, 2), ("ct_conv1_2", 3, 1, 2), ("ct_conv2_1", 3, 2, 4)),
    *(("ct_conv3_1", 3, 4, 8), ("ct_conv4_1", 3, 8, 16), ("ct_conv5_1", 3, 16, 32)),
    *(("ct_fc1", 3, 1, 32), ("ct_final", 1, 1, 1)),
)
CONTEXT_BORDER = (33, 33)  # Cells by which the context module shortens its maps on each side.


def identity_init(groups: int, deviation: float = 0.01) -> nn.initializers.Initializer:
    """Initializer with which the context module passes its input on (Yu and Koltun, Eqs. 4 and 5).

    There is a group of maps per class. The centre tap between an input and an output map of the
    same group is groups / O, for O output maps; all other taps are Gaussian noise of this deviation
    in a layer with one map per class, and in a wider layer smaller by the same factor as the tap.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        height, width, inputs, outputs = shape
        tap = groups / outputs
        kernel = deviation * tap * jax.random.normal(key, shape, dtype)
        group_in, group_out = (jnp.arange(maps) * groups // maps for maps in (inputs, outputs))
        middle = height // 2, width // 2
        same = group_in[:, None] == group_out[None]
        return kernel.at[middle].set(jnp.where(same, tap, kernel[middle]))

    return init


class Dilated8(SegmenterModule):
    """Dilated-8 segmenter.

    With `padding="reflect"`, the published geometry, no convolution pads. The image comes with a
    reflected border of `margin` pixels (`resampling.reflect_border`), and the front end's maps are
    padded once with the 33 zero cells that the context module takes away. Cell i is pixel 8i of the
    image, although its field of view is centred at 8i + 3.5. The zeros begin where the image ends,
    so that nothing depends on the canvas. In the released program they begin at the end of its
    tiles of 66x66 cells, which the reflected image fills: that is `tile=66`, in evaluation.

    With `padding="same"`, for training from scratch, each convolution pads with zeros at the true
    border of the image or of its map, and cell i is pixel 8i + 3.5.

    ReLU after every layer but `final` and `ct_final`; dropout after fc6 and fc7.
    """

    num_classes: int
    context: str = "large"  # As released; "basic": C maps throughout; "none": the front end alone.
    padding: str = "reflect"
    # Factor on the front end's numbers of maps and on the large context module's maps per class; 1
    # is the published network.
    width: float = 1.0
    dropout: float = 0.5  # Rate, in training.
    dtype: str = "float32"  # Of the arithmetic, or "bfloat16"; parameters and logits are float32.
    remat: bool = False  # The backward pass computes the activations within a stage again.
    sampled_colours: bool = False  # *Product* shows the pixel at each cell, not the area mean.
    # Cells on a side of the tiles that a whole image is cut into; each has its own margin of the
    # image and, around that, its own zeros. 0 for none.
    tile: int = 0

    stride = 8

    def __post_init__(self) -> None:
        contexts, paddings = ("large", "basic", "none"), ("reflect", "same")
        check_fields(self, context=contexts, padding=paddings, dtype=DTYPES)
        limits.check("tile", self.tile, limits.SIZE_OR_NONE)
        if self.tile and self.padding == "same":
            raise ValueError(f"tile is {self.tile}: set it to 0, or padding to 'reflect'")
        super().__post_init__()

    @property
    def offset(self) -> float:
        return 0.0 if self.padding == "reflect" else 3.5

    @property
    def margin(self) -> int:
        return 186 if self.padding == "reflect" else 0

    def colours(self, image: Images, size: Sizes) -> Float[Array, "n h w 3"]:
        """Mean-centred RGB at the label cells.

        "The RGB image is mean-centered per pixel, in the same way as before being input to the
        segmenting model" (supplement, Section 1): its unit is an intensity step of 0..255.
        """
        centred = _centre(image)
        if not self.sampled_colours:
            return cell_means(centred, size, self.stride, self.offset)
        for axis in (1, 2):
            nearest = nearest_pixels(image.shape[axis], self.stride, self.offset)
            centred = jnp.take(centred, jnp.minimum(nearest, image.shape[axis] - 1), axis=axis)
        return centred

    @nn.compact
    def __call__(self, image: Images, size: Sizes, keys: Keys = None) -> Float[Array, "n h w C"]:
        """Class logits at the label cells.

        With "reflect" the image has 8h + 372 by 8w + 372 pixels, its margin included; others raise
        a ValueError.
        """
        sides = [side - 2 * self.margin for side in image.shape[1:3]]
        if self.margin and any(side <= 0 or side % self.stride for side in sides):
            raise ValueError(
                f"Dilated-8 takes images of 8k + {2 * self.margin} pixels, which hold a reflected "
                f"border, and got {image.shape[1]}x{image.shape[2]}"
            )
        tiles: tuple[int, ...] = ()
        if self.tile:
            image, tiles = _cut(image, self.tile * self.stride, self.margin)
            size = jnp.full((len(image), 2), self.tile * self.stride)
        x = _centre(image).astype(DTYPES[self.dtype])
        step = nn.remat(_stage, static_argnums=(4, 5)) if self.remat else _stage
        for number, layers in enumerate(FRONT_END):
            x = step(self, x, size, keys, layers, number < POOLED)
            if number < POOLED:
                size = count_cells(size, 2)
        conv = functools.partial(self.conv, kernel_init=nn.initializers.normal(0.001))
        x = conv("final", 1, 1, self.num_classes)(x, size)
        if self.context != "none":
            if self.padding == "reflect":
                zeros = [(0, 0), CONTEXT_BORDER, CONTEXT_BORDER, (0, 0)]
                x = jnp.pad(zero_outside(x, size), zeros)
            x = (nn.remat(_refine) if self.remat else _refine)(self, x, size)
        return (_join(x, *tiles) if tiles else x).astype(jnp.float32)

    def conv(self, name: str, kernel: int, dilation: int, features: int, **fields: Any) -> Conv:
        """A convolution padded as this network is."""
        padding = "VALID" if self.padding == "reflect" else "SAME"
        dtype = DTYPES[self.dtype]
        return Conv(features, kernel, dilation, padding, dtype=dtype, name=name, **fields)


def _centre(image):
    return jnp.subtract(image, jnp.array(MEAN_RGB, image.dtype).reshape(1, 1, 1, 3))


def _cut(image, side, margin):
    """Tiles of [n,down*side+2*margin,across*side+2*margin,3]: ([n*down*across,...], counts)."""
    down, across = (-(-(pixels - 2 * margin) // side) for pixels in image.shape[1:3])
    if (down * side, across * side) != tuple(p - 2 * margin for p in image.shape[1:3]):
        raise ValueError(f"an image of {image.shape[1:3]} pixels has no whole tiles of {side}")
    reach = side + 2 * margin
    corners = [(i * side, j * side) for i, j in np.ndindex(down, across)]
    tiles = [image[:, y : y + reach, x : x + reach] for y, x in corners]
    return jnp.stack(tiles, 1).reshape(-1, reach, reach, image.shape[-1]), (down, across)


def _join(tiles, down, across):
    """The inverse of `_cut`, of maps [n*down*across,t,t,C]: [n,down*t,across*t,C]."""
    side, channels = tiles.shape[1], tiles.shape[-1]
    x = tiles.reshape(-1, down, across, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, down * side, across * side, channels)


def _stage(module, x, size, keys, layers, pooled):
    """One stage of the front end. A function of the module, so that it can be rematerialised."""
    conv = functools.partial(module.conv, kernel_init=nn.initializers.he_normal())
    for number, (name, kernel, dilation, maps) in enumerate(layers):
        features = max(1, round(module.width * maps))
        x = nn.relu(conv(name, kernel, dilation, features)(x, size))
        if name.startswith("fc"):
            x = dropout(x, keys, number, module.dropout)
    return max_pool(x, size if module.padding == "same" else None) if pooled else x


def _refine(module, x, size):
    """The context module."""
    classes = module.num_classes
    conv = functools.partial(module.conv, kernel_init=identity_init(classes))
    for name, kernel, dilation, multiple in CONTEXT:
        large = module.context == "large" and name != "ct_final"
        features = classes * (max(1, round(module.width * multiple)) if large else 1)
        x = conv(name, kernel, dilation, features)(x, size)
        if name != "ct_final":
            x = nn.relu(x)
    return x
