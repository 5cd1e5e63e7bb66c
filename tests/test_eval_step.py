"""The evaluation of one batch: rows that count, views, boundaries, the adversary's verdicts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, encodings, losses, prediction
from segadv_jax.eval_step import (
    Boundaries,
    adversary_step,
    corrections_step,
    eval_step,
    logits_step,
    zero_totals,
)
from segadv_jax.metrics import boundary_iou, calibration, regions
from segadv_jax.metrics.boundary import boundary_f
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.prediction import Views

SEGMENTER, ADVERSARY = small.segmenter(levels=1), small.adversary()
BOUNDARIES = Boundaries.of(small.SIZES, 1)
SHIFTS = {"none": (), "half": (0.1, -0.05, -0.2), "whole": (0.2, -0.1, -0.4)}
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
def boundaries(border, tolerance=BOUNDARIES.tolerance):
    fields = {"num_classes": small.CLASSES, "tolerance": tolerance, "border": border}
    return jax.jit(functools.partial(boundary_f, **fields))


@pytest.mark.parametrize("views", [Views(), Views(flip=True)], ids=["one view", "flip"])
def test_rows_that_pad_a_batch_count_nowhere(params, totals, views):
    """Not in the confusion, the cells or the structure, which are those of the views."""
    batch, got = padded_batch(), totals[views]
    label = np.where(MASK[:, None, None] > 0, batch["label"], VOID).astype(np.uint8)
    image, size = batch["image"], batch["size"]
    predict = functools.partial(prediction.predict, segmenter=SEGMENTER, views=views)
    probabilities = jax.jit(predict)(params, image, size)
    predicted = np.argmax(probabilities, -1)
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
    fine = np.asarray(boundaries("ignore", BOUNDARIES.fine)(predicted, label, size))
    means = np.nanmean(fine[MASK > 0, 1:], -1)
    np.testing.assert_allclose(got["bf_3_pixels_ignore_sum"], means.sum(), rtol=0.02)
    assert got["bf_3_pixels_ignore_sum"] < got["bf_ignore_sum"]
    expected = jax.jit(calibration.pixel_sums)(probabilities, label)
    expected |= jax.jit(regions.image_sums)(predicted, label)
    near = functools.partial(boundary_iou.intersections_and_unions, num_classes=small.CLASSES)
    expected |= jax.jit(near)(predicted, label, size)
    assert expected["region_images"] == 3
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=0.02, atol=0.02, err_msg=name)


def test_the_cross_entropy_is_that_of_the_image_as_it_is(totals):
    """Whatever the views, which change the predictions."""
    plain, flipped = totals[Views()], totals[Views(flip=True)]
    for name in ("mce", "certainty", "cells"):
        np.testing.assert_allclose(flipped[name], plain[name], rtol=1e-5)
    assert not np.array_equal(flipped["confusion"], plain["confusion"])


def test_the_logits_of_an_evaluation_are_those_of_the_images_as_they_are(params):
    """Without the mirrored view and the shift that count in the totals."""
    batch, zeros = padded_batch(), zero_totals(small.CLASSES)
    step = functools.partial(
        logits_step, segmenter=SEGMENTER, views=Views(flip=True, shift=SHIFTS["whole"])
    )
    _, got = jax.jit(step)(params, zeros, batch)
    segment = jax.jit(functools.partial(prediction.segment, segmenter=SEGMENTER))
    expected = segment(params, batch["image"], batch["size"])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_batches_add_up(params, totals):
    once = totals[Views()]
    twice = evaluation(Views())(params, once, padded_batch())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 2 * b, rtol=1e-6), twice, once)


@pytest.mark.parametrize("views", [Views(), Views(flip=True)], ids=["one view", "flip"])
def test_corrections_of_the_logits_in_one_pass(params, views):
    """What an evaluation with one of them alone finds; of pixels and of cells."""
    batch, zeros = padded_batch(), zero_totals(small.CLASSES)
    several = {name: views._replace(shift=shift) for name, shift in SHIFTS.items()}
    several["warm"] = views._replace(temperature=2.0)
    step = functools.partial(corrections_step, segmenter=SEGMENTER, views=several)
    got = jax.jit(step)(params, dict.fromkeys(several, zeros), batch)
    for name in ("half", "warm"):
        one = functools.partial(eval_step, segmenter=SEGMENTER, views=several[name])
        for total, value in jax.jit(one)(params, zeros, batch).items():
            np.testing.assert_allclose(got[name][total], value, rtol=1e-4, atol=1e-3)
    # Of cells the most likely class stays, and its probability falls.
    assert got["warm"]["certainty"] < got["none"]["certainty"]
    # The first class gains, and is taken more often.
    chosen = [int(np.sum(got[name]["confusion"], 0)[0]) for name in SHIFTS]
    assert chosen == sorted(chosen) and len(set(chosen)) == 3
    logits = jax.jit(functools.partial(prediction.segment, segmenter=SEGMENTER))(
        params, batch["image"], batch["size"]
    )
    label = jnp.where(MASK[:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    cell_label = downsample_labels(label, SEGMENTER.stride, SEGMENTER.offset)
    mce, _ = losses.mce(logits + np.float32(SHIFTS["whole"])[None, None, None], cell_label)
    np.testing.assert_allclose(got["whole"]["mce"], mce, rtol=1e-4)


def test_the_network_runs_once_for_all_corrections(params):
    def convolutions(several):
        step = functools.partial(corrections_step, segmenter=SEGMENTER, views=several)
        totals = dict.fromkeys(several, zero_totals(small.CLASSES))
        return str(jax.make_jaxpr(step)(params, totals, padded_batch())).count("conv_general")

    several = {name: Views(shift=shift) for name, shift in SHIFTS.items()}
    assert convolutions(several) == convolutions({"none": Views()}) > 0


def test_the_adversarys_verdicts_on_both_maps_are_counted(params):
    batch = padded_batch()
    both = {"segmenter": params, "adversary": small.adversary_parameters(ADVERSARY)}
    fixed = {"segmenter": SEGMENTER, "adversary": ADVERSARY, "encode": encodings.basic}
    zeros = {name: jnp.zeros(()) for name in ("real", "synthetic", "predictions")}
    image, size = batch["image"].astype(np.float32), batch["size"]
    logits = jax.jit(SEGMENTER.apply)({"params": params}, image, size)

    label = jnp.where(MASK[:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    cell_label = downsample_labels(label, SEGMENTER.stride, SEGMENTER.offset)
    weights = losses.prediction_weights(cell_label, ADVERSARY.block)
    maps = encodings.basic(jax.nn.softmax(logits), cell_label)
    judge = jax.jit(ADVERSARY.apply)
    # An adversary that says the same of both maps would not tell which of them it was shown: this
    # one looks at the label map more than at the image, and at its own middle.
    both["adversary"]["label"]["kernel"] *= 30
    real, synthetic = (judge({"params": both["adversary"]}, x, image, size)[..., 0] for x in maps)
    middle = np.median(np.concatenate([real[weights > 0], synthetic[weights > 0]]))
    both["adversary"]["prediction"]["bias"] -= middle
    calls_real = [np.sum((verdicts > middle) * weights) for verdicts in (real, synthetic)]
    assert 0 < calls_real[0] < np.sum(weights) and calls_real[0] != calls_real[1]

    step = functools.partial(adversary_step, **fixed)
    got = jax.jit(step)(both, zeros, batch | {"logits": logits})
    assert got["predictions"] == np.sum(weights) < weights.size
    assert got["real"] == calls_real[0]
    assert got["synthetic"] == np.sum(weights) - calls_real[1]
