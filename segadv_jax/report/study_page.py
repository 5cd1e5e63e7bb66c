"""The page of a study, written from `<study>.csv` and `<study>_choices.json` and `study.md` here.

Run as `python -m tools.study <study> report`.
"""

import statistics
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

from segadv_jax.campaign import provenance
from segadv_jax.metrics.names import title
from segadv_jax.report import (
    course,
    markdown,
    pages,
    study_choices,
    study_classes,
    study_comparisons,
    study_files,
)
from segadv_jax.report.pages import Row
from segadv_jax.report.study_comparisons import COMPARED, Comparison
from segadv_jax.report.study_definition import Block, Study

_HOW = ("commits", "commands", "machine")  # Of the two files that say how runs were made.
# Of the arms, those of the differences and more.
SHOWN: tuple[str, ...] = (
    *COMPARED,
    "regions",
    "regions_true",
    "specks",
    "specks_true",
    "certainty",
)
SHOWN += ("accuracy_real", "accuracy_synthetic")
EVERY_SEED = (*COMPARED, "prior_alpha", "temperature", "segmenter_updates")
TITLES = {
    study_files.WITHOUT_RAREST: "without the rarest",
    "mean_bf": "BF",
    "mean_bf_3_pixels": "BF 3 px",
    "mean_boundary_iou": "Boundary IoU",
    "ece": "ECE",
    "nll": "NLL",
    "regions_true": "regions, truth",
    "specks_true": "specks, truth",
    "accuracy_real": "right on real",
    "accuracy_synthetic": "right on synthetic",
    "prior_alpha": "alpha",
    "segmenter_updates": "selected at update",
}
# What is no fraction, and its number of digits; the others are in percent.
DIGITS = {"nll": 4, "regions": 1, "regions_true": 1, "specks": 1, "specks_true": 1}
DIGITS |= {"prior_alpha": 2, "temperature": 2, "segmenter_updates": 0}


def render(folder: Path, name: str, study: Study) -> str:
    """The text of the page; raises an InputError if a file of `folder` cannot be read."""
    rows = study_files.read_rows(study_files.table_path(folder, name), study)
    path = study_choices.path_of(folder, name)
    choices = study_choices.read(path, study)
    how = pages.read_json(path, ("settings_tried", *_HOW))
    validations = study_files.read_histories(study_files.histories_path(folder, name), study)
    found = study_comparisons.compare_all(study, rows)
    return pages.fill(
        "study.md",
        name=name,
        folder=folder.resolve().name,
        about=study.about,
        answers=_answers(study, rows, found),
        incomplete=_incomplete(study, rows),
        picture=picture(folder, name, study),
        blocks=markdown.join(
            *(
                part
                for x, block in study.blocks.items()
                for part in (
                    _block(x, block, rows, found),
                    _course(study_files.curves_path(folder, name, x), x, block, validations),
                )
            )
        ),
        family=len(study.family) * len(found),
        tested=_titles(study.family),
        criterion=("the sum of " if len(study.primary) > 1 else "") + _titles(study.primary),
        tests=_tests(study, found),
        every_seed=_every_seed(rows),
        points=len(next(iter(study.tuned()))[1].grid),
        tried=how["settings_tried"],
        grid=_grid(study, choices),
        campaign=_campaign(study_files.campaign_path(folder, name), how),
        hours=_hours(study, rows),
        notes=pages.notes(folder, f"{name}_notes.md"),
    )


def verdict(differences: Mapping[Any, float], test: Mapping[str, Any], measure: str) -> str:
    """ "+0.50 (+0.20 to +0.80)", with "not shown" where the interval holds zero; "-" for none."""
    if not differences:
        return "-"
    mean = _figure(statistics.mean(differences.values()), measure, "+")
    if test["t_interval"] is None:
        return f"{mean} (one pair)"
    low, high = test["t_interval"]
    ends = " to ".join(_figure(end, measure, "+") for end in (low, high))
    return f"{mean} ({ends})" + (", not shown" if low <= 0 <= high else "")


def _figure(value: float | None, measure: str, sign: str = "") -> str:
    if value is None:
        return "-"
    digits = DIGITS.get(measure, 2)
    return format(value if measure in DIGITS else 100 * value, f"{sign}.{digits}f")


def _title(measure: str) -> str:
    return TITLES.get(measure, title(measure))


