"""Means, spreads, paired differences and their intervals, by hand; tables as text."""

import json

import numpy as np
import pytest
from scipy import stats

from segadv_jax.campaign import comparison, text
from segadv_jax.metrics.names import PAPER_MEASURES


def row(arm, seed, value, split="test"):
    return {"arm": arm, "seed": seed, "split": split} | dict.fromkeys(PAPER_MEASURES, value)


def test_t_interval(monkeypatch):
    # By hand: mean 2, standard deviation 1, 2 degrees of freedom: t = 4.302653.
    interval = comparison.intervals([1.0, 2.0, 3.0])["t_interval"]
    assert interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    values = [0.3, -0.1, 0.4, 0.15, 0.8]
    monkeypatch.setattr(comparison, "CONFIDENCE", 0.9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert comparison.intervals(values)["t_interval"] == pytest.approx(expected)


def test_bootstrap_interval(monkeypatch):
    def interval_of(*values):
        return comparison.intervals(values)["bootstrap_interval"]

    values = np.array([0.3, -0.1, 0.4, 0.15, 0.8, 0.2, 0.5])
    # By the definition: the means of as many draws with replacement, and their percentiles.
    means = np.random.default_rng(5).choice(values, size=(20_000, 7)).mean(axis=1)
    interval = interval_of(*values)
    assert interval == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.01)
    assert interval == interval_of(*values)
    # Two values: the mean of both in half of the resamples, each of them in a quarter.
    assert interval_of(1.0, 3.0) == (1, 3)
    monkeypatch.setattr(comparison, "RESAMPLING_SEED", 1)
    assert interval != interval_of(*values)
    monkeypatch.setattr(comparison, "CONFIDENCE", 0.4)
    assert interval_of(1.0, 3.0) == (2, 2)


@pytest.mark.parametrize(
    ("values", "interval"), [([], None), ([0.1], None), ([0.1] * 3, (0.1, 0.1))]
)
def test_intervals_of_too_few_and_of_equal_values(values, interval):
    assert set(comparison.intervals(values).values()) == {interval}


def test_spread_of_an_arm():
    summary = comparison.spread([row("a", 3, 0.2), row("a", 1, 0.6), row("a", 2, None)])
    assert summary["split"] == "test" and summary["seeds"] == [1, 2, 3]
    assert summary["mean_iou"] == pytest.approx({"mean": 0.4, "std": 0.08**0.5})


def test_pairs_are_of_one_seed_and_split():
    rows = [row("a", 0, 0.5), row("b", 0, 0.25), row("a", 1, 0.75), row("b", 1, 0.25)]
    rows += [row("a", 2, 0.9), row("b", 3, 0.9), row("c", 2, 0.1)]
    rows += [row("a", 4, 0.9), row("b", 4, 0.1, "validation"), row("a", 5, None), row("b", 5, 0.5)]
    result = comparison.compare(rows, "a", "b")
    assert result["arms"] == ["a", "b"] and result["seeds"] == [0, 1, 5]
    assert result["mean_iou"]["differences"] == {0: 0.25, 1: 0.5}
    assert result["mean_iou"]["mean"] == 0.375
    # By hand: the standard error is 0.125, and t = 12.7062 with one degree of freedom.
    interval = pytest.approx((0.375 - 0.125 * 12.7062, 0.375 + 0.125 * 12.7062), rel=1e-5)
    assert result["mean_iou"]["t_interval"] == interval
    assert result["mean_iou"]["bootstrap_interval"] == (0.25, 0.5)


def lines_of(rows, arms, pairs):
    summary = comparison.summarize(rows, arms, pairs)
    json.dumps(summary, allow_nan=False)
    return comparison.table(summary).splitlines()


def test_table_in_percent():
    rows = [row("a", 0, 0.5), row("b", 0, 0.25), row("a", 1, 0.75), row("b", 1, 0.25)]
    lines = lines_of(rows, ["a", "b"], [("a", "b")])
    assert lines[0].split()[-6:] == ["class", "accuracy", "pixel", "accuracy", "mean", "IoU"]
    assert lines[1].split() == ["a", "test", "2", *["62.50", "+-", "17.68"] * 3]
    assert lines[2].split() == ["b", "test", "2", *["25.00", "+-", "0.00"] * 3]
    text = "\n".join(lines[3:])
    assert "a - b" in text and "0: +25.00, 1: +50.00" in text
    assert text.count("+37.50") == 3
    assert text.count("-121.33 to +196.33") == 3 and text.count("+25.00 to +50.00") == 3
    assert "percentiles of 10,000 resamples, seed 0" in lines[-1]


@pytest.mark.parametrize("seeds", [0, 1])
def test_table_of_too_few_seeds_has_dashes(seeds):
    rows = [row(arm, seed, 0.5) for arm in "ab" for seed in range(seeds)]
    lines = lines_of(rows, ["a", "b"], [("a", "b")])
    cells = ["50.00", "+-", "-"] if seeds else ["-", "+-", "-"]
    assert lines[1].split() == ["a", "test" if seeds else "-", str(seeds), *cells * 3]
    student = next(line for line in lines if "Student" in line)
    assert student.split()[-3:] == ["-", "-", "-"]
    assert "nan" not in "".join(lines)


def test_text_is_aligned():
    rows = [("name", "on", "n"), ("a", "split", "10"), (), ("a line of its own",), ("bcdef", "")]
    assert text.table(rows, left=2).splitlines() == [
        "name   on      n",
        "a      split  10",
        "",
        "a line of its own",
        "bcdef",
    ]
    assert text.table([]) == ""


def test_student_s_test():
    # By hand: mean 2, standard error 1 / sqrt(3), and with two degrees of freedom
    # p = 1 - t / sqrt(t^2 + 2), t = 2 sqrt(3).
    test = comparison.t_test([1.0, 2.0, 3.0])
    assert test["p"] == pytest.approx(1 - 12**0.5 / 14**0.5)
    assert test["t_interval"] == pytest.approx(comparison.intervals([1.0, 2.0, 3.0])["t_interval"])
    assert comparison.t_test([-1.0, -2.0, -3.0])["p"] == pytest.approx(test["p"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {"t_interval": None, "p": None}),
        ([0.1], {"t_interval": None, "p": None}),
        ([0.1, 0.1], {"t_interval": (0.1, 0.1), "p": 0.0}),
        ([0.0, 0.0], {"t_interval": (0.0, 0.0), "p": 1.0}),
    ],
)
def test_student_s_test_of_too_few_and_of_equal_values(values, expected):
    assert comparison.t_test(values) == expected


def test_holm_s_correction():
    # By hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 which may not be below the one before it.
    assert comparison.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm([0.6, 0.9]) == [1.0, 1.0]
    # What is not known counts.
    assert comparison.holm([None, 0.01, None]) == [None, 0.03, None]
    assert comparison.holm([]) == []
