"""The paper's tables: what is printed there, and our figures beside it."""

import csv
import json

import finished_runs
import pytest
from processes import end_of
from small_runs import start_process

from segadv_jax import cli, files
from segadv_jax.campaign import grid
from segadv_jax.configs import (
    stanford,
    synthetic,
    voc_baseline,
    voc_largefov,
    voc_light,
    voc_smallfov,
)
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import bf_caution
from segadv_jax.report import differences, measured, paper


def tables(*arguments):
    """The exit status of a command line."""
    return cli.run("segadv_jax.commands.tables", "segadv_jax tables", [*map(str, arguments)])


def make_run(folder, config, *, evaluations, seed=0, ended=True, **fields):
    config.seed = seed
    config.update_from_flattened_dict(fields)
    return finished_runs.make_run(folder, config, evaluations, ended=ended)


def cells(out, name):
    """{(row, column): row of the CSV file}."""
    with open(out / f"{name}.csv", newline="") as file:
        return {(row["row"], row["column"]): row for row in csv.DictReader(file)}


def line(out, start):
    """The line of the page that starts so."""
    (found,) = (x for x in (out / "tables.md").read_text().splitlines() if x.startswith(start))
    return found


def test_without_runs_there_are_the_papers_figures(tmp_path, capsys):
    assert tables(f"--out={tmp_path / 'out'}") is None
    assert capsys.readouterr().err == ""
    assert line(tmp_path / "out", "| standard") == "| standard | 66.5 | - | 73.3 | - | 51.3 | - |"
    assert line(tmp_path / "out", "| adversarial").startswith("| adversarial | 68.7 | - | 75.2")
    assert "| SmallFOV | 2.4e6 [2] | 1,572,802 | 2.4e6 [3] |" in line(
        tmp_path / "out", "| SmallFOV |"
    )
    assert line(tmp_path / "out", "| background").endswith("| 94.9 [1] | - |")
    page = (tmp_path / "out" / "tables.md").read_text()
    assert "mean of 73.267" in page and "it is 73.176" in page and "A misprint: the cell" in page
    assert (
        "| LargeFOV, scaling | 71.99 | - | 47.85 | - | 22.25 | - | 1e-05 | - | 0.1 | - | 1 | - |"
        in page
    )
    assert page.count("- Ours: no run was given.") == 4
    assert not (tmp_path / "out" / "other_runs.csv").exists()
    notes = cells(tmp_path / "out", "supplement_table3")
    assert {k for k, row in notes.items() if row["note"]} == {("background", "LargeFOV, scaling")}


def test_seeds_of_a_campaign_are_averaged_in_their_cells(tmp_path, capsys):
    for arm, variant, gain in (("a", "standard", 0.0), ("b", "printed", 0.02)):
        for seed in (0, 3):
            measures = {"class_accuracy": 0.6 + seed / 100, "pixel_accuracy": 0.7 + gain}
            make_run(
                tmp_path / "w" / arm / f"seed_{seed}",
                stanford.get_config(variant),
                seed=seed,
                evaluations={"test": measures | {"mean_iou": 0.5 + gain, "images": 142}},
            )
    # One that is still being trained, or was not evaluated, does not count.
    test = {"test": {"images": 142}}
    make_run(
        tmp_path / "w/a/seed_4", stanford.get_config("standard"), ended=False, evaluations=test
    )
    make_run(tmp_path / "w/a/seed_5", stanford.get_config("standard"), evaluations={})
    out = tmp_path / "out"
    assert tables(f"--out={out}", f"camp={tmp_path / 'w'}") is None
    output = capsys.readouterr()
    assert output.err == "" and f"Tables: {out / 'tables.md'}" in output.out
    cell = "61.5 ± 2.1"
    assert line(out, "| standard") == (
        f"| standard | 66.5 | {cell} | 73.3 | 70.0 ± 0.0 | 51.3 | 50.0 ± 0.0 |"
    )
    assert "| 75.2 | 72.0 ± 0.0 | 54.3 | 52.0" in line(out, "| adversarial")
    folder = tmp_path / "w" / "a"
    expected = f"- Ours, camp/a: {folder}: seeds 0, 3; split test, 142 images"
    assert line(out, "- Ours, camp/a") == expected
    assert "no reproduction" not in (out / "tables.md").read_text()
    found = cells(out, "table1")["standard", "class accuracy"]
    assert (float(found["ours"]), found["paper"]) == (pytest.approx(61.5), "66.5")
    assert float(found["std"]) == pytest.approx(100 * 0.03 / 2**0.5)
    # An arm's folder and a run's alone.
    named = [f"s={tmp_path / 'w' / 'a'}", f"p={tmp_path / 'w' / 'b' / 'seed_3'}"]
    assert tables(f"--out={out}", *named) is None
    assert line(out, "| standard").split(" | ")[2] == cell
    assert "| 68.7 | 63.0 | 75.2 | 72.0 |" in line(out, "| adversarial")


