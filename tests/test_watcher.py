"""People are warned of a run that goes wrong: once, in words, in the log and in its folder."""

import pytest
from small_runs import small_config, told

from segadv_jax import watcher
from segadv_jax.train import train
from segadv_jax.watcher import Watcher
from segadv_jax.workdir import Workdir

# Runs in which a game goes wrong: how, and what is warned of among others.
WRONG = {
    "too strong and too slow": (
        {"loss.lam": 50.0},
        {"strong", "never learned", "saturating"},
    ),
    "constant": (
        # Its first step is so large that all its ReLUs are dead.
        {"loss.game": "hinge", "train.updates": 20}
        | {"optimizer.adversary.learning_rate": 1.0, "optimizer.adversary.clip": 1.0},
        {"constant synthetic"},
    ),
    "won": (
        # The term of Eq. 3 itself, whose gradient vanishes where the adversary is right.
        {"loss.saturating": True, "train.updates": 8, "evaluate.every": 2}
        | {"alternation.pretrain": 100, "optimizer.segmenter.learning_rate": 1e-4}
        | {"optimizer.adversary.name": "adam", "optimizer.adversary.learning_rate": 0.01}
        | {"adversary.leak": 0.2},
        {"won"},
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_people_are_warned_of_a_run_that_goes_wrong(how, data_dir, tmp_path):
    fields, kinds = WRONG[how]
    fields = {"train.updates": 24, "evaluate.train_images": 0, "train.log_every": 50} | fields
    with told() as lines:
        train(small_config(data_dir, **fields), str(tmp_path))
    warnings = Workdir(tmp_path).warnings()
    assert kinds <= {each["kind"] for each in warnings}
    for each in warnings:
        said = f"at update {each['segmenter_updates']}: {each['text']}"
        assert lines.count(said) == 1


def row(updates, **values):
    return {"segmenter_updates": updates, "step": updates} | values


CONSTANT = {"accuracy_real": 1.0, "accuracy_synthetic": 0.0}


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.cut_history(0)
    return workdir


def look(workdir, rows, recent=None, updates=0):
    """Looks at rows as training does, which writes each of them before."""
    watching = Watcher(workdir, "bce", 0, updates)
    for each in rows:
        workdir.add_validation(each)
        watching.look(each | {"validation_mce": None}, recent or {})


def test_a_warning_is_given_once_also_to_a_run_that_is_resumed(workdir):
    look(workdir, [row(10 * i, **CONSTANT) for i in range(1, 5)])
    (before,) = workdir.warnings()
    assert (before["segmenter_updates"], before["kind"]) == (30, "constant real")
    look(workdir, [row(50, **CONSTANT)], updates=40)
    assert workdir.warnings() == [before]


def test_a_run_that_goes_back_is_warned_again(workdir):
    look(workdir, [row(10 * i, **CONSTANT) for i in range(1, 5)])
    workdir.cut_history(20)
    look(workdir, [row(i, **CONSTANT) for i in (25, 30)], updates=20)
    assert [each["segmenter_updates"] for each in workdir.warnings()] == [25]


def test_where_players_take_turns_the_last_turns_stand_in(workdir):
    """A validation is a turn of the segmenter's, which asks nobody about ground truth."""
    rows = [row(10 * i, accuracy_synthetic=0.0) for i in range(1, 5)]
    look(workdir, rows, recent=CONSTANT | {"bce_real": 0.7, "bce_synthetic": 0.7})
    kinds = {each["kind"]: each["segmenter_updates"] for each in workdir.warnings()}
    assert kinds == {"constant real": 30, "never learned": 40}


def test_the_adversarys_loss_has_both_terms_or_is_not_known():
    both = {"hinge_real": 1.5, "hinge_synthetic": 0.25, "accuracy_real": 1.0, "mce": 3.0}
    assert watcher.adversary_loss(both) == {"adversary_loss": 1.75}
    assert watcher.adversary_loss({"accuracy_real": 1.0, "accuracy_synthetic": 1.0}) == {}


def test_what_stood_in_for_the_history_is_known_after_a_resume(workdir):
    """The players take turns, so that the history lacks the adversary's figures."""
    learned = {"bce_real": 0.3, "bce_synthetic": 0.3, "accuracy_real": 0.9}
    fooled = {"bce_real": 0.69, "bce_synthetic": 0.69, "accuracy_real": 0.5}
    look(workdir, [row(10 * i, accuracy_synthetic=0.5) for i in range(1, 4)], learned)
    look(workdir, [row(10 * i, accuracy_synthetic=0.5) for i in range(4, 9)], fooled, updates=30)
    assert not workdir.warnings()  # It had learned.
    found = [each["segmenter_updates"] for each in workdir.watched()]
    assert found == [10 * i for i in range(1, 9)]
    workdir.cut_history(30)
    look(workdir, [], updates=30)
    look(workdir, [row(40, accuracy_synthetic=0.5)], fooled, updates=30)
    assert [each["segmenter_updates"] for each in workdir.watched()] == [10, 20, 30, 40]
    # A constant answer is noticed, however often the run is resumed.
    for i in range(5, 9):
        constant = {"accuracy_real": 1.0}
        look(workdir, [row(10 * i, accuracy_synthetic=0.0)], constant, updates=10 * (i - 1))
    assert "constant real" in [each["kind"] for each in workdir.warnings()]
