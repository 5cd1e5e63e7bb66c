"""What tests of a convolution's algorithms share: random arrays, gradients, how close they are."""

import jax
import jax.numpy as jnp
import numpy as np


def draw(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.RandomState(seed).normal(size=shape), dtype)


def cotangent_of(convolution, x, kernel):
    """A random one of the output's shape and type, the same numbers for each type."""
    shape = jax.eval_shape(convolution, x, kernel)
    return draw(*shape.shape, seed=2, dtype=jnp.bfloat16).astype(shape.dtype)


def with_gradients(convolution, x, kernel, cotangent=None):
    """(output, gradient for x, gradient for the kernel); without a cotangent for a random one."""

    @jax.jit
    def run(x, kernel, cotangent):
        y, pull = jax.vjp(convolution, x, kernel)
        return y, *pull(cotangent)

    if cotangent is None:
        cotangent = cotangent_of(convolution, x, kernel)
    return run(x, kernel, cotangent)


def assert_close(got, expected, tolerance):
    """Errors are relative to the largest number of an array."""
    for have, want in zip(got, expected, strict=True):
        assert have.shape == want.shape
        have, want = (np.asarray(a, np.float64) for a in (have, want))
        np.testing.assert_allclose(have, want, rtol=0, atol=tolerance * np.abs(want).max())
