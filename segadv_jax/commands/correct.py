"""Chooses two corrections of a trained segmenter's logits on validation images; nothing is trained.

    segadv_jax correct --workdir=W
    segadv_jax correct --workdir=W --prior_shifts=-0.5,0.5,1 --temperatures=1
    segadv_jax correct --workdir=W --config.evaluate.flip=True --config.data.archives=FOLDER

First a shift by the classes' prior, config.evaluate.prior_shift: that with the highest mean IoU. It
makes up for classes that were weighted in training (config.loss.balance), and changes label maps.
With this shift then a temperature, config.evaluate.temperature: that with the least negative
log-likelihood, so that probabilities say how often the segmenter is right (Guo et al., On
calibration of modern neural networks, ICML 2017); it hardly changes label maps. To do without a
correction, 0 and 1, is always tried, and of equally good values the one closest to it is chosen.
One value alone is taken as it is: --prior_shifts=0 chooses a temperature only.

The images are those of config.data.validation. Nothing is written: the last line has the fields to
give to `evaluate`, `predict`, `export` and `convert_weights`.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from segadv_jax import commands, corrections, evaluate, experiment, limits
from segadv_jax.campaign import arms, text
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import percent
from segadv_jax.signals import signals_raised

HEAD = ("", "mean IoU %", "class accuracy %", "calibration error %", "negative log-likelihood")


class Correction(NamedTuple):
    """A field of config.evaluate that is chosen: by what function, and what is tried."""

    field: str
    choose: Callable
    tried: str

    @property
    def plain(self) -> float:
        return evaluate.UNCORRECTED[self.field]

    @property
    def option(self) -> str:
        return f"--{self.field}s"

    @property
    def allowed(self) -> limits.Range:
        return experiment.NUMBERS[f"evaluate.{self.field}"]


CORRECTIONS = (
    Correction(
        "prior_shift",
        corrections.choose_prior_shift,
        "-0.5,-0.25,0.25,0.5,0.75,1,1.25,1.5",
    ),
    Correction(
        "temperature",
        corrections.choose_temperature,
        "0.6,0.7,0.8,0.9,1.1,1.2,1.3,1.4,1.5,1.6,1.8,2,2.5,3,4",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands.add_run_arguments(parser, config=False)
    for one in CORRECTIONS:
        about = f"what is tried beside {one.plain:g}; {one.tried.replace(',', ', ')}"
        parser.add_argument(one.option, default=one.tried, metavar="A,B,...", help=about)


def main(options: argparse.Namespace) -> None:
    tried = [_tried(one, getattr(options, f"{one.field}s")) for one in CORRECTIONS]
    if all(len(values) == 1 for values in tried):
        raise InputError("there is one value of each correction: give several of one of them")
    ours = ("--config.evaluate.", "--noconfig.evaluate.")
    fields = [field for field in options.overrides if field.startswith(ours)]
    for field in fields:
        name = field.partition("=")[0].removeprefix("--config.evaluate.")
        if name in [one.field for one in CORRECTIONS]:
            raise InputError(f"{field}: give what is to be tried as --{name}s=")
        if name == "split":
            raise InputError(f"{field}: the images are those of config.data.validation")
    config = commands.begin_run(options)
    recorded = {one.field: config.evaluate[one.field] for one in CORRECTIONS}
    config.evaluate.update(evaluate.UNCORRECTED)
    notes, images = [], 0
    with signals_raised():  # Of several processes too, whose signals JAX has caught until now.
        for one, values in zip(CORRECTIONS, tried, strict=True):
            chosen = values[0]
            if len(values) > 1:
                where = config, options.workdir, config.data.validation
                chosen, results = one.choose(*where, values)
                images = results[0]["images"]
                print(f"\n{_table(one.field, chosen, results)}", flush=True)
                notes += _at_an_end(one, chosen, values)
            config.evaluate[one.field] = chosen
            if chosen != recorded[one.field]:
                fields.append(f"--config.evaluate.{one.field}={arms.short(chosen)}")
    print("".join(f"\n{note}" for note in notes))
    how = shlex.join(fields) or "as the run is, without other fields"
    print(f"Best on the {images} images of {config.data.validation}: {how}")


def _tried(one: Correction, given: str) -> list[float]:
    """The values to try, that without effect first and then those closest to it."""
    try:
        values = [float(value) for value in given.split(",")]
    except ValueError:
        values = []
    if not values or not all(map(one.allowed.holds, values)):
        raise InputError(
            f"{one.option}={given}: give numbers, each {one.allowed}, as {one.option}={one.tried}"
        )
    if len(values) > 1:
        values.append(one.plain)
    return sorted(set(values), key=lambda value: (abs(value - one.plain), value))


def _at_an_end(one: Correction, chosen: float, values: Sequence[float]) -> list[str]:
    """A note if the best of the values is the lowest or highest, and others are allowed."""
    ends = {min(values): ("lowest", "lower"), max(values): ("highest", "higher")}
    if chosen not in ends or chosen in (one.plain, one.allowed.least, one.allowed.most):
        return []
    end, beyond = ends[chosen]
    return [f"{arms.short(chosen)} is the {end} of {one.option}; a {beyond} one may be better"]


def _table(field: str, chosen: float, results: Sequence[Mapping[str, Any]]) -> str:
    rows: list[Sequence[str]] = [(f"evaluate.{field}", *HEAD)]
    for result in sorted(results, key=lambda result: result[field]):
        percents = (percent(result[name], ".2f") for name in ("mean_iou", "class_accuracy", "ece"))
        mark = "chosen" if result[field] == chosen else ""
        rows.append([arms.short(result[field]), mark, *percents, f"{result['nll']:.4f}"])
    return text.table(rows)