RELEASED = "dilation8_pascal_voc.caffemodel"


def voc_run(folder, config, **fields):
    """From the released weights, on all images of val; BF of val_full."""
    fields = {"init": RELEASED} | fields
    iou = {name: 0.5 + i / 100 for i, name in enumerate(paper.TABLE_3_CLASSES)}
    val = {"mean_iou": 0.71234, "images": 1449, "mean_bf": 0.1, "std_bf": 0.1}
    val["iou"] = iou | {"sofa": None}
    full = {"mean_iou": 0.9, "mean_bf": 0.45678, "std_bf": 0.2222, "images": 1103}
    return make_run(folder, config, evaluations={"val": val, "val_full": full}, **fields)


def test_pascal_voc(tmp_path, capsys):
    base = voc_run(tmp_path / "base", voc_baseline.get_config())
    light = {"loss.lam": 0.5, "loss.reduction": "sum"}
    ours = voc_run(tmp_path / "ours", voc_largefov.get_config("scaling"))
    small = voc_run(tmp_path / "small", voc_smallfov.get_config("basic"), **light)
    out = tmp_path / "out"
    named = [f"base={base}", f"ours={ours}", f"small={small}"]
    assert tables(f"--out={out}", *named) is None
    second = cells(out, "table2")
    assert {row for (row, _), cell in second.items() if cell["ours"]} == {
        "baseline",
        "LargeFOV, scaling",
        "SmallFOV, basic",
    }
    page = (out / "tables.md").read_text()
    assert "| LargeFOV, scaling | 72.0 | 71.2 | 47.9 | 45.7 |" in page
    selected = "| LargeFOV, scaling | 71.99 | 71.23 | 47.85 | 45.68 | 22.25 | 22.22 |"
    assert f"{selected} 1e-05 | 1e-05 | 0.1 | 0.1 | 1 | 1 |" in page
    # Between sums lambda is as it was given.
    assert "| 0.2 | 0.2 | 1 | 0.5 |" in page
    assert "| 1e-06 | 1e-06 | - | - | - | - |" in page  # The baseline.
    assert f"{ours}: seeds 0; split val, 1,449 images; BF on split val_full, 1,103 images" in page
    third = cells(out, "supplement_table3")
    assert float(third["aeroplane", "LargeFOV, scaling"]["ours"]) == pytest.approx(51)
    assert third["sofa", "baseline"]["ours"] == ""
    assert third["dog", "LargeFOV, product"]["ours"] == ""
    assert line(out, "| background") == (
        "| background | 92.9 | 50.0 † | 93.0 | - | 94.9 [1] | 50.0 † |"
    )
    assert float(third["mIoU", "baseline"]["ours"]) == pytest.approx(71.234)
    # Only where the paper's figures are of the test set is there something to warn of.
    warned = [x for x in page.splitlines() if x.startswith("† ") or "‡" in x[:1]]
    said = "no reproduction: split val, 1,449 images, the paper's on split test, 1,456 images"
    assert warned == [f"† base, ours: {said}."]  # What is to be said of both is said once.
    (warned,) = capsys.readouterr().err.splitlines()
    assert warned.startswith("warning: Supplement, Table 3") and warned.endswith(
        f"base and 1 more: {said}"
    )


