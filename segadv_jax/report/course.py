"""How the training of several runs went, validation by validation, from their histories.

The paper's Figure 4 in figures, and the health of the game.
"""

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from segadv_jax.metrics.names import percent, title
from segadv_jax.report import markdown
from segadv_jax.report.pages import Row
from segadv_jax.workdir import GAME

# Of a history: the curves of Figure 4, and the game; a run keeps more since.
_CURVES = ("mce", "pixel_accuracy", "class_accuracy", "mean_iou", "certainty")
COLUMNS = (
    *("step", "segmenter_updates", "epoch"),
    *(f"{split}_{curve}" for split in ("train", "validation") for curve in _CURVES),
    *GAME,
)
_SPLITS = ("train", "validation")
ABOUT_GAME = (
    "How often the adversary is right (0.5: fooled, 1: it has won), and the norms at the label map "
    "of the two gradients that the segmenter adds up, lambda included, at the step of each "
    "validation. *Certainty* is the mean highest class probability on the validation images."
)
_GAME: Mapping[str, tuple[str, str]] = {
    "right on real": ("accuracy_real", ".2f"),
    "right on synthetic": ("accuracy_synthetic", ".2f"),
    "gradient of mce": ("grad_norm_mce", ".4f"),
    "gradient of the adversarial term": ("grad_norm_adversarial", ".4f"),
    "certainty": ("validation_certainty", ".2f"),
}


def by_update(rows: Sequence[Row], arms: Iterable[str]) -> Iterator[tuple[str, int, list[Row]]]:
    """(arm, updates, the rows of the seeds that got as far), up to where most seeds did."""
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        ends: dict[int, float] = {}
        for row in mine:
            ends[row["seed"]] = max(row["segmenter_updates"], ends.get(row["seed"], 0))
        for updates in sorted({row["segmenter_updates"] for row in mine}):
            if _most_reach(ends.values(), updates):
                part = [row for row in mine if row["segmenter_updates"] == updates]
                yield arm, int(updates), part


def _most_reach(ends: Collection[float], place: float) -> bool:
    """Whether most runs got as far: the mean of the few that are left would be of other runs."""
    return 2 * sum(end >= place for end in ends) > len(ends)


def values_at(
    runs: Iterable[Sequence[Mapping[str, Any]]], x: str, column: str
) -> dict[float, list[float]]:
    """{x: a column's values in the histories of the runs}, up to where most runs got."""
    empty = (None, "")
    lines = [
        {
            float(row[x]): float(row[column])
            for row in rows
            if row.get(x) not in empty and row.get(column) not in empty
        }
        for rows in runs
    ]
    ends = [max(line) for line in lines if line]
    result: dict[float, list[float]] = {}
    for place in sorted({place for line in lines for place in line}):
        if _most_reach(ends, place):
            result[place] = [line[place] for line in lines if place in line]
    return result


def histories(rows: Sequence[Row], arms: Iterable[str]) -> dict[str, list[list[Row]]]:
    """{arm: the history of each seed}, as `figures.draw_curves` takes them."""
    result: dict[str, dict[int, list[Row]]] = {arm: {} for arm in arms}
    for row in rows:
        if row["arm"] in result:
            result[row["arm"]].setdefault(row["seed"], []).append(row)
    return {arm: list(seeds.values()) for arm, seeds in result.items() if seeds}


def gaps(rows: Sequence[Row], arms: Iterable[str]) -> str:
    """How far training and validation images are apart, as a table."""
    lines = []
    for arm, updates, part in by_update(rows, arms):
        cells = []
        for m in ("class_accuracy", "mean_iou"):
            train, validation = (_mean(part, f"{split}_{m}") for split in _SPLITS)
            gap = None if train is None or validation is None else train - validation
            cells.append(" / ".join(map(percent, (train, validation, gap))))
        mce = (_mean(part, f"{split}_mce") for split in _SPLITS)
        cells.append(" / ".join("-" if x is None else f"{x:.3f}" for x in mce))
        lines.append([arm, updates, f"{part[0]['epoch']:.1f}", len(part), *cells])
    head = ["arm", "updates", "epoch", "seeds"]
    head += [f"{title(m)}: train / validation / gap" for m in ("class_accuracy", "mean_iou")]
    return markdown.table([*head, "cross-entropy: train / validation"], lines)


def game(rows: Sequence[Row], arms: Iterable[str]) -> str:
    """How often the adversary is right, and how hard it pushes, as a table."""
    lines = []
    for arm, updates, part in by_update(rows, arms):
        means = ((_mean(part, name), form) for name, form in _GAME.values())
        cells = ("-" if mean is None else format(mean, form) for mean, form in means)
        lines.append([arm, updates, *cells])
    return markdown.table(["arm", "updates", *_GAME], lines)


def _mean(part: Iterable[Row], column: str) -> float | None:
    """The mean of a column, over the rows that have it."""
    values = [row[column] for row in part if row.get(column) is not None]
    return statistics.mean(values) if values else None
