"""What is measured of a finished run, once more where it no longer fits the run or the study."""

import dataclasses

import finished_runs
import pytest
import small_study
from small_runs import small_config

from segadv_jax import corrections, evaluate, files
from segadv_jax.campaign.runs import Run
from segadv_jax.report import study_beside
from segadv_jax.report.study_definition import CALIBRATED, PRIOR

HISTORY = (
    {"step": 10, "validation_mean_iou": 0.5, "validation_class_accuracy": 0.7},
    {"step": 20, "validation_mean_iou": 0.6, "validation_class_accuracy": 0.7},
    {"step": 30, "validation_mean_iou": 0.4, "validation_class_accuracy": 0.6},
)


@pytest.fixture
def run(tmp_path):
    folder = finished_runs.make_run(tmp_path / "run", small_config(""), {"test[:7]": {}}, HISTORY)
    return Run("arm", 0, str(folder), ())


@pytest.mark.parametrize("end", [PRIOR, CALIBRATED])
def test_a_study_that_tries_other_values_corrects_again(run, monkeypatch, end):
    asked = []

    def choose(config, folder, split, tried):
        asked.append(list(tried))
        return tried[0], []

    for name in ("choose_prior_shift", "choose_temperature"):
        monkeypatch.setattr(corrections, name, choose)
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: run.workdir.result())
    few, more = (0.5, 1.0), (0.25, 0.5, 1.0)
    narrow, wide = (
        dataclasses.replace(small_study.STUDY, alphas=values, temperatures=values)
        for values in (few, more)
    )
    correction = study_beside.CORRECTIONS[end]
    for study in (narrow, narrow, wide, wide):
        study_beside.correct(run, end, study)
    assert asked == [list(few), list(more)]
    assert study_beside.corrected(run, end, wide)[correction.chosen] == 0.25
    assert study_beside.corrected(run, end, narrow) is None
    # Files of before hold no list, and are those of finished studies.
    path = run.workdir.folder / correction.file
    content = files.read_json(path, "")
    del content["tried"]
    files.write_json(path, content)
    assert study_beside.corrected(run, end, narrow)[correction.chosen] == 0.25


@pytest.mark.parametrize(
    ("what", "name", "step"),
    [
        ("subset_0", "subset_0", 20),  # The checkpoint that the validation selected.
        ("latest", "test[:7]_latest", 30),
        ("class_accuracy", "test[:7]_class_accuracy", 20),  # Of equal ones the later.
    ],
)
def test_what_is_measured_beside_is_of_its_checkpoint(run, what, name, step):
    assert study_beside.beside(run, what) is None
    own = run.workdir.evaluation("test[:7]")
    for other in (10, 20, 30):
        run.workdir.write_evaluation(name, own | {"step": other})
        assert (study_beside.beside(run, what) is not None) == (other == step)
