"""The page of a study: what it says follows from the files, by the standard library alone."""

import csv
import dataclasses
import math
import statistics

import pytest
import small_study

from segadv_jax import files
from segadv_jax.errors import InputError
from segadv_jax.report import study_comparisons, study_files, study_page

# Student's t, two-sided 95 %, by degrees of freedom: from any table.
T = {1: 12.7062, 2: 4.30265}
STUDY = small_study.STUDY
TITLES = {"mean_iou": "mean IoU", "mean_bf": "BF"}


@pytest.fixture
def folder(tmp_path):
    return small_study.write(tmp_path / "results", small_study.made_rows())


def render(folder):
    return study_page.render(folder, "small", STUDY)


def compare_all(folder):
    return study_comparisons.compare_all(STUDY, study_files.read_rows(folder / "small.csv", STUDY))


def table_of(page, heading, number=0):
    """The rows of the table of that number under a heading, each as {head: cell}."""
    lines = page.split(heading)[1].split("\n## ")[0].split("\n\n")
    lines = [part for part in lines if part.startswith("|")][number].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def values_of(folder, block, arm, measure):
    """{seed: value} from the csv."""
    with open(folder / "small.csv", newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["block"], r["arm"]) == (block, arm)]
    return {int(row["seed"]): float(row[measure]) for row in rows}


def test_a_reader_recomputes_the_tables(folder):
    page = render(folder)
    for block in ("natural", "balanced"):
        head = f"## Block *{block}*"
        for row in table_of(page, head):
            values = list(values_of(folder, block, row["arm"], "mean_iou").values())
            mean, std = 100 * statistics.mean(values), 100 * statistics.stdev(values)
            assert row["mean IoU"] == f"{mean:.2f} ± {std:.2f}"
            assert row["seeds"] == str(len(values))
            assert row["regions"] == "12.2 ± 0.0" and row["right on real"] == "-"
        for row in table_of(page, head, 1):
            arm, other = row["difference"].split(" - ")
            for measure, title, scale, digits in (
                ("mean_iou", "mean IoU", 100, 2),
                ("mean_bf", "BF", 100, 2),
                ("ece", "ECE", 100, 2),
                ("nll", "NLL", 1, 4),
            ):
                ours, theirs = (values_of(folder, block, name, measure) for name in (arm, other))
                values = [scale * (ours[seed] - theirs[seed]) for seed in theirs]
                half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
                low, mean, high = (statistics.mean(values) + x for x in (-half, 0, half))
                expected = f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
                expected += ", not shown" if low <= 0 <= high else ""
                assert row[title] == expected
    # The gain in the natural block is ten times the noise, of the third arm over it half of it.
    first, second = table_of(page, "## Block *natural*", 1)
    assert "not shown" not in first["mean IoU"] and "not shown" in second["mean IoU"]


def test_p_values_are_corrected_for_all_comparisons(folder):
    rows = table_of(render(folder), "## All comparisons at once")
    family = 2 * sum(len(block.pairs) for block in STUDY.blocks.values())
    assert len(rows) == family == 8
    plain = [float(row["p"]) for row in rows]
    largest = 0.0
    for rank, place in enumerate(sorted(range(family), key=lambda place: plain[place])):
        largest = max(largest, min(1, (family - rank) * plain[place]))
        assert float(rows[place]["p, Holm"]) == pytest.approx(largest, rel=0.06)
    # By hand: with two degrees of freedom p = 1 - |t| / sqrt(t^2 + 2).
    ours, theirs = (
        values_of(folder, "natural", arm, "mean_bf") for arm in ("features", "standard")
    )
    values = [ours[seed] - theirs[seed] for seed in range(3)]
    t = statistics.mean(values) / (statistics.stdev(values) / math.sqrt(3))
    assert plain[1] == pytest.approx(1 - abs(t) / math.sqrt(t * t + 2), rel=0.06)


def test_arms_are_pooled_seed_by_seed(folder):
    natural = dataclasses.replace(
        STUDY.blocks["natural"], pools={"all": ("features", "both")}, pairs=(("all", "standard"),)
    )
    pooled = dataclasses.replace(STUDY, blocks={**STUDY.blocks, "natural": natural})
    page = study_page.render(folder, "small", pooled)
    assert "Means of several arms, seed by seed: *all*: features, both." in page
    names = ("standard", "features", "both")
    standard, features, both = (values_of(folder, "natural", arm, "mean_iou") for arm in names)
    means = [(features[seed] + both[seed]) / 2 for seed in range(3)]
    arm = next(row for row in table_of(page, "## Block *natural*") if row["arm"] == "all")
    spread = f"{100 * statistics.mean(means):.2f} ± {100 * statistics.stdev(means):.2f}"
    assert (arm["mean IoU"], arm["seeds"]) == (spread, "3")
    (row,) = table_of(page, "## Block *natural*", 1)
    difference = statistics.mean(mean - standard[seed] for seed, mean in enumerate(means))
    assert row["mean IoU"].startswith(f"{100 * difference:+.2f} (")
    # A seed that one of them lacks is no pair.
    rows = small_study.made_rows([("natural", "both", 1)])
    part = small_study.write(folder.parent / "part", rows)
    (row,) = table_of(study_page.render(part, "small", pooled), "## Block *natural*", 1)
    assert row["pairs"] == "2 of 3"


