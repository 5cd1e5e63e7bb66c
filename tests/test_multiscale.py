"""The multi-scale segmenter against the figures of Farabet et al. (2013)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax.models import multiscale
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
    """Which rows, or columns, of its level one cell reacts to."""
    side, cell = 64, 8
    module = Trunk((3, 4, 5), sparse=False)
    random = np.random.RandomState(0)
    level = random.normal(size=(1, side, side, 3)).astype(np.float32)
    size = np.full((side + 1, 2), side, np.int32)
    params = small.parameters(module, level, size[:1])
    changed = level.repeat(side + 1, 0)
    # Image p has another row p; the last one is as it was.
    np.moveaxis(changed, 1 + axis, 1)[range(side), range(side)] += random.normal(0, 9, (side, 3))
    result = jax.jit(module.apply)({"params": params}, changed, size)[:, cell, cell]
    seen = np.flatnonzero(np.any(np.abs(result[:-1] - result[-1:]) > 1e-5, -1))
    # 4i + 1.5 is the centre of cell i.
    np.testing.assert_array_equal(seen, np.arange(46) + 4 * cell + 1.5 - 22.5)


@pytest.mark.parametrize(("activation", "lowest", "highest"), [("tanh", -1, 1), ("relu", 0, 1e9)])
def test_activation_bounds_the_features(activation, lowest, highest):
    level = 50 * np.random.RandomState(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
    size = np.array([(16, 16)], np.int32)
    module = Trunk((3, 4, 16), activation=activation)
    features = module.apply({"params": small.parameters(module, level, size)}, level, size)
    assert lowest <= np.min(features) < 0.5 * (lowest + 0.1)
    assert 0.5 < np.max(features) <= highest


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

        def kept_layers(layer, _):
            return (layer.name or "").startswith("conv1")

        _, kept = module.apply(
            variables, level, size, capture_intermediates=kept_layers, mutable=["intermediates"]
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
        """Sums over the maps of `layer`, as functions of the biases of the layer before."""
        changed = params | {name: params[name] | {"bias": bias} for name, bias in biases.items()}

        def kept_layers(module, _):
            return module.name == layer

        _, kept = module.apply(
            {"params": changed},
            level,
            size,
            capture_intermediates=kept_layers,
            mutable=["intermediates"],
        )
        return jnp.sum(jax.tree.leaves(kept)[0], (0, 1, 2))

    for layer, before, inputs, seen in (
        ("conv2", "conv1", 16, 8),
        ("conv3", "conv2", 64, 32),
    ):
        biases = {before: params[before]["bias"]}
        slopes = jax.jit(jax.jacrev(outputs), static_argnums=1)(biases, layer)[before]
        assert slopes.shape == ({"conv2": 64, "conv3": 256}[layer], inputs)
        np.testing.assert_array_equal(np.sum(slopes != 0, -1), seen if sparse else inputs)
        assert np.all(np.any(slopes != 0, 0))  # No map is computed for nothing.


def test_levels_are_aligned_and_see_46_92_and_184_pixels(monkeypatch):
    """The field of view in the image of each level's features at a label cell.

    The pyramid's own filters add less than 12 pixels of their level. Contrast normalisation is left
    out: with it everything depends on the image's mean contrast.
    """
    monkeypatch.setattr(multiscale, "local_contrast_normalize", lambda level, size: level)
    width, cell = 256, 30
    module = small.segmenter()
    params = small.segmenter_parameters(module)
    image, size = small.images([(16, width)] * 6, (16, width))

    @jax.jit
    def seen(hidden):
        def logits(image):
            changed = params | {"hidden": params["hidden"] | {"kernel": hidden}}
            return jnp.sum(module.apply({"params": changed}, image, size)[:, :, cell])

        return jnp.any(jax.grad(logits)(image) != 0, (0, 1, 3))

    for level in range(3):
        rows = np.arange(24)[:, None] // 8 == level
        columns = np.flatnonzero(seen(jnp.where(rows, params["hidden"]["kernel"], 0)))
        extent = columns[-1] - columns[0] + 1
        assert 46 * 2**level <= extent < 58 * 2**level
        # Cell c of a level covers its pixels 4c to 4c + 3, and its pixel m lies at m * 2^level.
        centre = (4 * (cell // 2**level) + 1.5) * 2**level
        assert abs((columns[0] + columns[-1]) / 2 - centre) <= 1


@pytest.mark.parametrize(("lcn", "undoes_tint"), [("levels", False), ("rgb", True)])
def test_contrast_is_normalised_before_or_after_yuv(lcn, undoes_tint):
    """A gain never makes a difference; one gain per colour makes none if RGB is normalised."""
    image, size = small.images([(32, 48)], (32, 48))
    module = small.segmenter(lcn=lcn)
    variables = {"params": small.segmenter_parameters(module)}
    apply = jax.jit(module.apply)
    logits = apply(variables, image, size)
    tinted = image * np.array([0.9, 0.5, 0.3], np.float32)
    assert np.max(np.abs(apply(variables, 0.5 * image, size) - logits)) < 1e-2
    assert (np.max(np.abs(apply(variables, tinted, size) - logits)) < 1e-2) == undoes_tint
    assert np.max(np.abs(apply(variables, image[:, ::-1], size) - logits)) > 0.1
