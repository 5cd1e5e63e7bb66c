"""The page ``docs/results.md``, written from the files beside it and from nothing else.

``table1.csv`` has a row for each run, ``histories.csv`` the validations of all runs,
``choices.json`` what was tuned and ``campaign.json`` how it was run; ``notes.md``, if it is there,
is what people say about it. Run as ``python -m tools.reproduce_table1 report``.
"""

from pathlib import Path

from segadv_jax.errors import InputError
from segadv_jax.measures import MEASURES, percent, title
from tools import comparison
from tools.results_files import (
    ARMS,
    CAMPAIGN,
    CHOICES,
    COLUMNS,
    CONTROL,
    HISTORIES,
    HISTORY_COLUMNS,
    NEEDED,
    NOTES,
    TABLE,
    by_fraction,
    by_update,
    main_rows,
    mean_of,
    read_csv,
    read_json,
)

# Table 1 of the paper, in %; what Farabet et al. (2013) report for the same network.
PAPER = {
    "standard": {"class_accuracy": 66.5, "pixel_accuracy": 73.3, "mean_iou": 51.3},
    "adversarial": {"class_accuracy": 68.7, "pixel_accuracy": 75.2, "mean_iou": 54.3},
}
FARABET = {"class_accuracy": 72.4, "pixel_accuracy": 78.8, "mean_iou": None}
SHOWN = 5  # Test images in the pictures.


def page_of(folder):
    """``docs/results`` -> ``docs/results.md``."""
    return Path(folder).resolve().with_suffix(".md")


def write(folder):
    """Writes the page."""
    page_of(folder).write_text(render(folder))


def render(folder):
    """The text of the page, from the files of ``folder``.

    Raises:
        InputError: one of them cannot be read.
    """
    folder = Path(folder)
    rows = read_csv(folder / TABLE, COLUMNS)
    histories = read_csv(folder / HISTORIES, HISTORY_COLUMNS)
    choices, how = (read_json(folder / name, NEEDED[name]) for name in (CHOICES, CAMPAIGN))
    if len(rows) != how["tested_runs"]:
        raise InputError(
            f"{folder / TABLE} has {len(rows)} rows, but {how['tested_runs']} runs were tested "
            f"({CAMPAIGN}); restore both, or make them again"
        )
    for row in rows:
        row["split"] = "test"  # By which comparisons pair them.
    main, validations = main_rows(rows, how), main_rows(histories, how)
    notes = folder / NOTES
    sections = [
        _answer(main, rows, how),
        notes.read_text().strip() if notes.exists() else "",
        _means(main, validations),
        _seeds(main),
        _labels(rows, how),
        _fresh(rows, how),
        _gap(validations, histories, how),
        _game(validations),
        _tuning(choices),
        _how(choices, how),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _answer(main, rows, how):
    images = "Three arms on Stanford Background (715 images, eight classes), paired by seed"
    lines = [
        "# Table 1: does adversarial training help on Stanford Background?",
        f"{images}: *standard*, cross-entropy alone; *printed*, with the adversary as the paper "
        "prints it; *tuned*, the best adversarial setting found on the validation subset. "
        "`python -m tools.reproduce_table1 report` writes this page, never a hand, from "
        f"[{TABLE}](results/{TABLE}), [{HISTORIES}](results/{HISTORIES}), "
        f"[{CHOICES}](results/{CHOICES}) and [{CAMPAIGN}](results/{CAMPAIGN}). All measures are in "
        "%, of the pixels of the 142 test images at their native resolution; intervals are 95 % "
        "intervals of the mean.",
        "## In short",
    ]
    answers = []
    for arm in ARMS[1:]:
        pair = comparison.compare(main, arm, "standard")
        answers.append(f"- *{arm}* against *standard*, {len(pair['seeds'])} seeds: {verdict(pair)}")
    arm, fraction = how.get("confirmed", (None, None))
    for other in ("standard", CONTROL):
        pair = comparison.compare(_fresh_rows(rows, how), arm, other)
        if pair["seeds"]:
            answers.append(
                f"- *{arm}* against *{other}* where its gain was largest, with {fraction:g} of the "
                f"images, {len(pair['seeds'])} fresh seeds: {verdict(pair)}"
            )
    return "\n\n".join([*lines, "\n".join(answers)])


def _fresh_rows(rows, how):
    """The rows of the pair that was repeated with fresh seeds."""
    _, fraction = how.get("confirmed", (None, None))
    return [r for r in rows if r["seed"] in how["fresh_seeds"] and r["fraction"] == fraction]


def verdict(pair):
    """What a paired comparison says of the mean IoU, as a sentence."""
    gain = pair["mean_iou"]
    if gain["mean"] is None:
        return "no pair of runs yet."
    text = f"mean IoU {percent(gain['mean'], '+.2f')}"
    if gain["t_interval"] is None:
        return f"{text}, one pair only, which says nothing."
    low, high = gain["t_interval"]
    text += f" ({_interval(gain['t_interval'])})"
    if low > 0:
        return f"{text}: **a gain.**"
    if high < 0:
        return f"{text}: **a loss.**"
    return f"{text}: **no difference that these seeds can show.**"


def _interval(ends):
    return "-" if ends is None else " to ".join(percent(end, "+.2f") for end in ends)


def _table(head, lines):
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in cells)


