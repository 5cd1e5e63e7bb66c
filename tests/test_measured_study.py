"""The paper's tables from the rows of a study."""

import csv
import shutil
import sys
import types

import pytest
import small_study
from small_runs import ROOT

from segadv_jax import cli
from segadv_jax.errors import InputError
from segadv_jax.report import measured, measured_study, study_choices, study_definition, study_files


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The file of a study of made-up results."""
    module = types.ModuleType("small")
    module.STUDY = small_study.STUDY
    monkeypatch.setitem(sys.modules, "segadv_jax.report.studies.small", module)
    small_study.write(tmp_path, small_study.made_rows([("natural", "standard", 2)]))
    return tmp_path / "small.csv"


def row(arm, seed, mean_iou, mean_bf, images):
    study = study_definition.load("voc")
    measures = {"mean_iou": mean_iou, "pixel_accuracy": 0.8, "class_accuracy": 0.4}
    measures |= {"mean_bf": mean_bf, "std_bf": 0.2, "images": images, "iou_cat": mean_iou + 0.1}
    trained = study.blocks["table_2"].shown[arm]
    conditions = study_files.conditions(study, ("table_2", trained))
    return {"block": "table_2", "arm": arm, "seed": seed} | conditions | measures


def voc_file(folder, rows):
    results = ROOT / "docs" / "results"
    shutil.copy(study_choices.path_of(results, "voc"), folder)
    path = study_files.table_path(folder, "voc")
    study_files.write_rows(path, study_definition.load("voc"), rows)
    return path


def cells(out, name):
    with open(out / f"{name}.csv", newline="") as file:
        return {(row["row"], row["column"]): row for row in csv.DictReader(file)}


def tables(*arguments):
    return cli.run("segadv_jax.commands.tables", "segadv_jax tables", [*map(str, arguments)])


def test_a_study_fills_the_papers_table_with_bf_of_val_full(tmp_path):
    rows = [
        row(f"{arm}{end}", seed, iou + seed / 100, bf, images)
        for seed in (0, 1)
        for arm, iou in (("standard", 0.31), ("largefov_product", 0.32), ("boundary", 0.33))
        for end, bf, images in (("", 0.56, 140), ("_val_full", 0.44, 106))
    ]
    path = voc_file(tmp_path, rows)
    out = tmp_path / "out"
    assert tables(f"--out={out}", f"voc={path}") is None
    second = cells(out, "table2")
    assert {line for (line, _), cell in second.items() if cell["ours"]} == {
        "baseline",
        "LargeFOV, product",
    }
    assert float(second["baseline", "mIoU"]["ours"]) == pytest.approx(31.5)
    assert float(second["baseline", "mIoU"]["std"]) == pytest.approx(100 * 0.01 / 2**0.5)
    assert float(second["baseline", "mBF"]["ours"]) == pytest.approx(44)
    assert "segmenter efficientnet_lite0, not dilated8" in second["baseline", "mIoU"]["warning"]
    assert (
        "seeds 0, 1; split val, 140 images; BF on split val_full, 106 images"
        in (second["baseline", "mIoU"]["from"])
    )
    selected = cells(out, "supplement_table2")
    assert float(selected["LargeFOV, product", "sigma"]["ours"]) == pytest.approx(20)
    chosen = study_choices.read(
        study_choices.path_of(tmp_path, "voc"), study_definition.load("voc")
    )
    fields = chosen["table_2", "largefov_product"]["fields"]
    lam = float(selected["LargeFOV, product", "lambda"]["ours"])
    assert lam == pytest.approx(16 * fields["loss.lam"])
    rate = float(selected["baseline", "slr"]["ours"])
    assert rate == chosen["table_2", "standard"]["fields"]["optimizer.segmenter.learning_rate"]
    # The paper has no row of a control.
    assert {line for line, _ in cells(out, "other_runs")} == {"voc/table_2/boundary"}
    assert float(cells(out, "supplement_table3")["cat", "LargeFOV, product"]["ours"]) == (
        pytest.approx(42.5)
    )

    assert tables(f"--out={out}", "--split=val_full", f"a={path}:table_2/standard") is None
    assert "split val_full, 106 images" in cells(out, "table2")["baseline", "mIoU"]["from"]


def test_bf_is_of_as_many_images_with_all_seeds(tmp_path):
    rows = [row("standard", seed, 0.3, 0.5, 140) for seed in (0, 1)]
    path = voc_file(tmp_path, rows)
    (arm,) = measured_study.read("v", str(path))
    assert arm.boundaries == arm.labels == ("val", 140)
    path = voc_file(tmp_path, [*rows, row("standard_val_full", 0, 0.3, 0.5, 106)])
    with pytest.raises(InputError, match="evaluated on different images"):
        measured_study.read("v", str(path))


def test_a_block_or_an_arm_is_chosen(small):
    def names(place):
        return [arm.name for arm in measured_study.read("s", f"{small}{place}")]

    assert names(":balanced") == ["s/balanced/standard", "s/balanced/features"]
    assert names(":natural/both") == ["s/natural/both"]
    assert len(names("")) == 6
    (arm,) = measured_study.read("s", f"{small}:natural/standard")
    assert (arm.seeds, arm.labels, arm.folder) == (
        [0, 1],
        ("test", 142),
        f"{small}:natural/standard",
    )
    with pytest.raises(InputError, match="fill the same cell; name one of them"):
        measured.by_row(measured_study.read("s", f"{small}:natural"))


def test_what_is_no_study_is_refused(small, tmp_path):
    def refused(message, place, *arguments):
        with pytest.raises(InputError, match=message) as error:
            tables(f"--out={tmp_path / 'out'}", f"s={place}", *arguments)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    refused("there is no block natrual; known: natural, balanced, fold_1", f"{small}:natrual")
    refused("there is no arm both; known: standard, features", f"{small}:balanced/both")
    refused("it has no row of val", small, "--split=val")
    (tmp_path / "other.csv").write_text("")
    refused("other.csv: a file has its study's name: other is no study", tmp_path / "other.csv")
    refused("or NAME=STUDY.csv, NAME=STUDY.csv:BLOCK", f"{small}:natural:both")
    refused("nowhere.csv: there is no file", tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    refused("no run is in this folder", tmp_path / "folder.csv")
    (tmp_path / "small_choices.json").unlink()
    refused("small_choices.json is to lie beside it; copy it there", small)
    text = small.read_text()
    small.write_text(text[:-9])
    refused("small.csv is damaged .it ends in the middle of a row", small)
    small.write_text("")
    refused("small.csv is damaged .it has no rows", small)
    small.unlink()
    refused("small.csv: there is no file", small)


def test_rows_of_before_do_not_say_of_how_many_images_they_are(small, tmp_path):
    rows = [row | {"images": None, "std_bf": None} for row in small_study.made_rows()]
    study_files.write_rows(small, small_study.STUDY, rows)
    out = tmp_path / "out"
    assert tables(f"--out={out}", f"s={small}:natural/standard") is None
    cell = cells(out, "table1")["standard", "mean IoU"]
    assert "split test, images not counted" in cell["from"] and cell["ours"]
    assert "the paper's on" not in cell["warning"]
    rows[0]["images"] = 7  # Counted since: as far as is known these are the same images.
    study_files.write_rows(small, small_study.STUDY, rows)
    assert tables(f"--out={out}", f"s={small}:natural/standard") is None
    cell = cells(out, "table1")["standard", "mean IoU"]
    assert "split test, images not counted" in cell["from"]
    rows[1]["images"] = 8
    study_files.write_rows(small, small_study.STUDY, rows)
    with pytest.raises(InputError, match="evaluated on different images"):
        measured_study.read("s", f"{small}:natural/standard")


@pytest.mark.parametrize("place", ["light.csv:natural/standard", "paper.csv:longer"])
def test_published_rows_make_tables_from_any_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tables("--out=out", f"s={ROOT / 'docs' / 'results' / place}") is None
    assert float(cells(tmp_path / "out", "table1")["standard", "mean IoU"]["ours"]) > 50
