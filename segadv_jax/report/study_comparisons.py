"""The comparisons of a study, and which of them are sure after correction for their number."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from segadv_jax.campaign import comparison
from segadv_jax.report import study_files
from segadv_jax.report.pages import Row
from segadv_jax.report.study_definition import Study

# Of the differences, in their order on a page.
COMPARED: tuple[str, ...] = (
    "mean_iou",
    study_files.WITHOUT_RAREST,
    "pixel_accuracy",
    "class_accuracy",
    "mean_bf",
)
COMPARED += ("mean_bf_3_pixels", "mean_boundary_iou", "ece", "nll")


class Comparison(NamedTuple):
    """A pair of arms: `differences` as {measure: {seed: difference}}, `tests` as of `t_test`."""

    block: str
    arm: str
    other: str
    seeds: list[int]
    differences: dict[str, dict[int, float]]
    tests: dict[str, dict[str, Any]]


def compare_all(study: Study, rows: Sequence[Row]) -> list[Comparison]:
    """All pairs of the study, whether there are runs of them or not."""
    result = []
    for name, block in study.blocks.items():
        mine = study_files.of_block(name, block, rows)
        for arm, other in block.pairs:
            seeds, differences = comparison.paired(mine, arm, other, COMPARED)
            tests = {m: comparison.t_test(list(d.values())) for m, d in differences.items()}
            result.append(Comparison(name, arm, other, seeds, differences, tests))
    return result


def holm_p_values(study: Study, found: Sequence[Comparison]) -> dict[tuple[int, str], float | None]:
    """{(number of a comparison, tested measure): p-value by Holm over all of them}."""
    keys = [(number, measure) for number in range(len(found)) for measure in study.family]
    p_values = comparison.holm([found[number].tests[measure]["p"] for number, measure in keys])
    return dict(zip(keys, p_values, strict=True))


def sure(study: Study, found: Sequence[Comparison]) -> list[tuple[int, str]]:
    """Those of `holm_p_values` that are below 0.05 and have all of their pairs.

    The correction does not cover looking again after each pair that comes.
    """
    return [
        (number, measure)
        for (number, measure), p in holm_p_values(study, found).items()
        if p is not None and p < 0.05
        if len(found[number].seeds) == len(study.blocks[found[number].block].seeds)
    ]
