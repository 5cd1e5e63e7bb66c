"""What a history is read to mean, on histories that are made up."""

import math

import pytest
from histories import history

from segadv_jax import conditions, health
from segadv_jax.conditions import RECENT

UPDATES = 800
CONFIG = {
    "alternation": {"schedule": "simultaneous"},
    "loss": {"start": 0},
    "train": {"updates": UPDATES},
}
STANDARD = CONFIG | {"alternation": {"schedule": "standard"}}


def kinds(rows, config=CONFIG, evaluation=None):
    return {finding.kind for finding in health.read(rows, config, evaluation)}


def alarms(rows, config=CONFIG, evaluation=None):
    return {finding.kind for finding in health.read(rows, config, evaluation) if finding.alarm}


def test_a_run_in_good_health_raises_no_alarm():
    assert alarms(history()) == set()
    assert kinds(history()) == {"contested", "gradient", "converged"}


def test_without_an_adversary_no_game_is_read():
    rows = history(**dict.fromkeys(("accuracy_real", "accuracy_synthetic")))
    assert kinds(rows, STANDARD) == {"no game", "converged"}


def test_classes_that_are_hardly_found_are_named():
    """Of one that does not occur in the images nobody knows."""
    evaluation = {"iou": {"sky": 0.9, "mountain": 0.009, "water": 0.0, "road": 0.02, "tree": None}}
    assert alarms(history(), evaluation=evaluation) == {"missed classes"}
    (said,) = (x.text for x in health.read(history(), CONFIG, evaluation) if x.alarm)
    assert said.startswith("Hardly anything is found of: mountain, water (IoU under 1 %). ")


@pytest.mark.parametrize(
    ("real", "synthetic", "state", "alarm", "words"),
    [
        (0.99, 0.99, "ahead", False, "ahead: "),
        (0.99, 0.01, "constant real", True, "a constant answer, real"),
        (0.01, 0.99, "constant synthetic", True, "a constant answer, synthetic"),
        (0.52, 0.47, "even", False, "fooled about half of the time"),
        (0.99, 0.20, "leaning real", False, "answers real most of the time"),
        (0.15, 0.95, "leaning synthetic", False, "answers synthetic most of the time"),
        (0.90, 0.80, "contested", False, "The game is alive"),
        (0.99, 0.90, "contested", False, "The game is alive"),
    ],
)
def test_who_leads(real, synthetic, state, alarm, words):
    assert conditions.state_of_game(real, synthetic, 0.2) == state
    rows = history(accuracy_real=real, accuracy_synthetic=synthetic)
    (found,) = (each for each in health.read(rows, CONFIG) if each.kind == state)
    assert found.alarm == alarm and words in found.text
    assert f"{100 * real:.0f} %" in found.text and f"{100 * synthetic:.0f} %" in found.text


def test_who_leads_is_read_at_the_end_and_not_of_one_batch():
    early = [0.99] * 4 + [0.8] * 4
    assert "contested" in kinds(history(accuracy_real=early, accuracy_synthetic=early))
    one = [0.8] * 7 + [1.0]
    assert "contested" in kinds(history(accuracy_real=one, accuracy_synthetic=one))


WON = {"accuracy_real": 0.99, "accuracy_synthetic": 0.99, "grad_norm_adversarial": 0.00005}


def test_a_game_is_won_when_the_gradient_has_vanished():
    assert "won" in alarms(history(**WON))


def test_a_game_whose_gradient_is_not_known_is_not_said_to_be_won():
    rows = history(**WON | {"grad_norm_adversarial": None})
    (found,) = (each for each in health.read(rows, CONFIG) if each.kind == "ahead")
    assert found.text.endswith("Its gradient is not known.") and not warned(rows)


def test_what_a_schedule_does_not_record_is_taken_from_the_evaluation():
    rows = history(accuracy_real=None, accuracy_synthetic=0.99, grad_norm_adversarial=5e-5)
    assert "half known game" in kinds(rows)
    assert alarms(rows) == {"weak"}
    measured = {"accuracy_real": 0.99, "accuracy_synthetic": 0.98}
    assert "won" in alarms(rows, evaluation=measured)


def test_a_weak_and_a_strong_adversarial_term_are_told():
    assert "weak" in alarms(history(grad_norm_adversarial=0.00005))
    rows = history(grad_norm_adversarial=0.03)
    (strong,) = (each for each in health.read(rows, CONFIG) if each.kind == "strong")
    # Controls are a part of it.
    assert strong.alarm and "is 3.0 times that of the segmenter's own loss:" in strong.text


def test_a_term_that_has_not_begun_is_not_weak():
    config = CONFIG | {"loss": {"start": UPDATES}}
    assert "not begun" in kinds(history(grad_norm_adversarial=0.0), config)
    assert alarms(history(grad_norm_adversarial=0.0), config) == set()


def test_updates_before_all_of_the_term_are_not_averaged_in():
    """As the watcher has it: the term rises until update 600, of 800."""
    config = CONFIG | {"loss": {"start": 200, "ramp": 400}}
    rising = history(grad_norm_adversarial=[0.0] * 6 + [0.011, 0.011])
    assert {"strong"} == alarms(rising, config)
    assert warned(rising + rising[-1:], begun=600) == {"strong"}
    assert "not begun" in kinds(rising[:6], config)


