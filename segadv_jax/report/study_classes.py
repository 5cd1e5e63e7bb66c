"""What a block of a study says of each class: where a gain of the mean comes from."""

import statistics
from collections.abc import Sequence

from segadv_jax.campaign import comparison
from segadv_jax.report import markdown, study_files
from segadv_jax.report.pages import Row
from segadv_jax.report.study_definition import Block

_IOU, _PREDICTED, _TRUE = study_files.BY_CLASS


def render(block: Block, rows: Sequence[Row]) -> str:
    """The tables of a block's `rows`; empty where nothing is known by class."""
    kinds = list(study_files.by_class(rows[0], _TRUE))
    if not kinds:
        return ""
    gains = [[f"{arm} - {other}", *_gains(rows, arm, other, kinds)] for arm, other in block.pairs]
    gains = [line for line in gains if line[1:]]
    truths = _truths(block, rows)
    shares = [[f"*{name}*", *_shares([row], _TRUE, kinds)] for name, row in truths.items()]
    for arm in block.compared:
        mine = [row for row in rows if row["arm"] == arm]
        if mine:
            shares.append([arm, *_shares(mine, _PREDICTED, kinds)])
    rarest = set(map(study_files.rarest, truths.values()))
    titles = [f"*{kind}*" if kind in rarest else kind for kind in kinds]
    parts = [
        "Pixels of each class in %, in the ground truth and as predicted; the rarest in italics:",
        markdown.table(["arm", *titles], shares),
    ]
    if gains:
        parts += [
            "Paired differences in IoU by class, with half the width of the 95 % interval:",
            markdown.table(["difference", *titles], gains),
        ]
    return markdown.join(*parts)


def _truths(block: Block, rows: Sequence[Row]) -> dict[str, Row]:
    """{"ground truth" or "ground truth of SPLIT": a row with it} of the images measured on."""
    result: dict[str, Row] = {}
    for row in rows:
        if row["arm"] in block.shown:  # A pool's images are those of its arms.
            of = (f" of {split}" for split in block.splits if row["arm"].endswith(f"_{split}"))
            result.setdefault(f"ground truth{next(of, '')}", row)
    return result


def _gains(rows: Sequence[Row], arm: str, other: str, kinds: Sequence[str]) -> list[str]:
    """ "+0.31 ± 0.20" for each class; empty without a pair."""
    seeds, found = comparison.paired(rows, arm, other, [_IOU + kind for kind in kinds])
    return [_gain(list(found[_IOU + kind].values())) for kind in kinds] if seeds else []


def _gain(values: Sequence[float]) -> str:
    if not values:  # The class is neither in the images nor in the predictions.
        return "-"
    mean, ends = 100 * statistics.mean(values), comparison.t_test(values)["t_interval"]
    return f"{mean:+.2f}" + (f" ± {50 * (ends[1] - ends[0]):.2f}" if ends else "")


def _shares(rows: Sequence[Row], begin: str, kinds: Sequence[str]) -> list[str]:
    shares = [study_files.by_class(row, begin) for row in rows]
    return [
        f"{100 * statistics.mean(share.get(kind, 0.0) for share in shares):.1f}" for kind in kinds
    ]
