"""The 3x3 convolution on a CPU in Winograd's minimal filtering.

Lavin and Gray, Fast algorithms for convolutional neural networks (CVPR 2016). An image is cut into
tiles of (m+2)x(m+2) pixels, which overlap, and a tile gives m x m outputs. Tile and kernel are
polynomials in rows and columns; their values at m+2 points in each direction are multiplied, and
the outputs interpolated from the products: with m = 4 that are 36 multiplications for 16 outputs
instead of 144. Over all maps they are a matrix product per pair of points. The transforms need
only a few additions and multiplications by small numbers, in one direction after the other.
"""

import functools
import math
import operator
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float64

from segadv_jax.models.platforms import Pads, count_tiles, output_shape

SIDE = 3  # Of the kernel.
# By the outputs m of a tile in each direction: the points, besides the one at infinity. The paper
# has 0, 1, -1, 2 and -2 for m = 4; with these the largest rounding errors are a quarter.
POINTS = {2: (0, 1, -1), 4: (0, 0.75, -0.75, 1.5, -1.5)}

# How long things take relative to a multiplication in XLA's own convolution and its gradients on
# average: a multiplication of the products, and to read, compute and write a transformed number.
# They were chosen so that `fastest_tile` agrees with timings.
_OF_PRODUCTS, _OF_TRANSFORMS, _GAIN = 1.15, 40.0, 0.9

Maps = Float[Array, "n H W I"]
Kernel = Float[Array, "3 3 I O"]
Out = Float[Array, "n h w O"]
Matrix = Float64[np.ndarray, "_ _"]


def fastest_tile(
    x_shape: Sequence[int], kernel_shape: Sequence[int], dilation: int, padding: Pads
) -> int:
    """The outputs m with which a CPU is fastest; 0 where XLA's own convolution is as fast."""
    n, (kh, kw, inputs, outputs) = x_shape[0], kernel_shape
    out = output_shape(x_shape, kernel_shape, dilation, padding)
    if (kh, kw) != (SIDE, SIDE) or 0 in x_shape or min(out) < 1:
        return 0

    def cost(m):
        tiles = n * dilation**2 * math.prod(count_tiles(out, (m, m), dilation))
        numbers = tiles * (inputs + outputs) + inputs * outputs
        products = tiles * inputs * outputs
        return (m + SIDE - 1) ** 2 * (_OF_PRODUCTS * products + _OF_TRANSFORMS * numbers)

    costs = {m: cost(m) for m in POINTS}
    costs[0] = _GAIN * n * math.prod(out) * kh * kw * inputs * outputs
    return min(costs, key=lambda m: costs[m])


def winograd(x: Maps, kernel: Kernel, dilation: int, padding: Pads, m: int) -> Out:
    """The convolution of stride 1 with tiles of m x m outputs; computes in float32."""
    return _convolve(x, _of_kernel(kernel, m), "pti,pio->pto", dilation, padding, m)


def winograd_gradients(
    x: Maps, kernel: Kernel, cotangent: Out, dilation: int, padding: Pads, m: int
) -> tuple[Maps, Kernel]:
    """The gradients of `winograd`, for x and for the kernel."""
    # For x it is the convolution of the cotangent with the kernel turned by half a circle.
    back = [
        (dilation * (SIDE - 1) - before, pixels - outputs + before)
        for pixels, outputs, (before, _) in zip(
            x.shape[1:3], cotangent.shape[1:3], padding, strict=True
        )
    ]
    turned = _of_kernel(kernel[::-1, ::-1], m)
    of_x = _convolve(cotangent, turned, "pti,poi->pto", dilation, back, m)
    of_kernel = _gradient_of_kernel(x, cotangent, dilation, padding, m)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


@functools.cache
def transforms(m: int) -> tuple[Matrix, Matrix, Matrix]:
    """A row of outputs as C ((B kernel) * (A tile)), with A [m+2,m+2], B [m+2,3] and C [m,m+2].

    It is the transpose of the product of two polynomials by their values (Toom and Cook): C' and B
    take m and 3 coefficients to values at the points, of which infinity gives the last coefficient,
    and A' takes the values of the product to its coefficients. What A is multiplied by to hold
    few digits, B is divided by.
    """

    def values(count):
        at = [[float(point) ** i for i in range(count)] for point in POINTS[m]]
        return np.array([*at, [0.0] * (count - 1) + [1.0]])

    scale = [math.prod(p - q for q in POINTS[m] if q != p) for p in POINTS[m]]
    scales = np.array([*scale, 1.0])[:, None]
    a = np.round(np.linalg.inv(values(m + SIDE - 1)).T * scales * 2**10) / 2**10  # They are exact.
    return a, values(SIDE) / scales, values(m).T


