"""The files in ``docs/results`` from which the page of Table 1 is written, and their rows.

``table1.csv`` has a row for each run, ``histories.csv`` the validations of all runs,
``choices.json`` what was tuned and ``campaign.json`` how it was run.
"""

import contextlib
import csv
import json
import os
import statistics
from pathlib import Path

from segadv_jax import history
from segadv_jax.errors import InputError

ARMS = ("standard", "printed", "tuned")
# Cross-entropy alone with all settings of "tuned" that are not the adversary's.
CONTROL = "control"
COLUMNS = ("arm", "seed", "fraction", "encoding", "lambda")
COLUMNS += ("pixel_accuracy", "class_accuracy", "mean_iou", "segmenter_updates")
HISTORY_COLUMNS = ("arm", "seed", "fraction", *history.COLUMNS)
TABLE, HISTORIES = "table1.csv", "histories.csv"
CHOICES, CAMPAIGN, NOTES = "choices.json", "campaign.json", "notes.md"
NEEDED = {
    CHOICES: ("shared", "seeds", "grid", "chosen"),
    CAMPAIGN: ("commits", "commands", "machine", "seeds", "fraction_seeds", "fresh_seeds"),
}
_TEXT = ("arm", "encoding")
_REMEDY = "restore it, or make it again with python -m tools.reproduce_table1"


def read_json(path, needed=()):
    """The dict in a JSON file.

    Raises:
        InputError: it cannot be read, or lacks one of the fields ``needed``.
    """
    try:
        content = json.loads(Path(path).read_text())
        missing = [name for name in needed if name not in content]
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {_REMEDY}") from error
    if missing or not isinstance(content, dict):
        raise InputError(f"{path} lacks {', '.join(missing) or 'everything'}; {_REMEDY}")
    return content


def write_json(path, content):
    """Writes a JSON file in one go; makes its folder."""
    with _replacing(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def read_csv(path, columns):
    """Rows of ``table1.csv`` or ``histories.csv``: numbers as numbers, empty fields as None.

    Raises:
        InputError: it cannot be read, or is not a table of these columns.
    """
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != tuple(columns):
                raise ValueError(f"its columns are not {','.join(columns)}")
            rows = [{k: v if k in _TEXT else _number(v) for k, v in row.items()} for row in reader]
            if any(None in row or row["arm"] not in (*ARMS, CONTROL) for row in rows):
                raise ValueError("a row is too long or of an unknown arm")
            return rows
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {_REMEDY}") from error


def _number(text):
    if text == "":
        return None
    return int(text) if text.isdigit() else float(text)


def write_csv(path, columns, rows):
    """Writes a table in one go; makes its folder."""
    with _replacing(path) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@contextlib.contextmanager
def _replacing(path):
    """A file that takes the place of ``path`` once all of it is written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with open(part, "w", newline="") as file:
        yield file
    os.replace(part, path)


def main_rows(rows, how):
    """The rows of the main comparison: all training images, the seeds of Table 1."""
    return [row for row in rows if row["fraction"] == 1 and row["seed"] in how["seeds"]]


def by_fraction(rows, how):
    """{part of the training images: the rows of its own seeds}, from the smallest on."""
    parts = {}
    for fraction in sorted({row["fraction"] for row in rows}):
        seeds = how["seeds"] if fraction == 1 else how["fraction_seeds"]
        part = [r for r in rows if r["fraction"] == fraction and r["seed"] in seeds]
        if part:
            parts[fraction] = part
    return parts


def by_update(histories, arm):
    """[(updates, epoch, the rows of the seeds that got as far)], up to where most seeds did."""
    mine = [row for row in histories if row["arm"] == arm]
    seeds = {row["seed"] for row in mine}
    result = []
    for updates in sorted({row["segmenter_updates"] for row in mine}):
        part = [row for row in mine if row["segmenter_updates"] == updates]
        if 2 * len(part) > len(seeds):
            result.append((updates, part[0]["epoch"], part))
    return result


def mean_of(part, column):
    values = [row[column] for row in part if row.get(column) is not None]
    return statistics.mean(values) if values else None
