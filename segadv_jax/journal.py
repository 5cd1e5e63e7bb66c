"""What training says while it runs: short lines for people, everything else to TensorBoard."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segadv_jax import files, soundness
from segadv_jax.alternation import SEGMENTER
from segadv_jax.metrics.names import percent, title
from segadv_jax.progress import UpdatesBar
from segadv_jax.workdir import RIGHT, Workdir

Metrics = Mapping[str, jax.Array]
VALIDATION = "validation"  # What is compiled beside the turns.
# What the adversary thinks of both maps is said as the mean of so many steps that know it.
RECENT = 50
_OF_BOTH = ("_real", "_synthetic")


class Journal:
    """Gathers the metrics of the steps, writes their means now and then, and tells people.

    Metrics of a step are fetched after the next one is dispatched: the device does not wait for
    Python.

    Args:
        writer: of clu, to TensorBoard.
        bar: shows the segmenter's updates.
        train: `config.train`.
        learning_rates: {player: learning rate as a function of its own updates}.
        profile: to be called with the number of each step since this start.
        select: the measure on the validation split that selects the checkpoint.
        history: rows of the validations so far.
    """

    def __init__(
        self,
        writer: Any,
        bar: UpdatesBar,
        train: ConfigDict,
        learning_rates: Mapping[str, Callable],
        profile: Callable[[int], Any] | None = None,
        select: str = "mean_iou",
        history: Sequence[Mapping[str, float]] = (),
    ):
        self._writer, self._bar, self._train = writer, bar, train
        self._learning_rates, self._profile, self._select = learning_rates, profile, select
        self._window: list[Metrics] = []
        self._unchecked: tuple[Metrics, Mapping[str, Any]] | None = None
        self._recent: dict[str, collections.deque[jax.Array]] = {}
        self._best: tuple[float, int] | None = None  # The value and the updates.
        for row in history:
            self._is_best(row.get(f"validation_{select}"), int(row["segmenter_updates"]))
        self._compiled: dict[str, float] = {}  # Seconds, by what was compiled.
        self._steps = 0  # Since this start.
        self._began = time.monotonic()

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Says that this is compiled within, the first time, and how long it took.

        It is a turn, or VALIDATION.
        """
        if what == VALIDATION:
            self._bar.follow(0)  # It has to wait for the last step anyway.
        if what in self._compiled:
            yield
            return
        name = {VALIDATION: "the validation", "segmenter": "the segmenter's training step"}
        name |= {"adversary": "the adversary's training step"}
        logging.info("compiling %s ...", name.get(what, "the training step"))
        begin, before = time.monotonic(), sum(self._compiled.values())
        yield
        seconds = time.monotonic() - begin
        if what == VALIDATION:  # It was not only compiled.
            seconds = 0.0
        else:
            in_all = f", {before + seconds:.0f} s in all" if before else ""
            logging.info("compiled in %.0f s%s", seconds, in_all)
            self._began += seconds  # Compiling is no training: `pause` sees to a validation's.
        self._compiled[what] = seconds
        self._bar.restart()

    def add(
        self,
        metrics: Metrics,
        updates: Mapping[str, int],
        position: Mapping[str, Any],
        at_end: bool,
    ) -> None:
        """Takes in the metrics of a step; none are those of a step that was left out.

        `updates` are each player's and `position` {"step", "segmenter_updates", "epoch"} after it.

        Raises:
            soundness.UnsoundError: the step before was not sound.
        """
        self.check()
        self._steps += 1
        if self._profile:
            self._profile(self._steps)
        if metrics:
            self._window.append(metrics)
            self._unchecked = metrics, position
            self._bar.add(updates[SEGMENTER], metrics["mce"])
        for name in metrics:
            if name.endswith(_OF_BOTH):
                self._recent.setdefault(name, collections.deque(maxlen=RECENT)).append(
                    metrics[name]
                )
        due = position["step"] % self._train.log_every == 0 and len(self._window) > 1
        if not (due or at_end):
            return
        window = self._window
        finished, self._window = (window, []) if at_end else (window[:-1], window[-1:])
        self._bar.follow(len(self._window))
        if not finished:
            return
        scalars = means(finished)
        self._bar.say(updates[SEGMENTER], scalars["mce"])
        for player, learning_rate in self._learning_rates.items():
            scalars[f"learning_rate_{player}"] = float(learning_rate(updates[player]))
        images, seconds = len(finished) * self._train.batch_size, time.monotonic() - self._began
        scalars["images_per_second"] = images / seconds
        self._writer.write_scalars(updates[SEGMENTER], {**scalars, **position})
        self._began = time.monotonic()

    def check(self) -> None:
        """Raises a soundness.UnsoundError if the last step was not sound; waits for it."""
        if self._unchecked is not None:
            soundness.check(*self._unchecked)
            self._unchecked = None

    def recent(self) -> dict[str, float]:
        """What the adversary thinks of both maps: means of the last steps that know each."""
        found = jax.device_get({name: list(values) for name, values in self._recent.items()})
        return {name: float(np.mean(values)) for name, values in found.items()}

    def add_validation(
        self, measures: Mapping[str, float | None], picture: np.ndarray, updates: int
    ) -> None:
        """Takes in what a validation measured, and its picture u8[h,w,3]; says it in a line."""
        scalars = {name: value for name, value in measures.items() if value is not None}
        self._writer.write_scalars(updates, scalars)
        self._writer.write_images(updates, {"predictions": picture[None]})
        logging.info("%s", self._describe(measures[f"validation_{self._select}"], updates))
        self._bar.heard()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """The time that is spent within takes nothing from the images per second."""
        begin = time.monotonic()
        yield
        self._began += time.monotonic() - begin

    def _describe(self, value: float | None, updates: int) -> str:
        """A validation in a line; `value` is that of the measure that selects."""
        said = f"update {updates} of {self._train.updates}, "
        said += f"validation {title(self._select)} {percent(value)}"
        if self._is_best(value, updates):
            said += ", best so far"
        elif self._best is not None:
            said += f", best {percent(self._best[0])} at update {self._best[1]}"
        recent = self.recent()
        if all(name in recent for name in RIGHT):
            rates = " / ".join(f"{100 * recent[name]:.0f}" for name in RIGHT)
            said += f"; adversary right on {rates} %"
        return said

    def _is_best(self, value: float | None, updates: int) -> bool:
        """Whether no validation was better; of equal ones the latest is the best."""
        if value is None or (self._best is not None and value < self._best[0]):
            return False
        self._best = value, updates
        return True


