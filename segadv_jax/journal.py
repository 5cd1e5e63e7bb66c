"""What training says while it runs: losses and rates to TensorBoard, a progress bar, parameters."""

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from segadv_jax import files
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.workdir import Workdir

if TYPE_CHECKING:
    from clu import metric_writers


class Journal:
    """Gathers the metrics of the steps and says their means now and then.

    Metrics of a step are fetched after the next one is dispatched, so that the device does not wait
    for Python.
    """

    def __init__(
        self,
        writer: "metric_writers.MetricWriter",
        bar: tqdm,
        log_every: int,
        batch_size: int,
        learning_rates: Mapping[str, Callable],
    ):
        """
        Args:
            writer: to TensorBoard.
            bar: of `progress_bar`.
            log_every: steps.
            batch_size: images per step.
            learning_rates: {player: learning rate as a function of its own updates}.
        """
        self._writer, self._bar = writer, bar
        self._log_every, self._batch_size = log_every, batch_size
        self._learning_rates = learning_rates
        self._window: list[Mapping[str, jax.Array]] = []
        self._began = time.time()

    def add(
        self,
        metrics: Mapping[str, jax.Array],
        updates: Mapping[str, int],
        position: Mapping[str, Any],
        at_end: bool,
    ) -> None:
        """Takes in the metrics of a step.

        Args:
            metrics: of the step.
            updates: each player's, after the step.
            position: {"step", "segmenter_updates", "epoch"}, after the step.
            at_end: whether it is the last one.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        self._window.append(metrics)
        self._bar.update(updates[SEGMENTER] - self._bar.n)
        due = position["step"] % self._log_every == 0 and len(self._window) > 1
        if not (due or at_end):
            return
        window = self._window
        finished, self._window = (window, []) if at_end else (window[:-1], window[-1:])
        scalars = means(finished)
        check_finite(scalars, updates[SEGMENTER])
        self._bar.set_postfix_str(describe(scalars), refresh=False)
        for player, learning_rate in self._learning_rates.items():
            scalars[f"learning_rate_{player}"] = float(learning_rate(updates[player]))
        seconds = time.time() - self._began
        scalars["images_per_second"] = len(finished) * self._batch_size / seconds
        self._writer.write_scalars(updates[SEGMENTER], {**scalars, **position})
        self._began = time.time()

    def add_validation(
        self, measures: Mapping[str, float | None], picture: np.ndarray, updates: int
    ) -> None:
        """Takes in what a validation measured, and its picture u8[h,w,3]."""
        scalars = {name: value for name, value in measures.items() if value is not None}
        self._writer.write_scalars(updates, scalars)
        self._writer.write_images(updates, {"predictions": picture[None]})
        self._began = time.time()  # A validation takes nothing from the images per second.


@contextlib.contextmanager
def open_journal(
    workdir: Workdir,
    train: ConfigDict,
    updates: Mapping[str, int],
    learning_rates: Mapping[str, Callable],
) -> Iterator[Journal]:
    """A Journal that writes into a run's folder, on the first process only.

    Args:
        workdir: of the run.
        train: `config.train`.
        updates: each player's so far.
        learning_rates: {player: learning rate as a function of its own updates}.
    """
    from clu import metric_writers  # It imports TensorFlow.

    others = jax.process_index() > 0
    writer = metric_writers.create_default_writer(str(workdir), just_logging=others)
    bar = tqdm(
        initial=updates[SEGMENTER],
        total=train.updates,
        unit="img",
        unit_scale=train.batch_size,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        disable=others,
    )
    with metric_writers.ensure_flushes(writer), bar:
        yield Journal(writer, bar, train.log_every, train.batch_size, learning_rates)


def profiler(workdir: Workdir, steps: int) -> Callable[[int], Any]:
    """What to call after each step to have `steps` of them profiled, from the tenth on; 0: none."""
    if not steps:
        return lambda step: None
    from clu import periodic_actions

    return periodic_actions.Profile(
        logdir=str(workdir), num_profile_steps=steps, profile_duration_ms=None, every_secs=None
    )


def describe_networks(workdir: Workdir, params: Mapping[str, Any]) -> None:
    """Writes the parameters of each network, layer by layer, and says how many there are."""
    from clu import parameter_overview

    with files.replacing(workdir.parameters_path) as file:
        for player, tree in params.items():
            if tree:
                table = parameter_overview.get_parameter_overview(tree, include_stats=False)
                file.write(f"{player}\n{table}\n")
                number = parameter_overview.count_parameters(tree)
                logging.info("%s: %s parameters", player, f"{number:,}")


def check_finite(scalars: Mapping[str, float], updates: int) -> None:
    """Raises a FloatingPointError that names the fields to change if a loss is not finite.

    Args:
        scalars: metrics of a step.
        updates: the segmenter's so far.
    """
    for name, value in scalars.items():
        if np.isfinite(value):
            continue
        # The segmenter's own loss comes first: without it the adversary's mean nothing.
        player = SEGMENTER if not np.isfinite(scalars["mce"]) else ADVERSARY
        what = "the cross-entropy" if player == SEGMENTER else name
        raise FloatingPointError(
            f"{what} is {value} after {updates} updates: lower "
            f"config.optimizer.{player}.learning_rate or set its clip"
        )


def means(metrics: list[Mapping[str, jax.Array]]) -> dict[str, float]:
    """Mean of each metric over the steps that report it."""
    values = collections.defaultdict(list)
    for step in jax.device_get(metrics):
        for name, value in step.items():
            values[name].append(value)
    return {name: float(np.mean(value)) for name, value in values.items()}


def describe(scalars: Mapping[str, float]) -> str:
    """The health of the game in a few words, for the progress bar."""
    words = {"mce": "mce", "accuracy": "cells"}
    words |= {"accuracy_real": "adversary right on real", "accuracy_synthetic": "on synthetic"}
    return ", ".join(
        f"{word} {scalars[name]:.2f}" for name, word in words.items() if name in scalars
    )
