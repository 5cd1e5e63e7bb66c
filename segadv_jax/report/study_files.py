"""The files in `docs/results` from which the page of a study is written.

`<study>.csv` has a row per run, all fractions of one; `<study>_histories.csv` the validations of
the runs of some blocks, which `<study>_<block>.png` shows; `<study>_choices.json` every point that
was tuned and what was chosen; `<study>_campaign.json` how the runs were made; `<study>.png` shows
some predictions; `<study>_notes.md`, if it is there, is what people say about the runs.
"""

import statistics
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from segadv_jax import files
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.report import course, pages
from segadv_jax.report.pages import Row
from segadv_jax.report.study_definition import Block, Key, Study

MEASURES: tuple[str, ...] = (
    "mean_iou",
    "pixel_accuracy",
    "class_accuracy",
    "mean_bf",
    "mean_bf_ignoring_border",
)
MEASURES += ("mean_bf_3_pixels", "mean_boundary_iou", "regions", "regions_true", "specks")
MEASURES += ("specks_true", "ece", "nll", "mce", "certainty", "accuracy_real", "accuracy_synthetic")
# What the paper's tables need beside them: how BF varies over the images, and how many these are.
MEASURES += ("std_bf", "images")
COLUMNS: tuple[str, ...] = (
    "block",
    "arm",
    "seed",
    "fraction",
    "balance",
    "fold",
    *MEASURES,
    "prior_alpha",
    "temperature",
)
# The hours are from a run's beginning to the end of its evaluation, pauses included.
COLUMNS += ("segmenter_updates", "hours")
# Columns: (name, field of the configuration, its value where a study does not set it).
_CONDITIONS = (("fraction", "data.fraction", 1.0), ("balance", "loss.balance", 0.0))
# By class: {beginning of a column: name in an evaluation}.
BY_CLASS = {"iou_": "iou", "share_": "histogram_predicted", "true_share_": "histogram_true"}
HISTORY_COLUMNS = ("block", "arm", "seed", *course.COLUMNS)
# Added on reading: a mean over classes may rest on one that has few pixels.
WITHOUT_RAREST = "mean_iou_without_rarest"
# Of a point, all on the validation images.
POINT_MEASURES = (*PAPER_MEASURES, "mean_bf")

_REPORT_ANEW = "restore it, or delete it and run the stage report anew"


def table_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.csv"


def histories_path(folder: Path, name: str) -> Path:
    return folder / f"{name}_histories.csv"


def curves_path(folder: Path, name: str, block: str) -> Path:
    return folder / f"{name}_{block}.png"


def campaign_path(folder: Path, name: str) -> Path:
    return folder / f"{name}_campaign.json"


def picture_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.png"


def page_path(folder: Path, name: str) -> Path:
    return folder.resolve().parent / f"{name}_study.md"


def conditions(study: Study, key: Key) -> Row:
    """The columns that say under which conditions an arm of a block is trained."""
    fields = study.fixed(key)
    result = {name: fields.get(field, default) for name, field, default in _CONDITIONS}
    return result | {"fold": study.blocks[key[0]].fold}


def write_rows(path: Path, study: Study, rows: Sequence[Row]) -> None:
    """Writes `<study>.csv`, arm by arm, with a column for each class that a row has."""
    rows = _sorted(study, rows)
    found = (key for begin in BY_CLASS for row in rows for key in row if key.startswith(begin))
    files.write_csv(path, (*COLUMNS, *dict.fromkeys(found)), rows)


def write_histories(path: Path, study: Study, rows: Sequence[Row]) -> None:
    """Writes `<study>_histories.csv`, arm by arm."""
    files.write_csv(path, HISTORY_COLUMNS, _sorted(study, rows))


def read_histories(path: Path, study: Study) -> list[Row]:
    """The rows of `<study>_histories.csv`; none without it. An InputError if it is damaged."""
    if not path.exists():
        return []
    arms = {arm for block in study.blocks.values() for arm in block.arms}
    rows = pages.read_rows(path, HISTORY_COLUMNS, ("block", "arm"), arms)
    known = {(name, arm) for name, block in study.blocks.items() for arm in block.arms}
    for row in rows:
        if (row["block"], row["arm"]) not in known:
            wrong = f"the study has no arm {row['block']}/{row['arm']}"
            raise files.damaged(path, wrong, _REPORT_ANEW)
    return rows


