"""The page `docs/results.md`, written from the files beside it and `table1.md` here.

See `table1_files.py` for these files; `notes.md`, if it is there, is what people say about the
results. Newer answers come first, see `front_page.py`. Run as `python -m tools.reproduce_table1
report`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segadv_jax.campaign import comparison
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title
from segadv_jax.report import course, front_page, markdown, pages, paper
from segadv_jax.report import table1_files as table1
from segadv_jax.report.pages import Row
from segadv_jax.report.table1_files import ARMS, CONTROL, Parts, Results

SHOWN = 5  # Test images in the pictures.
SEEDS = ("seeds", "fraction_seeds", "fresh_seeds")
_TITLES = [title(measure) for measure in PAPER_MEASURES]


def render(folder: Path) -> str:
    """The text of the page; raises an InputError if a file of `folder` cannot be read."""
    results = table1.read(folder)
    choices, how = results.choices, results.how
    main, validations = (parts.get(1, []) for parts in (results.rows, results.validations))
    updates, smallest = how.get("fraction_updates"), min(results.validations)
    return pages.fill(
        "table1.md",
        front=front_page.render(folder),
        answers=_answers(main, results),
        notes=pages.notes(folder),
        means=_means(main),
        remarks=_remarks(main, validations),
        every_seed=_seeds(main),
        differences=_differences(main, *((arm, "standard") for arm in ARMS[1:])),
        budget=f" Parts are trained for at most {updates} updates." if updates else "",
        labels=_labels(results.rows),
        fresh=_fresh(results),
        gaps=course.gaps(validations, ARMS),
        smallest=f"The same with {smallest:g} of the training images:" if smallest < 1 else "",
        smallest_gaps=course.gaps(results.validations[smallest], ARMS) if smallest < 1 else "",
        about_game=course.ABOUT_GAME,
        game=course.game(validations, ARMS),
        shown=SHOWN,
        grid=_grid(choices),
        machine=how["machine"],
        how=how,
        tuning_seeds=pages.listed(choices["seeds"]),
        **{name: pages.listed(how[name]) for name in ("commits", *SEEDS)},
        commands="\n".join(how["commands"]),
        shared="\n".join(choices["shared"]),
    )


def _answers(main: list[Row], results: Results) -> str:
    answers = []
    for arm in ARMS[1:]:
        pair = comparison.compare(main, arm, "standard")
        answers.append(f"- *{arm}* against *standard*, {len(pair['seeds'])} seeds: {verdict(pair)}")
    for other in ("standard", CONTROL) if results.fresh else ():
        arm, fraction = results.how["confirmed"]
        pair = comparison.compare(results.fresh, arm, other)
        if pair["seeds"]:
            answers.append(
                f"- *{arm}* against *{other}* where its gain was largest, with {fraction:g} of "
                f"the images, {len(pair['seeds'])} fresh seeds: {verdict(pair)}"
            )
    return "\n".join(answers)


def verdict(pair: Mapping[str, Any]) -> str:
    """What a paired comparison says about the mean IoU, as a sentence."""
    gain = pair["mean_iou"]
    if gain["mean"] is None:
        return "no pair of runs yet."
    if gain["t_interval"] is None:
        return f"mean IoU {percent(gain['mean'], '+.2f')}, one pair only, which says nothing."
    low, high = gain["t_interval"]
    says = "no difference that these seeds can show"
    if low > 0 or high < 0:
        says = "a gain" if low > 0 else "a loss"
    return f"mean IoU {_mean_and_interval(gain)}: {says}."


def _mean_and_interval(gain: Mapping[str, Any]) -> str:
    return f"{percent(gain['mean'], '+.2f')} ({markdown.interval(gain['t_interval'])})"


def _means(main: list[Row]) -> str:
    lines: list[list[Any]] = []
    for arm in ARMS:
        spread = pages.of_arm(main, arm)
        cells = [markdown.mean_std(spread[measure]) for measure in PAPER_MEASURES]
        lines.append([arm, len(spread["seeds"]), *cells])
    for name, printed in paper.TABLE_1.items():
        lines.append([f"*Luc et al., {name}*", 1, *printed])
    lines.append(["*Farabet et al., same network*", "", *paper.FARABET])
    return markdown.table(["arm", "seeds", *_TITLES], lines)


def _remarks(main: list[Row], validations: list[Row]) -> str:
    standard, below = pages.of_arm(main, "standard"), []
    for measure, printed in zip(PAPER_MEASURES, map(float, paper.TABLE_1["standard"]), strict=True):
        mean = standard[measure]["mean"]
        if mean is not None and 100 * mean < printed:
            below.append(f"{title(measure)} by {printed - 100 * mean:.1f}")
    where = f"below the paper's standard in {' and '.join(below)}"
    if not below:
        where = "at or above the paper's standard in all three measures"
    runs: dict[int, list[float]] = {}
    for line in validations:
        if line["arm"] == "standard":
            runs.setdefault(line["seed"], []).append(line["validation_mean_iou"])
    rising = sum(scores[-1] == max(scores) for scores in runs.values())
    return (
        f"The standard arm is {where}. In {rising} of its {len(runs)} runs the best validation is "
        "the last: there the budget ended the training, not over-fitting."
    )


def _seeds(main: list[Row]) -> str:
    lines = []
    for row in sorted(main, key=lambda row: (ARMS.index(row["arm"]), row["seed"])):
        cells = (percent(row[measure], ".2f") for measure in PAPER_MEASURES)
        lines.append([row["arm"], row["seed"], *cells, row["segmenter_updates"]])
    return markdown.table(["arm", "seed", *_TITLES, "selected at update"], lines)


def _differences(rows: list[Row], *pairs: tuple[str, str]) -> str:
    lines = []
    for arm, other in pairs:
        pair = comparison.compare(rows, arm, other)
        first = [f"{arm} - {other}", len(pair["seeds"])]
        for measure in PAPER_MEASURES if pair["seeds"] else ():
            found = pair[measure]
            intervals = (markdown.interval(found[f"{k}_interval"]) for k in ("t", "bootstrap"))
            by_seed = markdown.by_seed(found["differences"])
            cells = [title(measure), percent(found["mean"], "+.2f"), *intervals, by_seed]
            lines.append([*first, *cells])
            first = ["", ""]
    head = ["difference", "pairs", "measure", "mean", "Student's t", "bootstrap", "by seed"]
    return markdown.table(head, lines)


def _labels(parts: Parts) -> str:
    lines = []
    for fraction, part in parts.items():
        cells = [markdown.mean_std(pages.of_arm(part, arm)["mean_iou"]) for arm in ARMS]
        for arm in ARMS[1:]:
            gain = comparison.compare(part, arm, "standard")["mean_iou"]
            cells.append(_mean_and_interval(gain))
        lines.append([f"{fraction:g}", len({row["seed"] for row in part}), *cells])
    gains = [f"{arm} - standard, mean IoU" for arm in ARMS[1:]]
    return markdown.table(["training images", "seeds", *ARMS, *gains], lines)


def _fresh(results: Results) -> str:
    rows = results.fresh
    if not rows:
        return ""
    arm, fraction = results.how["confirmed"]
    pair, control = (comparison.compare(rows, arm, x) for x in ("standard", CONTROL))
    if not pair["seeds"]:
        return ""
    texts = [
        "## The largest gain, with fresh seeds",
        f"The largest mean gain above is that of *{arm}* with {fraction:g} of the training "
        "images. The largest of several gains is an overestimate, by luck alone. The same pair "
        "with seeds that played no part in the choice:",
        _differences(rows, (arm, "standard")),
        f"So: {verdict(pair)}",
    ]
    if control["seeds"]:
        texts += [
            "The segmenter of *tuned* has a learning rate of its own, which by itself makes a "
            "difference in a short training. *control* is cross-entropy alone with that rate and "
            "the same seeds; only the difference from it is due to the adversary:",
            _differences(rows, (arm, CONTROL)),
            _differences(rows, (CONTROL, "standard")),
            f"Against *control*: {verdict(control)}",
        ]
    return markdown.join(*texts)


def _grid(choices: Mapping[str, Any]) -> str:
    """What was tuned."""
    lines = []
    for arm, points in choices["grid"].items():
        for name, point in points.items():
            cells = (percent(point[measure], ".2f") for measure in PAPER_MEASURES)
            chosen = "yes" if point["fields"] == choices["chosen"][arm] else ""
            fields = " ".join(f"`{field}`" for field in point["fields"])
            lines.append([arm, name, *cells, chosen, fields])
    return markdown.table(["arm", "point", *_TITLES, "chosen", "settings"], lines)
