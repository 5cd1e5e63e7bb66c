"""Chooses two corrections of a trained segmenter's logits on validation images; nothing is trained.

    segadv_jax correct --workdir=W
    segadv_jax correct --workdir=W --prior_shifts=0,0.5,1 --temperatures=1

First a shift by the classes' prior, config.evaluate.prior_shift: that with the highest mean IoU. It
makes up for classes that were weighted in training (config.loss.balance). With this shift then a
temperature, config.evaluate.temperature: that with the least negative log-likelihood, so that
probabilities say how often the segmenter is right (Guo et al., On calibration of modern neural
networks, ICML 2017). Of equally good ones, the first of the list.

The images are those of config.data.validation. Nothing is written: the last line has the fields to
give to `evaluate`, `predict` and `export`. One value, as --temperatures=1, leaves a choice out.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from segadv_jax import commands, evaluate, experiment
from segadv_jax.campaign import arms, text
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import percent
from segadv_jax.signals import signals_raised

HEAD = ("", "mean IoU %", "class accuracy %", "calibration error %", "log-likelihood, negative")


class Correction(NamedTuple):
    """A field of config.evaluate that is chosen: what changes nothing, how, and what is tried."""

    field: str
    plain: float
    choose: Callable
    tried: str
    least: float = 0

    @property
    def option(self) -> str:
        return f"--{self.field}s"


CORRECTIONS = (
    Correction(
        "prior_shift",
        0.0,
        evaluate.choose_prior_shift,
        "0,-0.5,-0.25,0.25,0.5,0.75,1,1.25,1.5",
        least=-2,
    ),
    Correction(
        "temperature",
        1.0,
        evaluate.choose_temperature,
        "1,0.6,0.7,0.8,0.9,1.1,1.2,1.3,1.4,1.5,1.6,1.8,2,2.5,3,4",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands.add_run_arguments(parser, config=False)
    for one in CORRECTIONS:
        parser.add_argument(one.option, default=one.tried, help=f"what is tried; {one.tried}")


def main(options: argparse.Namespace) -> None:
    tried = [_tried(one, getattr(options, f"{one.field}s")) for one in CORRECTIONS]
    for override in options.overrides:
        name = override.partition("=")[0].removeprefix("--config.evaluate.")
        if name in ("split", *(one.field for one in CORRECTIONS)):
            raise InputError(
                f"{override}: the images are those of config.data.validation, and what is tried is "
                f"given as {' and '.join(one.option for one in CORRECTIONS)}; leave the field out"
            )
    config = commands.begin_run(options)
    for one, values in zip(CORRECTIONS, tried, strict=True):
        for value in (*values, one.plain):
            config.evaluate[one.field] = value
            experiment.check_numbers(config)
    found = []
    with signals_raised():  # Of several processes too, whose signals JAX has caught until now.
        for one, values in zip(CORRECTIONS, tried, strict=True):
            chosen, results = one.choose(config, options.workdir, config.data.validation, values)
            print(f"\n{_table(one.field, chosen, results)}", flush=True)
            if len(values) > 1 and chosen != one.plain and chosen in (min(values), max(values)):
                end = "lowest" if chosen == min(values) else "highest"
                print(f"{arms.short(chosen)} is the {end} that was tried: try {one.option}=...")
            config.evaluate[one.field] = chosen
            if chosen != one.plain:
                found.append(f"--config.evaluate.{one.field}={arms.short(chosen)}")
    images = f"{results[0]['images']} images of {config.data.validation}"
    print(f"\nBest on the {images}: {' '.join(found) or 'as it is, without a correction'}")


def _tried(one: Correction, given: str) -> list[float]:
    return arms.parse_numbers(given, one.option, float, one.tried, one.least)


def _table(field: str, chosen: float, results: Sequence[Mapping[str, Any]]) -> str:
    rows: list[Sequence[str]] = [(f"evaluate.{field}", *HEAD)]
    for result in sorted(results, key=lambda result: result[field]):
        percents = (percent(result[name], ".2f") for name in ("mean_iou", "class_accuracy", "ece"))
        mark = "chosen" if result[field] == chosen else ""
        rows.append([arms.short(result[field]), mark, *percents, f"{result['nll']:.4f}"])
    return text.table(rows)
