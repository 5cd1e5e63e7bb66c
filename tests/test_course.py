"""How training went, from the histories of paired runs."""

import pytest

from segadv_jax.report import course


def row(arm, seed, updates, **values):
    known = dict.fromkeys(course.COLUMNS) | {"epoch": updates / 100}
    return known | {"arm": arm, "seed": seed, "segmenter_updates": updates} | values


def both(arm, seed, updates, train, validation):
    values = {"train_mean_iou": train, "validation_mean_iou": validation}
    return row(arm, seed, updates, **values)


ROWS = [both("one", seed, 100, 0.5, 0.4 + seed / 10) for seed in range(3)]
ROWS += [both("one", seed, 200, 0.7, 0.5) for seed in range(2)]
ROWS += [both("one", 0, 300, 0.9, 0.1)]


def test_means_end_where_most_seeds_do():
    found = [(arm, updates, len(part)) for arm, updates, part in course.by_update(ROWS, ["one"])]
    assert found == [("one", 100, 3), ("one", 200, 2)]
    histories = course.histories(ROWS, ["one", "nobody"])
    assert [[r["segmenter_updates"] for r in seed] for seed in histories["one"]] == [
        *([100, 200], [100, 200], [100]),
    ]
    assert list(histories) == ["one"]


def test_the_gap_is_that_of_the_means():
    lines = course.gaps(ROWS, ["one"]).splitlines()[2:]
    assert lines == [
        "| one | 100 | 1.0 | 3 | - / - / - | 50.0 / 50.0 / 0.0 | - / - |",
        "| one | 200 | 2.0 | 2 | - / - / - | 70.0 / 50.0 / 20.0 | - / - |",
    ]


@pytest.mark.parametrize("real", [0.75, None])
def test_the_game_has_what_was_measured(real):
    rows = [row("one", 0, 100, accuracy_real=real, grad_norm_mce=0.01)]
    line = course.game(rows, ["one"]).splitlines()[2]
    assert line == f"| one | 100 | {'-' if real is None else real} | - | 0.0100 | - | - |"
