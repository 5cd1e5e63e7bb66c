"""The depthwise convolution, each map by its own kernel, in the form that is fast where it runs.

XLA's own grouped convolution serves GPUs and TPUs. On a CPU it is many times slower than the sum
over the kernel's taps of the shifted image times the tap, whose every part is a loop over maps that
vectorizes. The gradients are such sums too.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from segadv_jax.models.platforms import Pads, by_platform

Maps = Float[Array, "n H W C"]
Kernel = Float[Array, "kh kw 1 C"]
Out = Float[Array, "n h w C"]


def depthwise(x: Maps, kernel: Kernel, *, stride: int = 1, padding: Pads) -> Out:
    """Convolution of each map by itself (cross-correlation, as is usual in networks).

    Which algorithm computes it depends on the platform that the program is compiled for; results
    agree within the rounding of float32. The sums are in float32 on a CPU whatever the type of x.
    """
    padding = tuple((int(before), int(after)) for before, after in padding)
    bind = functools.partial(functools.partial, stride=stride, padding=padding)
    run = by_platform(bind(shifted), bind(xla_depthwise), bind(shifted_gradients))
    return run(x, kernel)


def xla_depthwise(x: Maps, kernel: Kernel, stride: int, padding: Pads) -> Out:
    """XLA's own grouped convolution; the arguments are those of `depthwise`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def shifted(x: Maps, kernel: Kernel, stride: int, padding: Pads) -> Out:
    """`xla_depthwise` as a sum over taps; computes in float32."""
    # The barrier has the zeros written once, with whatever made x, and not chosen again per tap.
    padded = lax.optimization_barrier(_pad(x.astype(jnp.float32), padding))
    sides = zip(padded.shape[1:3], kernel.shape[:2], strict=True)
    out = [(pixels - side) // stride + 1 for pixels, side in sides]
    return _sum_taps(padded, kernel.astype(jnp.float32), (0, 0), out, stride).astype(x.dtype)


def shifted_gradients(
    x: Maps, kernel: Kernel, cotangent: Out, stride: int, padding: Pads
) -> tuple[Maps, Kernel]:
    """The gradients of `shifted`, for x and for the kernel."""
    of_x = _gradient_of_x(x.shape, kernel, cotangent, stride, padding)
    of_kernel = _gradient_of_kernel(x, kernel.shape, cotangent, stride, padding)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


def _gradient_of_x(shape, kernel, cotangent, stride, padding):
    """A sum over taps for each phase, the pixels that see the same taps: a stride apart."""
    kernel = kernel.astype(jnp.float32)
    reach = [-(-side // stride) for side in kernel.shape[:2]]
    # The image in blocks of stride x stride pixels, from the first that has a pixel of it.
    first = [before // stride for before, _ in padding]
    blocks = [
        (pixels - 1 + before) // stride + 1 - f
        for pixels, (before, _), f in zip(shape[1:3], padding, first, strict=True)
    ]
    pads = [
        (r - 1 - f, f + b - pixels)
        for r, f, b, pixels in zip(reach, first, blocks, cotangent.shape[1:3], strict=True)
    ]
    padded = lax.optimization_barrier(_pad(cotangent.astype(jnp.float32), pads))

    def of_phase(p, q):
        taps = kernel[p::stride, q::stride][::-1, ::-1]
        origin = reach[0] - taps.shape[0], reach[1] - taps.shape[1]
        return _sum_taps(padded, taps, origin, blocks, 1)

    phases = [[of_phase(p, q) for q in range(stride)] for p in range(stride)]
    if stride > 1:  # Each is a loop of its own.
        phases = lax.optimization_barrier(phases)
    image = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    image = image.reshape(shape[0], blocks[0] * stride, blocks[1] * stride, shape[3])
    start = [before - f * stride for (before, _), f in zip(padding, first, strict=True)]
    end = [s + pixels for s, pixels in zip(start, shape[1:3], strict=True)]
    return lax.slice(image, (0, *start, 0), (shape[0], *end, shape[3]))


def _gradient_of_kernel(x, shape, cotangent, stride, padding):
    """A loop over the rows of the cotangent, which stay in a core's cache for all taps.

    The sum of each tap is kept per column until the end: to add a row is then a loop over columns
    and maps that vectorizes, which a sum over pixels is not.
    """
    kh, kw = shape[:2]
    n, height, width, maps = cotangent.shape
    rows, columns = x.shape[1:3]
    (above, _), (left, _) = padding
    # Without a stride columns and maps are one axis: of few maps, one long loop for many short.
    axes, unit = ((-1,), maps) if stride == 1 else ((-1, maps), 1)
    # The columns [low, high) of the cotangent at which a tap sees a column of x.
    spans = []
    for j in range(kw):
        low = max(0, -((j - left) // stride))
        spans.append((low, max(low, min(width, (columns - 1 - j + left) // stride + 1))))

    def add_row(index, sums):
        example, i = index // height, index % height
        row = lax.dynamic_slice(cotangent, (example, i, 0, 0), (1, 1, width, maps))
        row, terms = row.reshape(axes).astype(jnp.float32), []
        for k in range(kh):
            place = i * stride + k - above
            seen = jnp.where((place >= 0) & (place < rows), row, 0)
            pixels = lax.dynamic_slice(
                x, (example, jnp.clip(place, 0, rows - 1), 0, 0), (1, 1, columns, maps)
            ).reshape(axes)
            for j, (low, high) in enumerate(spans):
                start, end = low * stride + j - left, high * stride + j - left
                these = pixels[start * unit : end * unit : stride].astype(jnp.float32)
                terms.append(these * seen[low * unit : high * unit])
        return [a + b for a, b in zip(sums, terms, strict=True)]

    lengths = [(high - low) * maps for _ in range(kh) for low, high in spans]
    sums = lax.fori_loop(0, n * height, add_row, [jnp.zeros(k).reshape(axes) for k in lengths])
    return jnp.stack([jnp.sum(s.reshape(-1, maps), 0) for s in sums]).reshape(shape)


def _pad(x, spatial):
    """A negative width cuts pixels off."""
    widths = [(0, 0, 0), *((*pads, 0) for pads in spatial), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), widths)


def _sum_taps(x, kernel, origin, out, stride):
    """Sum of the shifted images, of `out` pixels each, times the taps; without padding."""
    total = jnp.zeros((x.shape[0], *out, x.shape[3]), x.dtype)
    for i, j in np.ndindex(*kernel.shape[:2]):
        top, left = origin[0] + i, origin[1] + j
        end = top + (out[0] - 1) * stride + 1, left + (out[1] - 1) * stride + 1
        strides = (1, stride, stride, 1)
        total += (
            lax.slice(x, (0, top, left, 0), (x.shape[0], *end, x.shape[3]), strides)
            * (kernel[i, j][None, None])
        )
    return total
