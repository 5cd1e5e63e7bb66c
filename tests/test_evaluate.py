"""Evaluation counts every image once, whatever the batch size and the number of devices."""

import functools
import json

import jax
import numpy as np
import pytest

from segadv_jax import VOID, devices, evaluate
from segadv_jax.eval_step import Boundaries, eval_step, zero_totals
from segadv_jax.models import MultiScale
from segadv_jax.workdir import Workdir

CLASSES = 8
CANVAS = (96, 128)
ZEROS = zero_totals(CLASSES)


@pytest.fixture(scope="module")
def seven(synthetic):
    return synthetic.read("test[:7]")


@pytest.fixture(scope="module")
def segmenter():
    module = MultiScale(CLASSES, widths=(3, 4, 4), hidden=8, levels=1)
    image, size = np.zeros((1, 16, 16, 3), np.float32), np.full((1, 2), 16)
    return module, jax.jit(module.init)(jax.random.key(0), image, size)["params"]


@pytest.fixture(scope="module")
def totals(seven, segmenter):
    """Totals of the seven images at three batch sizes: below, at and above the 4 devices."""
    module, params = segmenter
    step = devices.map_eval_step(functools.partial(eval_step, segmenter=module))
    params = devices.replicate(params)
    return {
        batch_size: evaluate.accumulate(step, params, seven, ZEROS, batch_size, CANVAS)
        for batch_size in (1, 5, 8)
    }


def test_every_image_of_an_odd_split_counts_once(totals, seven):
    labels = np.concatenate(
        [batch["label"] for batch in seven.eval_batches(batch_size=1, canvas=CANVAS)]
    )
    true = np.bincount(labels[labels != VOID], minlength=CLASSES)
    for result in totals.values():
        np.testing.assert_array_equal(result["confusion"].sum(1), true)


def test_totals_depend_neither_on_batch_size_nor_on_the_number_of_devices(totals, seven, segmenter):
    module, params = segmenter
    single = jax.jit(lambda sums, batch: eval_step(params, sums, batch, segmenter=module))
    sums = ZEROS
    for batch in seven.eval_batches(batch_size=4, canvas=CANVAS):
        sums = single(sums, {name: value for name, value in batch.items() if name != "id"})
    for result in totals.values():
        # A pixel between two equally probable classes may fall either way.
        moved = np.abs(result["confusion"] - np.asarray(sums["confusion"])).sum()
        assert moved <= 1e-4 * result["confusion"].sum()
        assert result["mce"] == pytest.approx(float(sums["mce"]), rel=1e-5)
        assert result["cells"] == float(sums["cells"])
        assert result["nll"] == pytest.approx(float(sums["nll"]), rel=1e-5)
        gaps = sums["calibration_gaps"]
        np.testing.assert_allclose(result["calibration_gaps"], gaps, rtol=1e-3, atol=0.5)


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
    many = seven.take([*range(7)] * 4)
    result = evaluate.accumulate(count_high, params, many, ZEROS, 4, CANVAS)
    assert (result["confusion"] == 7 * 2**29).all()


def test_the_structure_depends_neither_on_batch_size_nor_on_the_number_of_devices(seven, segmenter):
    module, params = segmenter
    boundaries = Boundaries.of(seven.sizes)
    step = functools.partial(eval_step, segmenter=module, boundaries=boundaries)
    mapped, zeros = devices.map_eval_step(step), zero_totals(CLASSES, boundaries=True)
    totals = evaluate.accumulate(mapped, devices.replicate(params), seven, zeros, 8, CANVAS)
    single, sums = jax.jit(lambda sums, batch: step(params, sums, batch)), zeros
    for batch in seven.eval_batches(batch_size=3, canvas=CANVAS):
        sums = single(sums, {name: value for name, value in batch.items() if name != "id"})
    got, expected = (evaluate.summarize(x, "abcdefgh") for x in (totals, jax.device_get(sums)))
    measures = {"mean_bf", "mean_bf_3_pixels", "mean_bf_3_pixels_ignoring_border"}
    measures |= {"mean_boundary_iou", "regions", "regions_true", "specks", "specks_true"}
    for name in measures:
        assert got[name] == pytest.approx(expected[name], rel=0.01)
    assert totals["region_images"] == 7 and got["mean_bf_3_pixels"] < got["mean_bf"]
    assert set(got["boundary_iou"]) == set("abcdefgh")


def test_absent_classes_are_null_in_the_json(tmp_path):
    confusion = np.zeros((3, 3), np.int64)
    confusion[0, 0], confusion[1, 0] = 3, 1
    totals = {"confusion": confusion}
    totals |= {name: np.array(x) for name, x in (("mce", 2.0), ("certainty", 3.0), ("cells", 4.0))}
    totals |= {"nll": np.array(6.0), "calibration_gaps": np.array([0.25, 0, -0.75])}
    result = evaluate.summarize(totals, "abc")
    assert result["confusion"] == [[3, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert (result["nll"], result["ece"]) == (1.5, 0.25)
    assert result["histogram_true"] == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert result["histogram_predicted"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert (result["mce"], result["certainty"], result["pixel_accuracy"]) == (0.5, 0.75, 0.75)
    assert result["iou"] == {"a": 0.75, "b": 0.0, "c": None}
    path = Workdir(tmp_path).write_evaluation("subset_0+subset_1", result)
    assert json.loads(path.read_text()) == result
    assert str(path).endswith("eval/subset_0+subset_1.json")