def _sorted(study: Study, rows: Sequence[Row]) -> list[Row]:
    shown = [(name, arm) for name, block in study.blocks.items() for arm in block.shown]
    return sorted(rows, key=lambda row: (shown.index((row["block"], row["arm"])), row["seed"]))


def read_rows(path: Path, study: Study) -> list[Row]:
    """The rows of `<study>.csv`, with "split" by which comparisons pair them and WITHOUT_RAREST.

    Raises:
        InputError: the file is missing or damaged, or has a row that the study has not.
    """
    arms = {arm for block in study.blocks.values() for arm in block.shown}
    rows = pages.read_rows(path, (), ("block", "arm"), arms)
    if not rows:
        raise files.damaged(path, "it has no rows", _REPORT_ANEW)
    lacking = [name for name in COLUMNS if name not in rows[0]]
    wrong = f"it has no column {lacking[0]}" if lacking else _wrong_row(study, rows)
    if wrong:
        raise files.damaged(path, wrong, _REPORT_ANEW)
    return [row | {"split": row["block"], WITHOUT_RAREST: without_rarest(row)} for row in rows]


def of_other_runs(
    study: Study, rows: Iterable[Row], done: Container[tuple[str, str, int]]
) -> list[Row]:
    """The rows that measure no run (block, arm, seed) of `done`."""

    def run(row: Row) -> tuple[str, str, int]:
        return row["block"], study.blocks[row["block"]].shown[row["arm"]], row["seed"]

    return [row for row in rows if run(row) not in done]


def of_block(name: str, block: Block, rows: Iterable[Row]) -> list[Row]:
    """The rows of a block, and one for each seed with which all arms of a pool are done.

    Its measures are means over the arms; None where one of these has none.
    """
    rows, pooled = [row for row in rows if row["block"] == name], []
    for pool, members in block.pools.items():
        for seed in dict.fromkeys(row["seed"] for row in rows):
            mine = [row for row in rows if row["seed"] == seed and row["arm"] in members]
            if len(mine) == len(members):
                pooled.append(mine[0] | _means(mine) | {"arm": pool})
    return [*rows, *pooled]


def _means(rows: Sequence[Row]) -> Row:
    names = [name for name, value in rows[0].items() if not isinstance(value, str)]
    values = {name: [row[name] for row in rows] for name in names}
    return {name: None if None in of else statistics.mean(of) for name, of in values.items()}


def by_class(row: Row, begin: str) -> dict[str, float]:
    """{class: value} of the columns that begin so, one of BY_CLASS; without what has no value."""
    found = {name: value for name, value in row.items() if name.startswith(begin)}
    return {name.removeprefix(begin): value for name, value in found.items() if value is not None}


def rarest(row: Row) -> str | None:
    """The class with the fewest pixels in the ground truth of a row's images; None if unknown."""
    shares = {kind: share for kind, share in by_class(row, "true_share_").items() if share}
    return min(shares, key=lambda kind: shares[kind]) if shares else None


def without_rarest(row: Row) -> float | None:
    """The mean IoU of the other classes; None if these or the rarest are unknown."""
    kind = rarest(row)
    others = [iou for name, iou in by_class(row, "iou_").items() if name != kind]
    return statistics.mean(others) if others and kind else None


def _wrong_row(study: Study, rows: Sequence[Row]) -> str:
    """What is wrong with the first row that cannot be a result of the study; "" if none is."""
    seen = set()
    for row in rows:
        key, block = (row["block"], row["arm"], row["seed"]), study.blocks.get(row["block"])
        name = "/".join(map(str, key))
        if block is None or row["arm"] not in block.shown or row["seed"] not in block.seeds:
            return f"the study has no run {name}"
        if key in seen:
            return f"the row of {name} comes twice"
        seen.add(key)
        for column, value in conditions(study, (key[0], block.shown[key[1]])).items():
            if row[column] != value:
                return f"{name} has {column} {row[column]}, in the study it is {value}"
        for measure in dict.fromkeys((*PAPER_MEASURES, *study.primary, *study.family)):
            value = row[measure]
            if value is None or not 0 <= value <= 1:
                return f"{measure} of {name} is no fraction of one"
    return ""
