"""The files in `docs/results` from which the page of Table 1 is written, and their rows.

`table1.csv` has a row for each run, `histories.csv` the validations of all runs, `choices.json`
what was tuned and `campaign.json` how it was run.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.report import page_files
from segadv_jax.report.page_files import CAMPAIGN, Row
from segadv_jax.workdir import HISTORY_COLUMNS

ARMS = ("standard", "printed", "tuned")
# Cross-entropy alone with all settings of "tuned" that are not the adversary's.
CONTROL = "control"
TABLE, HISTORIES, CHOICES = "table1.csv", "histories.csv", "choices.json"
_OF_A_RUN = ("arm", "seed", "fraction")
_MEASURED = ("pixel_accuracy", "class_accuracy", "mean_iou", "segmenter_updates")
TABLE_COLUMNS = (*_OF_A_RUN, "encoding", "lambda", *_MEASURED)
HISTORIES_COLUMNS = (*_OF_A_RUN, *HISTORY_COLUMNS)

How = Mapping[str, Any]


class Results(NamedTuple):
    """All of the files.

    Attributes:
        rows: of `table1.csv`, with "split" by which comparisons pair them.
        histories: rows of `histories.csv`.
        choices: of `choices.json`.
        how: of `campaign.json`.
    """

    rows: list[Row]
    histories: list[Row]
    choices: dict[str, Any]
    how: dict[str, Any]

    @property
    def confirmed(self) -> tuple[str, float] | None:
        """The arm and the part of the training images that were repeated with fresh seeds."""
        arm, fraction = self.how.get("confirmed", (None, None))
        return (arm, fraction) if arm else None

    @property
    def fresh(self) -> list[Row]:
        """The runs with fresh seeds; empty if nothing was confirmed."""
        if self.confirmed is None:
            return []
        _, fraction = self.confirmed
        seeds = self.how["fresh_seeds"]
        return [r for r in self.rows if r["seed"] in seeds and r["fraction"] == fraction]


def read(folder: Path) -> Results:
    """Reads the files.

    Raises:
        InputError: one of them is missing or damaged, or they do not belong together.
    """
    results = Results(
        rows=read_table(folder),
        histories=_read_rows(folder / HISTORIES, HISTORIES_COLUMNS),
        choices=read_choices(folder),
        how=page_files.read_json(
            folder / CAMPAIGN,
            ("commits", "commands", "machine", "seeds", "fraction_seeds", "fresh_seeds"),
        ),
    )
    tested = results.how.get("tested_runs")
    if len(results.rows) != tested:
        raise InputError(
            f"{folder / TABLE} has {len(results.rows)} rows, but {tested} runs were tested "
            f"({CAMPAIGN}); restore both, or run the stage report again"
        )
    return results


def read_table(folder: Path) -> list[Row]:
    """The rows of `table1.csv`; raises an InputError if it is missing or damaged."""
    return [row | {"split": "test"} for row in _read_rows(folder / TABLE, TABLE_COLUMNS)]


def _read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    return page_files.read_rows(path, columns, ("arm", "encoding"), (*ARMS, CONTROL))


def read_choices(folder: Path) -> dict[str, Any]:
    """The object in `choices.json`; raises an InputError if it is missing or damaged."""
    return page_files.read_json(folder / CHOICES, ("shared", "seeds", "grid", "chosen"))


def write(folder: Path, rows: Iterable[Row], histories: Iterable[Row], how: How) -> None:
    """Writes `table1.csv`, `histories.csv` and `campaign.json`."""
    files.write_csv(folder / TABLE, TABLE_COLUMNS, rows)
    files.write_csv(folder / HISTORIES, HISTORIES_COLUMNS, histories)
    files.write_json(folder / CAMPAIGN, how)


def main_rows(rows: Iterable[Row], how: How) -> list[Row]:
    """The rows of the main comparison: all training images, the seeds of Table 1."""
    return [row for row in rows if row["fraction"] == 1 and row["seed"] in how["seeds"]]


def by_fraction(rows: Sequence[Row], how: How) -> dict[float, list[Row]]:
    """{part of the training images: the rows of its own seeds}, from the smallest on."""
    parts = {}
    for fraction in sorted({row["fraction"] for row in rows}):
        seeds = how["seeds"] if fraction == 1 else how["fraction_seeds"]
        part = [r for r in rows if r["fraction"] == fraction and r["seed"] in seeds]
        if part:
            parts[fraction] = part
    return parts


def by_update(histories: Iterable[Row], arm: str) -> list[tuple[int, float, list[Row]]]:
    """[(updates, epoch, the rows of the seeds that got as far)], up to where most seeds did."""
    mine = [row for row in histories if row["arm"] == arm]
    seeds = {row["seed"] for row in mine}
    result = []
    for updates in sorted({row["segmenter_updates"] for row in mine}):
        part = [row for row in mine if row["segmenter_updates"] == updates]
        if 2 * len(part) > len(seeds):
            result.append((int(updates), part[0]["epoch"], part))
    return result


def mean_of(part: Iterable[Row], column: str) -> float | None:
    """The mean of a column, over the rows that have it."""
    values = [row[column] for row in part if row.get(column) is not None]
    return statistics.mean(values) if values else None
