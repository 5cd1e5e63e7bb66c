"""Evaluation counts every image once, whatever the batch size and the number of devices."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import synthetic as synthetic_config
from segadv_jax import VOID, evaluate, steps
from segadv_jax.data import pipeline
from segadv_jax.errors import InputError
from segadv_jax.models import MultiScale

CLASSES = 8
CANVAS = (96, 128)


@pytest.fixture(scope="module")
def seven(synthetic):
    return pipeline.read_split(synthetic.builder, "test[:7]")


ZEROS = steps.zero_totals(CLASSES)


@pytest.fixture(scope="module")
def segmenter():
    module = MultiScale(CLASSES, widths=(3, 4, 4), hidden=8)
    image, size = np.zeros((1, 16, 16, 3), np.float32), np.full((1, 2), 16)
    return module, jax.jit(module.init)(jax.random.key(0), image, size)["params"]


@pytest.fixture(scope="module")
def totals(seven, segmenter):
    """Totals of the seven images at three batch sizes: below, at and above the 4 devices."""
    module, params = segmenter
    eval_step, params = steps.parallel_eval_step(segmenter=module), steps.replicate(params)
    return {
        batch_size: evaluate.run(eval_step, params, seven, ZEROS, batch_size, CANVAS)
        for batch_size in (1, 5, 8)
    }


def test_every_image_of_an_odd_split_counts_once(totals, seven):
    labels = np.concatenate(
        [batch["label"] for batch in pipeline.eval_batches(seven, batch_size=1, canvas=CANVAS)]
    )
    true = np.bincount(labels[labels != VOID], minlength=CLASSES)
    for result in totals.values():
        np.testing.assert_array_equal(result["confusion"].sum(1), true)


def test_totals_depend_neither_on_batch_size_nor_on_the_number_of_devices(totals, seven, segmenter):
    module, params = segmenter
    single = jax.jit(lambda sums, batch: steps.eval_step(params, sums, batch, segmenter=module))
    sums = ZEROS
    for batch in pipeline.eval_batches(seven, batch_size=4, canvas=CANVAS):
        sums = single(sums, {name: value for name, value in batch.items() if name != "id"})
    for result in totals.values():
        # A pixel between two equally probable classes may fall either way.
        moved = np.abs(result["confusion"] - np.asarray(sums["confusion"])).sum()
        assert moved <= 1e-4 * result["confusion"].sum()
        assert result["mce"] == pytest.approx(float(sums["mce"]), rel=1e-5)
        assert result["cells"] == float(sums["cells"])


def test_counts_move_to_the_host_before_they_overflow(seven, segmenter, monkeypatch):
    """A split of more pixels than 32 bits can count: simulated by a step that counts high."""
    module, params = segmenter
    added = np.int32(2**29)  # Two of them fit into 31 bits, the seven batches do not.

    def count_high(params, sums, batch):
        del params, batch
        confusion = sums["confusion"] + added
        assert (np.asarray(confusion) >= 0).all(), "overflow on the device"
        return sums | {"confusion": confusion}

    monkeypatch.setattr(evaluate, "COUNTER_LIMIT", 2 * 4 * CANVAS[0] * CANVAS[1])
    many = pipeline.Split(*(list(field) * 4 for field in seven[:3]), np.tile(seven.sizes, (4, 1)))
    result = evaluate.run(count_high, params, many, ZEROS, 4, CANVAS)
    assert (result["confusion"] == 7 * 2**29).all()


def test_absent_classes_are_null_in_the_json(tmp_path):
    confusion = np.zeros((3, 3), np.int64)
    confusion[0, 0], confusion[1, 0] = 3, 1
    totals = {"confusion": confusion, "mce": 2.0, "certainty": 3.0, "cells": 4.0}
    result = evaluate.summarize(totals, "abc")
    assert (result["mce"], result["certainty"], result["pixel_accuracy"]) == (0.5, 0.75, 0.75)
    assert result["iou"] == {"a": 0.75, "b": 0.0, "c": None}
    path = evaluate.write_result(str(tmp_path), "subset_0+subset_1", result)
    assert json.loads(Path(path).read_text()) == result
    assert path.endswith("eval/subset_0+subset_1.json")


def test_without_a_checkpoint_there_is_one_clear_error(tmp_path, synthetic):
    config = synthetic_config.get_config()
    with pytest.raises(InputError, match="holds no checkpoint; train first"):
        evaluate.restore_best(config, str(tmp_path / "none"), synthetic)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no checkpoint; train first"):
        evaluate.restore_best(config, str(tmp_path / "run"), synthetic)
