"""The health of a training run, read out of its history in plain words.

A history is that of `Workdir.history()`: a row per validation, the oldest first, what was not
measured left out. Fractions are 0 to 1. Each condition is a function of its own. `read` says what
there is to say about a whole run, `watch` what one is to be warned of while it is trained.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segadv_jax.metrics.names import percent, title
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
FEWEST = 4  # Validations below which a curve has no shape.
# The adversary's loss, both terms, if it answers one half to everything.
CHANCE = {"bce": 2 * math.log(2), "hinge": 2.0, "least_squares": 1.0}
# A loss below the first part of that has learned; one above the second is not at it.
LEARNED, FAR = 0.98, 1.1
HOPELESS = 50.0  # Nats; of C classes a guess has ln C, 3 of 21.


class Finding(NamedTuple):
    """What there is to say, and whether it is a reason to change something."""

    kind: str
    text: str
    alarm: bool = False


_NEVER_LEARNED = Finding(
    "never learned",
    "The adversary has never learned: its loss is that of answering one half to everything, and "
    "was never lower. Raise its learning rate, or train it alone first "
    "(config.alternation.pretrain).",
    True,
)
_SATURATING = Finding(
    "saturating",
    "Predictions become more certain and the cross-entropy on validation images rises, while the "
    "mean IoU does not: the segmenter is sharpened, not improved.",
    True,
)


_RUINED = Finding(
    "ruined",
    "The cross-entropy on validation images is many times that of a guess: the segmenter is sure "
    "of what is wrong. A lower config.optimizer.segmenter.learning_rate or its clip would help.",
    True,
)


def read(
    history: History,
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None = None,
    ended: bool = False,
) -> list[Finding]:
    """What a history says about a run: about the game first, then about learning.

    Args:
        history: of the run.
        config: as the run recorded it.
        evaluation: of the run on some split, if there is one: it has the adversary's accuracies
            on both maps, which the schedules "fast" and "slow" leave out of the history.
        ended: whether training is known to have ended, if before all updates of `config`.
    """
    if not history:
        return [Finding("empty", "No validation has been recorded yet.")]
    updates = int(history[-1].get("segmenter_updates", 0))
    if config["alternation"]["schedule"] == "standard":
        findings = [Finding("no game", "Trained without an adversary: there is no game to read.")]
    else:
        loss = config["loss"]
        begun = loss.get("start", 0) + loss.get("ramp", 0)
        findings = _of_game(history, evaluation or {}, begun, loss.get("game", "bce"))
    select = config.get("evaluate", {}).get("select", "mean_iou")
    unfinished = not ended and updates < config["train"]["updates"]
    return findings + _of_learning(history, unfinished, select)


def watch(history: History, game: str = "bce", begun: int = 0) -> list[Finding]:
    """What to warn of while a run is trained; nothing before it was seen in `RECENT` validations.

    Args:
        history: so far; accuracies may be means over more than the step of the validation.
        game: the adversary's loss, see `losses.Objective`.
        begun: after so many updates the adversarial term has all its weight.
    """
    findings = []
    rows = played(history, begun)
    ratio = gradient_ratio(rows) if len(_with_gradients(rows)) >= RECENT else None
    real, synthetic = _accuracies(history, {})
    known = all(len(_of(history, name)) >= RECENT for name in RIGHT)
    if known and real is not None and synthetic is not None:
        findings.append(_standing(real, synthetic, ratio))
    if has_never_learned(history, game):
        findings.append(_NEVER_LEARNED)
    if ratio is not None and ratio > STRONG:
        findings.append(_push(ratio))
    if is_saturating(history):
        findings.append(_SATURATING)
    if is_ruined(history):
        findings.append(_RUINED)
    return [finding for finding in findings if finding.alarm]


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
        for row in _with_gradients(history)[-RECENT:]
    ]
    return statistics.mean(ratios) if ratios else None


def _with_gradients(history):
    return [row for row in history if row.get("grad_norm_mce") and "grad_norm_adversarial" in row]


def has_never_learned(history: History, game: str = "bce") -> bool:
    """Whether the adversary's loss is that of an answer of one half, and never was any lower.

    A fooled adversary has the same loss in the end (Goodfellow et al., NIPS 2014, Section 4.1), but
    had a lower one before. Losses that are sums, with `loss.reduction`, are not recognised.
    """
    losses = _of(history, ADVERSARY_LOSS)
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
    losses = _of(history, "validation_mce")[-RECENT:]
    return len(losses) == RECENT and min(losses) > HOPELESS


def gap(history: History) -> float | None:
    """The mean IoU on training images less that on validation images, at the last validation."""
    last = history[-1]
    if "train_mean_iou" not in last or "validation_mean_iou" not in last:
        return None
    return last["train_mean_iou"] - last["validation_mean_iou"]


def gained_lately(history: History) -> float | None:
    """The mean IoU on validation images gained over the last quarter of the validations."""
    values = _of(history, "validation_mean_iou")
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


def _of(history: History, name: str) -> list[float]:
    return [row[name] for row in history if name in row]


def _accuracies(history: History, evaluation: Mapping[str, Any]) -> tuple[float | None, ...]:
    """How often the adversary is right on real and on synthetic maps, as far as that is known."""
    recent = [_of(history, name)[-RECENT:] for name in RIGHT]
    if all(recent):
        return tuple(map(statistics.mean, recent))
    if all(evaluation.get(name) is not None for name in RIGHT):
        return tuple(evaluation[name] for name in RIGHT)
    return tuple(statistics.mean(values) if values else None for values in recent)


def _of_game(
    history: History, evaluation: Mapping[str, Any], begun: int, game: str
) -> list[Finding]:
    findings = []
    real, synthetic = _accuracies(history, evaluation)
    rows = played(history, begun)
    ratio = gradient_ratio(rows)
    if synthetic is None:
        findings.append(Finding("unknown game", "The adversary's accuracies were not recorded."))
    elif real is None:
        text = (
            f"The adversary recognises {percent(synthetic, '.0f')} % of the predictions. What it "
            "says of the ground truth is not in the history under this schedule; an evaluation of "
            "the run measures both."
        )
        findings.append(Finding("half known game", text))
    else:
        findings.append(_standing(real, synthetic, ratio))
    if has_never_learned(history, game):
        findings.append(_NEVER_LEARNED)
    if not rows:
        text = "The adversarial term does not have all its weight yet (config.loss.start and ramp)."
        findings.append(Finding("not begun", text))
    elif ratio is not None:
        findings.append(_push(ratio))
    return findings


def _push(ratio: float) -> Finding:
    """The sentence about how hard the adversarial term pulls, of `gradient_ratio`."""
    share = f"{100 * ratio:.2g} % of" if ratio < STRONG else f"{ratio:.1f} times"
    said = f"The adversarial term's gradient is {share} that of the segmenter's own loss"
    if ratio < 1:
        said = f"{said} at the label map"
    if ratio < WEAK:
        text = f"{said}: it hardly moves the segmenter. A larger config.loss.lam would."
        return Finding("weak", text, True)
    if ratio > STRONG:
        text = f"{said}: it outweighs what is right. A smaller config.loss.lam would mend that."
        return Finding("strong", text, True)
    return Finding("gradient", f"{said}: it has a say, and does not outweigh it.")


def _standing(real: float, synthetic: float, ratio: float | None) -> Finding:
    """The sentence about who leads."""
    state = state_of_game(real, synthetic, ratio)
    figures = f"right on {percent(real, '.0f')} % of the ground truth and on "
    figures += f"{percent(synthetic, '.0f')} % of the predictions"
    if state == "won":
        text = (
            f"The adversary has won: it is {figures}, and its gradient says next to nothing about "
            "what would look real. Make it slower (its learning rate), smaller or noisier "
            "(config.loss.noise, config.loss.smoothing)."
        )
        return Finding(state, text, True)
    if state == "ahead":
        gradient = "is not known" if ratio is None else "is alive"
        return Finding(state, f"The adversary is ahead: it is {figures}. Its gradient {gradient}.")
    if state.startswith("constant"):
        answer = state.removeprefix("constant ")
        text = (
            f"The adversary gives a constant answer, {answer}: it is {figures}. It has not learned "
            "to tell them apart. Train it longer alone (config.alternation.pretrain) or change its "
            "learning rate."
        )
        return Finding(state, text, True)
    if state.startswith("leaning"):
        answer = state.removeprefix("leaning ")
        text = (
            f"The adversary answers {answer} most of the time, whatever it is shown: it is "
            f"{figures}. If that lasts, it has not learned to tell them apart."
        )
        return Finding(state, text)
    if state == "even":
        text = (
            f"The adversary is fooled about half of the time, {figures}: the two players are in "
            "balance, which is what the game aims at, or the adversary has learned little; its "
            "curve tells which."
        )
        return Finding(state, text)
    return Finding(state, f"The game is alive: the adversary is {figures}.")


def _of_learning(history: History, unfinished: bool, select: str) -> list[Finding]:
    findings = []
    if unfinished:
        findings.append(Finding("unfinished", "Not all updates are done: this is how far it got."))
    if is_saturating(history):
        findings.append(_SATURATING)
    if is_ruined(history):
        findings.append(_RUINED)
    between = gap(history)
    if between is not None and between > GAP:
        text = (
            f"It overfits: the mean IoU is {percent(between)} points higher on training images "
            "than on validation images. More augmentation, more images or fewer updates help."
        )
        findings.append(Finding("overfitting", text, True))
    gained = gained_lately(history)
    if has_fallen(history, select):
        top, last, name = best(history, select), history[-1], f"validation_{select}"
        assert top is not None
        text = (
            f"The best validation was at update {top['segmenter_updates']:.0f} of "
            f"{last['segmenter_updates']:.0f} ({title(select)} {percent(top[name])} %, "
            f"{percent(last[name])} % at the end): the rest was in vain. The checkpoint of the "
            "best is the one that is evaluated."
        )
        findings.append(Finding("best long ago", text, True))
    elif gained is not None and gained > STILL_RISING:
        text = (
            f"The mean IoU on validation images still rises, by {percent(gained)} points lately: "
            "more updates would help."
        )
        findings.append(Finding("still rising", text, True))
    elif not any(finding.alarm for finding in findings) and len(history) >= FEWEST:
        findings.append(Finding("converged", "The mean IoU on validation images has levelled off."))
    return findings
