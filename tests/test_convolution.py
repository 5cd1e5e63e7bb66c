"""The convolution's algorithms against each other, and which of them is compiled where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import assert_close, cotangent_of, draw, with_gradients
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from segadv_jax.models import MultiScale
from segadv_jax.models.convolution import (
    TILE,
    convolve,
    prefers_tiles,
    tiled,
    transforms,
    xla_convolve,
)
from segadv_jax.models.winograd import (
    POINTS,
    fastest_tile,
    winograd,
    winograd_gradients,
)
from segadv_jax.models.winograd import transforms as minimal_transforms

# A layer for which a CPU prefers tiles, and a smaller one for which it does not.
LARGE = (2, 40, 40, 64), (7, 7, 64, 64)
SMALL = (1, 12, 10, 3), (7, 7, 3, 8)
EXPLICIT = ((3, 3), (3, 3))
# One for minimal filtering: the adversary's second layer after the fusion.
MINIMAL = (1, 20, 20, 128), (3, 3, 128, 256)
ONE = ((1, 1), (1, 1))


def layer(shapes, dtype=jnp.float32):
    (x_shape, kernel_shape), scale = shapes, np.prod(shapes[1][:3]) ** -0.5
    return draw(*x_shape, dtype=dtype), (scale * draw(*kernel_shape, seed=1)).astype(dtype)


@st.composite
def convolutions(draw, sides=st.integers(1, TILE // 2)):  # noqa: B008 - a strategy is a constant.
    """(shape of x, shape of the kernel, dilation, padding) with an output of a pixel or more."""
    kernel = draw(sides), draw(sides), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 4))
    reach = [dilation * (side - 1) + 1 for side in kernel[:2]]
    # Not wider than the kernel: XLA's own gradient then reads beside its input.
    pads = [st.tuples(st.integers(0, r - 1), st.integers(0, r - 1)) for r in reach]
    padding = draw(st.sampled_from(["SAME", "VALID"]) | st.tuples(*pads))
    least = [1, 1]
    if padding == "VALID":
        least = reach
    elif padding != "SAME":
        least = [max(1, r - sum(p)) for r, p in zip(reach, padding, strict=True)]
    pixels = [draw(st.integers(low, low + 30)) for low in least]
    return (draw(st.integers(1, 2)), *pixels, kernel[2]), kernel, dilation, padding


def explicit(x_shape, kernel_shape, dilation, padding):
    if not isinstance(padding, str):
        return padding
    reach = [dilation * (side - 1) + 1 for side in kernel_shape[:2]]
    pads = jax.lax.padtype_to_pads(x_shape[1:3], reach, (1, 1), padding)
    return [(int(before), int(after)) for before, after in pads]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("bfloat16", 2**-8)])
# No shrinking: each example is compiled, and a failing one is small enough to read.
@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate])
@given(case=convolutions())
def test_tiles_give_what_the_convolution_of_xla_gives(dtype, tolerance, case):
    """XLA's in float32: the sums of bfloat16 are no reference."""
    *shapes, dilation, padding = case
    arguments = {"dilation": dilation, "padding": explicit(*shapes, dilation, padding)}
    x, kernel = layer(shapes, jnp.dtype(dtype))
    ours = with_gradients(functools.partial(tiled, **arguments), x, kernel)
    assert all(result.dtype == x.dtype for result in ours)
    x, kernel = (a.astype(jnp.float32) for a in (x, kernel))
    theirs = with_gradients(functools.partial(xla_convolve, **arguments), x, kernel)
    assert_close(ours, theirs, tolerance)


def with_minimal_gradients(x, kernel, dilation, padding, m):
    """As `with_gradients`."""
    fields = {"dilation": dilation, "padding": padding, "m": m}
    cotangent = cotangent_of(functools.partial(winograd, **fields), x, kernel)

    @jax.jit
    def run(*arrays):
        return winograd(*arrays[:2], **fields), *winograd_gradients(*arrays, **fields)

    return run(x, kernel, cotangent)


@pytest.mark.parametrize(
    ("m", "dtype", "tolerance"),
    [(2, "float32", 3e-6), (4, "float32", 3e-6), (4, "bfloat16", 2**-8)],
)
@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(case=convolutions(sides=st.just(3)))
def test_minimal_filtering_gives_what_the_convolution_of_xla_gives(m, dtype, tolerance, case):
    """Of any size, dilation and padding, with both gradients."""
    *shapes, dilation, padding = case
    padding = explicit(*shapes, dilation, padding)
    x, kernel = layer(shapes, jnp.dtype(dtype))
    ours = with_minimal_gradients(x, kernel, dilation, padding, m)
    assert all(result.dtype == x.dtype for result in ours)
    x, kernel = (a.astype(jnp.float32) for a in (x, kernel))
    plain = functools.partial(xla_convolve, dilation=dilation, padding=padding)
    assert_close(ours, with_gradients(plain, x, kernel), tolerance)


