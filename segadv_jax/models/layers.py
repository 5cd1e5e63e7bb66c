"""The few layers that segmenters and adversaries share."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segadv_jax.models.convolution import convolve
from segadv_jax.models.geometry import inside

ACTIVATIONS = {"tanh": jnp.tanh, "relu": nn.relu}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def zero_outside(x, size):
    """f32[n,H,W,C] with zeros outside the true ``size`` i32[n,2] of each image.

    Applied before every padded convolution: without it biases fill the padding of the canvas, and
    an image's features depend on how much padding it got.
    """
    return jnp.where(inside(size, x.shape[1:3]), x, 0)


def max_pool(x, size=None):
    """2x2 max-pooling with stride 2.

    Args:
      x: f[n,H,W,C].
      size: i32[n,2] true sizes; what lies outside takes no part, and a last odd row or column is
        pooled on its own. None: all of the canvas counts, and what fills no window is left out.

    Returns:
      f[n,ceil(H/2),ceil(W/2),C]; where a window lies outside the true size, the lowest number.
      Without a size f[n,floor(H/2),floor(W/2),C].
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


def spectral_norm(kernel, rounds=20):
    """Largest singular value of a kernel as a matrix, output maps against all else; nearly.

    Miyato et al., Spectral normalization for generative adversarial networks (ICLR 2018). They keep
    a singular vector from step to step and improve it by one round of power iteration; here each
    call starts anew, from a fixed vector, and does ``rounds`` of them, which gives 0.97 to 1 times
    the true value of freshly drawn kernels: the layer stays a pure function of its parameters. The
    gradient takes the vectors as constants, as theirs does.

    Args:
      kernel: f32[kh,kw,I,O].

    Returns:
      f32[].
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = jax.lax.stop_gradient(matrix)

    def unit(x):
        return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)

    def improve(_, v):
        return unit(fixed.T @ (fixed @ v))

    start = np.random.RandomState(0).normal(size=matrix.shape[1]).astype(np.float32)
    v = jax.lax.fori_loop(0, rounds, improve, unit(jnp.asarray(start, matrix.dtype)))
    return jnp.maximum(unit(fixed @ v) @ (matrix @ v), 1e-12)


def dropout(x, keys, layer, rate):
    """Dropout whose mask depends on an example's own key alone, not on its place in a shard.

    Args:
      x: f[n,...].
      keys: [n], one per example; None: nothing is dropped.
      layer: int that tells the layers of a network apart.
      rate: probability that an element is dropped; the others are divided by 1 - rate.
    """
    if keys is None or not rate:
        return x

    def keep(key):
        return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), 0)


class Conv(nn.Module):
    """Convolution with bias, zero-padded at the *true* border of each image, or not at all.

    Attributes:
      features: number of output maps.
      kernel: side of the square kernel.
      dilation: distance between neighbouring taps.
      padding: "SAME", zeros outside the true size, or "VALID", none.
      kernel_init: initializer of the kernel.
      spectral_norm: divide the kernel by ``spectral_norm`` of it.
      dtype: of the arithmetic; parameters are float32.
    """

    features: int
    kernel: int
    dilation: int = 1
    padding: str = "SAME"
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    spectral_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, size):
        """f[n,H,W,I] of true ``size`` i32[n,2] (not looked at by "VALID") to f[n,H',W',O]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        if self.spectral_norm:
            kernel = kernel / spectral_norm(kernel)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.padding == "SAME":
            x = zero_outside(x, size)
        x, kernel, bias = (y.astype(self.dtype) for y in (x, kernel, bias))
        x = convolve(x, kernel, dilation=self.dilation, padding=self.padding)
        return x + bias.reshape(1, 1, 1, -1)


class SparseConv(nn.Module):
    """Convolution in which each output map sees only some input maps, by connection tables.

    Only the connected kernels are parameters. They are laid out in a dense kernel with zeros for
    the missing connections, which costs more arithmetic than the tables need but runs at full
    speed.

    Attributes:
      tables: {name: i64[fan_in, features]}; column ``o`` lists the input maps that output map ``o``
        of this table sees. The maps of the tables follow each other.
      kernel: side of the square kernel.
    """

    tables: Mapping[str, np.ndarray]
    kernel: int

    @nn.compact
    def __call__(self, x, size):
        dense = []
        for name, table in self.tables.items():
            fan_in, features = table.shape
            shape = (self.kernel, self.kernel, fan_in, features)
            # lecun_normal counts the connected maps only: the fan-in is the true one.
            connected = self.param(name, nn.initializers.lecun_normal(), shape)
            kernel = jnp.zeros((*shape[:2], x.shape[-1], features), connected.dtype)
            dense.append(
                kernel.at[:, :, table, np.arange(features)[None]].set(
                    connected, unique_indices=True
                )
            )
        dense = jnp.concatenate(dense, -1)
        bias = self.param("bias", nn.initializers.zeros, (dense.shape[-1],))
        return convolve(zero_outside(x, size), dense) + bias.reshape(1, 1, 1, -1)


def random_table(inputs, fan_in, features, seed):
    """A connection table: each of ``features`` maps sees ``fan_in`` distinct of ``inputs`` maps.

    Drawn once from NumPy's frozen ``RandomState(seed)``: it is part of the architecture.

    Returns:
      i64[fan_in, features], each column sorted.
    """
    random = np.random.RandomState(seed)
    columns = [np.sort(random.permutation(inputs)[:fan_in]) for _ in range(features)]
    return np.stack(columns, axis=1)
