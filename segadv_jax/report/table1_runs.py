"""The runs of Table 1: the points that are tuned, and the arms on parts of the training images."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadv_jax.campaign import arms, runs
from segadv_jax.campaign.runs import Run
from segadv_jax.files import PathLike
from segadv_jax.report import pages
from segadv_jax.report.pages import Row
from segadv_jax.report.table1_files import ARMS, CONTROL
from segadv_jax.workdir import Workdir

CONFIG = "configs/stanford.py"
# The part of the training images -> the folder of its runs, in the order in which they are made.
FRACTIONS = {1.0: "all", 1 / 8: "eighth", 1 / 4: "quarter", 1 / 2: "half"}

# Both arms that are tuned get the same number of points, the segmenter's rate among what is tuned.
_RATE = "--config.optimizer.segmenter.learning_rate="
_SCALING, _LAM = "--config.encoding=scaling", "--config.loss.lam="
_HINGE = ("--config.loss.game=hinge", f"{_LAM}0.02", "--config.adversary.spectral_norm=True")
GRID = {
    "standard": {f"rate_{rate}": [f"{_RATE}{rate}"] for rate in (0.01, 0.02, 0.03, 0.04)},
    "tuned": {
        "scaling": [f"{_RATE}0.02", _SCALING],
        "scaling_light": [f"{_RATE}0.03", _SCALING, f"{_LAM}0.03"],
        "product": [f"{_RATE}0.02", "--config.encoding=product"],
        "hinge": [f"{_RATE}0.03", *_HINGE],
    },
}

Choices = Mapping[str, Any]


def tuning(options: argparse.Namespace, fields: Sequence[str]) -> dict[tuple[str, str], list[Run]]:
    """{(arm, point of its grid): its runs}, which are measured on the validation subset."""
    planned = {}
    for arm, points in GRID.items():
        for point, settings in points.items():
            # In place of the test images, which are not to be read yet.
            one = _arguments(arm, [*fields, *settings, "--config.data.test=subset_7"])
            folder, seeds = Path(options.workdir, "tuning"), options.tuning_seeds
            planned[arm, point] = arms.plan(folder, {f"{arm}_{point}": one}, seeds)
    return planned


def arguments(
    arm: str, choices: Choices, fraction: float, fields: Iterable[str]
) -> tuple[str, ...]:
    """The arguments of `segadv_jax train` for an arm on a part of the training images.

    `choices` are those of `table1_files.read_choices`, with the "parts", fields that hold for a
    part of the images; `fields` come before them.
    """
    chosen = choices["chosen"]["tuned" if arm == CONTROL else arm]
    part = [f"--config.data.fraction={fraction}", *(choices["parts"] if fraction < 1 else [])]
    return _arguments(arm, [*fields, *choices["shared"], *chosen, *part])


def _arguments(arm: str, fields: Sequence[str]) -> tuple[str, ...]:
    """The configuration of an arm, then the fields; of one that comes twice, the last."""
    variant = "standard" if arm in ("standard", CONTROL) else "printed"
    return arms.parse_arms([f"{arm}=--config={CONFIG}:{variant}"], fields)[arm]


def plan(
    options: argparse.Namespace,
    choices: Choices,
    fraction: float,
    seeds: Iterable[int],
    names: Iterable[str] = ARMS,
) -> list[Run]:
    """The runs of the arms on a part of the training images, seed by seed."""
    fields = pages.data_fields(options)
    chosen = {arm: arguments(arm, choices, fraction, fields) for arm in names}
    return arms.plan(Path(options.workdir, FRACTIONS[fraction]), chosen, seeds)


def train(options: argparse.Namespace, choices: Choices) -> dict[float, list[Run]]:
    """{part of the training images: runs of the stage train}, in the order in which to make them.

    On all images they have the seeds of Table 1.
    """
    seeds = dict.fromkeys(FRACTIONS, options.fraction_seeds) | {1.0: options.seeds}
    return {part: plan(options, choices, part, numbers) for part, numbers in seeds.items()}


def collect(planned: Mapping[float, Sequence[Run]]) -> tuple[list[Row], list[Row]]:
    """The rows of `table1.csv` and `histories.csv` for those {part: runs} that are done.

    Raises:
        InputError: a file of a run is damaged, or it was made with other arguments.
    """
    rows: list[Row] = []
    histories: list[Row] = []
    for fraction, some in planned.items():
        for run in some:
            for result in runs.results([run]):
                runs.check_arguments(run)
                config = arms.load_config(run.arguments)
                setting = {"encoding": config.encoding, "lambda": config.loss.lam}
                if config.alternation.schedule == "standard":
                    setting = {"encoding": "", "lambda": 0.0}
                place = {"arm": run.arm, "seed": run.seed, "fraction": fraction}
                rows.append(result | place | setting)
                histories += [place | line for line in run.workdir.history()]
    return rows, histories


def cost(workdir: PathLike) -> dict[str, float]:
    """How many evaluations there are, "runs", and the "hours" from a run's beginning to its end."""
    seconds = [
        path.stat().st_mtime - run.config_path.stat().st_mtime
        for run in map(Workdir, Path(workdir).glob("*/*/seed_*"))
        for path in run.evaluation_path("").parent.glob("*.json")
    ]
    return {"hours": sum(seconds) / 3600, "runs": len(seconds)}
