"""The files in ``docs/results`` from which the page of Table 1 is written, and their rows.

``table1.csv`` has a row for each run, ``histories.csv`` the validations of all runs,
``choices.json`` what was tuned and ``campaign.json`` how it was run.
"""

import csv
import json
import statistics
from pathlib import Path

from segadv_jax.errors import InputError

ARMS = ("standard", "printed", "tuned")
COLUMNS = ("arm", "seed", "fraction", "encoding", "lambda")
COLUMNS += ("pixel_accuracy", "class_accuracy", "mean_iou", "segmenter_updates")
TABLE, HISTORIES = "table1.csv", "histories.csv"
CHOICES, CAMPAIGN, NOTES = "choices.json", "campaign.json", "notes.md"


def read_json(path):
    """The content of a JSON file; raises an InputError that names it if it cannot be read."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); run the earlier stages first"
        ) from error


def write_json(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=2) + "\n")


def read_csv(path):
    """Rows of ``table1.csv`` or ``histories.csv``: numbers as numbers, empty fields as None."""
    try:
        with open(path, newline="") as file:
            return [
                {k: v if k in ("arm", "encoding") else _number(v) for k, v in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the stage report") from error


def _number(text):
    if not text:
        return None
    return int(text) if text.isdigit() else float(text)


def write_csv(path, columns, rows):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


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