@pytest.mark.parametrize("m", POINTS)
def test_the_rounding_of_minimal_filtering_is_that_of_float32(m):
    """Beside sums in float64, over as many maps as the adversary has."""
    x, kernel = layer(MINIMAL)
    got = winograd(x, kernel, 1, ((0, 0), (0, 0)), m)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), (3, 3), (1, 2))
    exact = np.tensordot(windows, np.asarray(kernel, np.float64), ([4, 5, 3], [0, 1, 2]))
    assert np.abs(got - exact).max() < 5e-6 * np.abs(exact).max()


@pytest.mark.parametrize("m", POINTS)
def test_minimal_filtering_takes_a_product_per_point(m):
    """A row of a tile: m outputs of three taps from m + 2 products."""
    a, b, c = minimal_transforms(m)
    assert a.shape == (m + 2, m + 2)
    tile, kernel = np.random.RandomState(0).normal(size=m + 2), np.array([0.5, -1.0, 2.0])
    expected = np.convolve(tile, kernel[::-1], "valid")
    np.testing.assert_allclose(c @ ((b @ kernel) * (a @ tile)), expected, atol=1e-12)


def test_minimal_filtering_is_for_3x3_kernels_between_many_maps():
    """Of the adversaries and of Dilated-8, of which some layers are dilated."""
    for pixels, maps, features in ((40, 128, 128), (20, 128, 256), (10, 256, 512)):
        assert fastest_tile((4, pixels, pixels, maps), (3, 3, maps, features), 1, ONE)
    assert fastest_tile((1, 40, 40, 512), (3, 3, 512, 512), 2, ((2, 2), (2, 2)))
    # Where there are few tiles, the transforms of the kernel weigh more.
    assert fastest_tile((4, 40, 40, 128), (3, 3, 128, 128), 1, ONE) == 4
    assert fastest_tile((4, 10, 10, 256), (3, 3, 256, 512), 1, ONE) == 2
    assert not fastest_tile((4, 160, 160, 3), (3, 3, 3, 64), 1, ONE)
    assert not fastest_tile((4, 10, 10, 512), (3, 3, 512, 1), 1, ONE)
    assert not fastest_tile((4, 40, 40, 128), (5, 5, 128, 128), 1, EXPLICIT)
    assert not fastest_tile((1, 2, 2, 128), (3, 3, 128, 128), 1, ((0, 0), (0, 0)))


@pytest.mark.parametrize("shapes", [LARGE, SMALL, MINIMAL])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 9), (2, 1))])
def test_convolve_is_the_convolution_of_xla_whichever_is_chosen(shapes, padding):
    x, kernel = layer(shapes)
    pads = explicit(*shapes, 1, padding)
    ours = with_gradients(functools.partial(convolve, padding=padding), x, kernel)
    theirs = with_gradients(functools.partial(xla_convolve, dilation=1, padding=pads), x, kernel)
    assert_close(ours, theirs, 1e-5 if shapes == MINIMAL else 3e-6)


def test_bfloat16_is_summed_in_float32():
    """It is rounded once, at the end, which is nearer to the truth than a bfloat16 spectrum."""
    x, kernel = layer(LARGE, jnp.bfloat16)
    exact = xla_convolve(x.astype(jnp.float32), kernel.astype(jnp.float32), 1, EXPLICIT)
    result = convolve(x, kernel)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(jnp.float32), exact, rtol=2**-8, atol=1e-4)


def test_tiles_are_for_large_kernels_between_many_maps():
    """The third layer of the multi-scale net on a patch of 160x160 and on an image of 320x240."""
    for pixels in ((40, 40), (60, 80)):
        assert prefers_tiles((4, *pixels, 64), (7, 7, 64, 256), 1, EXPLICIT)
    assert prefers_tiles(*LARGE, 1, EXPLICIT) and not prefers_tiles(*SMALL, 1, EXPLICIT)
    one = ((1, 1), (1, 1))
    assert not prefers_tiles((4, 160, 160, 3), (7, 7, 3, 16), 1, EXPLICIT)
    assert not prefers_tiles((4, 40, 40, 128), (3, 3, 128, 128), 1, one)
    assert not prefers_tiles((4, 40, 40, 768), (1, 1, 768, 1024), 1, ((0, 0), (0, 0)))
    # fc6 of Dilated-8, 7x7 of dilation 4 from 512 to 4096 maps.
    assert prefers_tiles((1, 90, 90, 512), (7, 7, 512, 4096), 4, ((0, 0), (0, 0)))


def test_kernels_too_large_for_a_tile_take_the_convolution_of_xla():
    side = TILE // 2 + 1
    x, kernel = draw(1, 20, 20, 64), draw(side, side, 64, 64)
    assert not prefers_tiles(x.shape, kernel.shape, 1, ((4, 4), (4, 4)))
    assert convolve(x, kernel).shape == x.shape


