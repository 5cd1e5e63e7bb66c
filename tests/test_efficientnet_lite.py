"""EfficientNet-Lite0 as a segmenter: padding, geometry, canvas, what is trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax.models import SEGMENTERS
from segadv_jax.models.efficientnet_lite import (
    MEAN,
    SCALE,
    STAGES,
    STEM,
    TAPS,
    Backbone,
    Decoder,
    EfficientNetLite,
    first_cells,
    to_cells,
)
from segadv_jax.models.geometry import count_cells

CANVAS = (64, 96)
# Their sides are odd and even, at each of the five levels in turn.
SIZES = ((64, 96), (61, 75), (38, 52), (17, 33))


@pytest.fixture(scope="module")
def params():
    """Random parameters, of a size at which half of the activations lie between 0 and 6."""
    image, size = small.images([CANVAS], CANVAS)
    drawn = small.parameters(EfficientNetLite(3), image, size)
    return jax.tree.map(lambda x: x * (2.0 if x.ndim > 1 else 1.0), drawn)


@functools.cache
def taps_of(canvas, count):
    return jax.jit(lambda params, image, size: Backbone().apply({"params": params}, image, size))


def taps(params, image, size):
    """The taps of each image of a batch, as lists of f32[h,w,C] cut out of their boxes."""
    maps = taps_of(image.shape[1:3], len(image))(params["backbone"], image, size)
    cut = []
    for row, true in enumerate(np.asarray(size)):
        cut.append([])
        for stride, tap in zip(TAPS, maps, strict=True):
            first = np.asarray(first_cells(true[None], stride))[0]
            end = first + count_cells(true, stride)
            cut[-1].append(np.asarray(tap[row, first[0] : end[0], first[1] : end[1]]))
    return cut


def reference(params, image):
    """The taps of one image f32[H,W,3] by TensorFlow's operations, padded as "SAME" is there."""
    tf = pytest.importorskip("tensorflow")

    def convolve(x, layer, stride=1, depthwise=False):
        kernel = np.asarray(layer["kernel"])
        strides = [1, stride, stride, 1]
        if depthwise:
            y = tf.nn.depthwise_conv2d(x, kernel.transpose(0, 1, 3, 2), strides, "SAME")
        else:
            y = tf.nn.conv2d(x, kernel, strides, "SAME")
        return y + np.asarray(layer["bias"])

    x = tf.nn.relu6(convolve((image[None] - MEAN) / SCALE, params["stem"], 2))
    number, at, found = 0, 2, {}
    for expansion, maps, repeats, stride, _ in STAGES:
        for repeat in range(repeats):
            number += 1
            layers, step = params[f"block{number}"], stride if repeat == 0 else 1
            y = tf.nn.relu6(convolve(x, layers["expand"])) if expansion > 1 else x
            y = tf.nn.relu6(convolve(y, layers["depthwise"], step, depthwise=True))
            y = convolve(y, layers["project"])
            x, at = y + x if step == 1 and x.shape[-1] == maps else y, at * step
        found[at] = x.numpy()[0]
    return [found[stride] for stride in TAPS]


@pytest.mark.parametrize("size", SIZES)
def test_taps_are_those_of_tensorflow_s_padding_at_any_size(params, size):
    image, sizes = small.images([size], CANVAS)
    expected = reference(params["backbone"], image[0, : size[0], : size[1]])
    for got, want in zip(taps(params, image, sizes)[0], expected, strict=True):
        assert np.ptp(want) > 0.1
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-3 * np.abs(want).max())


def test_parameters_are_as_many_as_the_table_says(params):
    def count(tree):
        return sum(x.size for x in jax.tree.leaves(tree))

    maps, total = STEM, 9 * 3 * STEM + STEM
    for expansion, outputs, repeats, _, kernel in STAGES:
        for _ in range(repeats):
            inside = expansion * maps
            total += (maps * inside + inside) * (expansion > 1)
            total += kernel**2 * inside + inside + inside * outputs + outputs
            maps = outputs
    assert count(params["backbone"]) == total == 2_939_120
    # A 1x1 convolution from each tap, one of 3x3, and the classifier.
    assert count(params["decoder"]) == 64 * (24 + 40 + 112 + 320 + 4) + 64 * (9 * 64 + 1) + 65 * 3


def test_maps_of_the_taps(params):
    image, size = small.images([(61, 75)], CANVAS)
    shapes = [tap.shape for tap in taps(params, image, size)[0]]
    assert shapes == [(16, 19, 24), (8, 10, 40), (4, 5, 112), (2, 3, 320)]


