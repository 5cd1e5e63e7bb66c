"""The page `docs/ablations.md`, written from the files beside it and `ablations.md` here.

`runs.csv` has a row for each run, `campaign.json` tells how it was run, and `notes.md`, if it is
there, is what people say about the results. Run as `python -m tools.ablations report`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from segadv_jax.campaign import comparison
from segadv_jax.configs.ablations import ARMS
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title
from segadv_jax.report import markdown, pages
from segadv_jax.report.pages import Row

RUNS = "runs.csv"
VERDICTS = ("accuracy_real", "accuracy_synthetic")
COLUMNS = ("arm", "seed", "split", *PAPER_MEASURES, "segmenter_updates", *VERDICTS, "push", "lost")


# The claims of the page, and the pairs of arms whose difference shows whether they are so.
CLAIMS = {
    "slow_alternation": [("slow", "fast"), ("slow", "simultaneous"), ("fast", "simultaneous")],
    "pretraining": [("fast_pretrained", "fast"), ("slow_pretrained", "slow")],
    "encodings": [("product", "simultaneous"), ("scaling", "simultaneous")],
    "rgb": [("label_map_rgb", "label_map")],
    "non_saturating": [("simultaneous", "saturating")],
    "adversarial_training": [(arm, "standard") for arm in ARMS if arm != "standard"],
}


def read_runs(folder: Path) -> list[Row]:
    """The rows of `runs.csv`; raises an InputError if it is missing or damaged."""
    return pages.read_rows(folder / RUNS, COLUMNS, ("arm", "split"), ARMS)


def render(folder: Path) -> str:
    """The text of the page; raises an InputError if a file of `folder` is missing or damaged."""
    rows = read_runs(folder)
    how = pages.read_json(folder / pages.CAMPAIGN, ("commits", "commands", "seeds", "machine"))
    return pages.fill(
        "ablations.md",
        seeds=pages.listed(how["seeds"]),
        commits=pages.listed(how["commits"]),
        machine=how["machine"],
        commands="\n    ".join(how["commands"]),
        notes=pages.notes(folder),
        arms=_arms(rows),
        **{claim: _differences(rows, pairs) for claim, pairs in CLAIMS.items()},
    )


def _arms(rows: Sequence[Row]) -> str:
    columns = ("mean_iou", "class_accuracy", "pixel_accuracy", *VERDICTS, "push", "lost")
    heads = [*map(title, columns[:3]), "right on real", "right on synthetic", "push", "lost"]
    spreads = {arm: pages.of_arm(rows, arm, columns) for arm in ARMS}
    lines = (
        [arm, *(markdown.mean_std(spread[column], ".1f") for column in columns)]
        for arm, spread in spreads.items()
    )
    return markdown.table(["arm", *heads], lines)


def _differences(rows: Sequence[Row], pairs: Iterable[tuple[str, str]]) -> str:
    lines = []
    for arm, other in pairs:
        found = comparison.compare(rows, arm, other)["mean_iou"]
        interval = markdown.interval(found["t_interval"], "+.1f")
        by_seed = markdown.by_seed(found["differences"], "+.1f")
        lines.append([f"{arm} - {other}", percent(found["mean"], "+.1f"), interval, by_seed])
    return markdown.table(["difference", "mean IoU", "95 % interval", "by seed"], lines)
