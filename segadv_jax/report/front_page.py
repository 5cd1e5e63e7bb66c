"""What comes first in `docs/results.md`: `front.md` beside the files, with figures of studies.

People write the words. What a study measured is a field that is filled in here; nothing checks the
counts and rounded figures that are typed among the words:

    {STUDY BLOCK ARM MEASURE}        "73.58 ± 0.17", mean and standard deviation over the seeds
    {STUDY BLOCK ARM-OTHER MEASURE}  "+0.50 (+0.20 to +0.80)", of paired differences
    {STUDY BLOCK ARM-OTHER pairs}    "3 of 10", how many pairs there are and are to come
    {STUDY BLOCK+BLOCK ARM-OTHER ..} the same of means over several blocks, seed by seed
    {STUDY BLOCK-OTHER ARM MEASURE}  the difference of an arm between two blocks, seed by seed
    {STUDY BLOCK ARM seeds}          "3 of 10", how many runs there are and are to come
    {STUDY comparisons}              how many p-values Holm's correction is for
    {STUDY settings}                 how many settings were tried
    {STUDY picture}                  the picture of a study, if there is one

A difference that remains after Holm's correction over all comparisons of its study is bold, once
it has all of its pairs; one of several blocks never is. What has no runs yet is "-".
"""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from segadv_jax.campaign import comparison
from segadv_jax.errors import InputError
from segadv_jax.report import (
    pages,
    study_choices,
    study_comparisons,
    study_definition,
    study_files,
    study_page,
)
from segadv_jax.report.pages import Row
from segadv_jax.report.study_comparisons import COMPARED, Comparison
from segadv_jax.report.study_definition import Study

FRONT = "front.md"
_FIELD = re.compile(r"\{([^{}\n]*)\}")
_REMEDY = (
    "write {STUDY BLOCK ARM MEASURE}, {STUDY BLOCK ARM-OTHER MEASURE}, in which several blocks can "
    "be joined by +, {STUDY BLOCK-OTHER ARM MEASURE}, {STUDY comparisons}, {STUDY settings} or "
    f"{{STUDY picture}}; a MEASURE is one of {', '.join(COMPARED)}, or of differences pairs, of "
    f"arms {', '.join(m for m in study_page.SHOWN if m not in COMPARED)} and seeds"
)


class _Results(NamedTuple):
    study: Study
    rows: dict[str, list[Row]]  # Of each block, with its pools.
    found: list[Comparison]
    comparisons: int
    settings: int
    sure: list[tuple[int, str]]  # (number of a comparison, measure).


def render(folder: Path) -> str:
    """The text, its fields filled in; empty without a front page.

    Raises:
        InputError: a field names what is in no study, or a file of a study cannot be read.
    """
    known: dict[str, _Results] = {}

    def fill(match: re.Match) -> str:
        words = match[1].split()
        try:
            study = words[0]
            if study not in known:
                known[study] = _read(folder, study)
            if words[1:] == ["picture"]:
                return study_page.picture(folder, study, known[study].study)
            if words[1:] in (["comparisons"], ["settings"]):
                return str(getattr(known[study], words[1]))
            block, arm, measure = words[1:]
            return _figure(known[study], block, arm, measure)
        except InputError:  # Which is a ValueError.
            raise
        except (IndexError, KeyError, ValueError) as error:
            # A KeyError names what is not known, the others that words are missing.
            unknown = isinstance(error, KeyError)
            why = f"there is no {error.args[0]}" if unknown else "it is no field"
            raise InputError(f"{folder / FRONT}: {match[0]}: {why}; {_REMEDY}") from error

    return _FIELD.sub(fill, pages.notes(folder, FRONT))