@pytest.mark.parametrize("stride", [8, 4])
def test_logits_and_features_do_not_depend_on_the_canvas(params, stride):
    segmenter = EfficientNetLite(3, output_stride=stride)
    batch = small.batch(SIZES, CANVAS)
    larger = small.on_canvas(batch, (90, 131))

    @jax.jit
    def apply(params, image, size):
        arguments = {"params": params}, jnp.asarray(image, jnp.float32), size
        return segmenter.apply(*arguments), segmenter.apply(*arguments, method="features")

    both = (apply(params, x["image"], x["size"]) for x in (batch, larger))
    for tight, loose in zip(*both, strict=True):
        assert tight.shape[1:3] == small.cells(CANVAS, stride)
        for row, size in enumerate(SIZES):
            h, w = small.cells(size, stride)
            want, got = tight[row, :h, :w], loose[row, :h, :w]
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_a_call_decides_what_the_frozen_part_embeds(params):
    """The backbone's parameters embed, the decoder's decide; features are a part of it."""
    segmenter, (image, size) = EfficientNetLite(3), small.images(SIZES, CANVAS)
    parts = [{"params": {name: params[name]}} for name in ("backbone", "decoder")]

    @jax.jit
    def apply(image, size):
        embedded = segmenter.apply(parts[0], image, size, method="embed")
        whole = {"params": params}
        return (
            segmenter.apply(parts[1], embedded, size, method="decide"),
            segmenter.apply(whole, image, size),
            segmenter.apply({}, embedded, method="features_of"),
            segmenter.apply(whole, image, size, method="features"),
        )

    decided, called, features, offered = apply(image, size)
    np.testing.assert_array_equal(decided, called)
    np.testing.assert_array_equal(features, offered)
    tap = taps(params, image, size)[0][1]  # Of the first image, which begins its box: stride 8.
    got = np.asarray(features[0, : tap.shape[0], : tap.shape[1]])
    assert np.corrcoef(got.ravel(), tap.ravel())[0, 1] > 0.7
    assert np.ptp(called) > 0.1


@pytest.mark.parametrize("size", [(128, 96), (101, 75)])
def test_a_tap_s_field_of_view_is_centred_where_the_geometry_says(params, size):
    canvas, level = (128, 96), 0
    image, sizes = small.images([size], canvas)
    stride = TAPS[level]
    box = -np.array(size) % 32
    first = np.asarray(first_cells(sizes, stride))[0]
    cell = (np.array(size) // stride) // 2 + first

    def value(image):
        tap = Backbone().apply({"params": params["backbone"]}, image, sizes)[level]
        return jnp.sum(tap[0, cell[0], cell[1]])

    seen = np.abs(np.asarray(jax.jit(jax.grad(value))(image))[0]).sum(-1) > 0
    for axis in (0, 1):
        pixels = np.flatnonzero(seen.any(1 - axis))
        centre = (pixels[0] + pixels[-1]) / 2
        assert centre == stride * cell[axis] + stride - 1 - box[axis]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [8, 4])
def test_a_ramp_is_interpolated_to_its_own_place(size, stride):
    """Taps that hold the place of their own centres give the places of the label cells."""
    sizes, box = np.array([size], np.int32), -np.array(size) % 32
    offset, shape = (stride - 1) / 2, small.cells(CANVAS, stride)
    for tap_stride in TAPS:
        sides = [-(-pixels // 32) * 32 // tap_stride for pixels in CANVAS]
        rows, columns = (
            tap_stride * np.arange(side) + tap_stride - 1 - b
            for side, b in zip(sides, box, strict=True)
        )
        tap = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)[None].astype(np.float32)
        got = np.asarray(to_cells(tap, sizes, tap_stride, shape, stride, offset))[0]
        first = np.asarray(first_cells(sizes, tap_stride))[0]
        for axis, centres in enumerate((rows, columns)):
            count = count_cells(size[axis], tap_stride)
            own = centres[first[axis] : first[axis] + count]
            cells = np.arange(small.cells(size, stride)[axis])
            want = np.clip(stride * cells + offset, own[0], own[-1])
            line = got[: len(cells), 0, 0] if axis == 0 else got[0, : len(cells), 1]
            np.testing.assert_allclose(line, want, atol=1e-4)


def test_dropout_depends_on_each_example_s_key_alone(params):
    cells = np.array([(5, 7), (8, 4)], np.int32)
    maps = [np.random.RandomState(n).normal(size=(2, 8, 8, n)) for n in (24, 40, 112, 320)]
    keys = jax.random.split(jax.random.key(1), 2)

    def decode(rows, keys=None, dropout=0.5):
        keys = None if keys is None else keys[np.array(rows)]
        taps = [x.astype(np.float32)[np.array(rows)] for x in maps]
        arguments = taps, cells[np.array(rows)], keys
        decoder = Decoder(3, 64, dropout)
        return np.asarray(decoder.apply({"params": params["decoder"]}, *arguments))

    both, one = decode([0, 1], keys), decode([1], keys)
    np.testing.assert_allclose(both[1], one[0], atol=1e-5 * np.abs(one).max())
    assert not np.allclose(both, decode([0, 1]))
    np.testing.assert_array_equal(decode([0, 1], keys, dropout=0.0), decode([0, 1]))


def test_what_is_frozen():
    assert EfficientNetLite(3).frozen == EfficientNetLite(3).pretrained == ("backbone",)
    tuned = SEGMENTERS["efficientnet_lite0"](num_classes=3, freeze="none")
    assert tuned.frozen == () and tuned.pretrained == ("backbone",)


@pytest.mark.parametrize(
    ("field", "value"),
    [("output_stride", 16), ("decoder_width", 0), ("dropout", 1.0), ("freeze", "decoder")],
)
def test_wrong_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        EfficientNetLite(3, **{field: value})