def test_figures_of_runs_that_are_not_the_papers_are_marked(tmp_path, capsys):
    part = {"images": 1448, "mean_iou": 0.5, "mean_bf": 0.4, "std_bf": 0.2}
    config = voc_baseline.get_config()
    fields = {"init": "scratch", "segmenter.width": 0.05}
    make_run(tmp_path / "part", config, evaluations={"val": part}, **fields)
    out = tmp_path / "out"
    assert tables(f"--out={out}", f"part={tmp_path / 'part'}") is None
    warning = (
        "no reproduction: split val, 1,448 images, the paper's on split val, 1,449 images; "
        "starting weights scratch, not the released ones of Dilated-8; segmenter.width 0.05, not 1"
    )
    caution = (
        "BF on val says little: void surrounds the objects there, and a map of nothing but "
        "background scores 61; use val_full, as the paper does"
    )
    found = cells(out, "table2")
    assert found["baseline", "mIoU"]["warning"] == warning
    assert found["baseline", "mBF"]["warning"] == f"{warning}; {caution}"
    page = (out / "tables.md").read_text()
    assert "| baseline | 71.8 | 50.0 † | 47.4 | 40.0 † ‡ |" in page
    assert "| 22.21 | 20.00 † ‡ | 1e-06 | 1e-06 |" in page  # The supplement's; a rate is no result.
    head, _, rest = page.partition("| baseline | 71.8 |")
    assert f"\n† part: {warning}.\n" in rest and f"\n‡ part: {caution}.\n" in rest
    assert warning not in head
    errors = capsys.readouterr().err
    assert f"warning: Table 2: PASCAL VOC 2012, validation set, %: part: {warning}\n" in errors
    half, config = tmp_path / "half", stanford.get_config("printed_half")
    make_run(half, config, evaluations={"test": {"images": 142}})
    assert tables(f"--out={out}", f"half={half}") is None
    (short,) = capsys.readouterr().err.splitlines()
    assert "segmenter.shrink 2, not 1" in short and short.endswith(" ... (tables.md has the rest)")
    assert "train.updates 500, not 10,000" in line(out, "† half: no reproduction: ")
    assert f"warning: Table 2: PASCAL VOC 2012, validation set, %: part: {caution}\n" in errors
    assert "background scores 61" not in errors.partition("Supplement, Table 3")[2]


def differences_of(config, **fields):
    config.update_from_flattened_dict({"init": RELEASED} | fields)
    config = json.loads(json.dumps(config.to_dict()))
    return differences.from_paper(config, measured.row_of(config))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"segmenter.width": 0.5}, "segmenter.width 0.5, not 1"),
        ({"adversary.width": 0.1}, "adversary.width 0.1, not 1"),
        ({"init": "scratch"}, "starting weights scratch, not the released ones of Dilated-8"),
        ({"init": "vgg:v.h5"}, "starting weights vgg:v.h5, not the released ones of Dilated-8"),
        ({"init": "runs/a"}, "starting weights runs/a, not the released ones of Dilated-8"),
        ({"train.updates": 60}, "train.updates 60, not 20,000"),
        ({"train.crop": 96}, "train.crop 96, not 320"),
        ({"train.scale": (0.5, 1.5)}, "train.scale (0.5, 1.5), not (1, 1)"),
        ({"evaluate.tile": 0}, "evaluate.tile 0, not 66"),
        ({"data.fraction": 0.5}, "data.fraction 0.5, not 1"),
        ({"data.train": "train"}, "data.train train, not train_aug"),
        ({"data.unlabelled": "rest"}, "data.unlabelled rest, not none"),
        (
            {"data.allow_partial": True},
            "data.allow_partial, so that training images may have been missing",
        ),
        ({"alternation.schedule": "fast"}, "alternation.schedule fast, not slow"),
        ({"optimizer.segmenter.name": "adam"}, "optimizer.segmenter.name adam, not sgd"),
    ],
)
def test_what_differs_from_the_papers_setting_is_named(fields, expected):
    assert differences_of(voc_largefov.get_config("product"), **fields) == [expected]


