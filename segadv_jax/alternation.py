"""Whose turn it is: the schedules of Section 4 as functions of the step, and their inverse.

A run counts everything, epochs and validations too, in updates of the *segmenter*; the adversary's
own turns come on top. That makes arms comparable.
"""

import dataclasses

from segadv_jax import limits

SEGMENTER, ADVERSARY = "segmenter", "adversary"
# The players that each turn updates. A "standard" turn does not even evaluate the adversary.
PLAYERS: dict[str, tuple[str, ...]] = {
    "standard": (SEGMENTER,),
    "segmenter": (SEGMENTER,),
    "adversary": (ADVERSARY,),
    "both": (SEGMENTER, ADVERSARY),
}
SCHEDULES = ("standard", "simultaneous", "fast", "slow")


@dataclasses.dataclass(frozen=True)
class Alternation:
    """A schedule of turns.

    "standard" is cross-entropy only, "simultaneous" both at every step; in "fast" segmenter and
    adversary take turns at every step, in "slow" every `period` steps. These two begin with the
    segmenter, which the paper names first.
    """

    schedule: str
    period: int = 500  # Steps of each player before the other's turn, in the paper's slow scheme.
    pretrain: int = 0  # Adversary-only steps before the first turn (the paper's pre-training).

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        limits.check("period", self.period, limits.COUNT)
        limits.check("pretrain", self.pretrain, limits.COUNT_OR_NONE)
        if self.schedule == "standard" and self.pretrain:
            raise ValueError(
                f"pretrain is {self.pretrain}, but the schedule 'standard' has no adversary to "
                "pre-train: set it to 0, or choose another schedule"
            )

    @property
    def _length(self) -> int:
        """Steps of one player in a row."""
        return self.period if self.schedule == "slow" else 1

    def turn(self, step: int) -> str:
        """The turn of step `step`, counted from 0."""
        if step < self.pretrain:
            return "adversary"
        if self.schedule == "standard":
            return "standard"
        if self.schedule == "simultaneous":
            return "both"
        return ADVERSARY if (step - self.pretrain) // self._length % 2 else SEGMENTER

    def updates(self, step: int) -> dict[str, int]:
        """Each player's updates before `step`."""
        pretrained, step = min(step, self.pretrain), max(step - self.pretrain, 0)
        if self.schedule == "standard":
            return {SEGMENTER: step, ADVERSARY: 0}
        if self.schedule == "simultaneous":
            return {SEGMENTER: step, ADVERSARY: pretrained + step}
        rounds, rest = divmod(step, 2 * self._length)
        segmenter = rounds * self._length + min(rest, self._length)
        return {SEGMENTER: segmenter, ADVERSARY: pretrained + step - segmenter}

    def batches(self, step: int) -> dict[str, int]:
        """How many batches each player's stream has given before `step`.

        A step that updates the segmenter takes the segmenter's next batch, an adversary-only step
        the adversary's. What the segmenter sees at its u-th update depends on u alone.
        """
        segmenter = self.updates(step)[SEGMENTER]
        return {SEGMENTER: segmenter, ADVERSARY: step - segmenter}

    def steps(self, segmenter_updates: int) -> int:
        """The least number of steps in which the segmenter is updated this many times."""
        if segmenter_updates == 0:
            return 0
        steps = self.pretrain + segmenter_updates
        if self.schedule in ("fast", "slow"):
            steps += (segmenter_updates - 1) // self._length * self._length
        return steps
