"""Whole-state checkpoints: the latest, from which a run is resumed, and the best, to evaluate."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from segadv_jax import files, last_words
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import SELECTING
from segadv_jax.train_state import TrainState, evaluated, split_frozen
from segadv_jax.workdir import Workdir

# The items of a checkpoint: the segmenter as it is evaluated, and all else.
SEGMENTER, TRAINING = "segmenter", "training"


class Checkpoints:
    """The checkpoints of a run: the latest, and the best on the validation split by each measure.

    A context manager: on leaving it waits until all is written. What reads a checkpoint raises an
    InputError if it cannot be read or has other shapes.

    `to_read` leaves the folder as it is, whatever a training that still goes on is writing there.
    """

    def __init__(self, workdir: Workdir, to_read: bool = False):
        self._to_read = to_read
        # A checkpoint without metrics (of a stopped run, say) must neither be kept for ever nor be
        # deleted while it is the latest, which `max_to_keep` with `best_fn` alone does.
        bests = [
            BestN(
                get_metric_fn=functools.partial(_score, measure=measure),
                n=1,
                keep_checkpoints_without_metrics=False,
            )
            for measure in SELECTING
        ]
        policy = AnyPreservationPolicy([LatestN(1), *bests])
        # The manager reads them from the folder each time, and finds nothing while a checkpoint is
        # still being written.
        self._scores: dict[int, dict[str, float]] = {}
        self._manager = ocp.CheckpointManager(
            files.absolute(workdir.checkpoints_path),
            item_names=(SEGMENTER, TRAINING),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=None if to_read else policy,
                best_fn=_score,
                best_mode="max",
                cleanup_tmp_directories=not to_read,
                read_only=to_read,
                create=not to_read,
                save_interval_steps=0 if to_read else 1,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if jax.process_count() > 1 and last_words.lost(error):
            return  # Another process is gone, for which it would wait.
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps of all checkpoints, sorted."""
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The step of the latest checkpoint; None without any."""
        return self._manager.latest_step()

    def best_step(self, measure: str = "") -> int | None:
        """The step of the best checkpoint by a measure, by default the one that selects.

        None if none was validated by it.
        """
        found = {}
        for step in self.steps():
            metrics = self._metrics(step)
            if metrics and (not measure or measure in metrics):
                found[step] = _score(metrics, measure)
        return max(found, key=lambda step: (found[step], step)) if found else None

    def selected_by(self) -> str | None:
        """The measure that selects; None if no checkpoint was validated."""
        best = self.best_step()
        return None if best is None else next(iter(self._metrics(best)))

    def wait(self) -> None:
        """Waits until all is written."""
        self._manager.wait_until_finished()

    def reached_preemption(self, step: int) -> bool:
        """Whether the hosts have agreed to stop after `step`."""
        return self._manager.reached_preemption(step)

    def save(self, state: TrainState, step: int, scores: Mapping[str, float] | None = None) -> None:
        """Saves a state in the background, as NumPy arrays: any number of devices can resume it.

        The scores are measures of the validation split, the higher the better. The first selects,
        and is the same in all checkpoints of a run. A checkpoint that is there already is left
        alone.
        """
        if step in self._manager.all_steps():
            return
        segmenter, training = _items(jax.device_get(state))
        items = ocp.args.Composite(
            segmenter=ocp.args.StandardSave(segmenter), training=ocp.args.StandardSave(training)
        )
        metrics = None if scores is None else dict(scores)
        if metrics:
            self._scores[step] = metrics
        self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, state: TrainState, step: int) -> TrainState:
        """The whole state of `step` as NumPy arrays; `state` gives the shapes."""
        segmenter, training = _items(_empty(state))
        restored = self._read(step, {SEGMENTER: segmenter, TRAINING: training})
        training, average = restored[TRAINING], None
        segmenter, frozen = split_frozen(restored[SEGMENTER], state.frozen)
        if state.average is not None:
            segmenter, average = training["segmenter"], segmenter
        params = {"segmenter": segmenter, "adversary": training["adversary"]}
        return TrainState(training["step"], params, training["opt_state"], average, frozen)

    def restore_segmenter(self, params: Any, step: int) -> Any:
        """The segmenter as it is evaluated, with the shapes of `params`, however it was trained."""
        return self._read(step, {SEGMENTER: _empty(params)})[SEGMENTER]

    def restore_player(self, player: str, step: int) -> Any:
        """The parameters of "segmenter", as it is evaluated, or "adversary", of whatever shapes."""
        if player == "segmenter":
            return self._contents(SEGMENTER, step)
        return self._contents(TRAINING, step)[player]

    def contents(self, step: int) -> dict[str, Any]:
        """All that the checkpoint of `step` holds, of whatever shapes, by item."""
        return {item: self._contents(item, step) for item in (SEGMENTER, TRAINING)}

    def _metrics(self, step):
        if step not in self._scores and (metrics := self._manager.metrics(step)):
            self._scores[step] = metrics
        return self._scores.get(step)

    def _contents(self, item, step):
        folder = self._manager.directory / str(step)
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                return jax.device_get(checkpointer.restore(folder / item))
        except (ValueError, KeyError, OSError) as error:
            raise self._unreadable(folder, error) from error

    def _read(self, step, expected):
        """The items of `expected`, which has arrays of the shapes that theirs must have."""
        folder = self._manager.directory / str(step)
        items = {item: ocp.args.StandardRestore(tree) for item, tree in expected.items()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, OSError) as error:
            raise self._unreadable(folder, error) from error
        for item, tree in expected.items():  # Orbax does not compare them.
            of_both = zip(
                jax.tree_util.tree_leaves_with_path(tree),
                jax.tree.leaves(restored[item]),
                strict=True,
            )
            for (path, leaf), found in of_both:
                if leaf.shape != found.shape:
                    name = jax.tree_util.keystr(path, simple=True, separator="/")
                    raise InputError(
                        f"the checkpoint {folder} is of other networks or classes: its {name} has "
                        f"the shape {found.shape}, here it is {leaf.shape}; choose the "
                        "configuration and the data of that run, or another --workdir"
                    )
        return restored

    def _unreadable(self, folder, error):
        reason = str(error).strip().split("\n")[0]
        remedy = (
            "if it is damaged delete that folder: an earlier one is then taken, if there is one"
        )
        if not self._to_read:
            remedy += ", or training begins anew"
        if isinstance(error, PermissionError):
            remedy = "see to the permissions of its files"
        return InputError(f"the checkpoint {folder} cannot be read ({reason}); {remedy}")


def _score(metrics, measure=""):
    """One of a checkpoint's measures, by default and if it lacks that one the first."""
    return metrics.get(measure, next(iter(metrics.values())))


def _items(state):
    """A state as the items of a checkpoint: (the segmenter's evaluated parameters, the rest)."""
    training = {
        "step": state.step,
        "adversary": state.params["adversary"],
        "opt_state": state.opt_state,
    }
    if state.average is not None:
        training["segmenter"] = state.params["segmenter"]
    return evaluated(state), training


def _empty(tree):
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)
