"""What a run, or a file of weights, can predict with."""

import functools

import jax
import numpy as np
import pytest
from small_runs import small_config

from segadv_jax import configuration, experiment, prediction, predictor
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.prediction import Views
from segadv_jax.workdir import Workdir

CLASSES = 8


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """(configuration, workdir, setup) of a run with two checkpoints, the first of them the best."""
    config, workdir = small_config(data_dir, "standard"), Workdir(tmp_path_factory.mktemp("run"))
    configuration.record(workdir, config)
    setup = experiment.build(config, CLASSES).setup
    with Checkpoints(workdir) as checkpoints:
        for step, mean_iou in ((4, 0.5), (8, 0.4)):
            checkpoints.save(
                initialize(setup, step, (32, 32), CLASSES), step, {"mean_iou": mean_iou}
            )
    return config, workdir, setup


def test_a_run_predicts_with_the_checkpoint_that_the_validation_selected(run):
    config, workdir, setup = run
    config.evaluate.update({"flip": True, "scales": (1.0, 0.5), "tile": 0})
    trained, plain = (predictor.load(config, str(workdir), views) for views in (True, False))
    assert trained.step == plain.step == 4
    assert len(trained.data_set.class_names) == CLASSES
    batch = next(trained.data_set.read("test[:2]").eval_batches(batch_size=2, canvas=(96, 128)))
    params = initialize(setup, 4, (32, 32), CLASSES).params["segmenter"]
    image, size = batch["image"], batch["size"]
    for loaded, views in ((trained, Views(True, (1.0, 0.5))), (plain, Views())):
        got = loaded.predict(image, size)
        predict = functools.partial(prediction.predict, segmenter=setup.segmenter, views=views)
        expected = jax.jit(predict)(params, image, size)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_without_a_checkpoint_there_is_one_clear_error(tmp_path, data_dir):
    config = small_config(data_dir)
    with pytest.raises(InputError, match="holds no checkpoint; train first"):
        predictor.load(config, str(tmp_path / "none"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no checkpoint; train first"):
        predictor.load(config, str(tmp_path / "run"))
    assert not (tmp_path / "none").exists()


def test_a_run_that_was_never_validated_has_selected_nothing(run, tmp_path):
    config, _, setup = run
    workdir = Workdir(tmp_path)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(initialize(setup, 0, (32, 32), CLASSES), 4)
    with pytest.raises(InputError, match="holds no validated checkpoint; train up to a validation"):
        predictor.load(config, str(workdir))


def test_views_and_tiles_are_those_of_the_configuration(run):
    config, workdir, _ = run
    config.evaluate.update({"flip": False, "scales": (1.0,), "tile": 4})
    with pytest.raises(InputError, match="config.evaluate.tile is 4, but this segmenter takes who"):
        predictor.load(config, str(workdir))
    assert predictor.load(config, str(workdir), views=False).views == Views()
