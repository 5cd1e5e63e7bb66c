"""The depthwise convolution's two algorithms, and which of them is compiled where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import assert_close, cotangent_of, draw, with_gradients
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from segadv_jax.models.depthwise import depthwise, xla_depthwise

LAYER = (2, 9, 12, 5), (3, 3, 1, 5)
ARGUMENTS = {"stride": 2, "padding": ((1, 1), (0, 1))}


def layer(shapes, dtype=jnp.float32):
    return draw(*shapes[0], dtype=dtype), draw(*shapes[1], seed=1, dtype=dtype) / 3


@st.composite
def convolutions(draw):
    """(shape of x, shape of the kernel, stride, padding) with an output of a pixel or more."""
    kernel = [draw(st.sampled_from([1, 2, 3, 5])) for _ in range(2)]
    # Not wider than the kernel: XLA's own gradient then reads beside its input.
    padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in kernel)
    least = [max(1, k - sum(p)) for k, p in zip(kernel, padding, strict=True)]
    pixels = [draw(st.integers(low, low + 9)) for low in least]
    maps, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return (draw(st.integers(1, 2)), *pixels, maps), (*kernel, 1, maps), stride, padding


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("bfloat16", 2**-8)])
# No shrinking: each example is compiled, and a failing one is small enough to read.
@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])
@given(case=convolutions())
def test_taps_give_what_the_convolution_of_xla_gives(dtype, tolerance, case):
    """XLA's in float32: what is summed in float32 and rounded once agrees with it."""
    *shapes, stride, padding = case
    x, kernel = layer(shapes, jnp.dtype(dtype))
    arguments = {"stride": stride, "padding": padding}
    convolution = functools.partial(depthwise, **arguments)
    cotangent = cotangent_of(convolution, x, kernel)
    ours = with_gradients(convolution, x, kernel, cotangent)
    assert all(result.dtype == x.dtype for result in ours)
    theirs = with_gradients(
        functools.partial(xla_depthwise, **arguments),
        *(a.astype(jnp.float32) for a in (x, kernel, cotangent)),
    )
    assert_close(ours, theirs, tolerance)


def test_each_map_has_its_own_kernel():
    x, kernel = layer(LAYER)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    expected = np.einsum("nhwckl,klc->nhwc", windows, kernel[:, :, 0])
    got = depthwise(x, kernel, padding=((0, 0), (0, 0)))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def loss(x, kernel):
    return jnp.sum(jnp.square(depthwise(x, kernel, **ARGUMENTS)))


def test_vmap_over_images_and_over_kernels():
    (x, kernel), gradients = layer(LAYER), jax.jit(jax.grad(loss, (0, 1)))
    xs, kernels = jnp.stack([x, 2 * x, x[:, ::-1]]), jnp.stack([kernel, -kernel, kernel[::-1]])
    batched = jax.vmap(gradients)(xs, kernels)
    for i in range(3):
        assert_close([g[i] for g in batched], gradients(xs[i], kernels[i]), 1e-5)
    shared = jax.vmap(gradients, (0, None))(xs, kernel)
    assert_close([g[2] for g in shared], gradients(xs[2], kernel), 1e-5)


def test_pmap():
    (x, kernel), gradients = layer(LAYER), jax.jit(jax.grad(loss, (0, 1)))
    xs = jnp.stack([x, 2 * x, 3 * x, 4 * x])

    def step(x, kernel):
        dx, dk = gradients(x, kernel)
        return dx, jax.lax.psum(dk, "batch")

    dx, dk = jax.pmap(step, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, kernel)
    each = [gradients(x, kernel) for x in xs]
    assert_close([dx, dk], [jnp.stack([g[0] for g in each]), sum(g[1] for g in each)], 1e-5)


def test_gradients_have_gradients():
    """As a gradient penalty needs them."""

    def penalty(convolution, *layer):
        def total(*layer):
            return jnp.sum(jnp.tanh(convolution(*layer, **ARGUMENTS)))

        return sum(jnp.sum(jnp.square(g)) for g in jax.grad(total, (0, 1))(*layer))

    ours, theirs = (
        jax.jit(jax.grad(functools.partial(penalty, f), (0, 1)))(*layer(LAYER))
        for f in (depthwise, xla_depthwise)
    )
    assert_close(ours, theirs, 1e-5)


def lowered(function, platform, *args):
    """The program for a platform, whatever this host has."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_the_convolution_of_xla_and_nothing_else(platform):
    text = lowered(jax.grad(loss, (0, 1)), platform, *layer(LAYER))
    assert text.count("stablehlo.convolution") == 3  # The output and both gradients.
    assert "stablehlo.slice" not in text and "stablehlo.while" not in text


def test_cpus_get_the_taps_and_nothing_else():
    text = lowered(jax.grad(loss, (0, 1)), "cpu", *layer(LAYER))
    assert "stablehlo.slice" in text
    assert "stablehlo.convolution" not in text
