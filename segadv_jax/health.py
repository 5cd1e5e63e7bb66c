"""The health of a training run, read out of its history and evaluation in plain words.

`read` says what there is to say about a whole run, `watch` what one is to be warned of while it is
trained. The conditions are those of `conditions.py`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from segadv_jax import conditions
from segadv_jax.conditions import FEWEST, GAP, RECENT, STILL_RISING, STRONG, WEAK, History
from segadv_jax.metrics.names import percent, title
from segadv_jax.workdir import RIGHT


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
        evaluation: of the run on some split, if there is one: it has the IoU of each class, and the
            adversary's accuracies on both maps, which the schedules "fast" and "slow" leave out of
            the history.
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
    return findings + _of_learning(history, unfinished, select) + _of_classes(evaluation or {})


def watch(history: History, game: str = "bce", begun: int = 0) -> list[Finding]:
    """What to warn of while a run is trained; nothing before it was seen in `RECENT` validations.

    Args:
        history: so far; accuracies may be means over more than the step of the validation.
        game: the adversary's loss, see `losses.Objective`.
        begun: after so many updates the adversarial term has all its weight.
    """
    findings = []
    rows = conditions.played(history, begun)
    ratio = (
        conditions.gradient_ratio(rows) if len(conditions.with_gradients(rows)) >= RECENT else None
    )
    real, synthetic = conditions.accuracies(history, {})
    known = all(len(conditions.recorded(history, name)) >= RECENT for name in RIGHT)
    if known and real is not None and synthetic is not None:
        findings.append(_standing(real, synthetic, ratio))
    if conditions.has_never_learned(history, game):
        findings.append(_NEVER_LEARNED)
    if ratio is not None and ratio > STRONG:
        findings.append(_push(ratio))
    if conditions.is_saturating(history):
        findings.append(_SATURATING)
    if conditions.is_ruined(history):
        findings.append(_RUINED)
    return [finding for finding in findings if finding.alarm]


def _of_game(
    history: History, evaluation: Mapping[str, Any], begun: int, game: str
) -> list[Finding]:
    findings = []
    real, synthetic = conditions.accuracies(history, evaluation)
    rows = conditions.played(history, begun)
    ratio = conditions.gradient_ratio(rows)
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
    if conditions.has_never_learned(history, game):
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
    state = conditions.state_of_game(real, synthetic, ratio)
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


def _of_classes(evaluation: Mapping[str, Any]) -> list[Finding]:
    """The classes that the segmenter does not find; of those that do not occur nobody knows."""
    ious = evaluation.get("iou") or {}
    missed = [name for name, iou in ious.items() if iou is not None and iou < conditions.MISSED]
    if not missed:
        return []
    text = (
        f"Hardly anything is found of: {', '.join(missed)} (IoU under "
        f"{percent(conditions.MISSED, '.0f')} %). More photographs of them help, or more weight in "
        "the loss (config.loss.balance)."
    )
    return [Finding("missed classes", text, True)]


def _of_learning(history: History, unfinished: bool, select: str) -> list[Finding]:
    findings = []
    if unfinished:
        findings.append(Finding("unfinished", "Not all updates are done: this is how far it got."))
    if conditions.is_saturating(history):
        findings.append(_SATURATING)
    if conditions.is_ruined(history):
        findings.append(_RUINED)
    between = conditions.gap(history)
    if between is not None and between > GAP:
        text = (
            f"It overfits: the mean IoU is {percent(between)} points higher on training images "
            "than on validation images. More augmentation, more images or fewer updates help."
        )
        findings.append(Finding("overfitting", text, True))
    gained = conditions.gained_lately(history)
    if conditions.has_fallen(history, select):
        top, last, name = conditions.best(history, select), history[-1], f"validation_{select}"
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
