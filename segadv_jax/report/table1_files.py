"""The files in `docs/results` from which the page of Table 1 is written, and their rows.

`table1.csv` has a row for each run, `histories.csv` the validations of all runs, `choices.json`
what was tuned and `campaign.json` how it was run.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.report import course, pages
from segadv_jax.report.pages import CAMPAIGN, Row

ARMS = ("standard", "printed", "tuned")
# Cross-entropy alone with all settings of "tuned" that are not the adversary's.
CONTROL = "control"
TABLE, HISTORIES, CHOICES = "table1.csv", "histories.csv", "choices.json"
_MEASURED = ("pixel_accuracy", "class_accuracy", "mean_iou", "segmenter_updates")
COLUMNS = {
    TABLE: ("arm", "seed", "fraction", "encoding", "lambda", *_MEASURED),
    HISTORIES: ("arm", "seed", "fraction", *course.COLUMNS),
}

How = Mapping[str, Any]
Parts = dict[float, list[Row]]  # {part of the training images: rows}


class Results(NamedTuple):
    """What the files hold: `fresh` are the runs with fresh seeds, if there are any."""

    rows: Parts
    fresh: list[Row]
    validations: Parts
    choices: dict[str, Any]
    how: dict[str, Any]


def read(folder: Path) -> Results:
    """Reads the files; raises an InputError if one is damaged or they do not belong together."""
    rows, histories = read_rows(folder, TABLE), read_rows(folder, HISTORIES)
    choices = read_choices(folder)
    needed = ("commits", "commands", "machine", "seeds", "fraction_seeds", "fresh_seeds")
    how = pages.read_json(folder / CAMPAIGN, needed)
    if len(rows) != how.get("tested_runs"):
        raise InputError(
            f"{folder / TABLE} has {len(rows)} rows, but {how.get('tested_runs')} runs were tested "
            f"({CAMPAIGN}); restore both, or run the stage report again"
        )
    _, fraction = how.get("confirmed", (None, None))
    fresh = [r for r in rows if r["fraction"] == fraction and r["seed"] in how["fresh_seeds"]]
    return Results(by_fraction(rows, how), fresh, by_fraction(histories, how), choices, how)


def read_rows(folder: Path, name: str) -> list[Row]:
    """The rows of `TABLE` or `HISTORIES`, with "split" by which comparisons pair them."""
    arms = (*ARMS, CONTROL)
    rows = pages.read_rows(folder / name, COLUMNS[name], ("arm", "encoding"), arms)
    return [row | {"split": "test"} for row in rows]


def read_choices(folder: Path) -> dict[str, Any]:
    """The object in `choices.json`; raises an InputError if it is missing or damaged."""
    return pages.read_json(folder / CHOICES, ("shared", "seeds", "grid", "chosen"))


def write(folder: Path, rows: Iterable[Row], histories: Iterable[Row], how: How) -> None:
    """Writes `table1.csv`, `histories.csv` and `campaign.json`."""
    files.write_csv(folder / TABLE, COLUMNS[TABLE], rows)
    files.write_csv(folder / HISTORIES, COLUMNS[HISTORIES], histories)
    files.write_json(folder / CAMPAIGN, how)


def by_fraction(rows: Sequence[Row], how: How) -> Parts:
    """The rows by part of the training images, from the smallest on, without fresh seeds."""
    parts: Parts = {}
    for row in sorted(rows, key=lambda row: row["fraction"]):
        if row["seed"] in how["seeds" if row["fraction"] == 1 else "fraction_seeds"]:
            parts.setdefault(row["fraction"], []).append(row)
    return parts
