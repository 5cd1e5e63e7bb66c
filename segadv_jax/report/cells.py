"""The cells of the paper's tables: what is printed in them, and our figures beside it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segadv_jax.configs import hyperparameters
from segadv_jax.metrics.names import PAPER_MEASURES, title
from segadv_jax.models import ADVERSARIES
from segadv_jax.report import paper
from segadv_jax.report.measured import Arm, Config, Images

Arms = Mapping[paper.Key, Arm]

_VOC = "PASCAL VOC 2012"


class Cell(NamedTuple):
    """A figure of the paper and ours.

    Attributes:
        row, column: their titles.
        paper: as printed; "-" where there is nothing.
        ours, std: numbers in the unit of `paper`; None where there is none.
        form: how to show ours.
        note: what there is to say about the printed figure.
        arm: that ours is of; None if it is of none.
    """

    row: str
    column: str
    paper: str
    ours: float | None = None
    std: float | None = None
    form: str = ".1f"
    note: str = ""
    arm: Arm | None = None


class Table(NamedTuple):
    """A table of the paper.

    Attributes:
        file: name without its ending.
        title: heading.
        text: what there is to say about it; may be empty.
        cells: row by row.
        labels: (split, number of its images) that the paper's measures are of; None if of none.
        boundaries: the same of BF.
    """

    file: str
    title: str
    text: str
    cells: list[Cell]
    labels: Images | None = None
    boundaries: Images | None = None


def tables(arms: Arms, others: Sequence[Arm] = ()) -> list[Table]:
    """All tables; that of the others comes last, if there are any.

    Args:
        arms: {cell as of `measured.cell_of`: Arm}.
        others: arms for which the paper has no cell.
    """
    result = [_table_1(arms), _table_2(arms)]
    result += [_supplement_1(), _supplement_2(arms), _supplement_3(arms)]
    return result + ([_others(others)] if others else [])


def _table_1(arms: Arms) -> Table:
    cells = [
        Cell(row, title(measure), figure, **_ours(arms.get(row), measure))
        for row, printed in paper.TABLE_1.items()
        for measure, figure in printed.items()
    ]
    heading = "Table 1: Stanford Background, test set, %"
    return Table("table1", heading, "", cells, paper.STANFORD_TEST)


def _table_2(arms: Arms) -> Table:
    cells = [
        Cell(_row(key), column, figure, **_ours(arms.get(key), measure))
        for key, printed in paper.TABLE_2.items()
        for column, measure, figure in zip(
            ("mIoU", "mBF"), ("mean_iou", "mean_bf"), printed, strict=True
        )
    ]
    heading = f"Table 2: {_VOC}, validation set, %"
    return Table("table2", heading, "", cells, paper.VOC_VAL, paper.VOC_VAL_FULL)


def _supplement_1() -> Table:
    cells = []
    for adversary, printed in paper.PARAMETERS.items():
        for i, (column, factor) in enumerate((("C' = C", 1), ("C' = 3C", 3))):
            row = paper.ADVERSARY_TITLES[adversary]
            ours = count_parameters(adversary, factor * paper.CLASSES)
            note = paper.MISPRINTED_PARAMETERS.get((adversary, i), "")
            cells.append(Cell(row, column, printed[i], ours, form=",", note=note))
    heading = f"Supplement, Table 1: parameters for C = {paper.CLASSES}"
    text = "Ours are counted from the shapes of the networks; no run is needed."
    return Table("supplement_table1", heading, text, cells)


def count_parameters(adversary: str, channels: int) -> int:
    """The parameters of an adversary for label maps of so many channels, from shapes alone."""
    module = ADVERSARIES[adversary](stride=8)

    def init():
        label_map, image = jnp.zeros((1, 40, 40, channels)), jnp.zeros((1, 320, 320, 3))
        return module.init(jax.random.key(0), label_map, image, jnp.full((1, 2), 320))["params"]

    return sum(math.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(init)))


def _supplement_2(arms: Arms) -> Table:
    cells = []
    selected: list[tuple[paper.Key, hyperparameters.Selected]]
    selected = [("baseline", hyperparameters.BASELINE), *hyperparameters.SELECTED.items()]
    for key, printed in selected:
        row, arm = _row(key), arms.get(key)
        for column, measure, figure in (
            ("mIoU", "mean_iou", printed.mean_iou),
            ("mBF", "mean_bf", printed.mean_bf),
            ("sigma", "std_bf", printed.sigma),
        ):
            cells.append(Cell(row, column, f"{figure:.2f}", **_ours(arm, measure, ".2f")))
        settings = _settings(arm.config) if arm else (None, None, None)
        chosen = (printed.slr, printed.alr, printed.lam)
        for column, setting, ours in zip(("slr", "alr", "lambda"), chosen, settings, strict=True):
            if setting is None:  # The baseline has no adversary.
                cells.append(Cell(row, column, "-", form="g", arm=arm))
            else:
                cells.append(Cell(row, column, f"{setting:g}", ours, form="g", arm=arm))
    heading = f"Supplement, Table 2: {_VOC}, validation set, %"
    text = (
        "Sigma is the standard deviation of BF over images. Lambda is a weight between sums: ours "
        "is config.loss.lam, times 16 where config.loss.reduction is 'mean' "
        "(configs/hyperparameters.py)."
    )
    return Table("supplement_table2", heading, text, cells, paper.VOC_VAL, paper.VOC_VAL_FULL)


def _settings(config: Config) -> tuple[float, float, float]:
    """A run's slr, alr and lambda, the last between sums, as we read the paper's."""
    segmenter, adversary = (
        config["optimizer"][player]["learning_rate"] for player in ("segmenter", "adversary")
    )
    loss = config["loss"]
    return segmenter, adversary, loss["lam"] * (16 if loss["reduction"] == "mean" else 1)


def _supplement_3(arms: Arms) -> Table:
    """Turned on its side: a row for each class."""
    cells = []
    for i, name in enumerate(paper.TABLE_3_CLASSES):
        for key, printed in paper.TABLE_3.items():
            doubtful = (key, name) == (paper.SCALING, "background")
            note = paper.doubtful_background() if doubtful else ""
            figure = _ours(arms.get(key), f"iou {name}")
            cells.append(Cell(name, _row(key), printed[i], note=note, **figure))
    for key, mean in paper.TABLE_3_MEAN.items():
        cells.append(Cell("mIoU", _row(key), mean, **_ours(arms.get(key), "mean_iou")))
    heading = f"Supplement, Table 3: {_VOC}, test set, IoU, %"
    text = "The labels of the test set are not public: ours are of another split."
    return Table("supplement_table3", heading, text, cells, paper.VOC_TEST)


def _others(others: Sequence[Arm]) -> Table:
    cells = [
        Cell(arm.name, title(measure).replace("bf", "BF"), "-", **_ours(arm, measure))
        for arm in others
        for measure in (*PAPER_MEASURES, "mean_bf")
    ]
    return Table("other_runs", "Runs for which the paper has no cell, %", "", cells)


def _ours(arm: Arm | None, measure: str, form: str = ".1f") -> dict[str, Any]:
    """Our part of a Cell: a measure in percent."""
    value = arm.values.get(measure, {}) if arm else {}
    percents = {k: None if v is None else 100 * v for k, v in value.items()}
    return {"ours": percents.get("mean"), "std": percents.get("std"), "form": form, "arm": arm}


def _row(key: paper.Key) -> str:
    """The title of a row: of "baseline" or of (adversary, encoding)."""
    return key if isinstance(key, str) else f"{paper.ADVERSARY_TITLES[key[0]]}, {key[1]}"
