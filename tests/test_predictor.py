"""What a run, or a file of weights, can predict with."""

import dataclasses
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


def test_runs_of_other_classes_are_not_shown_side_by_side(run):
    config, workdir, _ = run
    one = predictor.load(config, str(workdir))
    predictor.check_alike([one, one])
    other = dataclasses.replace(one, class_names=("sky", "car"))
    with pytest.raises(InputError, match="these runs are of different classes, .* and sky, car: "):
        predictor.check_alike([one, one, other])


def test_data_of_other_classes_are_refused(run, synthetic, tmp_path):
    """In another order they would be measured as each other."""
    config, _, setup = run
    workdir = Workdir(tmp_path)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(initialize(setup, 0, (32, 32), CLASSES), 4, {"mean_iou": 0.5})
    names = synthetic.class_names
    workdir.write_classes((*names[1:], names[0]), synthetic.palette.tolist())
    with pytest.raises(
        InputError, match="of the same classes in another order .*: restore their order"
    ):
        predictor.load(config, str(workdir))


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


def fields(loaded):
    """What predictors with the same predictions have in common."""
    own = loaded.class_names, loaded.palette.tolist(), loaded.step, loaded.views, loaded.segmenter
    return own, configuration.completed(loaded.config.to_dict()).to_dict(), loaded.longest_side


def test_a_run_and_its_weights_predict_as_it_is_evaluated(run, synthetic, tmp_path, monkeypatch):
    """Neither needs the data set: the run recorded its classes, the weights say all themselves."""
    config, _, setup = run
    config = config.copy_and_resolve_references()
    config.evaluate.update({"flip": True, "scales": (1.0, 0.5), "tile": 0})
    workdir, path = Workdir(tmp_path / "run"), tmp_path / "net.safetensors"
    configuration.record(workdir, config)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(initialize(setup, 1, (32, 32), CLASSES), 4, {"mean_iou": 0.5})
        checkpoints.save(initialize(setup, 2, (32, 32), CLASSES), 8, {"mean_iou": 0.4})
    evaluated = predictor.load(config, str(workdir))
    assert predictor.classes_of(workdir)[0] == synthetic.class_names  # An old run: of its data.
    workdir.write_classes(synthetic.class_names, synthetic.palette.tolist())
    monkeypatch.setattr(experiment, "load_data", lambda _: pytest.fail("it reads the data set"))
    of_run = predictor.from_run(workdir.folder)
    predictor.save_weights(of_run, path)
    of_file = predictor.from_weights(path)
    assert fields(evaluated) == fields(of_run) == fields(of_file)
    for loaded in (of_run, of_file):
        jax.tree.map(np.testing.assert_array_equal, loaded.params, evaluated.params)
    assert predictor.from_run(workdir.folder, "latest").step == 8
    for loaded in (
        predictor.from_run(workdir.folder, views=False),
        predictor.from_weights(path, views=False),
    ):
        assert loaded.views == Views() and loaded.step == 4
    overrides = ["--config.evaluate.flip=False"]
    assert predictor.from_run(workdir.folder, overrides=overrides).views == Views(scales=(1.0, 0.5))
    with pytest.raises(InputError, match="config.seed says how the run was trained"):
        predictor.from_run(workdir.folder, overrides=["--config.seed=3"])


def test_the_shift_of_a_prior_goes_with_the_weights(run, tmp_path):
    """It is of the training images, which are read once."""
    config, workdir, _ = run
    config = config.copy_and_resolve_references()
    config.evaluate.update({"prior_shift": 0.5, "tile": 0})
    expected = predictor.load(config, str(workdir)).views.shift
    overrides = ["--config.evaluate.prior_shift=0.5"]
    of_run = predictor.from_run(workdir.folder, overrides=overrides)
    predictor.save_weights(of_run, tmp_path / "net.safetensors")
    assert of_run.views.shift == expected and len(expected) == CLASSES
    assert predictor.from_weights(tmp_path / "net.safetensors").views.shift == expected


def test_a_run_that_needs_its_data_set_says_why(run, synthetic, tmp_path, monkeypatch):
    config, workdir, _ = run

    def gone(_):
        raise InputError("the folder is gone")

    monkeypatch.setattr(experiment, "load_data", gone)
    with pytest.raises(InputError, match=r"its data set, as it has no classes.json, as .* is gone"):
        predictor.from_run(workdir.folder)
    old = Workdir(tmp_path)
    old.record_config(config.to_dict())
    old.write_classes(synthetic.class_names, synthetic.palette.tolist())
    overrides = ["--config.evaluate.prior_shift=0.5"]
    with pytest.raises(InputError, match=r"as its config.evaluate.prior_shift is 0.5, .* is gone"):
        predictor.from_run(tmp_path, overrides=overrides)
    with pytest.raises(InputError, match="holds no checkpoint; train first"):
        predictor.from_run(tmp_path)
    old.write_classes(synthetic.class_names, synthetic.palette.tolist()[1:])
    with pytest.raises(InputError, match=r"classes.json is damaged \(8 names, 7 colours\)"):
        predictor.from_run(tmp_path)
