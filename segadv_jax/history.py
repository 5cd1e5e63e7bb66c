"""``history.csv``: one row per validation, the curves of the paper's Figure 4."""

import csv
import os

MEASURES = ("mce", "pixel_accuracy", "class_accuracy", "mean_iou")
COLUMNS = ("step", "segmenter_updates", "epoch")
COLUMNS += tuple(f"{split}_{measure}" for split in ("train", "validation") for measure in MEASURES)


def read(path):
    """The rows as dicts of floats; empty fields are left out.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with open(path, newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def cut(path, step):
    """Drops rows after ``step``: a run that goes on from there writes them again."""
    rows = []
    if os.path.exists(path):
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
    with open(f"{path}.part", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(f"{path}.part", path)


def append(path, row):
    """Appends one row, a dict with keys of ``COLUMNS``; None and absent values stay empty."""
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, COLUMNS).writerow(row)
