"""Evaluations with shifted logits, for another prior of the classes than that of the training."""

import json

import numpy as np
import pytest
from small_runs import small_config

from segadv_jax import VOID, configuration, evaluate, experiment, predictor
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import order
from segadv_jax.initialize import initialize
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.workdir import Workdir

CLASSES, SPLIT = 8, "test[:7]"
FIELDS = {"data.fraction": 0.4, "seed": 3}


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """(configuration, workdir) of a run with an adversary and one checkpoint."""
    config = small_config(data_dir, "adversarial", **FIELDS)
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    configuration.record(workdir, config)
    setup = experiment.build(config, CLASSES).setup
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(initialize(setup, 0, (32, 32), CLASSES), 4, 0.5)
    return config, workdir


@pytest.fixture(scope="module")
def shares(synthetic):
    """Of the training images in use: those that the fraction draws by the seed."""
    images = synthetic.read("train[:22]").take(order.part(22, 0.4, 3))
    counts = np.zeros(256, int)
    for label in images.labels:
        cells = np.asarray(downsample_labels(label[None], 4, 1.5))
        counts += np.bincount(cells.ravel(), minlength=256)
    return counts[:VOID][:CLASSES] / counts[:VOID].sum()


def test_predictions_are_shifted_by_the_shares_of_the_training_images(run, shares):
    config, workdir = run
    with config.unlocked():
        config.evaluate.prior_shift = 0.5
    loaded = predictor.load(config, str(workdir))
    assert shares.min() > 0
    np.testing.assert_allclose(loaded.views.shift, 0.5 * np.log(shares), rtol=1e-6)
    assert predictor.load(config, str(workdir), views=False).views.shift == ()
    config.evaluate.prior_shift = 0.0
    assert predictor.load(config, str(workdir)).views.shift == ()


def test_a_shifted_evaluation_is_a_file_of_its_own(run):
    """The adversary, though, judges the maps that it knows."""
    config, workdir = run
    results = {}
    for alpha in (0.0, 0.5, -1.0):
        config.evaluate.prior_shift = alpha
        results[alpha] = evaluate.evaluate(config, str(workdir), SPLIT)
    config.evaluate.prior_shift = 0.0
    for alpha, name in ((0.0, SPLIT), (0.5, f"{SPLIT}_prior_0.5"), (-1.0, f"{SPLIT}_prior_-1")):
        assert json.loads(workdir.evaluation_path(name).read_text()) == results[alpha]
        assert results[alpha].get("prior_shift", 0.0) == alpha
        assert results[alpha]["accuracy_synthetic"] == results[0.0]["accuracy_synthetic"]
    for measure in ("mce", "certainty", "nll", "ece", "pixel_accuracy"):
        assert len({result[measure] for result in results.values()}) == 3


def test_the_best_of_several_shifts(run):
    """All are measured with one pass per image, each as by itself; nothing is written."""
    config, workdir = run
    before = sorted(workdir.folder.rglob("*.json"))
    alphas = (-1.0, 0.0, 0.5)
    best, results = evaluate.choose_prior_shift(config, str(workdir), SPLIT, alphas)
    assert sorted(workdir.folder.rglob("*.json")) == before
    assert [result["prior_shift"] for result in results] == list(alphas)
    for alpha, result in zip(alphas, results, strict=True):
        config.evaluate.prior_shift = alpha
        expected = evaluate.evaluate(config, str(workdir), SPLIT)
        for measure in ("mean_iou", "mce", "nll", "ece", "step", "images"):
            assert result[measure] == pytest.approx(expected[measure], rel=1e-3)
    config.evaluate.prior_shift = 0.0
    highest = max(result["mean_iou"] for result in results)
    assert best == next(r["prior_shift"] for r in results if r["mean_iou"] == highest)


def test_a_shift_changes_the_share_of_a_class_as_its_sign_says(run, shares):
    """With alpha above 0 frequent classes are predicted more often, below 0 rare ones."""
    config, workdir = run
    _, results = evaluate.choose_prior_shift(config, str(workdir), SPLIT, (-2.0, 0.0, 2.0))
    frequent = np.argmax(shares)
    got = [list(result["histogram_predicted"].values())[frequent] for result in results]
    assert got[0] < got[1] < got[2]
