"""What is wrong with the definition of a study is named before anything runs."""

import dataclasses

import pytest
import small_study

from segadv_jax.errors import InputError
from segadv_jax.report import studies, study_definition

ARM = small_study.ARMS["standard"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning_seeds": (1, 2)}, r"its tuning seeds are seeds as well: \[1, 2\]"),
        ({"tuning_seeds": ()}, "it has no tuning seeds"),
        ({"pairs": (("a", "c"),)}, "the pair .* names no two arms"),
        ({"pairs": (("a", "a"),)}, "the pair .* names no two arms"),
        ({"pairs": (("a", "b"),) * 2}, "a pair comes twice"),
        ({"pools": {"p": ("a", "c")}}, "the pool p has no arms, or names one that is not there"),
        ({"pools": {"b": ("a",)}}, "the pool b has the name of an arm"),
        ({"prior": ("c",)}, "prior names an arm that is not there"),
        ({"calibrated": ("c",)}, "calibrated names an arm that is not there"),
        ({"arms": {"a": study_definition.Arm({"x": {}, "y": {}, "z": {}})}}, "as many points"),
        (
            {"arms": {"a": study_definition.Arm(ARM.grid, ("b",)), "b": ARM}},
            "a inherits from an arm that comes later",
        ),
        ({"arms": {"a": ARM, "b": ARM, "a_prior": ARM}}, "no arm.s name ends in _prior"),
        (
            {"arms": {"a": ARM, "b": ARM, "a_x": ARM}, "splits": ("x",)},
            "no arm.s name ends in .*_x",
        ),
        ({"arms": {"a": ARM, "b": ARM, "a/b": ARM}}, "a name is no folder's"),
        ({"arms": {"a": ARM, "b": ARM, "a-b": ARM}}, "the hyphen is for differences; rename a-b"),
        ({"pools": {"a-b": ("a", "b")}}, "the hyphen is for differences; rename a-b"),
        ({"choices": "natural"}, "natural has no choices for all of its arms"),
        ({"fields": {small_study.RATE: 0.1}}, "a sets .*learning_rate, and so does its choice"),
    ],
)
def test_a_wrong_definition_is_refused(changes, message):
    right = {"arms": {"a": ARM, "b": ARM}, "pairs": (("a", "b"),), "tuning_seeds": (9,)}
    for fields in (right, right | changes):
        block = study_definition.Block("About.", seeds=(1, 2), **fields)
        study = small_study.make(block=block)
        if fields is right:
            study_definition.check("some", study)
    with pytest.raises(InputError, match=f"study some, (block block|arms): .*{message}"):
        study_definition.check("some", study)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STUDY = ", "faulty.py cannot be used: SyntaxError"),
        ("import no_such_package", "faulty.py cannot be used: ModuleNotFoundError: .*no_such"),
        ("", "faulty.py cannot be used: AttributeError: .*STUDY"),
    ],
)
def test_a_faulty_definition_is_named(tmp_path, monkeypatch, text, message):
    (tmp_path / "faulty.py").write_text(text)
    monkeypatch.setattr(studies, "__path__", [str(tmp_path)])
    with pytest.raises(InputError, match=message):
        study_definition.load("faulty")
    with pytest.raises(InputError, match="other is no study; known: faulty"):
        study_definition.load("other")


def test_a_study_tests_measures_that_there_are():
    study = dataclasses.replace(small_study.STUDY, tested=("mean_iou", "nll"))
    with pytest.raises(InputError, match="study some, tested: give one or more of class_accuracy"):
        study_definition.check("some", study)


@pytest.mark.parametrize("primary", [(), ("mean_iou", "nll")])
def test_a_study_has_primary_measures_that_choose(primary):
    study = dataclasses.replace(small_study.STUDY, primary=primary)
    with pytest.raises(InputError, match="study some, primary: give one or more of class_accuracy"):
        study_definition.check("some", study)
