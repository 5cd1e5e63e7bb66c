"""What the convolutions with an algorithm of their own on a CPU share."""

from collections.abc import Callable, Sequence

import jax
from jax import lax

Pads = Sequence[tuple[int, int]]  # ((above, below), (left, right)), pixels of zeros.


def by_platform(
    on_cpu: Callable, otherwise: Callable, gradients: Callable | None = None
) -> Callable:
    """A function (x, kernel) -> output that is `on_cpu` on a CPU and `otherwise` elsewhere.

    Both are such functions. The platform that is compiled for decides, not the default backend of
    this host. `gradients` takes (x, kernel, cotangent) to the gradients for x and for the kernel on
    a CPU; without it they are those of `on_cpu`.
    """

    def of(function):
        return lambda x, kernel, cotangent: jax.vjp(function, x, kernel)[1](cotangent)

    @jax.custom_vjp
    def run(x, kernel):
        return lax.platform_dependent(x, kernel, cpu=on_cpu, default=otherwise)

    def forward(x, kernel):
        # Only the inputs are kept: what one algorithm kept beside them the other would have to
        # carry.
        return run(x, kernel), (x, kernel)

    def backward(inputs, cotangent):
        fast = gradients or of(on_cpu)
        return lax.platform_dependent(*inputs, cotangent, cpu=fast, default=of(otherwise))

    run.defvjp(forward, backward)
    return run


def output_shape(
    x_shape: Sequence[int], kernel_shape: Sequence[int], dilation: int, padding: Pads
) -> tuple[int, int]:
    """(H', W') of a convolution of stride 1."""
    axes = zip(x_shape[1:3], kernel_shape[:2], padding, strict=True)
    height, width = (pixels + sum(pads) - dilation * (side - 1) for pixels, side, pads in axes)
    return height, width


def count_tiles(shape: Sequence[int], step: Sequence[int], dilation: int) -> tuple[int, int]:
    """How many tiles of `step` outputs a dilation apart cover each axis of an output."""
    down, across = (-(-p // (dilation * s)) for p, s in zip(shape, step, strict=True))
    return down, across
