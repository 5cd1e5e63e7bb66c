"""``history.csv``: one row per validation, the curves of the paper's Figure 4."""

import csv
import os

from segadv_jax.errors import InputError

MEASURES = ("mce", "pixel_accuracy", "class_accuracy", "mean_iou", "certainty")
# The health of the game at the step of the validation, a turn of the segmenter's. What that turn
# does not compute is empty: in the standard arm all but the first norm, under the schedules
# "fast" and "slow" the accuracy on real maps.
GAME = ("accuracy_real", "accuracy_synthetic", "grad_norm_mce", "grad_norm_adversarial")
COLUMNS = ("step", "segmenter_updates", "epoch")
COLUMNS += tuple(f"{split}_{measure}" for split in ("train", "validation") for measure in MEASURES)
COLUMNS += GAME


def read(path):
    """The rows as dicts of floats; empty fields are left out.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with open(path, newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def cut(path, step):
    """Drops rows after ``step``: a run that goes on from there writes them again.

    Raises:
        InputError: the file is damaged.
    """
    rows = []
    if os.path.exists(path):
        try:
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise InputError(
                f"{path} is damaged: a row has no number in the column step; mend it, or move it "
                "away to begin a new one"
            ) from error
    with open(f"{path}.part", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(f"{path}.part", path)


def exhausted(rows, patience, every):
    """Whether the best mean IoU on the validation split lies ``patience`` validations back.

    Of equals the last is the best, as it is for checkpoints.

    Args:
        rows: of ``read``.
        patience: 0 for any.
        every: the segmenter's updates from one validation to the next.
    """
    if not patience or not rows:
        return False
    best = max(reversed(rows), key=lambda row: row.get("validation_mean_iou", 0.0))
    return rows[-1]["segmenter_updates"] - best["segmenter_updates"] >= patience * every


def append(path, row):
    """Appends one row, a dict with keys of ``COLUMNS``; None and absent values stay empty."""
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, COLUMNS).writerow(row)
