"""The page `docs/ablations.md`, written from the files beside it and from nothing else.

`runs.csv` has a row for each run, `campaign.json` tells how it was run, and `notes.md`, if it is
there, is what people say about the results. Run as `python -m tools.ablations report`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.campaign import comparison
from segadv_jax.configs.ablations import ARMS
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title
from segadv_jax.report import markdown, page_files
from segadv_jax.report.page_files import CAMPAIGN, Row

RUNS = "runs.csv"
VERDICTS = ("accuracy_real", "accuracy_synthetic")
COLUMNS = ("arm", "seed", "split", *PAPER_MEASURES, "segmenter_updates", *VERDICTS, "push", "lost")


class Claim(NamedTuple):
    """What the paper says, and the pairs of arms whose difference shows whether it is so."""

    name: str
    sentence: str
    pairs: tuple[tuple[str, str], ...]


CLAIMS = (
    Claim(
        "Slow alternation",
        "We found the second scheme [slow] to led to the most stable training. (Section 4)",
        (("slow", "fast"), ("slow", "simultaneous"), ("fast", "simultaneous")),
    ),
    Claim(
        "Pre-training the adversary",
        "This, however, led to the training to be rapidly instable after just a few epochs in many "
        "experiments. (Section 4)",
        (("fast_pretrained", "fast"), ("slow_pretrained", "slow")),
    ),
    Claim(
        "Encodings",
        "We found that for the basic input encoding, the adversarial does not succeed in perfectly "
        "separating ground-truth and predicted label maps, it rather has a discrimination accuracy "
        "that is comparable to that obtained with the other input encodings. (Section 4)",
        (("product", "simultaneous"), ("scaling", "simultaneous")),
    ),
    Claim(
        "RGB beside the label map",
        "Preliminary experiments in this set-up show no difference when adding the corresponding "
        "RGB image. (Section 3.2, of the basic encoding)",
        (("label_map_rgb", "label_map"),),
    ),
    Claim(
        "The non-saturating term",
        "Preliminary experiments confirmed that this is indeed important in practice to speedup "
        "training. (Section 3.1)",
        (("simultaneous", "saturating"),),
    ),
    Claim(
        "Adversarial training itself",
        "Our experiments show that our adversarial training approach leads to improved accuracy. "
        "(Abstract)",
        tuple((arm, "standard") for arm in ARMS if arm != "standard"),
    ),
)


def read_runs(folder: Path) -> list[Row]:
    """The rows of `runs.csv`; raises an InputError if it is missing or damaged."""
    return page_files.read_rows(folder / RUNS, COLUMNS, ("arm", "split"), ARMS)


def write_files(folder: Path, rows: Iterable[Row], how: Mapping[str, Any]) -> None:
    """Writes `runs.csv` and `campaign.json`."""
    files.write_csv(folder / RUNS, COLUMNS, rows)
    files.write_json(folder / CAMPAIGN, how)


def render(folder: Path) -> str:
    """The text of the page, from the files of `folder`.

    Raises:
        InputError: one of them is missing or damaged.
    """
    rows = read_runs(folder)
    how = page_files.read_json(folder / CAMPAIGN, ("commits", "commands", "seeds", "machine"))
    sections = (_intro(how), page_files.notes(folder), _arms(rows))
    return markdown.join(*sections, *(_claim(claim, rows) for claim in CLAIMS)) + "\n"


def _intro(how: Mapping[str, Any]) -> str:
    machine = how["machine"]
    commands = [*how["commands"], "python -m tools.ablations report --workdir=W"]
    return markdown.join(
        "# Ablations",
        "The claims of Section 4, each on Stanford Background: seven of eight subsets of the "
        "training images, the checkpoint selected on the eighth, measured on the 142 test images. "
        "The networks see images at half size and are trained for 300 updates "
        "(`configs/ablations.py`); what longer training would do is not shown. Seeds "
        f"{', '.join(map(str, how['seeds']))}; commits {', '.join(how['commits'])}; "
        f"{machine['processor']}, {machine['processes']} processes, jax {machine['jax']}.",
        "\n".join(f"    {command}" for command in commands),
        "The last command writes this page from `docs/ablations/`, where `runs.csv` has a row per "
        "run. Differences are paired by seed, with 95 % intervals by Student's t: an interval that "
        "contains zero leaves the question open, as it will for small effects with so few seeds.",
    )


def _arms(rows: Sequence[Row]) -> str:
    columns = ("mean_iou", "class_accuracy", "pixel_accuracy", *VERDICTS, "push", "lost")
    lines = []
    for arm in ARMS:
        spread = comparison.spread([row for row in rows if row["arm"] == arm], columns)
        lines.append([arm, *(markdown.mean_std(spread[column], ".1f") for column in columns)])
    heads = [*map(title, columns[:3]), "right on real", "right on synthetic", "push", "lost"]
    return markdown.join(
        "## Arms",
        "In %, mean and standard deviation over the seeds. The adversary's accuracies are on real "
        "and on synthetic maps of whole validation images, at the selected checkpoint (50: it is "
        "fooled). *Push* is the norm of the adversarial gradient at the logits, lambda included, "
        "relative to the cross-entropy's, a mean over the validations. *Lost* is how far the mean "
        "IoU of the last validation is below that of the best one.",
        markdown.table(["arm", *heads], lines),
    )


def _claim(claim: Claim, rows: Sequence[Row]) -> str:
    lines = []
    for arm, other in claim.pairs:
        found = comparison.compare(rows, arm, other)["mean_iou"]
        lines.append(
            [
                f"{arm} - {other}",
                percent(found["mean"], "+.1f"),
                markdown.interval(found["t_interval"], "+.1f"),
                markdown.by_seed(found["differences"], "+.1f"),
            ]
        )
    return markdown.join(
        f"## {claim.name}",
        f"> {claim.sentence}",
        markdown.table(["difference", "mean IoU", "95 % interval", "by seed"], lines),
    )
