"""How training went, from the histories of paired runs."""

import pytest

from segadv_jax.report import course, figures, html_curves, html_parts


def row(arm, seed, updates, **values):
    known = dict.fromkeys(course.COLUMNS) | {"epoch": updates / 100}
    return known | {"arm": arm, "seed": seed, "segmenter_updates": updates} | values


def both(arm, seed, updates, train, validation):
    values = {"train_mean_iou": train, "validation_mean_iou": validation}
    return row(arm, seed, updates, **values)


ROWS = [both("one", seed, 100, 0.5, 0.4 + seed / 10) for seed in range(3)]
ROWS += [both("one", seed, 200, 0.7, 0.5) for seed in range(2)]
ROWS += [both("one", 0, 300, 0.9, 0.1)]


def test_means_end_where_most_seeds_do():
    found = [(arm, updates, len(part)) for arm, updates, part in course.by_update(ROWS, ["one"])]
    assert found == [("one", 100, 3), ("one", 200, 2)]
    histories = course.histories(ROWS, ["one", "nobody"])
    assert [[r["segmenter_updates"] for r in seed] for seed in histories["one"]] == [
        *([100, 200, 300], [100, 200], [100]),
    ]
    assert list(histories) == ["one"]
    values = course.values_at(histories["one"], "segmenter_updates", "train_mean_iou")
    assert values == {100: [0.5, 0.5, 0.5], 200: [0.7, 0.7]}


def test_runs_that_were_validated_at_other_updates_end_together():
    """A validation that one run alone had is no end of the others; empty fields are no values."""
    first = [{"x": 10, "y": 1.0}, {"x": 30, "y": 2.0}, {"x": 40, "y": None}]
    second = [{"x": "20", "y": "3"}, {"x": "30", "y": "4"}, {"x": "40", "y": ""}, {"x": 50}]
    assert course.values_at([first, second, []], "x", "y") == {10: [1], 20: [3], 30: [2, 4]}


@pytest.mark.parametrize("kind", ["figures", "html"])
def test_what_is_drawn_ends_there_too(kind, tmp_path, monkeypatch):
    drawn = []
    if kind == "html":

        def draw(plot, lines, *_):
            drawn.append(([x for x, *_ in lines[0]], [mean for _, mean, *_ in lines[0]]))
            return html_parts.Html()

        monkeypatch.setattr(html_curves, "_draw", draw)
        histories = course.histories(ROWS, ["one"])["one"]
        known = [[{k: v for k, v in row.items() if v is not None} for row in h] for h in histories]
        html_curves.curves({"one": known})
    else:

        def save(figure, path):
            lines = [chart.get_lines()[0] for chart in figure.axes]
            drawn.extend((list(line.get_xdata()), list(line.get_ydata())) for line in lines)

        monkeypatch.setattr(figures, "save", save)
        figures.draw_curves(tmp_path, course.histories(ROWS, ["one"]), ["mean_iou"])
    assert drawn == [([100, 200], pytest.approx(mean)) for mean in ([50, 70], [50, 50])]


def test_the_gap_is_that_of_the_means():
    lines = course.gaps(ROWS, ["one"]).splitlines()[2:]
    assert lines == [
        "| one | 100 | 1.0 | 3 | - / - / - | 50.0 / 50.0 / 0.0 | - / - |",
        "| one | 200 | 2.0 | 2 | - / - / - | 70.0 / 50.0 / 20.0 | - / - |",
    ]


@pytest.mark.parametrize("real", [0.75, None])
def test_the_game_has_what_was_measured(real):
    rows = [row("one", 0, 100, accuracy_real=real, grad_norm_mce=0.01)]
    line = course.game(rows, ["one"]).splitlines()[2]
    assert line == f"| one | 100 | {'-' if real is None else real} | - | 0.0100 | - | - |"
