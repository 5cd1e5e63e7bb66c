"""What `segadv_jax report` says of several runs: put together, compared, doubted."""

import re
import shutil

import pytest
from report_pages import made, report

from segadv_jax.errors import InputError
from segadv_jax.report import compared
from segadv_jax.workdir import Workdir


def test_seeds_of_an_arm_are_put_together(tmp_path):
    arms = {"standard": (0.50, 0.52, 0.54), "adversarial": (0.60, 0.63, 0.63)}
    for arm, ious in arms.items():
        for seed, iou in enumerate(ious):
            made(tmp_path / arm / f"seed_{seed}", arm, seed, iou=iou)
    page, _ = report(tmp_path, tmp_path / "standard", tmp_path / "adversarial", "--images=0")
    assert "52.0 ± 2.0" in page.text and "62.0 ± 1.7" in page.text and "+10.0" in page.text
    assert "adversarial is 10.0 points of mean IoU above standard" in page.text
    # Differences 10, 11, 9: 10 -+ 4.303 * 1 / sqrt(3).
    assert "3 seeds in common" in page.text and "+7.5 to +12.5 points" in page.text
    assert "more than chance explains" in page.text
    assert "Predictions" not in page.text
    assert "The adversary is ahead" in page.text


def test_one_seed_each_says_little(tmp_path):
    runs = made(tmp_path / "a", iou=0.5), made(tmp_path / "b", iou=0.497)
    page, _ = report(tmp_path, *runs)
    said = "b is 0.3 points of mean IoU below a on the split test (49.7 against 50.0 %)"
    assert f"{said}; one seed each, so this says little." in page.text


def test_classes_are_sorted_by_the_difference(tmp_path):
    first = made(tmp_path / "a", iou=0.5)
    second = made(tmp_path / "b", iou=0.5)
    result = Workdir(second).evaluation("test")
    Workdir(second).write_evaluation("test", result | {"iou": {"sky": 0.4, "tree": 0.9}})
    page, _ = report(tmp_path, first, second)
    table = page.text[page.text.index("Sorted by the gain in IoU over a") :]
    assert table.index("tree") < table.index("sky")
    assert "+30.0" in table and "−10.0" in table


def test_runs_of_different_data_are_not_compared(tmp_path):
    runs = made(tmp_path / "a"), made(tmp_path / "b", data="voc_sbd", names=("sky", "car"))
    page, _ = report(tmp_path, *runs)
    assert "cannot be compared: they are of different data sets, synthetic and voc_sbd" in page.text
    assert "The classes are not compared" in page.text
    assert "points of mean IoU" not in page.text
    shutil.rmtree(runs[1] / "eval")  # One that is still to be evaluated is of other data as well.
    page, _ = report(tmp_path, *runs)
    assert "cannot be compared: they are of different data sets, synthetic and voc_sbd" in page.text
    assert "Not shown side by side: they are of different data sets" in page.text


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"names": ("sky", "car")}, "cannot be compared: their classes differ"),
        ({"images": 8}, "cannot be compared: they were measured on different numbers of images"),
        (
            {"histogram_true": {"sky": 0.25, "tree": 0.75}},
            "cannot be compared: they were measured on different images, or on the same",
        ),
    ],
)
def test_figures_of_other_images_are_not_compared(other, said, tmp_path):
    page, _ = report(tmp_path, made(tmp_path / "a"), made(tmp_path / "b", **other))
    assert said in page.text and "points of mean IoU" not in page.text
    page, _ = report(tmp_path, made(tmp_path / "c"), made(tmp_path / "d", iou=0.6))
    assert "cannot be compared" not in page.text


def test_figures_that_may_not_be_the_last_are_marked(tmp_path):
    run = made(tmp_path / "a", step=10)
    page, _ = report(tmp_path, run)
    assert "has not ended" not in page.text
    assert "was evaluated at step 10, but step 20 was selected" in page.text
    (run / "ended.json").unlink()
    page, _ = report(tmp_path, run)
    assert "has not ended: its figures are preliminary" in page.text
    assert "How it was made" in page.text and "How they were made" not in page.text


def test_the_best_figure_is_bold_which_may_be_the_lowest(tmp_path):
    one = made(tmp_path / "a", iou=0.5, ece=0.02, nll=0.5)
    other = made(tmp_path / "b", iou=0.6, ece=0.04, nll=0.25)
    _, text = report(tmp_path, one, other, "--images=0")
    bold = re.findall("<b>([-0-9.]+)</b>", text)
    assert {"60.0", "2.0", "0.250"} <= set(bold) and not {"50.0", "4.0", "0.500"} & set(bold)


def test_a_difference_that_may_be_chance_is_called_so(tmp_path):
    for arm, ious in {"standard": (0.50, 0.52, 0.54), "adversarial": (0.56, 0.50, 0.55)}.items():
        for seed, iou in enumerate(ious):
            made(tmp_path / arm / f"seed_{seed}", arm, seed, iou=iou)
    page, _ = report(tmp_path, tmp_path / "standard", tmp_path / "adversarial", "--images=0")
    assert "this may be chance" in page.text and "more than chance explains" not in page.text


def test_a_difference_is_over_the_seeds_in_common(tmp_path):
    """Two further seeds that went well make an arm no better than the other."""
    for arm, ious in {"standard": (0.50, 0.52), "adversarial": (0.48, 0.51, 0.7, 0.7)}.items():
        for seed, iou in enumerate(ious):
            made(tmp_path / arm / f"seed_{seed}", arm, seed, iou=iou)
    page, _ = report(tmp_path, tmp_path / "standard", tmp_path / "adversarial", "--images=0")
    assert "adversarial is 1.5 points of mean IoU below standard" in page.text
    assert "(49.5 against 51.0 %); over the 2 seeds in common" in page.text
    assert "−1.5" in page.text and "differences are over those in common" in page.text


def test_a_run_that_was_not_evaluated_is_named_with_what_to_run(tmp_path):
    run = made(tmp_path / "a b")
    shutil.rmtree(run / "eval")
    page, _ = report(tmp_path, run)
    assert "was not evaluated on the split test" in page.text
    assert f"segadv_jax evaluate --workdir='{run}' --config.evaluate.split=test" in page.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{}", "config.json is damaged"),
        ("config.json", "{", "config.json is damaged"),
        ("environment.json", "[]", "environment.json is damaged"),
        ("eval/test.json", '{"step": 1}', "test.json is damaged"),
        ("history.csv", "step\nx\n", "history.csv is damaged"),
    ],
)
def test_a_damaged_file_is_named(name, content, message, tmp_path):
    (made(tmp_path / "run") / name).write_text(content)
    with pytest.raises(InputError, match=message):
        compared.read([str(tmp_path / "run")])


def test_the_runs_of_a_campaign_are_named_after_their_arms(tmp_path):
    for arm in ("fast", "slow"):
        made(tmp_path / arm / "seed_0")
    arms, split = compared.read([str(tmp_path / arm / "seed_0") for arm in ("fast", "slow")])
    assert [arm.name for arm in arms] == ["fast", "slow"] and split == "test"