def test_a_study_may_have_one_primary_measure(folder):
    one = dataclasses.replace(STUDY, primary=("pixel_accuracy",))
    page = study_page.render(folder, "small", one)
    rows = table_of(page, "## All comparisons at once")
    assert len(rows) == 4 and {row["measure"] for row in rows} == {"pixel accuracy"}
    assert "after correction for 4" in page and "by pixel accuracy, with seeds" in page
    assert min(float(row["p, Holm"]) / float(row["p"]) for row in rows) >= 0.95


def test_other_measures_may_be_tested_than_choose(folder):
    other = dataclasses.replace(STUDY, primary=("mean_bf",), tested=("mean_iou", "pixel_accuracy"))
    page = study_page.render(folder, "small", other)
    rows = table_of(page, "## All comparisons at once")
    assert {row["measure"] for row in rows} == {"mean IoU", "pixel accuracy"} and len(rows) == 8
    assert "after correction for 8" in page and "by BF, with seeds" in page


def test_the_page_says_how_long_runs_took_that_say_it(folder):
    assert "hours in all" not in study_page.render(folder, "small", STUDY)
    turns = dataclasses.replace(STUDY, blocks={**STUDY.blocks, "turns": small_study.TURNS})
    rows = small_study.made_rows()
    took = {("natural", "standard", 0): 1.25, ("natural", "both", 1): 0.5}
    for row in rows:
        row["hours"] = took.get((row["block"], row["arm"], row["seed"]))
    (shared,) = (row for row in rows if row["hours"] == 1.25)  # Is of "turns" as well.
    rows.append(shared | {"block": "turns"})
    study_files.write_rows(folder / "small.csv", turns, rows)
    page = study_page.render(folder, "small", turns)
    assert "Of 14 runs 2 have recorded how long they took" in page
    assert "1.8 hours in all, and 52 minutes in the median" in page


def test_the_page_says_how_many_are_sure(folder):
    page = render(folder)
    rows = table_of(page, "## All comparisons at once")
    below = [sum(float(row[p]) < 0.05 for row in rows) for p in ("p", "p, Holm")]
    answer = page.split("## Block")[0]
    found = f"the 8 p-values that there are, {below[0]} are below 0.05 as they stand, and"
    assert f"{found} {below[1]}, of complete comparisons, after correction for 8" in answer
    assert answer.count("\n- ") == below[1] and 0 < below[1] < below[0]


def test_a_comparison_that_lacks_pairs_is_not_among_the_sure(tmp_path):
    """Nor is it bold on the front page, which asks the same function."""
    rows = small_study.made_rows([("natural", "features", 2)])
    for row in rows:  # Two pairs whose differences are nearly the same.
        row["mean_iou"] = 0.52 + row["seed"] * 1e-9 if row["arm"] == "features" else 0.5
    folder = small_study.write(tmp_path / "results", rows)
    page = render(folder)
    first = table_of(page, "## All comparisons at once")[0]
    assert first["pairs"] == "2 of 3" and float(first["p, Holm"]) < 0.05
    found = compare_all(folder)
    assert (0, "mean_iou") not in study_comparisons.sure(STUDY, found)
    assert "- natural: *features* - *standard*, mean IoU" not in page


def test_a_p_value_of_0_is_sure(tmp_path):
    rows = small_study.made_rows()
    for row in rows:
        row["mean_iou"] = 0.75 if row["arm"] == "features" else 0.5
    folder = small_study.write(tmp_path / "results", rows)
    found = compare_all(folder)
    assert found[0].tests["mean_iou"]["p"] == 0
    assert (0, "mean_iou") in study_comparisons.sure(STUDY, found)


