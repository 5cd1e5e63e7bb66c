"""Dilated-8, the segmenter for PASCAL VOC 2012.

Yu and Koltun, Multi-scale context aggregation by dilated convolutions, ICLR 2016. The *front end*
is VGG-16 without its last two poolings, whose later layers are dilated instead, and predicts class
maps at an eighth of the image's resolution; the *context module* looks at these maps alone, with
dilations that grow to 16, and refines them. Layers have the names of the published model.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from segadv_jax.models.geometry import cell_means, count_cells, nearest_pixels
from segadv_jax.models.layers import DTYPES, Conv, dropout, max_pool, zero_outside

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
# (layer, kernel, dilation, maps per class in the large module); the basic one has one throughout.
CONTEXT = (
    ("ct_conv1_1", 3, 1, 2),
    ("ct_conv1_2", 3, 1, 2),
    ("ct_conv2_1", 3, 2, 4),
    ("ct_conv3_1", 3, 4, 8),
    ("ct_conv4_1", 3, 8, 16),
    ("ct_conv5_1", 3, 16, 32),
    ("ct_fc1", 3, 1, 32),
    ("ct_final", 1, 1, 1),
)
CONTEXT_BORDER = 33  # Cells that the context module takes from each side of what it is given.


def identity_init(groups, deviation=0.01):
    """Initializer with which the context module passes its input on (Yu and Koltun, Eqs. 4 and 5).

    The centre tap is groups / O between an input and an output map of the same group, of which
    there is one per class; all else is Gaussian noise. ``deviation`` is that of a layer with one
    map per class; in a wider one noise is as many times smaller as the tap.

    Args:
      groups: number of classes, of which the maps of every layer are a multiple.
      deviation: of the noise.

    Returns:
      A function (key, (kh, kw, I, O), dtype) to f[kh,kw,I,O].
    """

    def init(key, shape, dtype=jnp.float32):
        height, width, inputs, outputs = shape
        tap = groups / outputs
        kernel = deviation * tap * jax.random.normal(key, shape, dtype)
        group_in, group_out = (jnp.arange(maps) * groups // maps for maps in (inputs, outputs))
        middle = height // 2, width // 2
        same = group_in[:, None] == group_out[None]
        return kernel.at[middle].set(jnp.where(same, tap, kernel[middle]))

    return init


class Dilated8(nn.Module):
    """Dilated-8 segmenter.

    With ``padding="reflect"``, the published geometry, no convolution pads: the image comes with a
    reflected border of ``margin`` pixels (``data.augment.reflect_border``), the front end's maps
    are padded once with the 33 zero cells that the context module takes away, and cell i is pixel
    8i of the image, although its field of view is centred at 8i + 3.5. The zeros begin where the
    image ends, so that nothing depends on the canvas. In the released program they begin where its
    tiles of 66x66 cells end, which the reflected image fills: ``tile=66``, in evaluation.

    With ``padding="same"``, for training from scratch, each convolution pads with zeros at the true
    border of the image or of its map, and cell i is pixel 8i + 3.5.

    ReLU after every layer but ``final`` and ``ct_final``; dropout after fc6 and fc7.

    Attributes:
      num_classes: C.
      context: "large" (as released), "basic" (C maps throughout) or "none" (the front end alone).
      padding: "reflect" or "same".
      width: the front end's numbers of maps, and how many per class the large context module has,
        are multiplied by this. 1 is the published network.
      dropout: rate, in training.
      dtype: "float32" or "bfloat16", of the arithmetic; parameters and logits are float32.
      remat: compute the activations within a stage again in the backward pass instead of keeping
        them.
      tile: cells on a side of the tiles that a whole image is cut into, each with its own margin of
        the image and, around it, its own zeros; 0 for none.
      sampled_colours: the *product* encoding shows the pixel at each cell instead of the area mean.
    """

    num_classes: int
    context: str = "large"
    padding: str = "reflect"
    width: float = 1.0
    dropout: float = 0.5
    dtype: str = "float32"
    remat: bool = False
    sampled_colours: bool = False
    tile: int = 0

    def __post_init__(self):
        for field, known in (
            ("context", ("large", "basic", "none")),
            ("padding", ("reflect", "same")),
            ("dtype", tuple(DTYPES)),
        ):
            if getattr(self, field) not in known:
                value = getattr(self, field)
                raise ValueError(f"{field} is {value!r}; known: {', '.join(known)}")
        if not 0 < self.width < math.inf:
            raise ValueError(f"width is {self.width}: set it above 0, to a finite number")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: set it from 0 to below 1")
        if self.tile < 0 or (self.tile and self.padding == "same"):
            raise ValueError(f"tile is {self.tile}: set it to 0, or more with padding 'reflect'")
        super().__post_init__()

    stride = 8

    @property
    def offset(self):
        return 0 if self.padding == "reflect" else 3.5

    @property
    def margin(self):
        """Pixels of reflected border that the image must come with, on each side."""
        return 186 if self.padding == "reflect" else 0

    def colours(self, image, size):
        """The colours that the *product* encoding shows: mean-centred RGB at the label cells.

        "The RGB image is mean-centered per pixel, in the same way as before being input to the
        segmenting model" (supplement, Section 1): its unit is an intensity step of 0..255.

        Args:
          image: f32[n,H,W,3], RGB in 0..255, without the margin.
          size: i32[n,2] true sizes.

        Returns:
          f32[n,ceil(H/8),ceil(W/8),3].
        """
        image = _centre(image)
        if not self.sampled_colours:
            return cell_means(image, size, self.stride, self.offset)
        for axis in (1, 2):
            nearest = nearest_pixels(image.shape[axis], self.stride, self.offset)
            image = jnp.take(image, jnp.minimum(nearest, image.shape[axis] - 1), axis=axis)
        return image

    @nn.compact
    def __call__(self, image, size, keys=None):
        """Class logits at the label cells.

        Args:
          image: f32[n,8h+372,8w+372,3], RGB in 0..255 with its margin; f32[n,H,W,3] with "same".
          size: i32[n,2] true sizes, without the margin.
          keys: [n], one per example, for dropout; None in evaluation.

        Returns:
          f32[n,h,w,C]; no meaning outside the true size.

        Raises:
          ValueError: the image has no whole number of cells within its margin.
        """
        sides = [side - 2 * self.margin for side in image.shape[1:3]]
        if self.margin and any(side <= 0 or side % self.stride for side in sides):
            raise ValueError(
                f"Dilated-8 takes images of 8k + {2 * self.margin} pixels, which hold a reflected "
                f"border, and got {image.shape[1]}x{image.shape[2]}"
            )
        tiles = ()
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
                border = (CONTEXT_BORDER, CONTEXT_BORDER)
                x = jnp.pad(zero_outside(x, size), [(0, 0), border, border, (0, 0)])
            x = (nn.remat(_refine) if self.remat else _refine)(self, x, size)
        return (_join(x, *tiles) if tiles else x).astype(jnp.float32)

    def conv(self, name, kernel, dilation, features, **fields):
        """A convolution padded as this network is."""
        padding = "VALID" if self.padding == "reflect" else "SAME"
        dtype = DTYPES[self.dtype]
        return Conv(features, kernel, dilation, padding, dtype=dtype, name=name, **fields)


def _centre(image):
    return image - jnp.array(MEAN_RGB, image.dtype).reshape(1, 1, 1, 3)


def _cut(image, side, margin):
    """Tiles of [n,down*side+2*margin,across*side+2*margin,3]: ([n*down*across,...], counts)."""
    down, across = (-(-(pixels - 2 * margin) // side) for pixels in image.shape[1:3])
    if (down * side, across * side) != tuple(p - 2 * margin for p in image.shape[1:3]):
        raise ValueError(f"an image of {image.shape[1:3]} pixels has no whole tiles of {side}")
    reach = side + 2 * margin
    tiles = [
        image[:, i * side : i * side + reach, j * side : j * side + reach]
        for i in range(down)
        for j in range(across)
    ]
    return jnp.stack(tiles, 1).reshape(-1, reach, reach, image.shape[-1]), (down, across)


def _join(tiles, down, across):
    """The inverse, of maps f[n*down*across,t,t,C]: f[n,down*t,across*t,C]."""
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
    if pooled:
        x = max_pool(x, size if module.padding == "same" else None)
    return x


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
