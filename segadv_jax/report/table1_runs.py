"""The runs of Table 1: the points that are tuned, and the arms on parts of the training images."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import arms, runs
from segadv_jax.campaign.runs import Run
from segadv_jax.report import program
from segadv_jax.report.page_files import Row
from segadv_jax.report.table1_files import ARMS, CONTROL
from segadv_jax.workdir import Workdir

CONFIG = "configs/stanford.py"
# The part of the training images -> the folder of its runs, in the order in which they are made.
FRACTIONS = {1.0: "all", 1 / 8: "eighth", 1 / 4: "quarter", 1 / 2: "half"}

# Both arms that are tuned get the same number of points, the segmenter's rate among what is tuned.
_RATE = "--config.optimizer.segmenter.learning_rate={}"
GRID = {
    "standard": {f"rate_{rate}": [_RATE.format(rate)] for rate in (0.01, 0.02, 0.03, 0.04)},
    "tuned": {
        "scaling": [_RATE.format(0.02), "--config.encoding=scaling"],
        "scaling_light": [
            _RATE.format(0.03),
            "--config.encoding=scaling",
            "--config.loss.lam=0.03",
        ],
        "product": [_RATE.format(0.02), "--config.encoding=product"],
        "hinge": [
            _RATE.format(0.03),
            "--config.loss.game=hinge",
            "--config.loss.lam=0.02",
            "--config.adversary.spectral_norm=True",
        ],
    },
}

Choices = Mapping[str, Any]


def tuning(options: argparse.Namespace, fields: Sequence[str]) -> dict[tuple[str, str], list[Run]]:
    """{(arm, point of its grid): its runs}, which are measured on the validation subset."""
    folder = Path(options.workdir, "tuning")
    planned: dict[tuple[str, str], list[Run]] = {}
    for arm, points in GRID.items():
        for point, settings in points.items():
            # In place of the test images, which are not to be read yet.
            all_fields = [*fields, *settings, "--config.data.test=subset_7"]
            one = {f"{arm}_{point}": _arguments(arm, all_fields)}
            planned[arm, point] = arms.plan(folder, one, options.tuning_seeds)
    return planned


def arguments(
    arm: str, choices: Choices, fraction: float, fields: Iterable[str]
) -> tuple[str, ...]:
    """The arguments of `segadv_jax train` for one arm: its configuration, the settings, the data.

    Args:
        arm: one of `ARMS`, or `CONTROL`.
        choices: of `table1_files.read_choices`, with the "parts", fields that hold for a part of
            the training images.
        fraction: the part of the training images.
        fields: that come before the settings.
    """
    chosen = choices["chosen"]["tuned" if arm == CONTROL else arm]
    part = [f"--config.data.fraction={fraction}", *(choices["parts"] if fraction < 1 else [])]
    variant = "standard" if arm == CONTROL else arm
    return _arguments(variant, [*fields, *choices["shared"], *chosen, *part])


def _arguments(arm: str, fields: Sequence[str]) -> tuple[str, ...]:
    """The configuration of an arm, then the fields; of one that comes twice, the last."""
    variant = "standard" if arm == "standard" else "printed"
    (parsed,) = arms.parse_arms([f"{arm}=--config={CONFIG}:{variant}"], fields).values()
    return parsed


def plan(
    options: argparse.Namespace,
    choices: Choices,
    fraction: float,
    seeds: Iterable[int],
    names: Iterable[str] = ARMS,
) -> list[Run]:
    """The runs of the arms on a part of the training images, seed by seed."""
    fields = program.data_fields(options)
    chosen = {arm: arguments(arm, choices, fraction, fields) for arm in names}
    return arms.plan(Path(options.workdir, FRACTIONS[fraction]), chosen, seeds)


def train(options: argparse.Namespace, choices: Choices) -> dict[float, list[Run]]:
    """{part of the training images: runs of the stage train}, in the order in which to make them.

    On all images they have the seeds of Table 1.
    """
    seeds = dict.fromkeys(FRACTIONS, options.fraction_seeds) | {1.0: options.seeds}
    return {part: plan(options, choices, part, numbers) for part, numbers in seeds.items()}


def collect(planned: Mapping[float, Sequence[Run]]) -> tuple[list[Row], list[Row]]:
    """The rows of `table1.csv` and `histories.csv` for those runs that are done.

    Args:
        planned: {part of the training images: runs}.

    Raises:
        InputError: a file of a run is damaged, or it was made with other arguments.
    """
    rows: list[Row] = []
    histories: list[Row] = []
    for fraction, run in ((part, run) for part, some in planned.items() for run in some):
        for result in runs.results([run]):
            runs.check_arguments(run)
            config = arms.load_config(run.arguments)
            standard = config.alternation.schedule == "standard"
            place = {"arm": run.arm, "seed": run.seed, "fraction": fraction}
            setting = {
                "encoding": "" if standard else config.encoding,
                "lambda": 0.0 if standard else config.loss.lam,
            }
            rows.append(result | place | setting)
            histories += [place | line for line in run.workdir.history()]
    return rows, histories


def cost(workdir: files.PathLike) -> dict[str, float]:
    """How many evaluations there are, "runs", and the "hours" from a run's beginning to its end."""
    seconds, number = 0.0, 0
    for run in map(Workdir, Path(workdir).glob("*/*/seed_*")):
        for path in run.evaluation_path("").parent.glob("*.json"):
            seconds += path.stat().st_mtime - run.config_path.stat().st_mtime
            number += 1
    return {"hours": seconds / 3600, "runs": number}
