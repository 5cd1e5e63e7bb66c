"""The evaluation of one batch: rows that count, views, boundaries, the adversary's verdicts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, encodings, losses, prediction
from segadv_jax.eval_step import Boundaries, adversary_step, eval_step, zero_totals
from segadv_jax.metrics.boundary import Tolerance, boundary_f
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.prediction import Views

SEGMENTER, ADVERSARY = small.segmenter(levels=1), small.adversary()
BOUNDARIES = Boundaries(Tolerance.of(small.SIZES), 1)
MASK = np.float32([1, 1, 0, 1])  # The third row only pads the batch.


@pytest.fixture(scope="module")
def params():
    return small.segmenter_parameters(SEGMENTER)


def padded_batch():
    """A batch whose third row has labels, which must not count."""
    batch = small.batch()
    assert np.any(batch["label"][2] != VOID)
    return batch | {"mask": MASK}


@functools.cache
def evaluation(views):
    step = functools.partial(eval_step, segmenter=SEGMENTER, boundaries=BOUNDARIES, views=views)
    return jax.jit(step)


@pytest.fixture(scope="module")
def totals(params):
    """Of the image as it is, and of both it and its mirror image."""
    zeros = zero_totals(small.CLASSES, boundaries=True)
    return {
        views: evaluation(views)(params, zeros, padded_batch()) for views in (Views(), Views(True))
    }


@functools.cache
def boundaries(border):
    fields = {"num_classes": small.CLASSES, "tolerance": BOUNDARIES.tolerance, "border": border}
    return jax.jit(functools.partial(boundary_f, **fields))


@pytest.mark.parametrize("views", [Views(), Views(flip=True)], ids=["one view", "flip"])
def test_rows_that_pad_a_batch_count_nowhere(params, totals, views):
    """Not in the confusion, the cells or the boundaries, which are those of the views."""
    batch, got = padded_batch(), totals[views]
    label = np.where(MASK[:, None, None] > 0, batch["label"], VOID).astype(np.uint8)
    image, size = batch["image"], batch["size"]
    predict = functools.partial(prediction.predict, segmenter=SEGMENTER, views=views)
    predicted = np.argmax(jax.jit(predict)(params, image, size), -1)
    known = label != VOID
    pairs = label[known].astype(int) * small.CLASSES + predicted[known]
    expected = np.bincount(pairs, minlength=small.CLASSES**2).reshape(small.CLASSES, -1)
    # A tie within rounding may fall either way.
    assert np.sum(np.abs(got["confusion"] - expected)) <= 4
    assert np.sum(got["confusion"]) == known.sum()
    cell_label = downsample_labels(jnp.asarray(label), SEGMENTER.stride, SEGMENTER.offset)
    assert got["cells"] == np.sum(cell_label != VOID)
    for border in ("outside", "ignore"):
        f = np.asarray(boundaries(border)(predicted, label, size))
        means = np.nanmean(f[MASK > 0, 1:], -1)  # From the first class that counts on.
        assert got[f"bf_{border}_images"] == 3
        np.testing.assert_allclose(got[f"bf_{border}_sum"], means.sum(), rtol=0.02)


def test_the_cross_entropy_is_that_of_the_image_as_it_is(totals):
    """Whatever the views, which change the predictions."""
    plain, flipped = totals[Views()], totals[Views(flip=True)]
    for name in ("mce", "certainty", "cells"):
        np.testing.assert_allclose(flipped[name], plain[name], rtol=1e-5)
    assert not np.array_equal(flipped["confusion"], plain["confusion"])


def test_batches_add_up(params, totals):
    once = totals[Views()]
    twice = evaluation(Views())(params, once, padded_batch())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 2 * b, rtol=1e-6), twice, once)


def test_the_adversarys_verdicts_on_both_maps_are_counted(params):
    batch = padded_batch()
    both = {"segmenter": params, "adversary": small.adversary_parameters(ADVERSARY)}
    fixed = {"segmenter": SEGMENTER, "adversary": ADVERSARY, "encode": encodings.basic}
    zeros = {name: jnp.zeros(()) for name in ("real", "synthetic", "predictions")}
    got = jax.jit(functools.partial(adversary_step, **fixed))(both, zeros, batch)

    label = jnp.where(MASK[:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    image, size = batch["image"].astype(np.float32), batch["size"]
    cell_label = downsample_labels(label, SEGMENTER.stride, SEGMENTER.offset)
    weights = losses.prediction_weights(cell_label, ADVERSARY.block)
    assert got["predictions"] == np.sum(weights) < weights.size
    logits = jax.jit(SEGMENTER.apply)({"params": params}, image, size)
    maps = encodings.basic(jax.nn.softmax(logits), cell_label)
    judge = jax.jit(functools.partial(ADVERSARY.apply, {"params": both["adversary"]}))
    for kind, label_map in zip(("real", "synthetic"), maps, strict=True):
        verdicts = judge(label_map, image, size)[..., 0]
        assert got[kind] == np.sum(((verdicts > 0) == (kind == "real")) * weights)