@pytest.mark.parametrize("padding", ["VALID", ((3, 4), (2, 3))])
@pytest.mark.parametrize("stride", [2, 3])
def test_a_stride_keeps_each_so_manieth_output(stride, padding):
    x, kernel = layer(LARGE)
    ours = functools.partial(convolve, stride=stride, padding=padding)

    def kept(x, kernel):
        return convolve(x, kernel, padding=padding)[:, ::stride, ::stride]

    assert_close(with_gradients(ours, x, kernel), with_gradients(kept, x, kernel), 3e-6)


def test_a_stride_needs_a_padding_that_does_not_depend_on_the_canvas():
    with pytest.raises(ValueError, match="stride is 2: set the padding to numbers"):
        convolve(*layer(SMALL), stride=2)


@pytest.mark.parametrize("side", [3, 7])
def test_a_tile_is_convolved_by_two_real_products_per_frequency(side):
    of_image, *parts = transforms(side, side)
    outputs = (TILE + 1 - side) ** 2
    assert of_image.shape == (260, TILE**2)
    for of_kernel, of_output in parts:
        assert of_kernel.shape == (260, side**2) and of_output.shape == (outputs, 130)
    tile, kernel = np.random.RandomState(0).normal(size=(2, TILE, TILE))
    kernel = kernel[:side, :side]
    windows = np.lib.stride_tricks.sliding_window_view(tile, (side, side))
    expected = np.einsum("ijkl,kl->ij", windows, kernel).ravel()
    spectrum = of_image @ tile.ravel()
    got = sum(
        of_output @ (spectrum * (of_kernel @ kernel.ravel())).reshape(130, 2).sum(-1)
        for of_kernel, of_output in parts
    )
    np.testing.assert_allclose(got, expected, atol=3e-5)


def loss(x, kernel):
    return jnp.sum(jnp.square(convolve(x, kernel)))


def test_vmap_over_images_and_over_kernels():
    (x, kernel), gradients = layer(LARGE), jax.jit(jax.grad(loss, (0, 1)))
    xs, kernels = jnp.stack([x, 2 * x, x[:, ::-1]]), jnp.stack([kernel, -kernel, kernel[::-1]])
    batched = jax.vmap(gradients)(xs, kernels)
    for i in range(3):
        assert_close([g[i] for g in batched], gradients(xs[i], kernels[i]), 1e-5)
    shared = jax.vmap(gradients, (0, None))(xs, kernel)
    assert_close([g[2] for g in shared], gradients(xs[2], kernel), 1e-5)


def test_pmap():
    (x, kernel), gradients = layer(LARGE), jax.jit(jax.grad(loss, (0, 1)))
    xs = jnp.stack([x, 2 * x, 3 * x, 4 * x])

    def step(x, kernel):
        dx, dk = gradients(x, kernel)
        return dx, jax.lax.psum(dk, "batch")

    dx, dk = jax.pmap(step, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, kernel)
    each = [gradients(x, kernel) for x in xs]
    assert_close([dx, dk], [jnp.stack([g[0] for g in each]), sum(g[1] for g in each)], 1e-5)


@pytest.mark.parametrize(("shapes", "padding"), [(LARGE, EXPLICIT), (MINIMAL, ONE)])
def test_gradients_have_gradients(shapes, padding):
    """As a gradient penalty needs them."""

    def penalty(convolution, x, kernel):
        gradient = jax.grad(lambda x: jnp.sum(jnp.tanh(convolution(x, kernel))))(x)
        return jnp.sum(jnp.square(gradient))

    x, kernel = layer(shapes)
    plain = functools.partial(xla_convolve, dilation=1, padding=padding)
    ours, theirs = (
        jax.jit(jax.grad(functools.partial(penalty, f), (0, 1)))(x, kernel)
        for f in (convolve, plain)
    )
    assert_close(ours, theirs, 1e-5)


def lowered(function, platform, *args):
    """The program for a platform, whatever this host has."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("shapes", [LARGE, MINIMAL])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_the_convolution_of_xla_and_nothing_else(platform, shapes):
    text = lowered(jax.grad(loss, (0, 1)), platform, *layer(shapes))
    assert text.count("stablehlo.convolution") == 3  # The output and both gradients.
    assert "dot_general" not in text


@pytest.mark.parametrize("shapes", [LARGE, MINIMAL])
def test_cpus_get_the_tiles_and_nothing_else(shapes):
    text = lowered(jax.grad(loss, (0, 1)), "cpu", *layer(shapes))
    assert "dot_general" in text
    assert "stablehlo.convolution" not in text


def test_a_segmenter_for_an_accelerator_has_no_tiles():
    """Nothing is computed at the 130 frequencies of a tile.

    The matrices themselves remain as constants that nothing uses; XLA drops them.
    """
    segmenter = MultiScale(8)
    image, size = jnp.zeros((4, 160, 160, 3)), jnp.full((4, 2), 160)
    params = jax.eval_shape(segmenter.init, jax.random.key(0), image, size)

    def total(params):
        return jnp.sum(segmenter.apply(params, image, size))

    def computed(platform):
        lines = lowered(jax.grad(total), platform, params).splitlines()
        return [x for x in lines if "tensor<260x" in x and "stablehlo.constant" not in x]

    assert computed("cpu") and not computed("tpu")
