"""Whole images to probabilities at their pixels: published tiles, flips and scales."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from test_dilated8 import CLASSES, CONTEXT, FRONT_END, SMALL, parameters, photograph, reference

from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.dilated8 import MEAN_RGB, Dilated8
from segadv_jax.models.geometry import shrink
from segadv_jax.prediction import (
    Views,
    at_pixels,
    predict,
    segment,
    with_margin,
    without_margin,
)
from segadv_jax.resampling import mirror

TILE = 4  # Cells on a side; the released program's is 66.


def released(params, image):
    """The released program on tiles of TILE cells: probabilities at the pixels 8i, beyond the
    image too, where its tiles are filled by reflection."""
    (height, width), side = image.shape[:2], 8 * TILE
    down, across = -(-height // side), -(-width // side)
    border = [(186, 186 + down * side - height), (186, 186 + across * side - width), (0, 0)]
    x = np.pad(image.astype(np.float32), border, mode="reflect") - np.float32(MEAN_RGB)
    rows = []
    for i in range(down):
        tiles = [
            x[i * side : (i + 1) * side + 372, j * side : (j + 1) * side + 372]
            for j in range(across)
        ]
        maps = reference(params, FRONT_END, np.stack(tiles))
        maps = reference(params, CONTEXT, np.pad(maps, [(0, 0), (33, 33), (33, 33), (0, 0)]))
        rows.append(np.concatenate(list(maps), 1))
    return np.concatenate(rows)


@pytest.mark.parametrize("shape", [(27, 20), (45, 59)])
def test_tiles_are_those_of_the_released_program(shape):
    """One of them and several; up to the image's last pixel, which lies between two cells."""
    module = Dilated8(CLASSES, context="basic", tile=TILE, **SMALL)
    params, image = parameters(module.clone(tile=0)), photograph(*shape)
    params["ct_final"]["kernel"] /= 50  # Probabilities between 0 and 1.
    canvas, size = np.zeros((1, 48, 64, 3), np.uint8), np.array([shape], np.int32)
    canvas[0, : shape[0], : shape[1]] = image
    logits = released(params, image)
    seen = jax.jit(functools.partial(segment, segmenter=module))(params, canvas, size)
    got = np.asarray(seen)[0]
    got = got[: logits.shape[0], : logits.shape[1]]
    np.testing.assert_allclose(got, logits, atol=2e-5 * np.abs(logits).max())
    cells = np.asarray(jax.nn.softmax(logits))
    probabilities = np.asarray(at_pixels(seen, canvas.shape[1:3], size, module))[0]
    assert np.std(cells) > 0.05
    for h, w in np.ndindex(shape):
        (r, rt), (c, ct) = divmod(h, 8), divmod(w, 8)
        below, right = min(r + 1, len(cells) - 1), min(c + 1, cells.shape[1] - 1)
        rt, ct = rt / 8, ct / 8
        left_side = rt * cells[below, c] + (1 - rt) * cells[r, c]
        right_side = rt * cells[below, right] + (1 - rt) * cells[r, right]
        expected = (1 - ct) * left_side + ct * right_side
        np.testing.assert_allclose(probabilities[h, w], expected, atol=5e-4)


def test_tiles_are_refused_where_they_have_no_meaning():
    with pytest.raises(ValueError, match="tile is 66: set it to 0, or padding to 'reflect'"):
        Dilated8(CLASSES, padding="same", tile=66)