def _titles(measures: Sequence[str]) -> str:
    return " and ".join(map(_title, measures))


def _answers(study: Study, rows: Sequence[Row], found: Sequence[Comparison]) -> str:
    remaining = study_comparisons.sure(study, found)
    plain = [p for one in found for m in study.family if (p := one.tests[m]["p"]) is not None]
    below = sum(p < 0.05 for p in plain)
    text = (
        f"{len(rows)} results, and {len(found)} comparisons in {_titles(study.family)}. "
        f"Of the {len(plain)} p-values that there are, {below} are below 0.05 as they stand, "
        f"and {len(remaining)}, of complete comparisons, after correction for "
        f"{len(study.family) * len(found)}"
    )
    lines = []
    for number, measure in remaining:
        one = found[number]
        what = verdict(one.differences[measure], one.tests[measure], measure)
        lines.append(f"- {one.block}: *{one.arm}* - *{one.other}*, {_title(measure)} {what}")
    return markdown.join(f"{text}{':' if lines else '.'}", "\n".join(lines))


def picture(folder: Path, name: str, study: Study) -> str:
    """The picture, if there is one."""
    path, block = study_files.picture_path(folder, name), next(iter(study.blocks))
    if not path.exists():
        return ""
    arms, seed = ", ".join(f"*{arm}*" for arm in study.pictured), study.blocks[block].seeds[0]
    return (
        f"![Boundaries and certainty]({folder.resolve().name}/{path.name})\n\nFive test images at "
        f"fixed places of the split, as {arms} see them (block *{block}*, seed {seed}): boundaries "
        "of the classes, black where the truth has a boundary within 5 pixels, red where it has "
        "none, and the highest class probability, the brighter the higher. Boundaries that were "
        "missed are not shown: the photographs and their labels are not ours to publish."
    )


def lacking(study: Study, rows: Sequence[Row]) -> dict[str, list[int]]:
    """{block/arm: the seeds that no row has}, of those that lack any."""
    done = {(row["block"], row["arm"], row["seed"]) for row in rows}
    found = {
        f"{name}/{arm}": [seed for seed in block.seeds if (name, arm, seed) not in done]
        for name, block in study.blocks.items()
        for arm in block.shown
    }
    return {name: seeds for name, seeds in found.items() if seeds}


def _incomplete(study: Study, rows: Sequence[Row]) -> str:
    found = lacking(study, rows)
    lines = [f"- {name} lacks seeds {pages.listed(found[name])}" for name in found]
    if not lines:
        return "All runs of the study are done."
    return markdown.join("**This study is not complete:**", "\n".join(lines))


def _block(name: str, block: Block, rows: Sequence[Row], found: Sequence[Comparison]) -> str:
    mine = study_files.of_block(name, block, rows)
    fields = ", ".join(f"`{field}={value}`" for field, value in block.fields.items())
    settings = f"Choices of *{block.choices}*." if block.choices else ""
    about = " ".join(filter(None, (block.about, fields and f"Fields: {fields}.", settings)))
    pooled = "; ".join(f"*{pool}*: {', '.join(of)}" for pool, of in block.pools.items())
    pools = f"Means of several arms, seed by seed: {pooled}." if pooled else ""
    head = [f"## Block *{name}*", markdown.join(about, pools)]
    if not mine:
        return markdown.join(*head, "**No run of this block is done.**")
    means = []
    for arm in block.compared:
        spread = pages.of_arm(mine, arm, SHOWN)
        cells = [mean_std(spread[measure], measure) for measure in SHOWN]
        means.append([arm, count(spread["seeds"], len(block.seeds)), *cells])
    lines = []
    for one in found:
        if one.block == name:
            cells = [verdict(one.differences[m], one.tests[m], m) for m in COMPARED]
            lines.append([f"{one.arm} - {one.other}", count(one.seeds, len(block.seeds)), *cells])
    heads = ["difference", "pairs", *map(_title, COMPARED)]
    return markdown.join(
        *head,
        markdown.table(["arm", "seeds", *map(_title, SHOWN)], means),
        *(["Paired differences:", markdown.table(heads, lines)] if lines else []),
        study_classes.render(block, mine),
    )


