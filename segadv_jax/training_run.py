"""A training run at work: its batches, its validations, why and how it ends."""

import dataclasses
import signal
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segadv_jax import devices, experiment, streams, visualize, watcher
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.experiment import Experiment
from segadv_jax.game import Metrics
from segadv_jax.journal import VALIDATION, Journal
from segadv_jax.metrics.names import SELECTING
from segadv_jax.train_state import TrainState, evaluated
from segadv_jax.validation import Validator
from segadv_jax.watcher import Watcher
from segadv_jax.workdir import GAME, PATIENCE, UPDATES, End, Workdir

# A batch, the parts of its key (`devices.keyed`), the segmenter's updates before it.
Inputs: TypeAlias = tuple[dict[str, Any], tuple[jax.Array, jax.Array], jax.Array]
AHEAD = 1  # So many batches are on the devices, or on their way there, before their turn.


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A run at work."""

    config: ConfigDict
    workdir: Workdir
    experiment: Experiment
    start: int  # The step at which it begins or is resumed,
    total: int  # and that at which it ends.
    updates_per_epoch: int  # Of the segmenter.
    batches: dict[str, Iterator[dict[str, Any]]]  # Each player's, from `start` on.
    keys: dict[str, jax.Array]  # Each player's, as data, on all devices.
    train_step: Callable  # Over all devices, of a state, `Inputs` and a turn.
    validator: Validator
    checkpoints: Checkpoints
    journal: Journal
    watcher: Watcher
    skipped: Collection[int]  # The steps, counted from 1, that are left out.
    caught: list[int]  # The signals caught so far.

    def updates(self, step: int) -> int:
        """The segmenter's updates before `step`."""
        return self.experiment.alternation.updates(step)[SEGMENTER]

    def inputs(self) -> Iterator[Inputs]:
        """`next_inputs` of each step to the end, on their way to the devices one step ahead."""
        return streams.ahead(map(self.next_inputs, range(self.start, self.total)), AHEAD)

    def next_inputs(self, step: int) -> Inputs:
        """What `train_step` takes at `step`, on the devices.

        Each player has its own batches and keys: what the segmenter sees at its update u depends on
        u alone.
        """
        turns = self.experiment.alternation
        player = ADVERSARY if turns.turn(step) == "adversary" else SEGMENTER
        batch = devices.shard(next(self.batches[player]))
        numbers = np.int32(turns.batches(step)[player]), np.int32(self.updates(step))
        placed: Any = devices.replicate(numbers)
        return batch, (self.keys[player], placed[0]), placed[1]

    def position(self, after: int) -> dict[str, float]:
        """Where the run is after a step, as its history and its events say it."""
        updates = self.updates(after)
        epoch = updates / self.updates_per_epoch
        return {"step": after, "segmenter_updates": updates, "epoch": epoch}

    def is_validation(self, after: int) -> bool:
        """Whether a validation is due after a step: it has completed so many updates."""
        updates = self.updates(after)
        return updates > self.updates(after - 1) and updates % self.config.evaluate.every == 0

    def validate(self, state: TrainState, metrics: Metrics, after: int) -> None:
        """Measures the segmenter, adds to the history and saves a checkpoint.

        Raises:
            soundness.UnsoundError: the step was not sound; then nothing is saved.
        """
        self.journal.check()
        with self.journal.pause():
            self._validate(state, metrics, after)

    def _validate(self, state, metrics, after):
        updates, params = self.updates(after), evaluated(state)
        with self.journal.compiling(VALIDATION):
            measures, pictures = self.validator.measure(params)
        if jax.process_index() == 0:
            found = jax.device_get(metrics)
            game = {name: float(found[name]) for name in GAME if name in found}
            game |= watcher.adversary_loss(found)
            row = self.position(after) | measures | game
            self.workdir.add_validation(row)
            self.watcher.look(row, self.journal.recent())
            path = self.workdir.picture_path(updates)
            beside = path.with_stem(f"{path.stem}_probabilities")
            visualize.save_png(pictures["predictions"], path)
            visualize.save_png(pictures["probabilities"], beside)
        self.journal.add_validation(measures, pictures["predictions"], updates)
        selecting = self.config.evaluate.select
        order = sorted(SELECTING, key=lambda measure: measure != selecting)  # It comes first.
        values = {measure: measures[f"validation_{measure}"] for measure in order}
        scores = {measure: value for measure, value in values.items() if value is not None}
        self.checkpoints.save(state, after, scores or None)

    def has_waited_in_vain(self, step: int) -> bool:
        """Whether the best validation lies too far back; all processes know it alike.

        Before all terms of the loss have begun nothing is in vain: it would be another experiment.
        """
        patience = self.config.train.patience * self.config.evaluate.every
        best = self.checkpoints.best_step() if patience else None
        if best is None:
            return False
        since = max(self.updates(best), experiment.begun(self.config))
        return self.updates(step) - since >= patience

    def stop_requested(self, after: int) -> int:
        """The signal that asks to stop, or 0; all processes agree on the step."""
        if jax.process_count() > 1:  # Through JAX's preemption service.
            return signal.SIGTERM if self.checkpoints.reached_preemption(after) else 0
        return self.caught[0] if self.caught else 0

    def end(self, reason: str) -> None:
        """Marks the run as ended, once all is written, and says so."""
        self.checkpoints.wait()
        step, best = self.checkpoints.latest_step(), self.checkpoints.best_step()
        if jax.process_index() == 0:
            self.workdir.mark_ended(End(reason, step or 0, best))
        updates = self.updates(step or 0)
        if step == self.start:
            what = "training has ended already after %d updates; to go on, raise config.train.%s"
            logging.info(what, updates, reason)
            return
        why = {UPDATES: "all are done", PATIENCE: "the validation no longer improves"}[reason]
        found = f"; the best validation was at update {self.updates(best)}" if best else ""
        left_out = f"; {len(self.skipped)} steps were left out" if self.skipped else ""
        logging.info("training ended after %d updates: %s%s%s", updates, why, found, left_out)