def _means(main, validations):
    head = ["arm", "seeds", *map(title, MEASURES)]
    lines = []
    for arm in ARMS:
        part = comparison.spread([row for row in main if row["arm"] == arm])
        cells = [
            f"{percent(part[m]['mean'], '.2f')} ± {percent(part[m]['std'], '.2f')}"
            for m in MEASURES
        ]
        lines.append([arm, len(part["seeds"]), *cells])
    for name, values in PAPER.items():
        lines.append([f"*Luc et al., {name}*", 1, *(values[m] for m in MEASURES)])
    lines.append(["*Farabet et al., same network*", "", *(FARABET[m] or "-" for m in MEASURES)])
    standard = comparison.spread([row for row in main if row["arm"] == "standard"])
    below = []
    for m in MEASURES:
        mean = standard[m]["mean"]
        if mean is not None and 100 * mean < PAPER["standard"][m]:
            below.append(f"{title(m)} by {PAPER['standard'][m] - 100 * mean:.1f}")
    runs = {}
    for line in validations:
        if line["arm"] == "standard":
            runs.setdefault(line["seed"], []).append(line["validation_mean_iou"])
    rising = sum(scores[-1] == max(scores) for scores in runs.values())
    place = (
        f"The standard arm is below the paper's standard in {' and '.join(below)}."
        if below
        else "The standard arm is at or above the paper's standard in all three measures."
    )
    place += (
        f" In {rising} of its {len(runs)} runs the best validation is the last: there the budget "
        "ended the training, not over-fitting."
    )
    return "\n\n".join(
        ["## Mean and standard deviation over the seeds", _table(head, lines), place]
    )


def _pairs(rows, arms=ARMS[1:], other="standard"):
    lines = []
    for arm in arms:
        pair = comparison.compare(rows, arm, other)
        if not pair["seeds"]:
            continue
        for m in MEASURES:
            lines.append(
                [
                    f"{arm} - {other}" if m == MEASURES[0] else "",
                    len(pair["seeds"]) if m == MEASURES[0] else "",
                    title(m),
                    percent(pair[m]["mean"], "+.2f"),
                    _interval(pair[m]["t_interval"]),
                    _interval(pair[m]["bootstrap_interval"]),
                    ", ".join(
                        f"{seed}: {percent(x, '+.2f')}"
                        for seed, x in pair[m]["differences"].items()
                    ),
                ]
            )
    head = ["difference", "pairs", "measure", "mean", "Student's t", "bootstrap", "by seed"]
    return _table(head, lines)


