"""Grids: which points, measured on what, in what order."""

import pytest
from small_runs import ROOT

from segadv_jax import files
from segadv_jax.campaign import grid
from segadv_jax.campaign.arms import load_config
from segadv_jax.errors import InputError

VOC, STANFORD = "configs/voc_largefov.py:product", "configs/stanford.py:adversarial"
AXES = {"slr": [1e-6, 1e-5], "alr": [0.1, 0.5], "lam": [0.1, 1.0]}


def test_points_are_all_combinations_with_readable_names():
    points = grid.points(AXES)
    assert len(points) == 8
    assert list(points)[:3] == [
        "slr1e-06_alr0.1_lam0.1",
        "slr1e-06_alr0.1_lam1",
        "slr1e-06_alr0.5_lam0.1",
    ]
    assert points["slr1e-05_alr0.5_lam1"] == {"slr": 1e-5, "alr": 0.5, "lam": 1.0}
    # No two numbers share a folder.
    assert len(grid.points({"lam": [0.1234567, 0.1234568, 1e-16, 1e16]})) == 4


def test_fields_are_set_exactly_as_given(monkeypatch):
    monkeypatch.chdir(ROOT)
    points = grid.points(AXES)
    arms, split = grid.arms(VOC, points, ["--config.train.updates=7"])
    assert split == "val" and list(arms) == list(points)
    for name, point in points.items():
        config = load_config(arms[name])
        assert config.optimizer.segmenter.learning_rate == point["slr"]
        assert config.optimizer.adversary.learning_rate == point["alr"]
        assert config.loss.lam == point["lam"]
        assert (config.encoding, config.train.updates) == ("product", 7)


def test_what_is_left_out_stays(monkeypatch):
    monkeypatch.chdir(ROOT)
    arms, _ = grid.arms(VOC, grid.points({"alr": [0.3]}), [])
    config = load_config(arms["alr0.3"])
    assert config.optimizer.adversary.learning_rate == 0.3
    assert (config.optimizer.segmenter.learning_rate, config.loss.lam) == (1e-6, 1 / 16)


def test_the_test_split_is_not_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    points = grid.points({"lam": [0.1, 1.0]})
    for shared, expected in (([], "subset_7"), (["--config.data.validation=subset_6"], "subset_6")):
        arms, split = grid.arms(STANFORD, points, shared)
        assert split == expected
        for arguments in arms.values():
            config = load_config(arguments)
            assert config.data.test == config.data.validation == expected


def row(point, seed, mean_iou):
    result = {"arm": point, "seed": seed, "split": "v", "mean_iou": mean_iou, "mean_bf": None}
    return result | {"class_accuracy": 0.5, "pixel_accuracy": 0.6}


def test_points_with_all_seeds_come_first_by_mean_iou():
    points = grid.points({"lam": [1.0, 2.0, 3.0, 4.0]})
    rows = [row("lam1", 0, 0.3), row("lam1", 1, 0.5), row("lam2", 0, 0.9)]
    rows += [row("lam3", 1, 0.6), row("lam3", 0, 0.4)]
    ranked = grid.rank(points, rows, [1, 0])
    assert [line["point"] for line in ranked] == ["lam3", "lam1", "lam2", "lam4"]
    assert [line["best"] for line in ranked] == ["yes", "", "", ""]
    assert [line["seeds"] for line in ranked] == ["0 1", "0 1", "0", ""]
    assert ranked[0]["mean_iou"] == pytest.approx(0.5)
    assert ranked[0]["mean_iou_std"] == pytest.approx(0.02**0.5)
    assert ranked[2]["mean_iou_std"] is None and ranked[0]["slr"] is None
    assert "BF" not in grid.table(ranked, "v")
    assert not grid.rank(points, rows[2:3], [0, 1])[0]["best"]


def test_the_configuration_without_adversary_has_a_learning_rate(monkeypatch):
    monkeypatch.chdir(ROOT)
    arms, _ = grid.arms("configs/voc_baseline.py", grid.points({"slr": [1e-7]}), [])
    assert load_config(arms["slr1e-07"]).optimizer.segmenter.learning_rate == 1e-7


def test_the_best_point_of_a_file(tmp_path):
    points = grid.points({"lam": [1.0, 2.0]})
    rows = [row("lam1", 0, 0.3), row("lam2", 0, 0.4)]
    path = tmp_path / grid.GRID
    files.write_csv(path, grid.COLUMNS, grid.rank(points, rows, [0]))
    assert grid.best_of(tmp_path) == ("lam2", 2)
    files.write_csv(path, grid.COLUMNS, grid.rank(points, rows, [0, 1]))
    with pytest.raises(InputError, match="no point is done with all seeds; resume"):
        grid.best_of(tmp_path)
    files.write_csv(path, ("point",), [{"point": "lam1"}])
    with pytest.raises(InputError, match="grid.csv is damaged .*columns.*make it again"):
        grid.best_of(tmp_path)
