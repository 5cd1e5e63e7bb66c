"""The multi-scale segmenter against the figures of Farabet et al. (2013)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax.models.multiscale import MultiScale, Trunk


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(module, canvas=(60, 80)):
    image = jax.ShapeDtypeStruct((1, *canvas, 3), jnp.float32)
    size = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return jax.eval_shape(module.init, jax.random.key(0), image, size)["params"]


@pytest.mark.parametrize(("sparse", "trunk"), [(True, 427_910), (False, 854_406)])
def test_published_network_has_its_parameters(sparse, trunk):
    params = shapes(MultiScale(8, sparse=sparse))
    assert count(params["trunk"]) == trunk
    assert count({name: params[name] for name in ("hidden", "classifier")}) == 795_656
    assert count(params) == trunk + 795_656  # One trunk, whose weights the levels share.


@pytest.mark.parametrize("canvas", [(240, 320), (53, 37)])
def test_logits_come_at_a_quarter_of_the_resolution(canvas):
    module = MultiScale(8)
    image = jax.ShapeDtypeStruct((2, *canvas, 3), jnp.float32)
    size = jax.ShapeDtypeStruct((2, 2), jnp.int32)
    logits = jax.eval_shape(
        lambda *args: module.init_with_output(*args)[0], jax.random.key(0), image, size
    )
    assert logits.shape == (2, *(-(-side // 4) for side in canvas), 8)
    assert (module.stride, module.offset) == (4, 1.5)


@pytest.mark.parametrize("axis", [0, 1])
def test_field_of_view_of_the_trunk_is_46_pixels(axis):
    """A NaN spreads to everything that sees it, through max-pooling as well as convolution."""
    side, cell = 64, 8
    module = Trunk((3, 4, 2), sparse=False)
    level = np.random.RandomState(0).normal(size=(side, side, side, 3)).astype(np.float32)
    for pixel in range(side):
        level[
            (pixel, pixel, slice(None))[: axis + 1] if axis == 0 else (pixel, slice(None), pixel)
        ] = np.nan
    size = np.full((side, 2), side, np.int32)
    params = small.parameters(module, level, size)
    result = module.apply({"params": params}, level, size)[:, cell, cell]
    for feature in np.asarray(result).T:
        seen = np.flatnonzero(np.isnan(feature))
        # 4i + 1.5 is the centre of cell i.
        np.testing.assert_array_equal(seen, np.arange(46) + 4 * cell + 1.5 - 22.5)


@pytest.fixture(scope="module")
def trunk():
    """(module, params, level, size): the published trunk on a level of 16x16 pixels."""
    module = Trunk()
    level = np.random.RandomState(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
    size = np.array([(16, 16)], np.int32)
    return module, small.parameters(module, level, size), level, size


def test_maps_of_the_first_layer_see_luma_or_chroma(trunk):
    module, params, level, size = trunk

    @jax.jit
    def first(level):
        """All maps of the first convolutions, f32[H,W,16]."""
        variables = {"params": params}
        filters = lambda layer, _: (layer.name or "").startswith("conv1")
        _, kept = module.apply(
            variables, level, size, capture_intermediates=filters, mutable=["intermediates"]
        )
        return jnp.concatenate(jax.tree.leaves(kept), -1)[0]

    maps = first(level)
    assert maps.shape == (16, 16, 16)

    def reacts(*channels):
        changed = level.copy()
        changed[..., channels] += 1
        return np.max(np.abs(first(changed) - maps), (0, 1)) > 1e-3

    luma, chroma = reacts(0), reacts(1, 2)
    assert luma.sum() == 10 and chroma.sum() == 6
    assert np.all(luma ^ chroma)
    for channel in (1, 2):
        np.testing.assert_array_equal(reacts(channel), chroma)


@pytest.mark.parametrize("sparse", [True, False])
def test_each_map_sees_half_of_the_maps_before(sparse):
    module = Trunk(sparse=sparse)
    level = np.random.RandomState(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    size = np.array([(8, 8)], np.int32)
    params = small.parameters(module, level, size)

    def outputs(biases, layer):
        """Sums over the maps of ``layer``, as functions of the biases of the layer before."""
        changed = params | {name: params[name] | {"bias": bias} for name, bias in biases.items()}
        filters = lambda module, _: module.name == layer
        _, kept = module.apply(
            {"params": changed},
            level,
            size,
            capture_intermediates=filters,
            mutable=["intermediates"],
        )
        return jnp.sum(jax.tree.leaves(kept)[0], (0, 1, 2))

    for layer, before, inputs, seen in (
        ("conv2", ("conv1_y", "conv1_uv"), 16, 8),
        ("conv3", ("conv2",), 64, 32),
    ):
        biases = {name: params[name]["bias"] for name in before}
        slopes = jax.jit(jax.jacfwd(outputs), static_argnums=1)(biases, layer)
        slopes = np.concatenate([slopes[name] for name in before], -1)
        assert slopes.shape == ({"conv2": 64, "conv3": 256}[layer], inputs)
        np.testing.assert_array_equal(np.sum(slopes != 0, -1), seen if sparse else inputs)
        assert np.all(np.any(slopes != 0, 0))  # No map is computed for nothing.


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_classifier_sees_all_levels(activation):
    """The hidden layer's 3 * widths[2] inputs all matter, and through one hidden layer only."""
    module = small.segmenter(activation=activation)
    params = small.segmenter_parameters(module)
    assert params["hidden"]["kernel"].shape == (3 * 8, 8)
    assert params["classifier"]["kernel"].shape == (8, small.CLASSES)
    image, size = small.images([(32, 48)], (32, 48))

    @jax.jit
    def gradient(kernel):
        changed = params | {"hidden": params["hidden"] | {"kernel": kernel}}
        return jax.grad(lambda p: jnp.sum(module.apply({"params": p}, image, size) ** 2))(changed)

    used = np.any(gradient(params["hidden"]["kernel"])["hidden"]["kernel"] != 0, 1)
    assert np.all(used)


@pytest.mark.parametrize("levels", [2, 3])
def test_effective_field_of_view_doubles_with_each_level(levels):
    """46 pixels of level k are 46 * 2^k of the image (the filters of the pyramid widen it a bit)."""