def test_what_is_incomplete_is_said_and_counts_among_the_comparisons(tmp_path):
    lacking = [("natural", "both", 0), ("natural", "both", 1), ("balanced", "features", 1)]
    page = render(small_study.write(tmp_path / "results", small_study.made_rows(lacking)))
    assert "**This study is not complete:**" in page
    assert "- natural/both lacks seeds 0, 1\n- balanced/features lacks seeds 1\n" in page
    first, second = table_of(page, "## Block *natural*", 1)
    assert first["pairs"] == "3" and second["pairs"] == "1 of 3"
    assert second["mean IoU"].endswith("(one pair)")
    rows = table_of(page, "## All comparisons at once")
    assert len(rows) == 8 and "for the number of them all, 8," in page
    assert [row["p"] for row in rows][2:] == ["-"] * 6
    known = sorted((float(r["p"]), float(r["p, Holm"])) for r in rows[:2])
    assert known[0][1] == pytest.approx(min(1, 8 * known[0][0]), rel=0.06)


def test_every_seed_and_setting_is_on_the_page(folder):
    page = render(folder)
    assert len(table_of(page, "## Every seed")) == 9 + 4 + 2 + 2 + 1
    grid = table_of(page, "## What was tuned")
    assert len(grid) == 10 and [row["chosen"] for row in grid].count("yes") == 5
    assert grid[4]["settings"] == "`loss.start=10`"
    assert grid[4]["inherits from"] == "standard, features"
    assert "with 2 settings of its own, 10 in all" in page.replace("every arm ", "")


def test_an_arm_that_is_not_tuned_is_said_to_be_so(folder):
    path = folder / "small_choices.json"
    content = files.read_json(path, "")
    del content["blocks"]["natural"]["both"]
    files.write_json(path, content)
    grid = table_of(render(folder), "## What was tuned")
    assert [r["arm"] for r in grid if r["point"] == "**not tuned yet**"] == ["both"]


def test_files_that_do_not_belong_together_are_refused(folder):
    table = folder / "small.csv"
    before = table.read_text()
    for wrong, message in (
        (
            before.replace("natural,both,0", "natural,both,7"),
            "small.csv is damaged .the study has no run natural/both/7",
        ),
        (before + before.splitlines()[-1] + "\n", "the row of fold_1/standard/0 comes twice"),
        (before.replace("seed,", "sad,", 1), "it has no column seed"),
        (before.replace("arm,", "arms,", 1), "it has no column arm"),
        (before.replace("mean_bf,", "mean_fb,", 1), "it has no column mean_bf"),
        (before.replace("natural,both,0", "natural,bath,0"), "it has an unknown arm, bath"),
    ):
        assert wrong != before
        table.write_text(wrong)
        with pytest.raises(InputError, match=message):
            render(folder)
    for column, wrong, message in (
        ("mean_iou", "nan", "nan is no finite number"),
        ("mean_iou", "73.7", "mean_iou of natural/standard/0 is no fraction of one"),
        ("mean_iou", "", "mean_iou of natural/standard/0 is no fraction of one"),
        # Made before the block had other fields.
        ("fraction", "0.5", "natural/standard/0 has fraction 0.5, in the study it is 1.0"),
        ("balance", "1.0", "natural/standard/0 has balance 1.0, in the study it is 0.0"),
    ):
        head, first, *rest = before.splitlines(keepends=True)
        cells = first.split(",")
        cells[head.split(",").index(column)] = wrong
        table.write_text("".join([head, ",".join(cells), *rest]))
        with pytest.raises(InputError, match=f"small.csv is damaged .{message}"):
            render(folder)
    table.write_text(before)
    path = folder / "small_choices.json"
    for damage in (
        lambda both: both.pop("chosen"),
        lambda both: both.pop("points"),
        lambda both: both.update(chosen="neither"),
        lambda both: both.update(fields=None),
        lambda both: both["points"]["one"].pop("fields"),
        lambda both: both["points"]["one"].pop("mean_bf"),
    ):
        content = files.read_json(path, "")
        before = path.read_text()
        damage(content["blocks"]["natural"]["both"])
        files.write_json(path, content)
        message = "small_choices.json is damaged .the choice of natural/both is not whole"
        with pytest.raises(InputError, match=message):
            render(folder)
        path.write_text(before)
    files.write_json(path, files.read_json(path, "") | {"blocks": []})
    with pytest.raises(InputError, match="the choice of natural/standard is not whole"):
        render(folder)
    content.pop("machine")
    files.write_json(path, content | {"blocks": {}})
    with pytest.raises(InputError, match="small_choices.json is damaged .it lacks machine"):
        render(folder)
    row = {"block": "nature", "arm": "both", "seed": 0}
    files.write_csv(folder / "small_histories.csv", study_files.HISTORY_COLUMNS, [row])
    with pytest.raises(InputError, match="the study has no arm nature/both.; restore it, or"):
        study_files.read_histories(folder / "small_histories.csv", STUDY)
    (folder / "small_choices.json").unlink()
    with pytest.raises(InputError, match="small_choices.json is missing"):
        render(folder)