def test_sharper_but_not_better_is_saturating():
    sharper = {
        "validation_certainty": [0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97],
        "validation_mce": [0.6, 0.5, 0.52, 0.55, 0.6, 0.65, 0.7, 0.8],
    }
    flat = [0.6, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65]
    assert "saturating" in alarms(history(**sharper, validation_mean_iou=flat))
    rising = [0.6, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66, 0.67]
    assert "saturating" not in kinds(history(**sharper, validation_mean_iou=rising))
    assert "saturating" not in kinds(history(validation_certainty=sharper["validation_certainty"]))


def test_a_gap_between_training_and_validation_is_overfitting():
    assert "overfitting" in alarms(history(train_mean_iou=0.85))
    assert "overfitting" not in kinds(history(train_mean_iou=0.70))


def test_what_still_rises_at_the_end_wants_more_updates():
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65]
    assert "still rising" in alarms(history(validation_mean_iou=rising, train_mean_iou=0.7))
    lucky = [0.6] * 7 + [0.604]
    assert "still rising" not in kinds(history(validation_mean_iou=lucky))


def test_a_best_validation_long_ago_is_told_and_where_it_was():
    fell = [0.5, 0.6, 0.7, 0.68, 0.67, 0.66, 0.65, 0.65]
    rows = history(validation_mean_iou=fell, train_mean_iou=0.7)
    (found,) = (each for each in health.read(rows, CONFIG) if each.kind == "best long ago")
    assert found.alarm and "update 300 of 800" in found.text
    assert "converged" not in kinds(rows)
    late = [0.5, 0.55, 0.6, 0.62, 0.64, 0.66, 0.7, 0.65]
    assert "best long ago" not in kinds(history(validation_mean_iou=late, train_mean_iou=0.7))


def test_the_best_validation_is_that_of_the_measure_that_selects():
    fell = [0.5, 0.6, 0.7, 0.68, 0.67, 0.66, 0.65, 0.65]
    early = [0.5, 0.8, 0.7, 0.68, 0.67, 0.66, 0.65, 0.65]
    rows = history(validation_mean_iou=fell, validation_class_accuracy=early, train_mean_iou=0.7)
    config = CONFIG | {"evaluate": {"select": "class_accuracy"}}
    (found,) = (each for each in health.read(rows, config) if each.kind == "best long ago")
    assert "update 200 of 800 (class accuracy 80.0 %, 65.0 % at the end)" in found.text


def test_of_an_unfinished_run_it_is_said():
    config = CONFIG | {"train": {"updates": 2 * UPDATES}}
    assert "unfinished" in kinds(history(), config)
    ended = health.read(history(), config, ended=True)  # By its patience.
    assert "unfinished" not in {each.kind for each in ended}


def test_few_or_no_validations_have_no_shape():
    assert kinds([]) | alarms([]) == {"empty"}
    rows = history(2, validation_mean_iou=[0.3, 0.6], train_mean_iou=[0.3, 0.6])
    finished = CONFIG | {"train": {"updates": 200}}
    rows = [
        {k: v for k, v in row.items() if not k.startswith(("acc", "grad", "validation_mce"))}
        for row in rows
    ]
    assert kinds(rows, finished) == {"unknown game"}


def warned(rows, **how):
    return {finding.kind for finding in health.watch(rows, **how)}


CHANCE = 2 * math.log(2)
SHARPER = {
    "validation_certainty": [0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97],
    "validation_mce": [0.6, 0.5, 0.52, 0.55, 0.6, 0.65, 0.7, 0.8],
    "validation_mean_iou": [0.6, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65],
}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"accuracy_real": 0.99, "accuracy_synthetic": 0.01}, "constant real"),
        ({"accuracy_real": 0.01, "accuracy_synthetic": 0.99}, "constant synthetic"),
        (WON, "won"),
        ({"adversary_loss": CHANCE, "accuracy_real": 0.5}, "never learned"),
        ({"grad_norm_adversarial": 0.03}, "strong"),
        (SHARPER, "saturating"),
        ({"validation_mce": 5000.0}, "ruined"),
    ],
)
def test_a_run_is_warned_of(columns, kind):
    rows = history(**columns)
    assert warned(rows) == {kind}
    assert not warned(rows[: RECENT - 1])  # One validation tells little.
    assert kind in alarms(rows)  # The report says the same.


def test_a_healthy_game_is_warned_of_nothing():
    assert not warned(history())
    # An adversary that was better before and is fooled now is what the game aims at.
    fooled = {"accuracy_real": 0.5, "accuracy_synthetic": 0.5}
    learned = [1.386, 1.2, 0.9, 1.1, 1.3, 1.38, CHANCE, CHANCE]
    assert not warned(history(**fooled, adversary_loss=learned))
    ahead = WON | {"grad_norm_adversarial": 0.002}
    assert not warned(history(**ahead))


def test_what_has_not_begun_is_not_won():
    waiting = history(**WON | {"grad_norm_adversarial": 0.0})
    assert not warned(waiting, begun=UPDATES)
    assert warned(waiting, begun=UPDATES - 100 * RECENT) == {"won"}