class Ramp(SegmenterModule):
    """A segmenter whose class probabilities are the image's first colour and what it lacks to 1."""

    num_classes: int = 2
    stride = 4

    def __call__(self, image, size, keys=None):
        cells, _ = shrink(image[..., :1] / 255, size, 4)
        return jnp.log(jnp.concatenate([cells, 1 - cells], -1))


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (2.0,), (0.75, 1.0, 1.5)])
@pytest.mark.parametrize("flip", [False, True])
def test_views_of_a_ramp_agree(flip, scales):
    """Neither flips nor scales shift what is seen; the border's half cell aside."""
    sizes, canvas = np.array([(61, 90), (48, 37)], np.int32), (64, 96)
    columns = np.broadcast_to(np.arange(canvas[1]) * 2 + 20, canvas)
    rows = np.broadcast_to(np.arange(canvas[0])[:, None] + 20, canvas)
    image = np.stack([np.stack([x] * 3, -1) for x in (columns, rows)]).astype(np.uint8)
    views = {"segmenter": Ramp(), "views": Views(flip, scales)}
    got = np.asarray(jax.jit(functools.partial(predict, **views))({}, image, sizes))
    reach = 8
    for row, (height, width) in enumerate(sizes):
        inner = row, slice(reach, height - reach), slice(reach, width - reach)
        np.testing.assert_allclose(got[inner][..., 0], image[inner][..., 0] / 255, atol=2e-3)
        np.testing.assert_allclose(got[inner].sum(-1), 1, atol=1e-5)


def test_views_are_averaged():
    """A network that is not symmetric: the mean of what it says of both sides round."""
    module = small.segmenter(levels=1)
    params = small.segmenter_parameters(module)
    made = small.batch(small.SIZES[:2])
    image, size = jnp.asarray(made["image"]), made["size"]
    program = jax.jit(predict, static_argnames=("segmenter", "views"))
    plain = np.asarray(program(params, image, size, segmenter=module))
    turned = program(params, mirror(image, size), size, segmenter=module)
    both = np.asarray(program(params, image, size, segmenter=module, views=Views(flip=True)))
    expected = (plain + np.asarray(mirror(turned, size))) / 2
    for row, (height, width) in enumerate(size):
        part = row, slice(height), slice(width)
        np.testing.assert_allclose(both[part], expected[part], atol=1e-5)
    assert np.max(np.abs(both - plain)) > 1e-3


def test_logits_are_shifted_and_then_divided_by_the_temperature_in_each_view():
    """At the cells, before anything is interpolated or averaged: a factor, and then a power."""
    module = small.segmenter(levels=1)
    params = small.segmenter_parameters(module)
    made = small.batch(small.SIZES[:2])
    image, size, factor = jnp.asarray(made["image"]), made["size"], np.float32([3, 1, 0.5])
    views = Views(flip=True, shift=tuple(np.log(factor).tolist()), temperature=2.0)
    got = np.asarray(predict(params, image, size, module, views))
    total = 0
    for mirrored in (False, True):
        view = mirror(image, size) if mirrored else image
        odds = np.sqrt(np.exp(segment(params, view, size, module)) * factor)
        cells = jnp.log(odds / odds.sum(-1, keepdims=True))
        pixels = at_pixels(cells, image.shape[1:3], size, module)
        total += np.asarray(mirror(pixels, size) if mirrored else pixels)
    for row, (height, width) in enumerate(size):
        part = row, slice(height), slice(width)
        np.testing.assert_allclose(got[part], total[part] / 2, atol=1e-5)


def test_margin_comes_in_whole_cells_or_tiles():
    module = Dilated8(CLASSES, **SMALL)
    image, size = jnp.zeros((1, 45, 37, 3), jnp.uint8), np.array([(45, 37)], np.int32)
    assert with_margin(image, size, module).shape == (1, 48 + 372, 40 + 372, 3)
    in_tiles = with_margin(image, size, module.clone(tile=66))
    assert in_tiles.shape == (1, 900, 900, 3)
    assert without_margin(in_tiles, module.margin).shape == (1, 528, 528, 3)


def test_views_know_what_they_are():
    """One view is the image as it is; others go into the name of an evaluation."""
    assert Views().one and Views().names == []
    assert Views(scales=(1.0,)).one and Views(shift=(1.0, 2.0), temperature=2.0).one
    for views, words in (
        (Views(flip=True), ["flip"]),
        (Views(scales=(0.75, 1.0)), ["scale_0.75", "scale_1"]),
        (Views(True, (2.0,)), ["flip", "scale_2"]),
    ):
        assert not views.one and views.names == words
