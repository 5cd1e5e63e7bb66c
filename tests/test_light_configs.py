"""The configurations of the light segmenter: what they say, that each of them trains."""

import functools

import jax
import numpy as np
import pytest
import small
from small_runs import ROOT

from segadv_jax import configuration, data, experiment
from segadv_jax.configs import stanford, stanford_light, voc_light
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.preparation import check
from segadv_jax.report import study_choices, study_definition
from segadv_jax.train_step import train_step
from segadv_jax.workdir import Workdir

VOC_ARMS = ("boundary", "standard", "adversarial", *voc_light.PAIRS)


def test_voc_has_the_paper_s_four_adversaries_with_three_encodings():
    assert len(voc_light.PAIRS) == 12
    config = voc_light.get_config("smallfov_light_scaling")
    assert (config.adversary.name, config.encoding) == ("smallfov_light", "scaling")


@pytest.mark.parametrize("file", ["stanford_light", "voc_light"])
def test_an_unknown_arm_is_refused(file):
    with pytest.raises(Exception, match=f"{file}:big: the arm is"):
        configuration.load(f"{file}:big")


@pytest.mark.parametrize("file", [stanford_light, voc_light])
def test_arms_differ_in_the_adversary_alone(file):
    """So that seeds are paired: data, segmenter, optimizer and augmentation are the same."""
    standard, adversarial = (file.get_config(arm) for arm in ("standard", "adversarial"))
    parts = ("init", "data", "segmenter", "train", "evaluate")
    for part in parts:
        assert standard[part] == adversarial[part]
    assert standard.optimizer.segmenter == adversarial.optimizer.segmenter
    assert standard.alternation.schedule == "standard"
    assert adversarial.adversary.image_branch == "features"
    assert adversarial.optimizer.adversary.betas == (0.5, 0.99)


@pytest.mark.parametrize(
    ("file", "fields", "split"),
    [
        ("stanford_light", [], "test"),
        ("stanford_light", ["--config.data.test=subset_7"], "subset_7"),
        ("voc_light", [], "val"),
        ("voc_baseline", ["--config.evaluate.split=val_full"], "val_full"),
    ],
)
def test_what_is_evaluated_later_is_what_training_ends_with(file, fields, split, monkeypatch):
    """The test split of the run, unless another one is named."""
    made = data.DataSet("mine", (), None, ("a", "b"), None)
    monkeypatch.setattr(data, "load", lambda name, **options: made)
    config = configuration.load(file, fields)
    experiment.load_data(config)
    assert config.evaluate.split == split
    # A run of before is evaluated on what it recorded.
    recorded = configuration.completed({"evaluate": {"split": "test"}, "data": {"test": "more"}})
    experiment.load_data(recorded)
    assert recorded.evaluate.split == "test"


@pytest.mark.parametrize("arm", ["boundary", "standard"])
def test_the_light_segmenter_is_trained_as_its_study_found_best(arm):
    """With the settings that its validation images chose; "boundary" is the default."""
    study = study_definition.load("light")
    path = study_choices.path_of(ROOT / "docs" / "results", "light")
    chosen = study_choices.read(path, study)["natural", arm]["fields"]
    expected = stanford_light.get_config("standard")
    expected.update_from_flattened_dict(chosen)
    assert stanford_light.get_config(arm) == expected
    assert stanford_light.get_config() == stanford_light.get_config("boundary")


def test_boundaries_on_voc_have_the_weight_that_its_study_found_best():
    """And are the default. The study's rate is that of a training half as long."""
    study = study_definition.load("voc")
    path = study_choices.path_of(ROOT / "docs" / "results", "voc")
    chosen = study_choices.read(path, study)["table_2", "boundary"]["fields"]
    expected = voc_light.get_config("standard")
    expected.loss.boundary = chosen["loss.boundary"]
    assert voc_light.get_config() == voc_light.get_config("boundary") == expected


def step_of(config):
    """(a step of either player or of both, its state, its arguments) on two images of noise."""
    config.train.crop = 64
    setup = experiment.build(config, 21).setup
    begin = functools.partial(initialize, setup, 0, (64, 64), 21)
    batch = small.batch([(64, 64), (50, 61)], (64, 64))
    turn = "both" if setup.adversary else "standard"

    def step(state, batch, key):
        return train_step(state, batch, key, turn, 100, setup=setup)

    return step, begin, batch


@pytest.mark.parametrize("arm", VOC_ARMS)
def test_every_arm_on_voc_can_be_built(arm):
    setup = experiment.build(voc_light.get_config(arm), 21).setup
    assert setup.segmenter.stride == 8
    assert (setup.adversary is None) == (arm in ("boundary", "standard"))


# The other adversaries have other widths only.
@pytest.mark.parametrize("arm", ["largefov_product", "smallfov_light_basic"])
def test_the_parts_of_an_arm_on_voc_fit_together(arm):
    step, begin, batch = step_of(voc_light.get_config(arm))
    state = jax.eval_shape(begin)
    new, metrics = jax.eval_shape(step, state, batch, jax.random.key(0))
    assert new == state
    assert "adversarial_term" in metrics


def test_a_step_from_the_published_weights_moves_what_is_trained():
    config = voc_light.get_config("adversarial")
    step, begin, batch = step_of(config)
    state = begin(config.init)
    new, metrics = jax.jit(step)(state, batch, jax.random.key(0))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    for player in ("segmenter", "adversary"):
        assert not small.equal(new.params[player], state.params[player])
    assert small.equal(new.frozen, state.frozen)


def test_a_frozen_backbone_is_not_drawn_by_chance(tmp_path):
    config = stanford_light.get_config("standard")
    config.init = "scratch"
    with pytest.raises(InputError, match="config.init is 'scratch', but a part of .* is frozen"):
        check(config, Workdir(tmp_path / "frozen"))
    config.segmenter.freeze = "none"
    check(config, Workdir(tmp_path / "tuned"))


def test_features_that_a_segmenter_does_not_offer_are_refused_at_once(tmp_path):
    config = stanford.get_config("adversarial")
    config.adversary.image_branch = "features"
    with pytest.raises(InputError, match="config.adversary.image_branch is 'features', but this"):
        check(config, Workdir(tmp_path))


@pytest.mark.parametrize("field", ["clip", "weight_decay"])
def test_negative_numbers_of_an_optimizer_are_refused(field):
    config = stanford_light.get_config("standard")
    config.optimizer.segmenter[field] = -1.0
    with pytest.raises(InputError, match=f"config.optimizer.segmenter.{field} is -1.0"):
        experiment.check_numbers(config)


def test_the_adversary_on_the_label_map_alone_can_be_built():
    setup = experiment.build(stanford_light.get_config("fully_convolutional"), 8).setup
    assert (setup.adversary.sees, setup.adversary.block) == ("pixels", 8)
