"""Whose turn it is: the schedules of Section 4 as functions of the step, and their inverse.

Everything that is counted in a run, epochs and validations among it, is counted in updates of the
*segmenter*; the adversary's own turns come on top. That makes arms comparable.
"""

import dataclasses

SEGMENTER, ADVERSARY = "segmenter", "adversary"
# The players that each turn updates. A "standard" turn does not even evaluate the adversary.
PLAYERS = {
    "standard": (SEGMENTER,),
    "segmenter": (SEGMENTER,),
    "adversary": (ADVERSARY,),
    "both": (SEGMENTER, ADVERSARY),
}
SCHEDULES = ("standard", "simultaneous", "fast", "slow")


@dataclasses.dataclass(frozen=True)
class Alternation:
    """A schedule of turns.

    Attributes:
      schedule: "standard" (cross-entropy only), "simultaneous" (both at every step), "fast"
        (segmenter and adversary take turns at every step) or "slow" (they change after ``period``
        steps each). Both alternating ones begin with the segmenter, in the order in which the paper
        names them.
      period: steps of each player before the other's turn; the paper's slow scheme has 500.
      pretrain: adversary-only steps before the first turn (the paper's pre-training).
    """

    schedule: str
    period: int = 500
    pretrain: int = 0

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        if self.period < 1:
            raise ValueError(f"period is {self.period}: set it to 1 or more")
        if self.pretrain < 0:
            raise ValueError(f"pretrain is {self.pretrain}: set it to 0 or more")
        if self.schedule == "standard" and self.pretrain:
            raise ValueError("the standard schedule has no adversary to pre-train")

    @property
    def _length(self):
        """Steps of one player in a row."""
        return self.period if self.schedule == "slow" else 1

    def turn(self, step):
        """The turn of step ``step`` >= 0: "standard", "segmenter", "adversary" or "both"."""
        if step < self.pretrain:
            return "adversary"
        if self.schedule == "standard":
            return "standard"
        if self.schedule == "simultaneous":
            return "both"
        return (SEGMENTER, ADVERSARY)[(step - self.pretrain) // self._length % 2]

    def updates(self, step):
        """Each player's updates before ``step``: {"segmenter": int, "adversary": int}."""
        pretrained, step = min(step, self.pretrain), max(step - self.pretrain, 0)
        if self.schedule == "standard":
            return {SEGMENTER: step, ADVERSARY: 0}
        if self.schedule == "simultaneous":
            return {SEGMENTER: step, ADVERSARY: pretrained + step}
        rounds, rest = divmod(step, 2 * self._length)
        segmenter = rounds * self._length + min(rest, self._length)
        return {SEGMENTER: segmenter, ADVERSARY: pretrained + step - segmenter}

    def batches(self, step):
        """How many batches each player's stream has given before ``step``.

        A step that updates the segmenter takes the segmenter's next batch, an adversary-only step
        the adversary's: what the segmenter sees at its u-th update depends on u alone.
        """
        segmenter = self.updates(step)[SEGMENTER]
        return {SEGMENTER: segmenter, ADVERSARY: step - segmenter}

    def steps(self, segmenter_updates):
        """The fewest steps that hold this many updates of the segmenter."""
        if segmenter_updates == 0:
            return 0
        steps = self.pretrain + segmenter_updates
        if self.schedule in ("fast", "slow"):
            steps += (segmenter_updates - 1) // self._length * self._length
        return steps