def _seeds(main):
    head = ["arm", "seed", *map(title, MEASURES), "selected at update"]
    lines = [
        [r["arm"], r["seed"], *(percent(r[m], ".2f") for m in MEASURES), r["segmenter_updates"]]
        for r in sorted(main, key=lambda row: (ARMS.index(row["arm"]), row["seed"]))
    ]
    return "\n\n".join(
        ["## Every seed", _table(head, lines), "## Paired differences", _pairs(main)]
    )


def _labels(rows, how):
    budget = how.get("fraction_updates")
    budget = f" Parts are trained for {budget} updates at the most." if budget else ""
    head = ["training images", "seeds", *ARMS]
    head += [f"{arm} - standard, mean IoU" for arm in ARMS[1:]]
    lines = []
    for fraction, part in by_fraction(rows, how).items():
        cells = []
        for arm in ARMS:
            spread = comparison.spread([row for row in part if row["arm"] == arm])["mean_iou"]
            cells.append(f"{percent(spread['mean'], '.2f')} ± {percent(spread['std'], '.2f')}")
        for arm in ARMS[1:]:
            gain = comparison.compare(part, arm, "standard")["mean_iou"]
            cells.append(f"{percent(gain['mean'], '+.2f')} ({_interval(gain['t_interval'])})")
        numbers = sorted({row["seed"] for row in part})
        lines.append([f"{fraction:g}", len(numbers), *cells])
    return "\n\n".join(
        [
            "## When does it help? The gain against the amount of labels",
            "Mean IoU with a part of the 501 training images, drawn anew by each seed and the same "
            "for the arms of a pair; the validation subset stays whole." + budget,
            _table(head, lines),
            "![The gain against the amount of labels](results/gain.png)",
        ]
    )


def _fresh(rows, how):
    if "confirmed" not in how:
        return ""
    arm, fraction = how["confirmed"]
    fresh = _fresh_rows(rows, how)
    if not comparison.compare(fresh, arm, "standard")["seeds"]:
        return ""
    texts = [
        "## The largest gain, with fresh seeds",
        f"The largest mean gain above is that of *{arm}* with {fraction:g} of the training "
        "images. The largest of several is larger than it should be by luck alone; the same "
        "pair with seeds that chose nothing:",
        _pairs(fresh, [arm]),
        f"So: {verdict(comparison.compare(fresh, arm, 'standard'))}",
    ]
    control = comparison.compare(fresh, arm, CONTROL)
    if control["seeds"]:
        texts += [
            "*tuned* has a learning rate of the segmenter's own, which by itself makes a "
            "difference in a short training. *control* is cross-entropy alone with that rate, with "
            "the same seeds; only what remains against it is the adversary's:",
            _pairs(fresh, [arm], CONTROL),
            _pairs(fresh, [CONTROL]),
            f"Against *control*: {verdict(control)}",
        ]
    return "\n\n".join(texts)


def _gap(validations, histories, how):
    texts = [
        "## Over-fitting, epoch by epoch (the paper's Figure 4)",
        "Means over the seeds that were still training; training images are measured as the "
        "validation images are, without augmentation.",
        "![Training and validation](results/figure4.png)",
        _gap_table(validations),
    ]
    smallest = min(by_fraction(histories, how))
    if smallest < 1:
        texts.append(f"The same with {smallest:g} of the training images:")
        texts.append(_gap_table(by_fraction(histories, how)[smallest]))
    return "\n\n".join(texts)


def _gap_table(histories):
    head = ["arm", "updates", "epoch", "seeds"]
    head += [f"{m}: train / validation / gap" for m in ("class accuracy", "mean IoU")]
    head += ["cross-entropy: train / validation"]
    lines = []
    for arm in ARMS:
        for updates, epoch, part in by_update(histories, arm):
            cells = []
            for m in ("class_accuracy", "mean_iou"):
                train, validation = (mean_of(part, f"{s}_{m}") for s in ("train", "validation"))
                gap = None if None in (train, validation) else train - validation
                cells.append(f"{percent(train)} / {percent(validation)} / {percent(gap)}")
            mce = [mean_of(part, f"{split}_mce") for split in ("train", "validation")]
            mce = " / ".join("-" if value is None else f"{value:.3f}" for value in mce)
            lines.append([arm, int(updates), f"{epoch:.1f}", len(part), *cells, mce])
    return _table(head, lines)


