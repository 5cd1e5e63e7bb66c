"""The first page of the results: its words are people's, its figures those of the studies."""

import re
import statistics
import sys
import types

import pytest
import small_study
from small_runs import ROOT

from segadv_jax.errors import InputError
from segadv_jax.report import front_page, study_page


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The small study is known by the name "small"."""
    module = types.ModuleType("small")
    module.STUDY = small_study.STUDY
    monkeypatch.setitem(sys.modules, "segadv_jax.report.studies.small", module)


@pytest.fixture
def folder(tmp_path):
    lacking = [("natural", "both", 2)]
    return small_study.write(tmp_path / "results", small_study.made_rows(lacking))


def render(folder, text):
    (folder / "front.md").write_text(text)
    return front_page.render(folder)


def test_figures_are_those_of_the_study(folder):
    page = study_page.render(folder, "small", small_study.STUDY)
    text = render(
        folder,
        "# Answers\n\nIoU: {small natural features mean_iou}, from {small natural standard nll}.\n"
        "| {small natural both-features pairs} | {small natural both-features mean_bf} |\n",
    )
    mean, nll = text.split("IoU: ")[1].split("\n")[0].rstrip(".").split(", from ")
    arms = page.split("## Block *natural*")[1].split("Paired differences")[0].splitlines()
    assert f"| features | 3 | {mean} |" in "\n".join(arms)
    assert f" {nll} |" in next(line for line in arms if line.startswith("| standard"))
    assert "| 2 of 3 | " in text and "not shown |" in text
    assert render(folder, "{small natural both seeds} {small natural standard seeds}") == "2 of 3 3"
    assert text.startswith("# Answers\n\n")


def test_what_is_sure_of_all_comparisons_is_bold(folder):
    page = study_page.render(folder, "small", small_study.STUDY)
    bold = 0
    for block, pair in (("natural", "features-standard"), ("balanced", "features-standard")):
        for measure, title in (("mean_iou", "mean IoU"), ("mean_bf", "BF")):
            text = render(folder, f"{{small {block} {pair} {measure}}}")
            lines = page.split("## All comparisons")[1].splitlines()
            (line,) = (x for x in lines if f"| {block} | features - standard |" in x and title in x)
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            sure = float(cells[-1]) < 0.05
            assert text == (f"**{cells[-3]}**" if sure else cells[-3])
            bold += sure
    assert 0 < bold < 4


def test_means_over_several_blocks_are_compared_seed_by_seed(folder):
    """Those that all have; never bold."""
    rows = {(row["block"], row["arm"], row["seed"]): row for row in small_study.made_rows()}
    found = [
        statistics.mean(
            100
            * (
                rows[block, "features", seed]["mean_iou"]
                - rows[block, "standard", seed]["mean_iou"]
            )
            for block in ("natural", "balanced")
        )
        for seed in (0, 1)
    ]
    mean, half = statistics.mean(found), 12.706 * statistics.stdev(found) / 2**0.5
    text = render(folder, "{small natural+balanced features-standard mean_iou}")
    figures = [float(x) for x in re.findall(r"[-+][.\d]+", text)]
    assert figures == pytest.approx([mean, mean - half, mean + half], abs=0.006)
    assert "*" not in text
    assert render(folder, "{small natural+balanced features-standard pairs}") == "2"
    assert render(folder, "{small balanced+natural features-standard mean_iou}") == text


def test_an_arm_is_compared_between_two_blocks(folder):
    rows = {(row["block"], row["arm"], row["seed"]): row for row in small_study.made_rows()}
    found = [
        rows["balanced", "features", seed]["nll"] - rows["natural", "features", seed]["nll"]
        for seed in (0, 1)
    ]
    mean, half = statistics.mean(found), 12.706 * statistics.stdev(found) / 2**0.5
    text = render(folder, "{small balanced-natural features nll}")
    figures = [float(x) for x in re.findall(r"[-+][.\d]+", text)]
    assert figures == pytest.approx([mean, mean - half, mean + half], abs=6e-5)


def test_how_much_was_tried_and_compared_is_that_of_the_studys_page(folder):
    page = study_page.render(folder, "small", small_study.STUDY)
    compared, tried = render(folder, "{small comparisons} {small settings}").split()
    assert f"the number of them all, {compared}," in page
    assert f"settings of its own, {tried} in all" in page


def test_what_has_no_runs_is_a_dash(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    text = "{small natural features mean_iou} {small natural features-standard mean_iou}"
    assert render(folder, f"{text} {{small natural features-standard pairs}}") == "- - 0 of 3"
    assert render(folder, "{small picture}") == ""
    (folder / "front.md").unlink()
    assert front_page.render(folder) == ""


@pytest.mark.parametrize(
    "field",
    [
        "{large natural features mean_iou}",
        "{small nature features mean_iou}",
        "{small natural pixels mean_iou}",
        "{small natural standard-features mean_iou}",
        "{small natural features iou}",
        "{small natural features-standard iou}",
        "{small natural+none features-standard mean_iou}",
        "{small natural+fold_1 features-standard mean_iou}",
        "{small natural+natural features-standard mean_iou}",
        "{small natural-none features mean_iou}",
        "{small natural-balanced both mean_iou}",
        "{small natural-balanced features iou}",
        "{small natural-balanced-fold_1 standard mean_iou}",
        "{small natural}",
        "{}",
    ],
)
def test_fields_that_name_nothing_are_refused(folder, field):
    message = "large is no study" if "large" in field else "front.md: .*write {STUDY BLOCK ARM"
    with pytest.raises(InputError, match=message):
        render(folder, f"See {field}.")


def test_a_difference_is_bold_once_it_is_finished(tmp_path):
    """Looking before all seeds are there is nothing that a correction covers."""
    field = "{small natural features-standard mean_iou}"
    whole = small_study.write(tmp_path / "whole", small_study.made_rows())
    assert render(whole, field).startswith("**+1.9")
    rows = small_study.made_rows([("natural", "features", 2)])
    for row in rows:  # Two pairs whose differences are nearly the same.
        row["mean_iou"] = 0.52 + row["seed"] * 1e-9 if row["arm"] == "features" else 0.5
    part = small_study.write(tmp_path / "part", rows)
    lines = study_page.render(part, "small", small_study.STUDY).split("## All comparisons")[1]
    (line,) = (x for x in lines.splitlines() if "natural | features - standard" in x and "IoU" in x)
    assert float(line.strip("| ").split("|")[-1]) < 0.05 and "2 of 3" in line
    assert render(part, field) == "+2.00 (+2.00 to +2.00)"


def test_the_readme_has_rows_of_the_first_page():
    results = (ROOT / "docs" / "results.md").read_text().splitlines()
    section = (ROOT / "README.md").read_text().split("\n## Results\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) > 4
    assert set(rows) <= set(results)


def test_the_readme_follows_the_page():
    """Row by row; its words, and tables that the page has not, stay as they are."""
    table = "| all | IoU |\n| --- | ---: |\n| one | {} |\n| two | {} |\n"
    page = f"{table.format(1, 2)}\n{table.replace('all', 'few').format(3, 4)}"
    readme = f"# Title\n\nIn %:\n\n{table.replace('all', 'few').format(5, 6)}| three | 7 |\n\n"
    others = table.replace("all", "other").format(8, 9)
    text = front_page.follow(readme + others, page)
    assert text == readme.replace("| one | 5 |", "| one | 3 |").replace("6", "4") + others


def test_a_row_of_the_readme_that_could_be_any_of_several_is_refused():
    page = "| fold | IoU |\n| --- | ---: |\n| one | 1 |\n| one | 2 |\n"
    front_page.follow(page.replace("fold", "other"), page)
    with pytest.raises(InputError, match="README.md: . one . 1 .: the results have 2 rows"):
        front_page.follow(page, page)
