"""What a run leaves in its folder: written whole, read back, and what is damaged is named."""

import json

import pytest

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.workdir import (
    CURVES,
    GAME,
    HISTORY_COLUMNS,
    PATIENCE,
    STRUCTURE,
    UPDATES,
    End,
    Workdir,
)

MEASURES = {"class_accuracy": 0.5, "pixel_accuracy": 0.75, "mean_iou": 0.25}


def row(step, mean_iou=0.5):
    return {
        "step": step,
        "segmenter_updates": step / 2,
        "epoch": step / 8,
        "validation_mean_iou": mean_iou,
    }


@pytest.fixture
def workdir(tmp_path):
    """A run whose history has three rows, the second of which is the best."""
    made = Workdir(tmp_path / "run")
    made.make()
    made.record_config({"data": {"test": "test"}, "train": {"updates": 6}})
    made.cut_history(0)
    for step, mean_iou in ((4, 0.3), (8, 0.4), (12, 0.35)):
        made.add_validation(row(step, mean_iou))
    return made


def test_history_has_a_row_for_each_validation(workdir):
    assert workdir.history() == [row(4, 0.3), row(8, 0.4), row(12, 0.35)]
    header = workdir.history_path.read_text().splitlines()[0]
    assert header == ",".join(HISTORY_COLUMNS)
    structure = {f"validation_{measure}" for measure in STRUCTURE}
    assert set(HISTORY_COLUMNS) > {*GAME, *(f"train_{curve}" for curve in CURVES), *structure}


def test_what_was_not_measured_is_left_empty(workdir):
    workdir.add_validation(row(16) | {"train_mce": None, "accuracy_real": 0.25})
    assert workdir.history()[-1] == row(16) | {"accuracy_real": 0.25}


def test_a_resumed_run_writes_the_rows_after_its_step_again(workdir):
    workdir.cut_history(9)
    assert [each["step"] for each in workdir.history()] == [4, 8]
    workdir.add_validation(row(12, 0.6))
    assert workdir.history()[-1] == row(12, 0.6)
    assert Workdir("nowhere").history() == []


def test_the_history_is_read_once(workdir, monkeypatch):
    """A history of another moment may have other columns, and a bucket is slow."""
    read, count = files.read_text, []
    monkeypatch.setattr(files, "read_text", lambda path: count.append(path) or read(path))
    assert len(workdir.history()) == 3 and len(count) == 1


def test_a_history_of_fewer_columns_is_read_and_goes_on_with_all(workdir):
    """As runs have it that were begun before more was measured."""
    begun = "step,segmenter_updates,epoch,validation_mean_iou,grad_norm_mce\n"
    workdir.history_path.write_text(begun + "4,2,0.5,0.3,0.1\n8,4,1,0.4,\n")
    before = [row(4, 0.3) | {"grad_norm_mce": 0.1}, row(8, 0.4)]
    assert workdir.history() == before
    workdir.cut_history(8)
    workdir.add_validation(row(12, 0.5) | {"validation_ece": 0.06, "validation_mean_bf": 0.7})
    assert workdir.history_path.read_text().splitlines()[0] == ",".join(HISTORY_COLUMNS)
    after = row(12, 0.5) | {"validation_ece": 0.06, "validation_mean_bf": 0.7}
    assert workdir.history() == [*before, after]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("foo,bar\n1,2\n", "it has no column step"),
        ("garbage,1\n", "it has no column step"),
        ("step,epoch\nmany,2\n", "a row has no number in the column step"),
        ("step,epoch\n1,2,3\n", "a row has too many or too few fields"),
        ("step,epoch\n1\n", "a row has too many or too few fields"),
    ],
)
def test_a_damaged_history_is_the_users_to_mend(workdir, damage, reason):
    workdir.history_path.write_text(damage)
    with pytest.raises(InputError, match=f"history.csv is damaged .{reason}.; mend it, or move it"):
        workdir.cut_history(4)
    assert workdir.history_path.read_text() == damage


def test_a_row_that_was_being_written_is_written_again(workdir):
    """As a full disk leaves it, or a process that was killed."""
    whole = workdir.history_path.read_bytes()
    row_of_12 = whole.splitlines(keepends=True)[-1]
    for part in range(1, len(row_of_12) - 1):  # The last field, of ADVERSARY_LOSS, is empty.
        workdir.history_path.write_bytes(whole[: len(whole) - len(row_of_12) + part])
        assert [each["step"] for each in workdir.history()][:2] == [4, 8]
        workdir.cut_history(8)
        workdir.add_validation(row(12, 0.35))
        assert workdir.history_path.read_bytes() == whole


def test_numbers_of_the_history_are_numbers(workdir):
    workdir.history_path.write_text("step,epoch\n1,2\n2,early\n")
    with pytest.raises(InputError, match="history.csv is damaged .*'early'.*; mend it, or move it"):
        workdir.history()


