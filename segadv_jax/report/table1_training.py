"""The sections of Table 1's page about the course of the training, from `histories.csv`."""

from segadv_jax.metrics.names import percent
from segadv_jax.report import markdown
from segadv_jax.report import table1_files as table1
from segadv_jax.report.page_files import Row
from segadv_jax.report.table1_files import ARMS, Results


def overfitting(validations: list[Row], results: Results) -> str:
    """The curves of training and validation, on all images and on the smallest part of them."""
    parts = table1.by_fraction(results.histories, results.how)
    smallest = min(parts)
    again = ""
    if smallest < 1:
        again = markdown.join(
            f"The same with {smallest:g} of the training images:", _gap_table(parts[smallest])
        )
    return markdown.join(
        "## Over-fitting, epoch by epoch (the paper's Figure 4)",
        "Means over the seeds that were still training. Training images are measured as the "
        "validation images are, without augmentation.",
        "![Training and validation](results/figure4.png)",
        _gap_table(validations),
        again,
    )


def _gap_table(histories: list[Row]) -> str:
    lines = []
    for arm in ARMS:
        for updates, epoch, part in table1.by_update(histories, arm):
            cells = []
            for m in ("class_accuracy", "mean_iou"):
                train, validation = _of_both(part, m)
                gap = None if train is None or validation is None else train - validation
                cells.append(" / ".join(map(percent, (train, validation, gap))))
            mce = ("-" if x is None else f"{x:.3f}" for x in _of_both(part, "mce"))
            lines.append([arm, updates, f"{epoch:.1f}", len(part), *cells, " / ".join(mce)])
    head = ["arm", "updates", "epoch", "seeds"]
    head += [f"{m}: train / validation / gap" for m in ("class accuracy", "mean IoU")]
    return markdown.table([*head, "cross-entropy: train / validation"], lines)


def _of_both(part: list[Row], curve: str) -> tuple[float | None, float | None]:
    """Means of a curve on the training and on the validation images."""
    return table1.mean_of(part, f"train_{curve}"), table1.mean_of(part, f"validation_{curve}")


def game(histories: list[Row]) -> str:
    """How often the adversary is right, and how hard it pushes."""
    columns = {
        "accuracy_real": ("right on real", ".2f"),
        "accuracy_synthetic": ("right on synthetic", ".2f"),
        "grad_norm_mce": ("gradient of mce", ".4f"),
        "grad_norm_adversarial": ("gradient of the adversarial term", ".4f"),
        "validation_certainty": ("certainty", ".2f"),
    }
    lines = []
    for arm in ARMS:
        for updates, _, part in table1.by_update(histories, arm):
            means = ((table1.mean_of(part, name), form) for name, (_, form) in columns.items())
            cells = ("-" if mean is None else format(mean, form) for mean, form in means)
            lines.append([arm, updates, *cells])
    return markdown.join(
        "## The health of the game",
        "How often the adversary is right (0.5: fooled, 1: it has won), and the norms at the label "
        "map of the two gradients that the segmenter adds up, lambda included, at the step of each "
        "validation. *Certainty* is the mean highest class probability on the validation images.",
        markdown.table(["arm", "updates", *(head for head, _ in columns.values())], lines),
    )
