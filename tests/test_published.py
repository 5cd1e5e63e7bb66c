"""The published studies: their pages are what their files say, and anyone can recompute them.

With nothing but the files in `docs/results` and the standard library.
"""

import csv
import functools
import itertools
import math
import re
import statistics

import pytest
from small_runs import ROOT

from segadv_jax import cli
from segadv_jax.report import study_choices, study_definition, study_files, study_page

FOLDER = ROOT / "docs" / "results"
STUDIES = [
    name for name in ("light", "paper", "voc") if study_files.table_path(FOLDER, name).exists()
]
# Student's t, two-sided 95 %, by degrees of freedom: from any table.
T = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706}
T |= {6: 2.4469, 7: 2.3646, 8: 2.3060, 9: 2.2622}
# Columns of the pages' tables: (name in the file, what it is multiplied with, largest rounding).
COLUMNS = {
    "mean IoU": ("mean_iou", 100, 0.005),
    "pixel accuracy": ("pixel_accuracy", 100, 0.005),
    "class accuracy": ("class_accuracy", 100, 0.005),
    "BF": ("mean_bf", 100, 0.005),
    "Boundary IoU": ("mean_boundary_iou", 100, 0.005),
    "ECE": ("ece", 100, 0.005),
    "NLL": ("nll", 1, 0.00005),
}
MEAN = re.compile(r"([-+.\d]+)(?: ± ([.\d]+))?")
DIFFERENCE = re.compile(r"([-+.\d]+) \(([-+.\d]+) to ([-+.\d]+)\)(, not shown)?")


study_of = functools.cache(study_definition.load)


@functools.cache
def rows_of(name):
    """{(block, arm): rows of the file}."""
    found = {}
    with open(FOLDER / f"{name}.csv", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["block"], row["arm"]), []).append(row)
    return found


def values(name, block, arm, column):
    """{seed: value of a column}, of a pool the mean over its arms where all are done."""
    members = study_of(name).blocks[block].pools.get(arm, (arm,))
    found = {}
    for row in itertools.chain(*(rows_of(name).get((block, each), ()) for each in members)):
        found.setdefault(int(row["seed"]), []).append(float(row[column]))
    return {s: statistics.mean(x) for s, x in found.items() if len(x) == len(members)}


def tables(name, first):
    """(block, {column: cell}) of each row of a page's tables whose first column is that one."""
    text = (ROOT / "docs" / f"{name}_study.md").read_text()
    for part in text.split("\n## Block *")[1:]:
        block, head = part.partition("*")[0], []
        for line in part.split("\n## ")[0].splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not line.startswith("|"):
                head = []
            elif not head:
                head = cells
            elif head[0] == first and "mean IoU" in head and not set(line) <= set("| -:"):
                yield block, dict(zip(head, cells, strict=True))


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_is_what_its_files_say(name):
    page = study_page.render(FOLDER, name, study_definition.load(name))
    assert (ROOT / "docs" / f"{name}_study.md").read_text() == page


@pytest.mark.parametrize("name", STUDIES)
def test_a_reader_recomputes_the_differences(name):
    study, checked = study_definition.load(name), set()
    for block, cells in tables(name, "difference"):
        arm, other = cells["difference"].split(" - ")
        for title, (column, factor, rounding) in COLUMNS.items():
            printed = DIFFERENCE.match(cells[title])
            if printed is None:  # One pair, or none.
                assert cells["pairs"].split()[0] in "01"
                continue
            ours, theirs = (values(name, block, which, column) for which in (arm, other))
            found = [factor * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
            assert len(found) == int(cells["pairs"].split()[0])
            half = T[len(found) - 1] * statistics.stdev(found) / math.sqrt(len(found))
            mean = statistics.mean(found)
            expected = (mean, mean - half, mean + half)
            figures = [float(x) for x in printed.groups()[:3]]
            assert figures == pytest.approx(expected, abs=1.2 * rounding, rel=3e-4)
            if abs(abs(mean) - half) > rounding:
                assert bool(printed[4]) == (abs(mean) < half)
            checked.add((block, arm, other))
    several = {
        (block, arm, other)
        for block, definition in study.blocks.items()
        for arm, other in definition.pairs
        if len(
            values(name, block, arm, "mean_iou").keys()
            & values(name, block, other, "mean_iou").keys()
        )
        > 1
    }
    assert checked == several and checked


@pytest.mark.parametrize("name", STUDIES)
def test_a_reader_recomputes_the_means_and_their_spread(name):
    checked = 0
    for block, cells in tables(name, "arm"):
        for title, (column, factor, rounding) in COLUMNS.items():
            found = [factor * x for x in values(name, block, cells["arm"], column).values()]
            assert len(found) == int(cells["seeds"].split()[0])
            printed = MEAN.fullmatch(cells[title])
            if not found:
                assert cells[title] == "-"
                continue
            assert float(printed[1]) == pytest.approx(statistics.mean(found), abs=1.2 * rounding)
            if len(found) > 1:
                spread = statistics.stdev(found)
                assert float(printed[2]) == pytest.approx(spread, abs=1.2 * rounding)
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("name", STUDIES)
def test_the_chosen_settings_have_the_highest_sum_of_the_primary_measures(name):
    """Among equally many settings for each arm."""
    study = study_definition.load(name)
    choices = study_choices.read(study_choices.path_of(FOLDER, name), study)
    sizes = {len(choice["points"]) for choice in choices.values()}
    assert len(sizes) == 1
    for choice in choices.values():
        scores = {p: sum(x[m] for m in study.primary) for p, x in choice["points"].items()}
        assert choice["chosen"] == max(scores, key=scores.get)


def test_the_papers_tables_are_what_the_studies_say(tmp_path, monkeypatch):
    """Those in `docs/tables`, of the command that `docs/voc.md` gives."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "voc.md").read_text()
    (given,) = re.findall(r"^segadv_jax tables --out=docs/tables (.+)$", text, re.MULTILINE)
    cli.run("segadv_jax.commands.tables", "", [f"--out={tmp_path}", *given.split()])
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = (ROOT / "docs" / "tables").iterdir()
    assert {path.name: path.read_text() for path in committed} == written and written