def _game(histories):
    names = {
        "accuracy_real": "right on real",
        "accuracy_synthetic": "right on synthetic",
        "grad_norm_mce": "gradient of mce",
        "grad_norm_adversarial": "gradient of the adversarial term",
        "validation_certainty": "certainty",
    }
    lines = []
    for arm in ARMS:
        for updates, _, part in by_update(histories, arm):
            means = {name: mean_of(part, name) for name in names}
            cells = [
                "-" if value is None else f"{value:.4f}" if "norm" in name else f"{value:.2f}"
                for name, value in means.items()
            ]
            lines.append([arm, int(updates), *cells])
    return "\n\n".join(
        [
            "## The health of the game",
            "How often the adversary is right (0.5: fooled, 1: it has won) and the norms at the "
            "label map of the two gradients that the segmenter adds up, lambda included, at the "
            "step of each validation; the mean highest class probability on the validation images.",
            _table(["arm", "updates", *names.values()], lines),
            "## What it looks like (the paper's Figure 3)",
            f"The first {SHOWN} test images, by the runs of the first seed, and the class "
            "probabilities of the first of them: *standard*, *printed*, *tuned* from above. The "
            "photographs and their labels are not ours to publish; the stage `report` writes the "
            "same pictures with them into its workdir.",
            "![Predictions](results/figure3.png)",
            "![Class probabilities](results/figure3_probabilities.png)",
        ]
    )


def _tuning(choices):
    head = ["arm", "point", *map(title, MEASURES), "chosen", "settings"]
    lines = []
    for arm, points in choices["grid"].items():
        for name, point in points.items():
            chosen = "yes" if point["fields"] == choices["chosen"][arm] else ""
            fields = " ".join(f"`{field}`" for field in point["fields"])
            cells = [percent(point[m], ".2f") for m in MEASURES]
            lines.append([arm, name, *cells, chosen, fields])
    seeds = ", ".join(map(str, choices["seeds"]))
    return "\n\n".join(
        [
            "## What was tuned",
            f"On the validation subset, with seed {seeds}, which is not used again; both arms with "
            "the same number of points. *printed* takes the segmenter's settings of *standard*, as "
            "the paper does.",
            _table(head, lines),
        ]
    )


def _how(choices, how):
    machine = how["machine"]
    fields = "\n".join(choices["shared"])
    commands = "\n".join(how["commands"])
    return "\n\n".join(
        [
            "## How it was run",
            f"Commits {', '.join(how['commits'])}; the choices were committed before the first run "
            f"read the test images. {machine['processor']}, {machine['cores']} cores, "
            f"{machine['processes']} runs at a time with a share of the cores each, Python "
            f"{machine['python']}, jax {machine['jax']}: {how['runs']} runs, "
            f"{how['tested_runs']} of them on the test images. From the beginning of a run to its "
            f"evaluation, all added up, it took {how['hours']:.1f} hours. Seeds "
            f"{', '.join(map(str, how['seeds']))} on all training images, "
            f"{', '.join(map(str, how['fraction_seeds']))} on parts of them, "
            f"{', '.join(map(str, how['fresh_seeds']))} as fresh ones.",
            f"```\n{commands}\n```",
            "Fields of `configs/stanford.py` that hold for all runs:",
            f"```\n{fields}\n```",
            "One seed of each arm again, beside what is recorded here (on the same hardware the "
            "same to the last digit, elsewhere as near as rounding lets it); with `--part=0.125` "
            "the runs on an eighth of the images, which is quicker:",
            "```\npython -m tools.reproduce_table1 repeat --workdir=W --archives=FOLDER "
            f"--processes={machine['processes']} --seeds={how['seeds'][0]}\n```",
        ]
    )
