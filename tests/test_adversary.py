"""The adversary for Stanford Background against the paper's figure and text."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax.models.adversary import TwoBranch


def inputs(canvas, classes=8):
    """Shapes of (label map, image, size) for one image."""
    return (
        jax.ShapeDtypeStruct((1, *small.cells(canvas), classes), jnp.float32),
        jax.ShapeDtypeStruct((1, *canvas, 3), jnp.float32),
        jax.ShapeDtypeStruct((1, 2), jnp.int32),
    )


def output_shape(module, args):
    return jax.eval_shape(module.init_with_output, jax.random.key(0), *args)[0].shape


def test_network_has_the_parameters_of_its_figure():
    module = TwoBranch()
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs((240, 320)))["params"]
    kernels = {name: layer["kernel"].shape for name, layer in params.items()}
    # Both signals have 64 channels when they are fused.
    assert kernels["label"] == (5, 5, 8, 64)
    assert kernels["image2"] == (5, 5, 16, 64)
    assert kernels["fused1"] == (3, 3, 128, 128)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 1_667_265


def test_predictions_are_16_times_fewer_than_label_cells():
    args = inputs((256, 320))
    shape = output_shape(TwoBranch(), args)
    assert shape == (1, 16, 20, 1)
    assert 16 * math.prod(shape) == math.prod(args[0].shape[:3])
    assert TwoBranch.block == 4


def test_odd_sizes_round_up():
    assert output_shape(TwoBranch(), inputs((53, 37))) == (1, 4, 3, 1)  # 14x10 cells.


def test_label_maps_of_another_resolution_are_refused():
    label_map, image, size = inputs((64, 64))
    wrong = jax.ShapeDtypeStruct((1, 8, 8, 8), jnp.float32)  # Of a segmenter of stride 8.
    with pytest.raises(ValueError, match=r"stride 4: \(16, 16\) cells.*\(8, 8\)"):
        output_shape(TwoBranch(), (wrong, image, size))


@pytest.mark.parametrize("axis", [0, 1])
def test_field_of_view_is_30_label_cells(axis):
    side, prediction = 44, 5
    module = small.adversary()
    random = np.random.RandomState(0)
    image, size = small.images([(4 * side, 4 * side)], (4 * side, 4 * side))
    label_map = random.uniform(size=(1, side, side, small.CLASSES)).astype(np.float32)
    params = small.parameters(module, label_map, image, size)

    @jax.jit
    def predict(label_maps):
        def one(label_map):
            return module.apply({"params": params}, label_map[None], image, size)

        return jax.vmap(one)(label_maps)[:, 0, prediction, prediction, 0]

    changed = label_map.repeat(side + 1, 0)
    # Map p has another row (or column) of cells p; the last one is as it was.
    lines = np.moveaxis(changed, 1 + axis, 1)
    lines[range(side), range(side)] += random.normal(0, 9, (side, small.CLASSES))
    result = predict(changed)
    seen = np.flatnonzero(np.abs(result[:-1] - result[-1:]) > 1e-5)
    # Prediction i pools the cells 4i to 4i + 3: its view is centred at 4i + 1.5.
    np.testing.assert_array_equal(seen, np.arange(30) + 4 * prediction + 1.5 - 14.5)


@pytest.fixture(scope="module")
def example():
    """(apply, label map, image, size) of a network that takes two signals."""
    module = small.adversary()
    variables = {"params": small.adversary_parameters(module)}
    image, size = small.images(small.SIZES, small.CANVAS)
    shape = (len(small.SIZES), *small.cells(small.CANVAS), small.CLASSES)
    label_map = np.random.RandomState(1).uniform(size=shape).astype(np.float32)
    apply = jax.jit(lambda *args: module.apply(variables, *args))
    return apply, label_map, image, size


def test_both_signals_matter(example):
    apply, label_map, image, size = example
    logits = apply(label_map, image, size)
    for other in (apply(label_map[:, ::-1], image, size), apply(label_map, image[:, ::-1], size)):
        assert np.min(np.max(np.abs(other - logits), (1, 2, 3))) > 1e-3


def test_images_of_a_batch_are_judged_on_their_own(example):
    """Earlier reimplementations broadcast one label map over the batch."""
    apply, label_map, image, size = example
    logits = apply(label_map, image, size)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        apply(label_map[order], image[order], size[order]), logits[np.array(order)], atol=1e-5
    )
    changed = label_map.copy()
    changed[0] = label_map[0, ::-1]
    difference = np.abs(apply(changed, image, size) - logits)
    assert np.max(difference[0]) > 1e-3
    assert np.all(difference[1:] == 0)


def test_image_is_contrast_normalised(example):
    apply, label_map, image, size = example
    logits = apply(label_map, image, size)
    tinted = image * np.array([0.9, 0.5, 0.3], np.float32)
    np.testing.assert_allclose(apply(label_map, tinted, size), logits, atol=1e-2)
    assert np.max(np.abs(apply(label_map, np.sqrt(image), size) - logits)) > 2e-2


FEATURES = 5


def shown(canvas=small.CANVAS, n=4, seed=2):
    """Features f32[n,h,w,F] at the label cells of a canvas."""
    shape = (n, *small.cells(canvas), FEATURES)
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def test_features_take_one_convolution_to_the_label_branchs_channels():
    """1x1 from as many maps as are shown; the rest is as it is on pixels."""
    label_map, _, size = inputs((240, 320))
    features = jax.ShapeDtypeStruct((1, *label_map.shape[1:3], 40), jnp.float32)
    module = TwoBranch(image_branch="features")
    params = jax.eval_shape(module.init, jax.random.key(0), label_map, features, size)["params"]
    assert module.sees == "features" and TwoBranch().sees == "pixels"
    assert params["image1"]["kernel"].shape == (1, 1, 40, 64) and "image2" not in params
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    # Of the 1,667,265 on pixels 5x5 from 3 to 16 and from 16 to 64, with biases, are not there.
    assert count == 1_667_265 - (1_216 + 25_664) + (40 * 64 + 64)


def test_features_are_fused_as_they_are_at_each_cell():
    """No contrast normalisation and no pooling: a matrix, and the ReLU."""
    module, features = small.adversary(image_branch="features", leak=0.1), shown()
    params = small.parameters(module, *inputs_of(features))
    embedded = module.apply({"params": params}, features, small.SIZES, method="embed_image")
    layer = params["image1"]
    expected = features @ np.asarray(layer["kernel"][0, 0]) + np.asarray(layer["bias"])
    expected = np.where(expected > 0, expected, 0.1 * expected)
    for row, size in enumerate(small.SIZES.tolist()):
        h, w = small.cells(size)
        np.testing.assert_allclose(embedded[row, :h, :w], expected[row, :h, :w], atol=1e-5)


def inputs_of(features):
    """(label map, features, sizes) of small networks."""
    shape = (*features.shape[:3], small.CLASSES)
    label_map = np.random.RandomState(1).uniform(size=shape).astype(np.float32)
    return label_map, features, small.SIZES[: len(features)]


@pytest.mark.parametrize("image_branch", ["pixels", "features"])
def test_with_a_leak_and_with_features_nothing_depends_on_the_canvas(image_branch):
    """Each image alone and in a batch on a canvas whose padding holds garbage."""
    module = small.adversary(image_branch=image_branch, leak=0.2)
    label_map, seen, size = inputs_of(shown())
    scale = 1
    if image_branch == "pixels":
        scale, seen = 4, np.float32(small.on_canvas(small.batch(), small.CANVAS)["image"])
    params = small.parameters(module, label_map, seen, size)
    apply = jax.jit(functools.partial(module.apply, {"params": params}))
    logits = apply(label_map, seen, size)
    for row in (1, 2):
        h, w = small.cells(size[row].tolist())
        part = slice(row, row + 1), slice(h), slice(w)
        its = slice(row, row + 1), slice(scale * h), slice(scale * w)
        alone = apply(label_map[part], seen[its], size[part[0]])[0]
        assert np.std(alone) > 0.01
        high, wide = alone.shape[:2]
        np.testing.assert_allclose(logits[row, :high, :wide], alone, atol=1e-5)
        other = seen.copy()
        other[row, : scale * h // 2] = 0
        assert np.max(np.abs(apply(label_map, other, size)[row] - logits[row])) > 1e-3


def test_features_may_have_any_stride_and_must_lie_at_the_label_cells():
    with pytest.raises(ValueError, match="multiple of 4, not 6, unless image_branch is 'features'"):
        TwoBranch(stride=6)
    module = small.adversary(image_branch="features", stride=6)
    label_map, _, size = inputs((64, 64))
    with pytest.raises(ValueError, match=r"stride 6: \(8, 8\) cells for these features, not \(16"):
        output_shape(module, (label_map, jax.ShapeDtypeStruct((1, 8, 8, 5), jnp.float32), size))
    features = jax.ShapeDtypeStruct((1, 16, 16, 5), jnp.float32)
    assert output_shape(module, (label_map, features, size)) == (1, 4, 4, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_branch": "edges"}, "image_branch is 'edges'; known: pixels, features"),
        ({"leak": 1.0}, "leak is 1.0: set it from 0 to below 1"),
        ({"leak": -0.1}, "leak is -0.1: set it from 0 to below 1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TwoBranch(**fields)


def test_a_leak_is_the_slope_below_0_of_every_rectifier(example):
    """Of maps far below 0 a ReLU leaves nothing, however far below they are."""
    _, label_map, image, size = example
    params = small.adversary_parameters(small.adversary())
    for leak in (0.0, 0.01):
        apply = jax.jit(small.adversary(leak=leak).apply)
        for layer in ("label", "image1", "image2", "fused1", "fused2", "fused3"):
            kernel, bias = params[layer]["kernel"], params[layer]["bias"]
            sunk = [params | {layer: {"kernel": kernel, "bias": bias - x}} for x in (1e3, 2e3)]
            low, lower = (apply({"params": each}, label_map, image, size) for each in sunk)
            assert np.any(low != lower) == (leak > 0)