def test_what_does_not_make_a_run_another_one_is_not_named():
    config = voc_largefov.get_config("product")
    alike = {"seed": 7, "data.archives": "a", "train.log_every": 1, "segmenter.remat": True}
    alike |= {"evaluate.flip": True, "evaluate.prior_shift": 0.5, "evaluate.checkpoint": "latest"}
    searched = {"loss.lam": 1.0, "optimizer.adversary.learning_rate": 0.3}
    assert differences_of(config, **alike, **searched, init="dilated8.safetensors") == []
    game = {"alternation.period": 9, "encoding": "scaling", "adversary.width": 0.1}
    assert differences_of(voc_baseline.get_config(), **game) == []  # There is no adversary.


def test_another_segmenter_is_named_without_its_own_fields():
    found = differences_of(voc_light.get_config("largefov_product"), **{"train.updates": 500})
    assert found[0] == "segmenter efficientnet_lite0, not dilated8"
    assert "train.updates 500, not 20,000" in found and "train.crop 256, not 320" in found
    assert not any(
        text.startswith(("segmenter.", "starting", "optimizer.segmenter")) for text in found
    )


def test_stanford_background_is_trained_from_scratch_on_whole_resolution():
    def of(arm, **fields):
        return differences_of(stanford.get_config(arm), **{"init": "scratch"} | fields)

    assert of("standard") == of("printed") == []
    assert of("standard", init="w.safetensors") == ["starting weights w.safetensors, not scratch"]
    half = of("printed_half")
    assert half[0] == "segmenter.shrink 2, not 1" and "train.updates 500, not 10,000" in half
    assert "encoding scaling, not basic" in of("adversarial")
    # The paper's lambda is 2 between the sums of Eq. 1.
    assert of("printed", **{"loss.lam": 2.0, "loss.reduction": "sum"}) == []
    assert of("printed", **{"loss.lam": 2.0}) == ["loss.lam 2, not 0.125"]


def test_bf_is_cautioned_where_void_surrounds_the_objects():
    for split in ("val", "val[:9]", "train[:3]+val"):
        assert f"BF on {split} says little" in bf_caution("voc_sbd", split)
    assert not bf_caution("voc_sbd", "val_full") and not bf_caution("voc_sbd", "train_aug[:9]")
    assert "where masks leave a border of void" in bf_caution("image_folder", "val")


def test_another_split(tmp_path):
    run = voc_run(tmp_path / "w", voc_baseline.get_config())
    out = tmp_path / "out"
    assert tables(f"--out={out}", "--split=val_full", f"w={run}") is None
    cell = cells(out, "table2")["baseline", "mIoU"]
    assert float(cell["ours"]) == 90 and "split val_full, 1,103 images, the p" in cell["warning"]


