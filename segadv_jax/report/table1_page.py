"""The page `docs/results.md`, written from the files beside it and from nothing else.

See `table1_files.py` for these files; `notes.md`, if it is there, is what people say about the
results. Run as `python -m tools.reproduce_table1 report`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadv_jax.campaign import comparison
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title
from segadv_jax.report import markdown, page_files, paper, table1_training
from segadv_jax.report import table1_files as table1
from segadv_jax.report.page_files import CAMPAIGN, Row
from segadv_jax.report.table1_files import ARMS, CHOICES, CONTROL, HISTORIES, TABLE, Results

SHOWN = 5  # Test images in the pictures.
_TITLES = [title(measure) for measure in PAPER_MEASURES]


def render(folder: Path) -> str:
    """The text of the page, from the files of `folder`.

    Raises:
        InputError: one of them cannot be read.
    """
    results = table1.read(folder)
    main, validations = (
        table1.main_rows(x, results.how) for x in (results.rows, results.histories)
    )
    sections = [
        _answer(main, results),
        page_files.notes(folder),
        _means(main, validations),
        _seeds(main),
        _labels(results),
        _fresh(results),
        table1_training.overfitting(validations, results),
        table1_training.game(validations),
        _LOOKS,
        _tuning(results.choices),
        _how(results),
    ]
    return markdown.join(*sections) + "\n"


def _answer(main: list[Row], results: Results) -> str:
    sources = ", ".join(f"[{name}](results/{name})" for name in (TABLE, HISTORIES, CHOICES))
    answers = []
    for arm in ARMS[1:]:
        pair = comparison.compare(main, arm, "standard")
        answers.append(f"- *{arm}* against *standard*, {len(pair['seeds'])} seeds: {verdict(pair)}")
    if results.confirmed:
        arm, fraction = results.confirmed
        for other in ("standard", CONTROL):
            pair = comparison.compare(results.fresh, arm, other)
            if pair["seeds"]:
                answers.append(
                    f"- *{arm}* against *{other}* where its gain was largest, with {fraction:g} of "
                    f"the images, {len(pair['seeds'])} fresh seeds: {verdict(pair)}"
                )
    return markdown.join(
        "# Table 1: does adversarial training help on Stanford Background?",
        "Three arms on Stanford Background (715 images, eight classes), paired by seed: "
        "*standard*, cross-entropy alone; *printed*, with the adversary as the paper prints it; "
        "*tuned*, the best adversarial setting found on the validation subset. This page is "
        "written by `python -m tools.reproduce_table1 report`, never by hand, from "
        f"{sources} and [{CAMPAIGN}](results/{CAMPAIGN}). All measures are in "
        "%, of the pixels of the 142 test images at their native resolution; intervals are 95 % "
        "intervals of the mean.",
        "## In short",
        "\n".join(answers),
    )


def verdict(pair: Mapping[str, Any]) -> str:
    """What a paired comparison says about the mean IoU, as a sentence."""
    gain = pair["mean_iou"]
    if gain["mean"] is None:
        return "no pair of runs yet."
    text = f"mean IoU {percent(gain['mean'], '+.2f')}"
    if gain["t_interval"] is None:
        return f"{text}, one pair only, which says nothing."
    low, high = gain["t_interval"]
    text += f" ({markdown.interval(gain['t_interval'])})"
    if low > 0:
        return f"{text}: **a gain.**"
    if high < 0:
        return f"{text}: **a loss.**"
    return f"{text}: **no difference that these seeds can show.**"


def _of_arm(rows: Iterable[Row], arm: str) -> dict[str, Any]:
    """Mean and spread of one arm."""
    return comparison.spread([row for row in rows if row["arm"] == arm])


def _means(main: list[Row], validations: list[Row]) -> str:
    lines: list[list[Any]] = []
    for arm in ARMS:
        part = _of_arm(main, arm)
        cells = [markdown.mean_std(part[measure]) for measure in PAPER_MEASURES]
        lines.append([arm, len(part["seeds"]), *cells])
    for name, printed in paper.TABLE_1.items():
        lines.append([f"*Luc et al., {name}*", 1, *(printed[m] for m in PAPER_MEASURES)])
    farabet = (paper.FARABET[m] for m in PAPER_MEASURES)
    lines.append(["*Farabet et al., same network*", "", *farabet])
    return markdown.join(
        "## Mean and standard deviation over the seeds",
        markdown.table(["arm", "seeds", *_TITLES], lines),
        f"{_beside_the_paper(main)} {_where_it_ended(validations)}",
    )


def _beside_the_paper(main: list[Row]) -> str:
    standard, below = _of_arm(main, "standard"), []
    for measure in PAPER_MEASURES:
        mean, printed = standard[measure]["mean"], float(paper.TABLE_1["standard"][measure])
        if mean is not None and 100 * mean < printed:
            below.append(f"{title(measure)} by {printed - 100 * mean:.1f}")
    if not below:
        return "The standard arm is at or above the paper's standard in all three measures."
    return f"The standard arm is below the paper's standard in {' and '.join(below)}."


def _where_it_ended(validations: list[Row]) -> str:
    runs: dict[int, list[float]] = {}
    for line in validations:
        if line["arm"] == "standard":
            runs.setdefault(line["seed"], []).append(line["validation_mean_iou"])
    rising = sum(scores[-1] == max(scores) for scores in runs.values())
    return (
        f"In {rising} of its {len(runs)} runs the best validation is the last: there the budget "
        "ended the training, not over-fitting."
    )


def _pairs(rows: list[Row], arms: Sequence[str], other: str = "standard") -> str:
    lines = []
    for arm in arms:
        pair = comparison.compare(rows, arm, other)
        if not pair["seeds"]:
            continue
        first: list[Any] = [f"{arm} - {other}", len(pair["seeds"])]
        for measure in PAPER_MEASURES:
            found = pair[measure]
            lines.append(
                [
                    *first,
                    title(measure),
                    percent(found["mean"], "+.2f"),
                    markdown.interval(found["t_interval"]),
                    markdown.interval(found["bootstrap_interval"]),
                    markdown.by_seed(found["differences"]),
                ]
            )
            first = ["", ""]
    head = ["difference", "pairs", "measure", "mean", "Student's t", "bootstrap", "by seed"]
    return markdown.table(head, lines)


def _seeds(main: list[Row]) -> str:
    lines = [
        [
            row["arm"],
            row["seed"],
            *(percent(row[m], ".2f") for m in PAPER_MEASURES),
            row["segmenter_updates"],
        ]
        for row in sorted(main, key=lambda row: (ARMS.index(row["arm"]), row["seed"]))
    ]
    return markdown.join(
        "## Every seed",
        markdown.table(["arm", "seed", *_TITLES, "selected at update"], lines),
        "## Paired differences",
        _pairs(main, ARMS[1:]),
    )


def _labels(results: Results) -> str:
    budget = results.how.get("fraction_updates")
    lines = []
    for fraction, part in table1.by_fraction(results.rows, results.how).items():
        cells = [markdown.mean_std(_of_arm(part, arm)["mean_iou"]) for arm in ARMS]
        for arm in ARMS[1:]:
            gain = comparison.compare(part, arm, "standard")["mean_iou"]
            interval = markdown.interval(gain["t_interval"])
            cells.append(f"{percent(gain['mean'], '+.2f')} ({interval})")
        lines.append([f"{fraction:g}", len({row["seed"] for row in part}), *cells])
    gains = [f"{arm} - standard, mean IoU" for arm in ARMS[1:]]
    return markdown.join(
        "## When does it help? The gain against the number of labels",
        "Mean IoU with a part of the 501 training images, drawn anew by each seed and the same "
        "for the arms of a pair; the validation subset stays whole."
        + (f" Parts are trained for at most {budget} updates." if budget else ""),
        markdown.table(["training images", "seeds", *ARMS, *gains], lines),
        "![The gain against the number of labels](results/gain.png)",
    )


def _fresh(results: Results) -> str:
    if not results.confirmed:
        return ""
    (arm, fraction), rows = results.confirmed, results.fresh
    pair, control = (comparison.compare(rows, arm, x) for x in ("standard", CONTROL))
    if not pair["seeds"]:
        return ""
    texts = [
        "## The largest gain, with fresh seeds",
        f"The largest mean gain above is that of *{arm}* with {fraction:g} of the training "
        "images. The largest of several gains is an overestimate, by luck alone. The same pair "
        "with seeds that played no part in the choice:",
        _pairs(rows, [arm]),
        f"So: {verdict(pair)}",
    ]
    if control["seeds"]:
        texts += [
            "The segmenter of *tuned* has a learning rate of its own, which by itself makes a "
            "difference in a short training. *control* is cross-entropy alone with that rate and "
            "the same seeds; only the difference from it is due to the adversary:",
            _pairs(rows, [arm], CONTROL),
            _pairs(rows, [CONTROL]),
            f"Against *control*: {verdict(control)}",
        ]
    return markdown.join(*texts)


_LOOKS = markdown.join(
    "## What it looks like (the paper's Figure 3)",
    f"The first {SHOWN} test images, by the runs of the first seed, and the class probabilities of "
    "the first of them: *standard*, *printed*, *tuned* from top to bottom. The photographs and "
    "their labels are not ours to publish; the stage `report` writes the same pictures with them "
    "to its workdir.",
    "![Predictions](results/figure3.png)",
    "![Class probabilities](results/figure3_probabilities.png)",
)


def _tuning(choices: Mapping[str, Any]) -> str:
    lines = []
    for arm, points in choices["grid"].items():
        for name, point in points.items():
            cells = (percent(point[m], ".2f") for m in PAPER_MEASURES)
            chosen = "yes" if point["fields"] == choices["chosen"][arm] else ""
            fields = " ".join(f"`{field}`" for field in point["fields"])
            lines.append([arm, name, *cells, chosen, fields])
    return markdown.join(
        "## What was tuned",
        f"On the validation subset, with seed {_list(choices['seeds'])}, which is not used again; "
        "both arms with the same number of points. *printed* takes the segmenter's settings of "
        "*standard*, as the paper does.",
        markdown.table(["arm", "point", *_TITLES, "chosen", "settings"], lines),
    )


def _how(results: Results) -> str:
    choices, how, machine = results.choices, results.how, results.how["machine"]
    return markdown.join(
        "## How it was run",
        f"Commits {', '.join(how['commits'])}; the choices were committed before the first run "
        f"read the test images. {machine['processor']}, {machine['cores']} cores, "
        f"{machine['processes']} runs at a time, which share the cores evenly, Python "
        f"{machine['python']}, jax {machine['jax']}: {how['runs']} runs, {how['tested_runs']} of "
        "them on the test images. Added up, from the beginning of each run to its evaluation, this "
        f"took {how['hours']:.1f} hours. Seeds {_list(how['seeds'])} on all training images, "
        f"{_list(how['fraction_seeds'])} on parts of them, {_list(how['fresh_seeds'])} as fresh "
        "ones.",
        _code(how["commands"]),
        "Fields of `configs/stanford.py` that hold for all runs:",
        _code(choices["shared"]),
        "To train one seed of each arm again and compare it with what is recorded here (on the "
        "same hardware it is the same to the last digit, elsewhere up to rounding); "
        "`--part=0.125` takes the runs on an eighth of the images, which is quicker:",
        _code(
            [
                "python -m tools.reproduce_table1 repeat --workdir=W --archives=FOLDER "
                f"--processes={machine['processes']} --seeds={how['seeds'][0]}"
            ]
        ),
    )


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _code(lines: Iterable[str]) -> str:
    return "\n".join(["```", *lines, "```"])