def test_an_evaluation_comes_back(workdir):
    result = MEASURES | {"step": 8, "images": 7, "iou": {"sky": None}}
    path = workdir.write_evaluation("subset_0+subset_1", result)
    assert str(path).endswith("eval/subset_0+subset_1.json")
    assert workdir.evaluation("subset_0+subset_1") == result
    assert workdir.evaluation("subset_0") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is no JSON object"),
        (json.dumps(MEASURES), "it lacks step"),
        (json.dumps({"step": 3, "mean_iou": 0.5}), "it lacks class_accuracy, pixel_accuracy"),
        (json.dumps(MEASURES | {"step": 3, "mean_iou": 51.3}), "mean_iou is 51.3"),
        (json.dumps(MEASURES | {"step": 3, "mean_iou": "high"}), "mean_iou is 'high'"),
    ],
)
def test_a_damaged_evaluation_is_named(workdir, content, reason):
    workdir.write_evaluation("test", {})
    workdir.evaluation_path("test").write_text(content)
    with pytest.raises(
        InputError, match=f"eval/test.json is damaged .{reason}.*; delete it and ev"
    ):
        workdir.evaluation("test")


def test_a_measure_may_be_undefined(workdir):
    workdir.write_evaluation("test", MEASURES | {"step": 8, "class_accuracy": None})
    assert workdir.evaluation("test")["class_accuracy"] is None


@pytest.mark.parametrize("reason", [UPDATES, PATIENCE])
def test_the_mark_of_the_end_says_why(workdir, reason):
    assert workdir.end() is None
    workdir.mark_ended(End(reason, 12, 8))
    assert workdir.end() == End(reason, 12, 8)
    workdir.mark_unfinished()
    assert workdir.end() is None
    workdir.mark_unfinished()  # It is unfinished already.


def test_a_run_without_validation_has_selected_nothing(workdir):
    workdir.mark_ended(End(UPDATES, 12, None))
    assert workdir.end().selected_step is None
    workdir.write_evaluation("test", MEASURES | {"step": 8})
    assert workdir.result() is None


def test_there_is_no_result_until_the_run_is_done(workdir):
    """Its training has ended, and the checkpoint that the validation selected is evaluated."""
    workdir.write_evaluation("test", MEASURES | {"step": 8})
    assert workdir.result() is None  # In training.
    workdir.mark_ended(End(UPDATES, 12, 8))
    expected = MEASURES | {"step": 8, "split": "test", "segmenter_updates": 4}
    assert workdir.result() == expected | {"validation_mean_iou": 0.4}
    workdir.write_evaluation("test", MEASURES | {"step": 4})
    assert workdir.result() is None  # Of another checkpoint.
    assert workdir.result("val") is None  # Not evaluated on this split.
    workdir.write_evaluation("val", MEASURES | {"step": 8})
    assert workdir.result("val") == expected | {"split": "val", "validation_mean_iou": 0.4}
    workdir.mark_unfinished()
    assert workdir.result("val") is None
    assert Workdir("nowhere").result() is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json is damaged .*; delete it to have it written again"),
        ("config.json", "{}", "config.json is damaged .it lacks data.test.; restore it"),
        ("config.json", '{"data": 3}', "config.json is damaged .it lacks data.test.; restore it"),
        ("ended.json", "{", "ended.json is damaged .*; delete it and run the training command"),
        ("ended.json", '{"step": 1}', "ended.json is damaged .it lacks reason, selected_step."),
        ("eval/test.json", "{}", "eval/test.json is damaged .it lacks class_accuracy, .*step"),
        ("history.csv", "step\n1,2\n", "history.csv is damaged .a row has too many or too few"),
        ("history.csv", "step\n4\n", "history.csv is damaged .it has no row of step 8, which was"),
    ],
)
def test_a_result_names_the_file_that_is_damaged(workdir, name, content, message):
    workdir.mark_ended(End(UPDATES, 12, 8))
    workdir.write_evaluation("test", MEASURES | {"step": 8})
    assert workdir.result() is not None
    (workdir.folder / name).write_text(content)
    with pytest.raises(InputError, match=message):
        workdir.result()


def test_progress_is_that_of_the_last_validation(workdir, tmp_path):
    assert workdir.progress() == (6, 6, 0.35)
    assert Workdir(tmp_path / "new").progress() is None
    workdir.history_path.write_text("step,segm")  # For a moment, while it is being written.
    assert workdir.progress() is None
    workdir.config_path.write_text("{")
    assert workdir.progress() is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--workdir=.*file is not a folder that can be written"):
        Workdir(tmp_path / "file").make()


def test_an_empty_name_is_no_folder():
    """As an unset variable of the shell is: the run would lie in the current folder."""
    with pytest.raises(InputError, match="--workdir is empty: name a folder"):
        Workdir("")
