"""configs/folder.py, and which split is tested where none is named."""

import pytest
from small_runs import told

from segadv_jax import configuration, data, experiment
from segadv_jax.configs import folder, stanford_light
from segadv_jax.preparation import check
from segadv_jax.workdir import Workdir


def test_an_unknown_arm_is_refused():
    with pytest.raises(Exception, match="folder:big: the arm is one of 'standard', "):
        configuration.load("folder:big")


def test_arms_differ_in_the_adversary_or_the_weight_of_boundaries_alone(tmp_path):
    made = {arm: folder.get_config(arm) for arm in folder.ARMS}
    for part in ("init", "data", "segmenter", "train", "evaluate"):
        assert all(config[part] == made["standard"][part] for config in made.values())
    for arm, config in made.items():
        played = config.alternation.schedule == "simultaneous"
        assert played == (arm in ("adversarial", "fully_convolutional"))
        assert (config.loss.boundary > 1) == (arm == "boundary")
        check(config, Workdir(tmp_path / arm))
    assert made["adversarial"].loss.lam > 0 and folder.get_config() == made["standard"]
    alone = stanford_light.get_config("fully_convolutional").adversary
    assert made["fully_convolutional"].adversary == alone


@pytest.fixture
def load(monkeypatch):
    """Loads a configuration's data, of which there are only the names of the splits."""

    def loaded(splits, **fields):
        config = folder.get_config()
        config.update_from_flattened_dict(fields)
        made = data.DataSet("mine", splits, None, ("a", "b"), None)
        monkeypatch.setattr(data, "load", lambda name, **options: made)
        with told() as messages:
            experiment.load_data(config)
        return config.data.test, config.evaluate.split, messages

    return loaded


def test_the_test_split_is_taken_where_there_is_one(load):
    assert load(("train", "validation", "test")) == ("test", "test", [])


def test_without_a_test_split_it_is_the_validation_and_that_is_said(load):
    *splits, messages = load(("train", "validation"))
    assert splits == ["validation", "validation"]
    assert len(messages) == 1 and "whose figures flatter" in messages[0]


def test_splits_that_are_named_stay(load):
    assert load(("train", "more"), **{"data.test": "more"}) == ("more", "more", [])
    fields = {"data.test": "more", "evaluate.split": "other"}
    assert load(("train", "more"), **fields) == ("more", "other", [])


def test_fields_of_an_image_folder_are_none_of_other_data_sets():
    config = folder.get_config("standard")
    unset = {k: v for k, v in config.data.items() if k in ("void", "images", "label_suffix")}
    assert not any(unset.values())
    with pytest.raises(ValueError, match="--config.data.void is not an option of the data set syn"):
        data.load("synthetic", void="11")
