"""The convolution of every network, in the form that is fast where it runs.

XLA's own convolution serves GPUs and TPUs, and on a CPU the small ones. For 3x3 kernels between
many maps a CPU does better in minimal filtering (`winograd.py`), and for large kernels far better
in the frequency domain (Mathieu, Henaff and LeCun, Fast training of convolutional networks through
FFTs, ICLR 2014): the map is cut into overlapping tiles, and per frequency one matrix product over
the maps replaces a product per tap. With tiles of 16x16 pixels an output of a 7x7 kernel takes 5.2
multiplications instead of 49, and the transforms, of so few pixels, are matrix products as well.
Depthwise convolutions are in `depthwise.py`.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32

from segadv_jax.models.platforms import Pads, by_platform, count_tiles, output_shape
from segadv_jax.models.winograd import fastest_tile, winograd, winograd_gradients

TILE = 16  # Side of a tile in pixels. A power of two keeps the rounding errors small.
POINTS = TILE**2 // 2 + 2  # Its frequencies, without those that mirror another.

# How long a multiplication of each kind takes, relative to one in XLA's own convolution and its
# gradients on average: in the transforms of the tiles, which are cut out and put together as well,
# in the transform of the kernel, and in the products per frequency. They were chosen so that
# `prefers_tiles` agrees with timings.
_OF_TILES, _OF_KERNEL, _OF_PRODUCTS = 2.0, 1.0, 1.5

Maps = Float[Array, "n H W I"]
Kernel = Float[Array, "kh kw I O"]
Matrix = Float32[np.ndarray, "_ _"]


def convolve(
    x: Maps, kernel: Kernel, *, stride: int = 1, dilation: int = 1, padding: str | Pads = "SAME"
) -> Float[Array, "n h w O"]:
    """Convolution (cross-correlation, as is usual in networks).

    Which algorithm computes it depends on the shapes and on the platform that the program is
    compiled for; results agree within the rounding of float32. `stride` is the distance in pixels
    between neighbouring outputs, `dilation` that between neighbouring taps; the padding is "SAME",
    "VALID" or explicit. With a stride "SAME" raises a ValueError: where its outputs lie would
    depend on the canvas.
    """
    if stride != 1 and padding == "SAME":
        raise ValueError(f"stride is {stride}: set the padding to numbers, or to 'VALID'")
    reach = [dilation * (side - 1) + 1 for side in kernel.shape[:2]]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], reach, (1, 1), padding)
    padding = tuple((int(before), int(after)) for before, after in padding)
    if stride != 1:
        return xla_convolve(x, kernel, dilation, padding, stride)
    bind = functools.partial(functools.partial, dilation=dilation, padding=padding)
    plain, shapes = bind(xla_convolve), (x.shape, kernel.shape)
    if m := fastest_tile(*shapes, dilation, padding):
        run = by_platform(bind(winograd, m=m), plain, bind(winograd_gradients, m=m))
    elif prefers_tiles(*shapes, dilation, padding):
        run = by_platform(bind(tiled), plain)
    else:
        run = plain
    return run(x, kernel)


def xla_convolve(
    x: Maps, kernel: Kernel, dilation: int, padding: Pads, stride: int = 1
) -> Float[Array, "n h w O"]:
    """XLA's own convolution; the arguments are those of `convolve`, the padding explicit."""
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=axes,
    )


def prefers_tiles(
    x_shape: Sequence[int], kernel_shape: Sequence[int], dilation: int, padding: Pads
) -> bool:
    """Whether a CPU is faster with `tiled`, judged by the multiplications that each takes."""
    n, (kh, kw, inputs, outputs) = x_shape[0], kernel_shape
    if max(kh, kw) > TILE // 2 or 0 in x_shape:
        return False
    out = output_shape(x_shape, kernel_shape, dilation, padding)
    if min(out) < 1:
        return False
    step = TILE + 1 - kh, TILE + 1 - kw
    tiles = n * dilation**2 * math.prod(count_tiles(out, step, dilation))
    cost = _OF_TILES * tiles * (TILE**2 * inputs + math.prod(step) * outputs)
    cost += _OF_KERNEL * 2 * kh * kw * inputs * outputs
    cost += _OF_PRODUCTS * 2 * tiles * inputs * outputs
    return 2 * POINTS * cost < n * math.prod(out) * kh * kw * inputs * outputs


