"""Whose turn it is, by brute force over schedules."""

import itertools

import pytest

from segadv_jax.alternation import PLAYERS, SCHEDULES, Alternation

ALTERNATIONS = [Alternation("standard")] + [
    Alternation(schedule, period, pretrain)
    for schedule, period, pretrain in itertools.product(SCHEDULES[1:], (1, 2, 3, 7), (0, 1, 5))
]
STEPS = 60
all_alternations = pytest.mark.parametrize("alternation", ALTERNATIONS, ids=str)


def turns(*args, steps=8):
    initials = {"standard": "-", "segmenter": "s", "adversary": "a", "both": "b"}
    alternation = Alternation(*args)
    return "".join(initials[alternation.turn(step)] for step in range(steps))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("standard",), "--------"),
        (("simultaneous",), "bbbbbbbb"),
        (("fast",), "sasasasa"),
        (("fast", 500, 3), "aaasasas"),
        (("slow", 1), "sasasasa"),
        (("slow", 3), "sssaaass"),
        (("slow", 2, 1), "assaassa"),
        (("simultaneous", 500, 2), "aabbbbbb"),
    ],
)
def test_turns_of_each_schedule(args, expected):
    assert turns(*args) == expected


def test_slow_changes_after_500_steps():
    """The paper's slow scheme."""
    alternation = Alternation("slow")
    changes = [s for s in range(1, 2001) if alternation.turn(s) != alternation.turn(s - 1)]
    assert changes == [500, 1000, 1500, 2000]
    assert alternation.turn(0) == "segmenter"


@all_alternations
def test_updates_are_the_turns_counted(alternation):
    counted = {"segmenter": 0, "adversary": 0}
    for step in range(STEPS):
        assert alternation.updates(step) == counted
        for player in PLAYERS[alternation.turn(step)]:
            counted[player] += 1


@all_alternations
def test_steps_are_the_fewest_that_hold_the_updates(alternation):
    for updates in range(STEPS // 4):
        enough = (s for s in itertools.count() if alternation.updates(s)["segmenter"] >= updates)
        assert alternation.steps(updates) == next(enough)


@all_alternations
def test_last_step_of_a_budget_updates_the_segmenter(alternation):
    for updates in range(1, STEPS // 4):
        steps = alternation.steps(updates)
        assert "segmenter" in PLAYERS[alternation.turn(steps - 1)]
        assert alternation.updates(steps)["segmenter"] == updates


@all_alternations
def test_each_step_takes_the_next_batch_of_one_stream(alternation):
    taken = {"segmenter": 0, "adversary": 0}
    for step in range(STEPS):
        assert alternation.batches(step) == taken
        # Batch u of the segmenter's stream goes to its update u, whatever the schedule.
        trains_segmenter = "segmenter" in PLAYERS[alternation.turn(step)]
        if trains_segmenter:
            assert taken["segmenter"] == alternation.updates(step)["segmenter"]
        taken["segmenter" if trains_segmenter else "adversary"] += 1


def test_nobody_waits_in_a_simultaneous_turn():
    assert PLAYERS["both"] == ("segmenter", "adversary")
    assert PLAYERS["segmenter"] == PLAYERS["standard"] == ("segmenter",)
    assert PLAYERS["adversary"] == ("adversary",)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("slowly",), "'slowly' is none of standard, simultaneous, fast, slow"),
        (("slow", 0), "period is 0: set it to 1 or more"),
        (("fast", 1, -1), "pretrain is -1: set it to 0 or more"),
        (("standard", 1, 5), "pretrain is 5, .* no adversary to pre-train: set it to 0, or"),
    ],
)
def test_wrong_values_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        Alternation(*args)