def test_runs_without_a_cell_have_a_table_of_their_own(tmp_path):
    other = {"evaluations": {"test": {"mean_iou": 0.25, "images": 9}}}
    make_run(tmp_path / "a", synthetic.get_config("standard"), **other)
    config = voc_largefov.get_config("basic")
    make_run(tmp_path / "b", config, encoding="basic_rgb", **{"data.test": "test"}, **other)
    config = stanford.get_config("printed")
    make_run(tmp_path / "c", config, **{"adversary.name": "smallfov_light"}, **other)
    config = voc_largefov.get_config("basic")
    bf = {"evaluations": {"val": {"mean_bf": 0.56, "std_bf": 0.2, "images": 9}}}
    make_run(tmp_path / "d", config, encoding="basic_rgb", **bf)
    out = tmp_path / "out"
    assert tables(f"--out={out}", *(f"{x}={tmp_path / x}" for x in "abcd")) is None
    found = cells(out, "other_runs")
    assert {row for row, _ in found} == {"a", "b", "c", "d"}
    assert line(out, "| d |") == "| d | 50.0 | 50.0 | 50.0 | 56.0 ‡ |"
    assert line(out, "‡ d: BF on val says little")
    assert float(found["b", "mean IoU"]["ours"]) == 25 and found["a", "mean BF"]["ours"] == ""
    assert line(out, "| a |") == "| a | 50.0 | 50.0 | 25.0 | - |"
    for name in ("table1", "table2"):
        assert not any(cell["ours"] for cell in cells(out, name).values())
    assert set(paper.TABLE_1) == {row for row, _ in cells(out, "table1")}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_cannot_be_a_table_is_refused(tmp_path):
    test = {"test": {"images": 142}}

    def run(name, seed=0, variant="standard", **more):
        more = {"evaluations": test} | more
        return make_run(tmp_path / name, stanford.get_config(variant), seed=seed, **more)

    def refused(message, *arguments):
        with pytest.raises(InputError, match=message) as error:
            tables(f"--out={tmp_path / 'out'}", *arguments)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    one = run("one")
    refused("one: give NAME=WORKDIR", one)
    refused("a=none: give NAME=WORKDIR", "a=none")
    refused("seed=1: the configurations are those of", f"a={one}", "--config.seed=1")
    refused("there are two of that name", f"a={one}", f"a={one}")
    refused("one and .*two fill the same cell; name one", f"a={one}", f"b={run('two', seed=1)}")
    refused("no run is done with its evaluation on val; let", "--split=val", f"a={one}")
    (tmp_path / "empty").mkdir()
    refused("empty: no run is in this folder", f"a={tmp_path / 'empty'}")
    early = run("early", ended=False)
    refused("no run is done with its evaluation on its test split", f"a={early}")

    run("mixed/seed_0")
    run("mixed/seed_1", seed=1, **{"loss.lam": 3.0})
    refused("a: .*seed_0 and .*seed_1 differ in more than their seed", f"a={tmp_path / 'mixed'}")
    run("images/seed_0")
    run("images/seed_1", seed=1, evaluations={"test": {"images": 141}})
    refused("evaluated on different images", f"a={tmp_path / 'images'}")
    run("twice/seed_0")
    run("twice/seed_1")
    refused("or two have the same seed", f"a={tmp_path / 'twice'}")

    stale = voc_run(tmp_path / "stale", voc_baseline.get_config())
    edit(stale / "eval" / "val_full.json", lambda content: content.update(step=10))
    refused("val and val_full are of steps 20 and 10; evaluate the older", f"a={stale}")
    edit(one / "config.json", lambda content: content.pop("encoding"))
    refused("one: config.json or an evaluation is damaged .KeyError: 'encoding'", f"a={one}")
    (tmp_path / "two" / "eval" / "test.json").write_text("{")
    refused("test.json is damaged", f"a={tmp_path / 'two'}")
    path = tmp_path / "empty" / grid.GRID
    files.write_csv(path, grid.COLUMNS, [{"point": "lam1"}])
    refused("no point is done with all seeds", f"a={tmp_path / 'empty'}")
    path.write_text("point\nlam1\n")
    refused("grid.csv is damaged", f"a={tmp_path / 'empty'}")


def test_the_folders_of_the_data_may_differ(tmp_path):
    for seed in (0, 1):
        make_run(
            tmp_path / "w" / f"seed_{seed}",
            stanford.get_config("standard"),
            seed=seed,
            evaluations={"test": {"images": 142}},
            **{"data.archives": f"here{seed}"},
        )
    arms, others = measured.by_row(measured.read("w", str(tmp_path / "w")))
    assert arms["standard"].seeds == [0, 1] and not others


def test_seeds_of_an_arm_may_be_of_two_versions_of_the_package(tmp_path):
    """A field that the older one did not know has its default in both."""
    for seed in (0, 1):
        folder = tmp_path / "w" / f"seed_{seed}"
        config = stanford.get_config("standard")
        make_run(folder, config, seed=seed, evaluations={"test": {"images": 142}})
    path = tmp_path / "w" / "seed_0" / "config.json"
    edit(path, lambda content: content["loss"].pop("boundary"))
    edit(path, lambda content: content["train"].pop("area"))  # JSON has lists for tuples.
    arms, _ = measured.by_row(measured.read("w", str(tmp_path / "w")))
    assert arms["standard"].seeds == [0, 1]


def test_an_error_is_one_line_and_status_2(tmp_path):
    (tmp_path / "file").touch()
    process = start_process(["main.py", "tables", f"--out={tmp_path / 'file'}"])
    status, _, errors = end_of(process)
    assert status == 2
    assert errors == (
        f"error: --out={tmp_path / 'file'} is not a folder that can be written (File exists); "
        "choose another\n"
    )
