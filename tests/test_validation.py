"""What is measured and drawn between two training steps."""

import functools

import jax
import numpy as np
import pytest
import small
from small_runs import small_config

from segadv_jax import devices, evaluate, prediction, validation, visualize
from segadv_jax.data.arrays import Arrays, data_set
from segadv_jax.eval_step import Boundaries, eval_step, zero_totals
from segadv_jax.validation import Validator, shared_canvas
from segadv_jax.workdir import CURVES, HISTORY_COLUMNS, STRUCTURE

SEGMENTER = small.segmenter(levels=1)
NAMES, PALETTE = ("a", "b", "c"), np.array([(9, 0, 0), (0, 9, 0), (0, 0, 9)], np.uint8)


def split(count, seed):
    """Images of two sizes."""
    sizes = [(32, 48), (29, 41)] * (count // 2)
    made = small.batch(sizes, small.CANVAS, seed=seed)
    cut = [
        [made[kind][row, :h, :w] for row, (h, w) in enumerate(sizes)] for kind in ("image", "label")
    ]
    return Arrays([f"{seed}_{row}" for row in range(count)], *cut)


@pytest.fixture(scope="module")
def splits():
    return {"train": split(10, 0), "validation": split(6, 1)}


def validator(splits, **evaluate_fields):
    config = small_config("")
    config.evaluate.update({"train_images": 4, "batch_size": 4, "pictures": 2} | evaluate_fields)
    whole = data_set("small", splits, NAMES, PALETTE)
    return Validator(config, whole, splits["train"], splits["validation"], SEGMENTER)


@pytest.fixture(scope="module")
def params():
    return devices.replicate(small.segmenter_parameters(SEGMENTER))


def test_curves_are_those_of_an_evaluation(splits, params):
    """Of the training images that are measured, which lie spread over the split."""
    measures, _ = validator(splits).measure(params)
    assert set(measures) == {f"{name}_{curve}" for name in splits for curve in CURVES}
    step = devices.map_eval_step(functools.partial(eval_step, segmenter=SEGMENTER))
    measured = splits | {"train": splits["train"].take([0, 2, 5, 7])}
    for name, examples in measured.items():
        totals = evaluate.accumulate(step, params, examples, zero_totals(small.CLASSES), 4)
        summary = evaluate.summarize(totals, NAMES)
        for curve in CURVES:
            assert measures[f"{name}_{curve}"] == pytest.approx(summary[curve], rel=1e-6)
    assert measures["train_mce"] != measures["validation_mce"]


def test_the_structure_is_that_of_the_validation_images(splits, params):
    """If it is wanted; BF of all classes, with the tolerance of these images, or but the first."""
    measures, _ = validator(splits, history_bf=True, bf_background=False).measure(params)
    structure = {f"validation_{measure}" for measure in STRUCTURE}
    assert set(measures) - {f"{name}_{curve}" for name in splits for curve in CURVES} == structure
    assert set(measures) < set(HISTORY_COLUMNS)
    boundaries = Boundaries.of(splits["validation"].sizes, first=1)
    step = functools.partial(eval_step, segmenter=SEGMENTER, boundaries=boundaries)
    zeros = zero_totals(small.CLASSES, boundaries=True)
    totals = evaluate.accumulate(
        devices.map_eval_step(step), params, splits["validation"], zeros, 4
    )
    summary = evaluate.summarize(totals, NAMES)
    for name in STRUCTURE:
        assert measures[f"validation_{name}"] == pytest.approx(summary[name], rel=1e-5)
    assert measures["validation_regions"] > 1


def test_training_images_need_not_be_measured(splits, params):
    measures, _ = validator(splits, train_images=0).measure(params)
    assert set(measures) == {f"validation_{curve}" for curve in CURVES}


@pytest.mark.parametrize("shown", [2, 6])
def test_a_picture_shows_the_first_validation_images(splits, params, shown):
    """Also more than a batch has: of the last one, two rows are but filling."""
    _, pictures = validator(splits, pictures=shown).measure(params)
    batch = next(splits["validation"].eval_batches(batch_size=shown, canvas=(32, 48)))
    predict = functools.partial(prediction.predict, segmenter=SEGMENTER)
    probabilities = np.asarray(
        jax.jit(predict)(jax.device_get(params), batch["image"], batch["size"])
    )
    own, predicted = (batch["size"], PALETTE, NAMES), probabilities.argmax(-1)
    expected = {
        "predictions": visualize.prediction_grid(batch["image"], batch["label"], predicted, *own),
        "probabilities": visualize.probability_grid(probabilities, *own),
    }
    assert pictures.keys() == expected.keys()
    for kind, picture in pictures.items():
        assert picture.shape == expected[kind].shape
        # Probabilities are drawn in whole shades, a tie of which may fall either way.
        assert np.mean(picture != expected[kind]) < 1e-3 and np.ptp(picture) == 255


def test_no_more_images_are_predicted_than_a_picture_has_rows_for(splits, params, monkeypatch):
    predict, counts = validation._at_pixels, []
    monkeypatch.setattr(visualize, "ROWS", 2)

    def record(**arguments):
        counts.append(len(arguments["logits"]))
        return predict(**arguments)

    monkeypatch.setattr(validation, "_at_pixels", record)
    validator(splits, pictures=6).measure(params)
    assert counts == [2]


def test_both_splits_fit_on_the_canvas():
    wide = Arrays(["a"], [np.zeros((5, 40, 3), np.uint8)], [np.zeros((5, 40), np.uint8)])
    high = Arrays(["b"], [np.zeros((33, 7, 3), np.uint8)], [np.zeros((33, 7), np.uint8)])
    assert shared_canvas(wide, high) == shared_canvas(high, wide) == (48, 48)