@contextlib.contextmanager
def open_journal(
    workdir: Workdir,
    train: ConfigDict,
    updates: Mapping[str, int],
    learning_rates: Mapping[str, Callable],
    select: str,
) -> Iterator[Journal]:
    """A Journal that writes into a run's folder, on the first process only.

    Args:
        workdir: of the run.
        train: `config.train`. Its `profile` steps from the tenth of this start on are profiled.
        updates: each player's so far.
        learning_rates, select: as in Journal.
    """
    from clu import metric_writers, periodic_actions  # They import TensorFlow.

    others = jax.process_index() > 0
    writer = metric_writers.create_default_writer(str(workdir), just_logging=others)
    bar = UpdatesBar(updates[SEGMENTER], train.updates)
    profile = None
    if train.profile:
        steps = {"num_profile_steps": train.profile, "profile_duration_ms": None}
        profile = periodic_actions.Profile(logdir=str(workdir), every_secs=None, **steps)
        where = f"{workdir}/plugins/profile"
        logging.info("%d steps from the tenth on are profiled: %s", train.profile, where)
    with contextlib.ExitStack() as stack:
        stack.enter_context(metric_writers.ensure_flushes(writer))
        stack.enter_context(contextlib.closing(bar))
        if profile:
            stack.callback(_end_profile)
        yield Journal(writer, bar, train, learning_rates, profile, select, workdir.history())


def _end_profile():
    """Writes a profile that had not come to its end."""
    with contextlib.suppress(RuntimeError):  # It had, or had not begun.
        jax.profiler.stop_trace()


def tabulate(
    learning_rates: Mapping[str, Callable], updates: Mapping[str, int]
) -> dict[str, Callable]:
    """The same functions up to so many updates, for which no device has to compute any more."""
    return {
        player: np.asarray(jax.vmap(rate)(np.arange(updates[player] + 1))).__getitem__
        for player, rate in learning_rates.items()
    }


def write_parameters(workdir: Workdir, params: Mapping[str, Any]) -> None:
    """Writes the parameters of each network, layer by layer."""
    from clu import parameter_overview

    with files.replacing(workdir.parameters_path) as file:
        for player, tree in params.items():
            if tree:
                table = parameter_overview.get_parameter_overview(tree, include_stats=False)
                file.write(f"{player}\n{table}\n")


def means(metrics: Sequence[Metrics]) -> dict[str, float]:
    """The mean of each metric over the steps that report it."""
    values = collections.defaultdict(list)
    for step in jax.device_get(list(metrics)):
        for name, value in step.items():
            values[name].append(value)
    return {
        name: float(np.mean(value)) for name, value in values.items() if name != soundness.FAULT
    }