def _course(curves: Path, name: str, block: Block, validations: Sequence[Row]) -> str:
    """How training went; empty for a block that does not show it."""
    mine = [row for row in validations if row["block"] == name]
    if not mine:
        return ""
    return markdown.join(
        f"How training went in *{name}*, as in the paper's Figure 4: means over the seeds that "
        "were still training, as long as most were; bands are a standard deviation to each side. "
        "Training images are measured as the validation images are, without augmentation.",
        f"![Training and validation]({curves.parent.resolve().name}/{curves.name})",
        course.gaps(mine, block.arms),
        course.ABOUT_GAME,
        course.game(mine, block.arms),
    )


def count(done: Sized, planned: int) -> str:
    """How many there are, and of how many if some are to come."""
    return f"{len(done)}" + (f" of {planned}" if len(done) < planned else "")


def mean_std(spread: Mapping[str, float | None], measure: str) -> str:
    """ "73.58 ± 0.17"; "-" for no seed."""
    figures = [x for x in (spread["mean"], spread["std"]) if x is not None]
    return " ± ".join(_figure(x, measure) for x in figures) or "-"


def _tests(study: Study, found: Sequence[Comparison]) -> str:
    holm, lines = study_comparisons.holm_p_values(study, found), []
    for number, one in enumerate(found):
        for measure in study.family:
            what = verdict(one.differences[measure], one.tests[measure], measure)
            p_values = (one.tests[measure]["p"], holm[number, measure])
            cells = ["-" if p is None else f"{p:.2g}" for p in p_values]
            pairs = count(one.seeds, len(study.blocks[one.block].seeds))
            name = f"{one.arm} - {one.other}"
            lines.append([one.block, name, pairs, _title(measure), what, *cells])
    head = ["block", "difference", "pairs", "measure", "mean (95 %)", "p", "p, Holm"]
    return markdown.table(head, lines)


def _every_seed(rows: Sequence[Row]) -> str:
    lines = (
        [row["block"], row["arm"], row["seed"], *(_figure(row[m], m) for m in EVERY_SEED)]
        for row in rows
    )
    return markdown.table(["block", "arm", "seed", *map(_title, EVERY_SEED)], lines)


def _grid(study: Study, choices: Mapping[Any, Mapping[str, Any]]) -> str:
    head = ["block", "arm", "point", *map(_title, study_choices.POINT_MEASURES)]
    head += ["chosen", "settings", "inherits from"]
    lines = []
    for (block, arm), definition in study.tuned():
        if (block, arm) not in choices:
            lines.append([block, arm, "**not tuned yet**", *[""] * (len(head) - 3)])
            continue
        choice = choices[block, arm]
        after = ", ".join(definition.after)
        for name, point in choice["points"].items():
            cells = [_figure(point[m], m) for m in study_choices.POINT_MEASURES]
            fields = " ".join(f"`{field}={value}`" for field, value in point["fields"].items())
            best = "yes" if name == choice["chosen"] else ""
            lines.append([block, arm, name, *cells, best, f"{fields}", after])
    return markdown.table(head, lines)


def _hours(study: Study, rows: Sequence[Row]) -> str:
    """How long the runs took that say it, each counted in the block in whose folder it lies."""

    def own(row: Row) -> bool:
        block = study.blocks[row["block"]]
        shared = study.blocks[block.shares].arms if block.shares else {}
        return row["arm"] in block.arms and row["arm"] not in shared

    runs = [row for row in rows if own(row)]
    hours = [row["hours"] for row in runs if row["hours"] is not None]
    if not hours:
        return ""
    return (
        f"Of {len(runs)} runs {len(hours)} have recorded how long they took, from the beginning to "
        f"the end of the evaluation: {sum(hours):.1f} hours in all, and "
        f"{60 * statistics.median(hours):.0f} minutes in the median."
    )


def _campaign(path: Path, tuning: Mapping[str, Any]) -> str:
    how = pages.read_json(path, _HOW) if path.exists() else tuning
    machines = provenance.joined(*map(provenance.machines, (tuning, how)))
    return markdown.join(
        "## How it was run",
        f"Choices: commits {pages.listed(tuning['commits'])}; runs: commits "
        f"{pages.listed(how['commits'])}. {provenance.described(machines)}.",
        "```\n" + "\n".join(dict.fromkeys([*tuning["commands"], *how["commands"]])) + "\n```",
    )
