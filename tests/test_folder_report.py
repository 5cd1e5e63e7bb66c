"""What is said of a folder: wrong things together, sizes and EXIF data, the table, the remedies."""

import numpy as np
import pytest
from PIL import Image
from small_runs import told
from test_image_folder import NAMES, examples, load, write

from segadv_jax import cli
from segadv_jax.data import folder_report
from segadv_jax.data.folder_report import Report, table
from segadv_jax.errors import InputError

FOUND = {
    "class_names": ["sky", "a long name", "tree", "car"],
    "pixels": {"train": [500, 499, 0, 1, 250], "validation": [0, 10, 0, 0, 0]},
    "images": {"train": 3, "validation": 1},
    "smallest": [20, 30],
    "largest": [40, 25],
}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "mine", NAMES[:4])
    return tmp_path / "mine"


def problems_of(folder, tmp_path, **options):
    with pytest.raises(InputError) as error:
        load(folder, tmp_path, **options)
    return list(error.value.details)


def test_the_table_has_the_shares_of_each_split():
    assert table(FOUND) == [
        "classes             train  validation",
        "sky                50.0 %           -",
        "a long name        49.9 %     100.0 %",
        "car                 0.1 %           -",
        "void               20.0 %           -",
        "images                  3           1",
        "classes without any pixel: tree",
        "sizes of the images as they are used: 20x30 to 40x25 (height x width)",
    ]
    rare = FOUND | {"pixels": {"train": [10000, 0, 0, 1, 0]}, "images": {"train": 1}}
    assert table(rare)[2].split()[1:] == ["<", "0.1", "%"]


def test_many_classes_are_cut_short():
    names = [f"class {i}" for i in range(100)]
    many = FOUND | {"class_names": names, "pixels": {"train": [1] * 101}, "images": {"train": 1}}
    lines = table(many)
    assert lines[folder_report.SHOWN].startswith("class 39")
    assert lines[folder_report.SHOWN + 1] == "and 60 more classes"


def test_each_problem_is_a_line_below_what_it_is(capsys, tmp_path):
    problems, notices = Report(), Report()
    notices.add("left out:", "a.heic")
    problems.check(tmp_path, notices)  # Notices alone are no error.
    problems.add("masks without sense:", "a.png")
    problems.add("too dark:", "b.png")
    problems.add("masks without sense:", "c.png")

    def command(argv):
        problems.check(tmp_path, notices)

    with pytest.raises(SystemExit) as end:
        cli.report_errors(command, [])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path}: 3 things are wrong with this data set",
        *("    masks without sense:", "    - a.png", "    - c.png"),
        *("    too dark:", "    - b.png"),
        *("    left out:", "    - a.heic"),
    ]


def test_what_is_in_a_folder_is_said_once(folder, tmp_path):
    (folder / "images" / "one.heic").write_bytes(b"...")
    with told() as messages:
        load(folder, tmp_path)
    place = next((tmp_path / "prepared/image_folder").glob("mine_*"))
    assert "- images/one.heic" in messages
    assert any(line.split() == ["classes", "train", "validation", "test"] for line in messages)
    assert any(line.split() == ["images", "2", "1", "1"] for line in messages)
    assert f"prepared copy of the data; to remove it: rm -r {place}" in messages
    with told() as messages:
        load(folder, tmp_path)
    assert not messages
    folder_report._said.clear()  # As in another process, which finds the copy.
    with told() as messages:
        load(folder, tmp_path)
    assert "- images/one.heic" in messages and not any("preparing" in line for line in messages)


def test_binary_masks_are_explained(folder, tmp_path):
    for number, name in enumerate(NAMES[:4]):
        mask = np.zeros((10 + number, 12), np.uint8)
        mask[:5] = 255
        Image.fromarray(mask).save(folder / "labels" / f"{name}.png")
    [kind, line] = problems_of(folder, tmp_path)
    assert "only 0 and 255, and 255 is void" in line and "set --config.data.void=none" in line
    data_set = load(folder, tmp_path, void="none")
    assert data_set.class_names == ("class 0", "class 1")
    assert all((label[:5] == 1).all() for _, label in examples(data_set).values())


def test_a_class_that_may_be_void_is_asked_about(folder, tmp_path):
    """Labels of 0 to 3 without 255, of which 3 is void; then said."""
    for number, name in enumerate(NAMES[:4]):
        mask = np.arange((10 + number) * 12).reshape(-1, 12) % 4
        Image.fromarray(mask.astype(np.uint8)).save(folder / "labels" / f"{name}.png")
    with told() as messages:
        assert len(load(folder, tmp_path).class_names) == 4
    assert any("should one of the 4 classes mean void" in line for line in messages)
    with told() as messages:
        assert len(load(folder, tmp_path, void="3").class_names) == 3
    assert not any("mean void" in line for line in messages)


def test_images_of_16_bits_are_named_and_those_without_a_range_refused(folder, tmp_path):
    (folder / "images" / f"{NAMES[0]}.png").unlink()
    Image.fromarray(np.full((10, 12), 25700, np.uint16)).save(folder / f"images/{NAMES[0]}.tif")
    with told() as messages:
        image, _ = examples(load(folder, tmp_path))[NAMES[0]]
    assert (image == 100).all() and f"- images/{NAMES[0]}.tif" in messages
    Image.fromarray(np.zeros((10, 12), np.float32)).save(folder / f"images/{NAMES[0]}.tif")
    [kind, line, *_] = problems_of(folder, tmp_path)
    assert kind == "files that cannot be read:" and "its mode is F" in line


@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_of_photographs_as_stored(orientation, folder, tmp_path):
    """Refused where the sizes tell, and turned alike if that is wanted."""
    exif, path = Image.Exif(), folder / "images" / f"{NAMES[0]}.png"
    before, label = examples(load(folder, tmp_path))[NAMES[0]]
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)
    if orientation == 6:
        [kind, line] = problems_of(folder, tmp_path)
        assert "only before its EXIF data turns it" in kind and "data.turn_masks=True" in kind
        assert line == f"- labels/{NAMES[0]}.png is 10x12, its image 12x10"
    image, turned = examples(load(folder, tmp_path, turn_masks=True))[NAMES[0]]
    times = {3: 2, 6: -1}[orientation]
    np.testing.assert_array_equal(image, np.rot90(before, times))
    np.testing.assert_array_equal(turned, np.rot90(label, times))


def test_large_images_are_shrunk_with_their_labels(folder, tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 80:] = 250
    Image.fromarray(image).save(folder / "images" / f"{NAMES[0]}.png")
    Image.fromarray((image[..., 0] // 250).astype(np.uint8)).save(
        folder / "labels" / f"{NAMES[0]}.png"
    )
    found = examples(load(folder, tmp_path, longest_side=50))
    image, label = found[NAMES[0]]
    assert image.shape == (25, 50, 3) and label.shape == (25, 50)
    np.testing.assert_array_equal(label, np.repeat([[0] * 20 + [1] * 30], 25, 0))
    assert image[:, :17].max() < 5 and image[:, 23:].min() > 245
    assert found[NAMES[1]][1].shape == (11, 12)  # What is small stays as it is.