def _read(folder: Path, name: str) -> _Results:
    study = study_definition.load(name)
    path = study_files.table_path(folder, name)
    rows = study_files.read_rows(path, study) if path.exists() else []
    found = study_comparisons.compare_all(study, rows)
    sure = study_comparisons.sure(study, found)
    path = study_choices.path_of(folder, name)
    settings = pages.read_json(path, ("settings_tried",))["settings_tried"] if path.exists() else 0
    comparisons = len(study.family) * len(found)
    blocks = {name: study_files.of_block(name, block, rows) for name, block in study.blocks.items()}
    return _Results(study, blocks, found, comparisons, settings, sure)


def _figure(results: _Results, block: str, arm: str, measure: str) -> str:
    if "-" in arm:
        return _difference(results, block, arm, measure)
    if "-" in block:
        return _between(results, block, arm, measure)
    definition = results.study.blocks[block]
    if arm not in definition.compared:
        raise KeyError(arm)
    mine = results.rows[block]
    if measure == "seeds":
        return study_page.count(pages.of_arm(mine, arm)["seeds"], len(definition.seeds))
    if measure not in study_page.SHOWN:
        raise KeyError(measure)
    return study_page.mean_std(pages.of_arm(mine, arm, [measure])[measure], measure)


def _difference(results: _Results, blocks: str, pair: str, measure: str) -> str:
    names, arms = blocks.split("+"), pair.split("-")
    numbers = {one.block: n for n, one in enumerate(results.found) if [one.arm, one.other] == arms}
    for name in names:
        if name not in results.study.blocks:
            raise KeyError(name)
        if name not in numbers:
            raise KeyError(pair)
    if len(set(names)) < len(names):
        raise ValueError(f"{blocks} has a block twice")
    some = [results.found[numbers[name]] for name in names]
    # A seed counts once: its runs are alike in more than the arms.
    seeds = [seed for seed in some[0].seeds if all(seed in one.seeds for one in some)]
    if measure == "pairs":
        return study_page.count(seeds, min(len(results.study.blocks[x].seeds) for x in names))
    differences = {
        seed: statistics.mean(one.differences[measure][seed] for one in some)
        for seed in seeds
        if all(seed in one.differences[measure] for one in some)
    }
    test = comparison.t_test(list(differences.values()))
    text = study_page.verdict(differences, test, measure)
    sure = len(names) == 1 and (numbers[names[0]], measure) in results.sure
    return f"**{text}**" if sure else text


def _between(results: _Results, blocks: str, arm: str, measure: str) -> str:
    values = []
    for name in blocks.split("-"):
        definition = results.study.blocks[name]
        if arm not in definition.compared:
            raise KeyError(arm)
        of_arm = [row for row in results.rows[name] if row["arm"] == arm]
        values.append({row["seed"]: row[measure] for row in of_arm})
    if measure not in COMPARED:
        raise KeyError(measure)
    ours, theirs = values
    differences = {
        seed: value - theirs[seed]
        for seed, value in ours.items()
        if None not in (value, theirs.get(seed))
    }
    return study_page.verdict(differences, comparison.t_test(list(differences.values())), measure)


def follow(readme: str, page: str) -> str:
    """A README whose rows are those of the page: a row is known by its first cell and its head.

    Raises:
        InputError: a row of the README could be any of several.
    """
    known: dict[tuple[str, str], set[str]] = {}
    for key, row in _rows(page):
        if key:
            known.setdefault(key, set()).add(row)
    lines: list[str] = []
    for key, line in _rows(readme):
        rows = known.get(key, {line}) if key else {line}
        if len(rows) > 1:
            raise InputError(
                f"README.md: {line}: the results have {len(rows)} rows with this head and first "
                "cell; make their first cells differ"
            )
        lines += rows
    return "\n".join(lines) + "\n"


def _rows(text: str) -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Each line; with a row of a table the table's head and the row's first cell, else None."""
    head = ""
    for line in text.splitlines():
        in_table = line.startswith("|")
        head = (head or line) if in_table else ""
        yield ((head, line.split(" | ")[0]) if in_table else None), line
