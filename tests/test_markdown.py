"""Tables and figures as every page has them."""

from segadv_jax.report import markdown


def test_columns_of_numbers_are_aligned_to_the_right():
    rows = [["a", 1, "+2.0 to +3.0", "0: +1.0", "", "x 1"], ["b", "-", "-1", "-", 5, ""]]
    assert markdown.table(["arm", "n", "interval", "by seed", "left out", "text"], rows) == (
        "| arm | n | interval | by seed | left out | text |\n"
        "| --- | ---: | ---: | ---: | ---: | --- |\n"
        "| a | 1 | +2.0 to +3.0 | 0: +1.0 |  | x 1 |\n"
        "| b | - | -1 | - | 5 |  |"
    )
    assert markdown.table(["a", "b"], []) == "| a | b |\n| --- | --- |"


def test_figures_are_in_percent_and_a_dash_stands_for_none():
    assert markdown.mean_std({"mean": 0.513, "std": 0.0042}) == "51.30 ± 0.42"
    assert markdown.mean_std({"mean": 0.513, "std": None}, ".1f") == "51.3"
    assert markdown.mean_std({"mean": None, "std": None}) == "-"
    assert markdown.interval((-0.0196, 0.0009)) == "-1.96 to +0.09"
    assert markdown.interval(None) == "-"
    assert markdown.by_seed({0: -0.0017, 3: 0.0031}) == "0: -0.17, 3: +0.31"


def test_empty_parts_leave_no_gap():
    assert markdown.join("# a", "", "b") == "# a\n\nb"