def _convolve(x, spectrum, product, dilation, padding, m):
    reach = SIDE, SIDE
    height, width = output_shape(x.shape, reach, dilation, padding)
    tiles = count_tiles((height, width), (m, m), dilation)
    image = _of_image(x, tiles, dilation, padding, m)
    y = _weigh(jnp.einsum(product, image, spectrum), transforms(m)[2])
    maps = y.shape[-1]
    # row, column, n, phase, phase, tile, tile, maps -> n, tile, row, phase, tile, column, phase.
    y = y.reshape(m, m, len(x), dilation, dilation, *tiles, maps)
    y = y.transpose(2, 5, 0, 3, 6, 1, 4, 7)
    y = y.reshape(len(x), *(t * m * dilation for t in tiles), maps)
    return y[:, :height, :width].astype(x.dtype)


def _gradient_of_kernel(x, cotangent, dilation, padding, m):
    """The sum over tiles of the products of the transformed tiles, transformed back."""
    _, b, c = transforms(m)
    tiles = count_tiles(cotangent.shape[1:3], (m, m), dilation)
    image = _of_image(x, tiles, dilation, padding, m)
    y = _phases(cotangent, (0, 0), [t * m * dilation for t in tiles], dilation)
    n, maps = y.shape[0], y.shape[-1]
    y = y.reshape(n, tiles[0], m, tiles[1] * m, maps)
    y = _sum(c.T, [y[:, :, i] for i in range(m)]).reshape(m + SIDE - 1, n, *tiles, m, maps)
    y = _sum(c.T, [y[:, :, :, :, i] for i in range(m)]).reshape(*image.shape[:2], maps)
    y = jnp.einsum("pti,pto->pio", image, y)
    return _weigh(y, b.T)


def _of_kernel(kernel, m):
    """[points,I,O], of which the points of the columns change slowest, as in all that follows."""
    b = transforms(m)[1]
    y = _sum(b, list(kernel.astype(jnp.float32)))
    y = _sum(b, [y[:, i] for i in range(SIDE)])
    return y.reshape(-1, *kernel.shape[2:])


def _of_image(x, tiles, dilation, padding, m):
    """[points,tiles,I], the tiles of all images and phases."""
    a, (down, across) = transforms(m)[0], tiles
    # A tile's outputs more than there are: the last tile overlaps a part of it.
    room = [(t + 1) * m * dilation for t in tiles]
    y = _phases(x, [before for before, _ in padding], room, dilation)
    n, maps, more = y.shape[0], y.shape[-1], SIDE - 1
    y = y.reshape(n, down + 1, m, -1, maps)
    y = _sum(a, [*(y[:, :-1, i] for i in range(m)), *(y[:, 1:, i] for i in range(more))])
    y = y.reshape(m + more, n, down, across + 1, m, maps)
    y = _sum(
        a, [*(y[:, :, :, :-1, i] for i in range(m)), *(y[:, :, :, 1:, i] for i in range(more))]
    )
    return y.reshape((m + more) ** 2, -1, maps)


def _weigh(y, matrix):
    """[points,...] transformed in both directions: [row,column,...]."""
    side = matrix.shape[1]
    y = _sum(matrix, list(y.reshape(side, side, *y.shape[1:])))
    return _sum(matrix, [y[:, i] for i in range(side)])


def _sum(matrix, parts):
    """The matrix times a vector of arrays, along a new first axis."""

    def total(row):
        terms = zip(row, parts, strict=True)
        terms = (part if w == 1 else part * np.float32(w) for w, part in terms if w)
        return functools.reduce(operator.add, terms)

    return jnp.stack([total(row) for row in matrix])


def _phases(x, before, room, dilation):
    """Canvases f32[n*dilation**2,...] of the pixels a dilation apart, with zeros to fill `room`."""
    spatial = [
        (b, r - b - pixels, 0) for b, r, pixels in zip(before, room, x.shape[1:3], strict=True)
    ]
    y = lax.pad(x.astype(jnp.float32), 0.0, [(0, 0, 0), *spatial, (0, 0, 0)])
    if dilation == 1:
        return y
    height, width = (r // dilation for r in room)
    y = y.reshape(len(x), height, dilation, width, dilation, -1).transpose(0, 2, 4, 1, 3, 5)
    return y.reshape(-1, height, width, y.shape[-1])
