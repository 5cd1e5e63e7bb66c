"""The few layers that segmenters and adversaries share."""

from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from segadv_jax import limits
from segadv_jax.models.contracts import Keys
from segadv_jax.models.convolution import Pads, convolve
from segadv_jax.models.geometry import Maps, inside
from segadv_jax.shapes import AnyArray, Sizes

ACTIVATIONS = {"tanh": jnp.tanh, "relu": nn.relu}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# What the fields can hold that several modules have.
NUMBERS = {"width": limits.WIDTH, "leak": limits.SHARE, "dropout": limits.SHARE}
# Uniform within 1 / sqrt(fan-in): what Torch's convolutions begin with unless told otherwise.
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def check_fields(module: Any, **known: Collection[str]) -> None:
    """Raises a ValueError that names the first field that holds what it cannot.

    `known` are the words that a field can be; numbers are checked that several modules have.
    """
    for field, values in known.items():
        limits.check_known(field, getattr(module, field), values)
    for field, allowed in NUMBERS.items():
        if hasattr(module, field):
            limits.check(field, getattr(module, field), allowed)


def rectify(x: Maps, leak: float = 0.0) -> Float[Array, "n H W C"]:
    """Leaky ReLU, whose slope below 0 is `leak`; of 0 it is ReLU."""
    # Not leaky_relu for both: its slope at 0 itself is 1, that of relu 0.
    return nn.leaky_relu(x, leak) if leak else nn.relu(x)


def zero_outside(x: Maps, size: Sizes) -> Float[Array, "n H W C"]:
    """The maps with zeros outside the true `size` of each image.

    Applied before every padded convolution: without it biases fill the padding of the canvas, and
    an image's features depend on how much padding it got.
    """
    return jnp.where(inside(size, x.shape[1:3]), x, 0)


def max_pool(x: Maps, size: Sizes | None = None) -> Float[Array, "n h w C"]:
    """2x2 max-pooling with stride 2.

    What lies outside the true `size` takes no part, and a last odd row or column is pooled on its
    own; a window that lies outside gives the lowest number. Without a size all of the canvas
    counts, and a last odd row or column is left out.
    """
    height, width = x.shape[1:3]
    if size is None:
        x = x[:, : height // 2 * 2, : width // 2 * 2]
    else:
        lowest = jnp.finfo(x.dtype).min
        x = jnp.where(inside(size, (height, width)), x, lowest)
        x = jnp.pad(x, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], constant_values=lowest)
    # The maximum of four strided slices: on a CPU its gradient is far cheaper than
    # select-and-scatter.
    corners = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return jnp.maximum(jnp.maximum(corners[0], corners[1]), jnp.maximum(corners[2], corners[3]))


def spectral_norm(kernel: Float[AnyArray, "kh kw I O"], rounds: int = 20) -> Float[Array, ""]:
    """Approximately the largest singular value of a kernel as a matrix [kh*kw*I, O].

    Miyato et al., Spectral normalization for generative adversarial networks (ICLR 2018). They keep
    a singular vector from step to step and improve it by one round of power iteration. Here each
    call starts from the same fixed vector and does `rounds` of them, so that the layer stays a pure
    function of its parameters; of freshly drawn kernels this gives 0.97 to 1 times the true value.
    The gradient takes the vectors as constants, as theirs does.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = jax.lax.stop_gradient(matrix)

    def unit(x):
        return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)

    start = np.random.RandomState(0).normal(size=matrix.shape[1]).astype(np.float32)
    v = unit(jnp.asarray(start, matrix.dtype))
    v = jax.lax.fori_loop(0, rounds, lambda _, v: unit(fixed.T @ (fixed @ v)), v)
    return jnp.maximum(unit(fixed @ v) @ (matrix @ v), 1e-12)


def dropout(x: Float[Array, "n ..."], keys: Keys, layer: int, rate: float) -> Float[Array, "n ..."]:
    """Dropout whose mask depends on an example's own key alone, not on its place in a shard.

    `layer` tells the layers of a network apart. Without keys nothing is dropped; what is kept is
    divided by 1 - rate.
    """
    if keys is None or not rate:
        return x

    def keep(key):
        return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), 0)


class Conv(nn.Module):
    """Convolution with bias, zero-padded at the *true* border of each image, or not at all."""

    features: int
    kernel: int  # Side of the square kernel.
    dilation: int = 1  # Distance between neighbouring taps.
    # "SAME" or explicit: zeros outside the true size; with "VALID" none. With a stride not "SAME".
    padding: str | Pads = "SAME"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    spectral_norm: bool = False  # Divide the kernel by `spectral_norm` of it.
    dtype: Any = jnp.float32  # Of the arithmetic; parameters are float32.
    stride: int = 1  # Distance between neighbouring outputs.

    @nn.compact
    def __call__(self, x: Maps, size: Sizes) -> Float[Array, "n h w O"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        if self.spectral_norm:
            kernel = kernel / spectral_norm(kernel)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.padding != "VALID":
            x = zero_outside(x, size)
        maps, kernel, bias = (jnp.asarray(y, self.dtype) for y in (x, kernel, bias))
        maps = convolve(
            maps, kernel, stride=self.stride, dilation=self.dilation, padding=self.padding
        )
        return maps + bias.reshape(1, 1, 1, -1)


class SparseConv(nn.Module):
    """Convolution in which each output map sees only some input maps, by connection tables.

    Only the connected kernels are parameters. They are laid out in a dense kernel with zeros for
    the missing connections, which takes more arithmetic than the tables need but runs at full
    speed.
    """

    # By name; column `o` lists the input maps that output map `o` of the table sees. The output
    # maps of the tables follow each other.
    tables: Mapping[str, Int[np.ndarray, "fan_in features"]]
    kernel: int  # Side of the square kernel.
    dtype: Any = jnp.float32  # As in `Conv`.

    @nn.compact
    def __call__(self, x: Maps, size: Sizes) -> Float[Array, "n H W O"]:
        kernels = []
        for name, table in self.tables.items():
            fan_in, features = table.shape
            shape = (self.kernel, self.kernel, fan_in, features)
            # lecun_normal counts the connected maps only: the fan-in is the true one.
            connected = self.param(name, nn.initializers.lecun_normal(), shape)
            kernel = jnp.zeros((*shape[:2], x.shape[-1], features), connected.dtype)
            place = kernel.at[:, :, table, np.arange(features)[None]]
            kernels.append(place.set(connected, unique_indices=True))
        dense = jnp.concatenate(kernels, -1)
        bias = self.param("bias", nn.initializers.zeros, (dense.shape[-1],))
        maps, dense, bias = (
            jnp.asarray(y, self.dtype) for y in (zero_outside(x, size), dense, bias)
        )
        return convolve(maps, dense) + bias.reshape(1, 1, 1, -1)


def random_table(inputs: int, fan_in: int, features: int, seed: int) -> Int[np.ndarray, "_ _"]:
    """A connection table: each of `features` maps sees `fan_in` different ones of `inputs` maps.

    It is drawn from NumPy's frozen `RandomState(seed)` and part of the architecture. Each column is
    sorted.
    """
    random = np.random.RandomState(seed)
    columns = [np.sort(random.permutation(inputs)[:fan_in]) for _ in range(features)]
    return np.stack(columns, axis=1)
