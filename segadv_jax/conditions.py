"""What can be the matter with a training run: conditions of its history, a function each.

A history is that of `Workdir.history()`: a row per validation, the oldest first, what was not
measured left out. Fractions are 0 to 1. What is said of them is in `health.py`.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from segadv_jax.workdir import ADVERSARY_LOSS, RIGHT

Row = Mapping[str, float]
History = Sequence[Row]

RECENT = 3  # Accuracies and gradients are of single batches: so many validations are averaged.
NEARLY_ALWAYS, HARDLY_EVER = 0.97, 0.03  # How often the adversary is right.
EVEN = (0.4, 0.6)  # About half, over both maps.
LOPSIDED = 0.5  # So far apart on both maps, and right about half of the time: it does not look.
WEAK, STRONG = 0.01, 1.0  # Gradient of the adversarial term, as a part of that of the own loss.
GAP = 0.10  # Mean IoU on training images above that on validation images.
MARGIN = 0.002  # Changes of mean IoU below it are noise.
STILL_RISING = 0.005  # Mean IoU gained over the last quarter.
FALLEN = 0.01  # Lost since the best validation, of the measure that selects.
MISSED = 0.01  # IoU of a class of which hardly anything is found.
FEWEST = 4  # Validations below which a curve has no shape.
# The adversary's loss, both terms, if it answers one half to everything.
CHANCE = {"bce": 2 * math.log(2), "hinge": 2.0, "least_squares": 1.0}
# A loss below the first part of that has learned; one above the second is not at it.
LEARNED, FAR = 0.98, 1.1
HOPELESS = 50.0  # Nats; of C classes a guess has ln C, 3 of 21.


def played(history: History, begun: int) -> list[Row]:
    """The rows in which the adversarial term has all its weight, as it has after `begun` updates.

    Before, its gradient says nothing: it is 0, or smaller than it will be.
    """
    return [row for row in history if row["segmenter_updates"] > begun]


def state_of_game(real: float, synthetic: float, ratio: float | None = None) -> str:
    """Who leads: "won", "ahead", "constant ANSWER", "leaning ANSWER", "even" or "contested".

    The ANSWER is "real" or "synthetic". One that leans gives it mostly, whatever it is shown. An
    adversary that is ahead is nearly always right, but its gradient still says what to change: the
    non-saturating term of Section 3.1 is there for that. One that has won leaves no gradient, which
    must be known.

    Args:
        real, synthetic: how often the adversary is right on ground truth and on predictions.
        ratio: of `gradient_ratio`; None if it is not known.
    """
    if min(real, synthetic) >= NEARLY_ALWAYS:
        return "won" if ratio is not None and ratio < WEAK else "ahead"
    if real >= NEARLY_ALWAYS and synthetic <= HARDLY_EVER:
        return "constant real"
    if synthetic >= NEARLY_ALWAYS and real <= HARDLY_EVER:
        return "constant synthetic"
    if EVEN[0] <= (real + synthetic) / 2 <= EVEN[1]:
        if abs(real - synthetic) > LOPSIDED:
            return "leaning real" if real > synthetic else "leaning synthetic"
        return "even"
    return "contested"


def gradient_ratio(history: History) -> float | None:
    """The norm of the adversarial term's gradient, times lambda, by that of the own loss.

    That is all that the segmenter minimises beside it, `losses.Objective.own_terms`.
    """
    ratios = [
        row["grad_norm_adversarial"] / row["grad_norm_mce"]
        for row in with_gradients(history)[-RECENT:]
    ]
    return statistics.mean(ratios) if ratios else None


def with_gradients(history: History) -> list[Row]:
    """The rows that have the norms of both gradients, that of the own loss not 0."""
    return [row for row in history if row.get("grad_norm_mce") and "grad_norm_adversarial" in row]


def has_never_learned(history: History, game: str = "bce") -> bool:
    """Whether the adversary's loss is that of an answer of one half, and never was any lower.

    A fooled adversary has the same loss in the end (Goodfellow et al., NIPS 2014, Section 4.1), but
    had a lower one before. Losses that are sums, with `loss.reduction`, are not recognised.
    """
    losses = recorded(history, ADVERSARY_LOSS)
    if len(losses) < FEWEST:
        return False
    chance = CHANCE[game]
    return min(losses) >= LEARNED * chance and statistics.mean(losses[-RECENT:]) <= FAR * chance


def is_saturating(history: History) -> bool:
    """Whether it becomes more certain and more wrong at once, and the mean IoU does not rise."""
    needed = ("validation_certainty", "validation_mce", "validation_mean_iou")
    rows = [row for row in history if all(name in row for name in needed)]
    if len(rows) < FEWEST:
        return False
    last, before = rows[-1], min(rows[:-1], key=lambda row: row["validation_mce"])
    return (
        last["validation_certainty"] > before["validation_certainty"] + 0.01
        and last["validation_mce"] > 1.05 * before["validation_mce"]
        and last["validation_mean_iou"] < before["validation_mean_iou"] + MARGIN
    )


def is_ruined(history: History) -> bool:
    """Whether the cross-entropy on validation images stays where no probability is left."""
    losses = recorded(history, "validation_mce")[-RECENT:]
    return len(losses) == RECENT and min(losses) > HOPELESS


def gap(history: History) -> float | None:
    """The mean IoU on training images less that on validation images, at the last validation."""
    last = history[-1]
    if "train_mean_iou" not in last or "validation_mean_iou" not in last:
        return None
    return last["train_mean_iou"] - last["validation_mean_iou"]


def gained_lately(history: History) -> float | None:
    """The mean IoU on validation images gained over the last quarter of the validations."""
    values = recorded(history, "validation_mean_iou")
    if len(values) < FEWEST:
        return None
    # Of two means of neighbours: one lucky validation is no rise.
    quarter = max(1, len(values) // 4)
    late, before = values[-quarter:], values[-2 * quarter : -quarter]
    return statistics.mean(late) - statistics.mean(before)


def best(history: History, select: str = "mean_iou") -> Row | None:
    """The row of the highest measure on validation images, of equal ones the first.

    Args:
        history: of the run.
        select: the measure that selects the checkpoint, `config.evaluate.select`.
    """
    name = f"validation_{select}"
    return max((row for row in history if name in row), key=lambda row: row[name], default=None)


def has_fallen(history: History, select: str = "mean_iou") -> bool:
    """Whether the best validation lies in the first two thirds, and it went down since."""
    top, name = best(history, select), f"validation_{select}"
    if top is None or len(history) < FEWEST:
        return False
    last, end = history[-1].get(name), history[-1]["segmenter_updates"]
    early = top["segmenter_updates"] <= 2 / 3 * end
    return early and last is not None and top[name] - last > FALLEN


def recorded(history: History, name: str) -> list[float]:
    """A column, without the rows that lack it."""
    return [row[name] for row in history if name in row]


def accuracies(history: History, evaluation: Mapping[str, Any]) -> tuple[float | None, ...]:
    """How often the adversary is right on real and on synthetic maps, as far as that is known."""
    recent = [recorded(history, name)[-RECENT:] for name in RIGHT]
    if all(recent):
        return tuple(map(statistics.mean, recent))
    if all(evaluation.get(name) is not None for name in RIGHT):
        return tuple(evaluation[name] for name in RIGHT)
    return tuple(statistics.mean(values) if values else None for values in recent)