def tiled(x: Maps, kernel: Kernel, dilation: int, padding: Pads) -> Float[Array, "n h w O"]:
    """`xla_convolve` of stride 1 in the frequency domain; computes in float32."""
    kh, kw, inputs, outputs = kernel.shape
    height, width = output_shape(x.shape, kernel.shape, dilation, padding)
    step = TILE + 1 - kh, TILE + 1 - kw
    tiles = count_tiles((height, width), step, dilation)
    # One step of zeros after the tiles' own: the last tile overlaps a part of it.
    room = [(t + 1) * s * dilation for t, s in zip(tiles, step, strict=True)]
    spatial = [
        (before, r - side - before, 0)
        for r, side, (before, _) in zip(room, x.shape[1:3], padding, strict=True)
    ]
    y = lax.pad(x.astype(jnp.float32), 0.0, [(0, 0, 0), *spatial, (0, 0, 0)])
    # Pixels a dilation apart belong together: [n, step, phase, step, phase, maps].
    y = y.reshape(len(x), room[0] // dilation, dilation, room[1] // dilation, dilation, inputs)
    y = _overlap(y, 1, step[0], kh)  # n, tile, row, phase, column and phase, maps
    y = _overlap(y, 4, step[1], kw)  # n, tile, row, phase, tile, column, phase, maps
    grid = len(x), tiles[0], dilation, tiles[1], dilation
    y = y.transpose(2, 5, 7, 0, 1, 3, 4, 6).reshape(TILE * TILE, -1)

    of_image, *parts = transforms(kh, kw)
    image = (of_image @ y).reshape(POINTS, 2 * inputs, -1)
    kernel = kernel.astype(jnp.float32).reshape(kh * kw, -1)
    total: Any = 0.0
    for of_kernel, of_output in parts:
        spectrum = (of_kernel @ kernel).reshape(POINTS, 2 * inputs, outputs)
        product = jnp.einsum("pit,pio->pto", image, spectrum)
        total += of_output @ product.reshape(POINTS, -1)
    y = total.reshape(*step, *grid, outputs)

    y = y.transpose(2, 3, 0, 4, 5, 1, 6, 7)  # n, tile, row, phase, tile, column, phase, maps
    y = y.reshape(len(x), tiles[0] * step[0] * dilation, tiles[1] * step[1] * dilation, outputs)
    return y[:, :height, :width].astype(x.dtype)


@functools.cache
def transforms(kh: int, kw: int) -> tuple[Matrix, tuple[Matrix, Matrix], tuple[Matrix, Matrix]]:
    """A tile's convolution as products of matrices, all real.

    A tile's spectrum is A tile, where the real part of each frequency is followed by its imaginary
    part. The real part of its product with the kernel's spectrum is the inner product with B
    kernel, the imaginary part that with B' kernel, and output = C real + C' imaginary. The spectrum
    of real numbers is symmetric: of two frequencies that mirror each other one is left out.

    Returns:
        A f32[2*130,16*16], (B f32[2*130,kh*kw], C f32[(17-kh)*(17-kw),130]), (B', C').
    """

    def waves(height, width):
        place = np.indices((height, width)).reshape(2, -1)
        angle = 2 * np.pi / TILE * (frequencies @ place % TILE)
        return np.cos(angle), np.sin(angle)

    def pairs(real, imaginary):
        return np.stack([real, imaginary], 1).reshape(2 * POINTS, -1).astype(np.float32)

    mirrored = {f: (-f[0] % TILE, -f[1] % TILE) for f in np.ndindex(TILE, TILE)}
    kept = {f: 1 if f == other else 2 for f, other in mirrored.items() if f <= other}
    frequencies, twice = np.array(list(kept)), np.array(list(kept.values()))
    a, b = waves(TILE, TILE)  # Of the image a - ib, and c + id is the conjugate of the kernel's.
    c, d = waves(kh, kw)
    real, imaginary = waves(TILE + 1 - kh, TILE + 1 - kw)
    real, imaginary = ((x.T * (twice / TILE**2)).astype(np.float32) for x in (real, -imaginary))
    # (a - ib) (c + id) = (ac + bd) + i (ad - bc).
    return pairs(a, b), (pairs(c, d), real), (pairs(d, -c), imaginary)


def _overlap(x, axis, step, side):
    """Cuts an axis of (T + 1) * step pixels into two axes: T tiles, step + side - 1 pixels."""
    shape = x.shape[:axis], x.shape[axis + 1 :]
    blocks = x.reshape(*shape[0], -1, step, *shape[1])
    these = lax.slice_in_dim(blocks, 0, blocks.shape[axis] - 1, axis=axis)
    following = lax.slice_in_dim(blocks, 1, None, axis=axis)
    following = lax.slice_in_dim(following, 0, side - 1, axis=axis + 1)
    return jnp.concatenate([these, following], axis + 1)
