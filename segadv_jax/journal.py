"""What training says while it runs: losses and rates to TensorBoard, a progress bar, parameters."""

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from segadv_jax import files
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.workdir import Workdir

Metrics = Mapping[str, jax.Array]


class Journal:
    """Gathers the metrics of the steps and says their means now and then.

    Metrics of a step are fetched after the next one is dispatched: the device does not wait for
    Python.

    Args:
        writer: of clu, to TensorBoard.
        bar: shows the segmenter's updates.
        train: `config.train`.
        learning_rates: {player: learning rate as a function of its own updates}.
        profile: to be called with the number of each step.
    """

    def __init__(
        self,
        writer: Any,
        bar: tqdm,
        train: ConfigDict,
        learning_rates: Mapping[str, Callable],
        profile: Callable[[int], Any] | None = None,
    ):
        self._writer, self._bar, self._train = writer, bar, train
        self._learning_rates, self._profile = learning_rates, profile
        self._window: list[Metrics] = []
        self._began = time.time()

    def add(
        self,
        metrics: Metrics,
        updates: Mapping[str, int],
        position: Mapping[str, Any],
        at_end: bool,
    ) -> None:
        """Takes in the metrics of a step.

        `updates` are each player's and `position` {"step", "segmenter_updates", "epoch"} after it.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        self._window.append(metrics)
        if self._profile:
            self._profile(position["step"])
        self._bar.update(updates[SEGMENTER] - self._bar.n)
        due = position["step"] % self._train.log_every == 0 and len(self._window) > 1
        if not (due or at_end):
            return
        window = self._window
        finished, self._window = (window, []) if at_end else (window[:-1], window[-1:])
        scalars = check_finite(finished, updates[SEGMENTER])
        self._bar.set_postfix_str(describe(scalars), refresh=False)
        for player, learning_rate in self._learning_rates.items():
            scalars[f"learning_rate_{player}"] = float(learning_rate(updates[player]))
        images, seconds = len(finished) * self._train.batch_size, time.time() - self._began
        scalars["images_per_second"] = images / seconds
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
        train: `config.train`. Its `profile` steps from the tenth on are profiled.
        updates: each player's so far.
        learning_rates: as in Journal.
    """
    from clu import metric_writers, periodic_actions  # They import TensorFlow.

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
    profile = None
    if train.profile:
        steps = {"num_profile_steps": train.profile, "profile_duration_ms": None}
        profile = periodic_actions.Profile(logdir=str(workdir), every_secs=None, **steps)
    with metric_writers.ensure_flushes(writer), bar:
        yield Journal(writer, bar, train, learning_rates, profile)


def write_parameters(workdir: Workdir, params: Mapping[str, Any]) -> None:
    """Writes the parameters of each network, layer by layer, and says how many there are."""
    from clu import parameter_overview

    with files.replacing(workdir.parameters_path) as file:
        for player, tree in params.items():
            if tree:
                table = parameter_overview.get_parameter_overview(tree, include_stats=False)
                file.write(f"{player}\n{table}\n")
                number = parameter_overview.count_parameters(tree)
                logging.info("%s: %s parameters", player, f"{number:,}")


def check_finite(metrics: Sequence[Metrics], updates: int) -> dict[str, float]:
    """The mean of each metric over the steps that report it.

    Raises:
        FloatingPointError: a mean is not finite; it names the fields to change.
    """
    values = collections.defaultdict(list)
    for step in jax.device_get(metrics):
        for name, value in step.items():
            values[name].append(value)
    means = {name: float(np.mean(value)) for name, value in values.items()}
    for name, mean in means.items():
        if not np.isfinite(mean):
            # The segmenter's own loss comes first: without it the adversary's mean nothing.
            player = ADVERSARY if np.isfinite(means["mce"]) else SEGMENTER
            what = name if player == ADVERSARY else "the cross-entropy"
            raise FloatingPointError(
                f"{what} is {mean} after {updates} updates: lower "
                f"config.optimizer.{player}.learning_rate or set its clip"
            )
    return means


def describe(scalars: Mapping[str, float]) -> str:
    """The health of the game in a few words, for the progress bar."""
    words = {"mce": "mce", "accuracy": "cells"}
    words |= {"accuracy_real": "adversary right on real", "accuracy_synthetic": "on synthetic"}
    return ", ".join(
        f"{word} {scalars[name]:.2f}" for name, word in words.items() if name in scalars
    )
