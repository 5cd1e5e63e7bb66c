"""The published studies: their pages are what their files say, and anyone can recompute them.

With nothing but the files in `docs/results` and the standard library.
"""

import csv
import math
import re
import statistics

import pytest
from small_runs import ROOT

from segadv_jax.report import study_definition, study_files, study_page

FOLDER = ROOT / "docs" / "results"
STUDIES = [
    name for name in ("light", "paper", "voc") if study_files.table_path(FOLDER, name).exists()
]
# Student's t, two-sided 95 %, by degrees of freedom: from any table.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
LINE = re.compile(r"\| (\w+) - (\w+) \| (\d+)[^|]* \| ([-+.\d]+) \(([-+.\d]+) to ([-+.\d]+)\)")


def values(name, block, arm):
    """{seed: mean IoU in %}, of a pool the mean over its arms where all are done."""
    members = study_definition.load(name).blocks[block].pools.get(arm, (arm,))
    found = {}
    with open(FOLDER / f"{name}.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["block"] == block and row["arm"] in members:
                found.setdefault(int(row["seed"]), []).append(100 * float(row["mean_iou"]))
    return {s: statistics.mean(x) for s, x in found.items() if len(x) == len(members)}


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_is_what_its_files_say(name):
    page = study_page.render(FOLDER, name, study_definition.load(name))
    assert (ROOT / "docs" / f"{name}_study.md").read_text() == page


@pytest.mark.parametrize("name", STUDIES)
def test_a_reader_recomputes_the_differences(name):
    text = (ROOT / "docs" / f"{name}_study.md").read_text()
    study, checked, lines = study_definition.load(name), 0, 0
    for block, definition in study.blocks.items():
        several = (
            len(values(name, block, a).keys() & values(name, block, b)) > 1
            for a, b in definition.pairs
        )
        lines += sum(several)
    for part in text.split("\n## Block *")[1:]:
        block = part.partition("*")[0]
        for arm, other, pairs, *printed in LINE.findall(part.split("\n## ")[0]):
            ours, theirs = (values(name, block, which) for which in (arm, other))
            found = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
            assert len(found) == int(pairs)
            half = T[len(found) - 1] * statistics.stdev(found) / math.sqrt(len(found))
            mean = statistics.mean(found)
            expected = (mean, mean - half, mean + half)
            assert [float(x) for x in printed] == pytest.approx(expected, abs=0.006)
            checked += 1
    assert checked == lines > 0


@pytest.mark.parametrize("name", STUDIES)
def test_the_chosen_settings_have_the_highest_sum_of_the_primary_measures(name):
    """Among equally many settings for each arm."""
    study = study_definition.load(name)
    choices = study_files.read_choices(study_files.choices_path(FOLDER, name), study)
    sizes = {len(choice["points"]) for choice in choices.values()}
    assert len(sizes) == 1
    for choice in choices.values():
        scores = {p: sum(x[m] for m in study.primary) for p, x in choice["points"].items()}
        assert choice["chosen"] == max(scores, key=scores.get)
