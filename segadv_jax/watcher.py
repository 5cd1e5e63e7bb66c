"""The watcher: warns of a game that goes wrong while it is trained, once of each thing.

What it looks for is in `health.py`.
"""

from collections.abc import Mapping
from typing import Any

from absl import logging

from segadv_jax import health
from segadv_jax.workdir import ADVERSARY_LOSS, RIGHT, Workdir


def adversary_loss(metrics: Mapping[str, Any]) -> dict[str, float]:
    """{"adversary_loss": the two terms of Eq. 2}, of the metrics of a step that has both."""
    of_both = {name for name in metrics if name.endswith(("_real", "_synthetic"))}
    terms = [float(metrics[name]) for name in of_both.difference(RIGHT)]
    return {ADVERSARY_LOSS: sum(terms)} if len(terms) == 2 else {}


class Watcher:
    """Looks at a run after each validation.

    Args:
        workdir: of the run, in which the warnings are recorded.
        game: the adversary's loss, `config.loss.game`.
        begun: after so many updates the adversarial term has all its weight.
        updates: of the segmenter; what was warned of later is forgotten, as the run comes by again.
    """

    def __init__(self, workdir: Workdir, game: str, begun: int, updates: int):
        self._workdir, self._of_game = workdir, (game, begun)
        self._watched = [each for each in workdir.watched() if each["segmenter_updates"] <= updates]
        beside = {each["segmenter_updates"]: each for each in self._watched}
        rows = workdir.history()
        self._history = [beside.get(int(row["segmenter_updates"]), {}) | row for row in rows]
        self._warned = [each for each in workdir.warnings() if each["segmenter_updates"] <= updates]

    def look(self, row: Mapping[str, Any], recent: Mapping[str, float]) -> None:
        """Takes in a row of the history, and warns of what is new.

        Args:
            row: as it was written, None where nothing was measured.
            recent: metrics of the adversary, means over its last turns; they stand in where the row
                lacks them, as it does when the players take turns.
        """
        known = {name: recent[name] for name in RIGHT if name in recent} | adversary_loss(recent)
        measured = {name: value for name, value in row.items() if value is not None}
        updates = int(measured["segmenter_updates"])
        if beside := {name: known[name] for name in known.keys() - measured.keys()}:
            self._watched.append({"segmenter_updates": updates} | beside)
            self._workdir.write_watched(self._watched)
        self._history.append(known | measured)
        for finding in health.watch(self._history, *self._of_game):
            if finding.kind in (each["kind"] for each in self._warned):
                continue
            logging.warning("at update %d: %s", updates, finding.text)
            new = {"segmenter_updates": updates, "kind": finding.kind, "text": finding.text}
            self._warned.append(new)
            self._workdir.write_warnings(self._warned)
