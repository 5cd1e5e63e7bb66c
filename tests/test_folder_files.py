"""The files of a folder: pairing, lists, what is left out, and what a prepared copy depends on."""

import json

import numpy as np
import pytest
from PIL import Image
from small_runs import told
from test_image_folder import NAMES, examples, load, write, write_lists

from segadv_jax.data import folder_files, image_folder
from segadv_jax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "mine", NAMES[:4])
    return tmp_path / "mine"


def names_in(data_set):
    return sorted(name for split in data_set.splits for name in data_set.read(split).ids)


def problems_of(folder, tmp_path, **options):
    with pytest.raises(InputError) as error:
        load(folder, tmp_path, **options)
    return list(error.value.details)


def notices_of(folder, tmp_path, **options):
    """What is said of a folder that is read all the same."""
    load(folder, tmp_path, **options)
    [path] = (tmp_path / "prepared" / "image_folder").glob("*/*/metadata.json")
    return json.loads(path.read_text())["notices"]


def move(folder, name, to):
    """Renames an image and its mask; `to` may be in a subfolder."""
    for part in ("images", "labels"):
        path = folder / part / f"{to}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / part / f"{name}.png").rename(path)


def test_images_may_lie_in_subfolders(folder, tmp_path):
    move(folder, NAMES[0], "beach/one")
    move(folder, NAMES[1], "Grüße vom Meer/one")
    assert names_in(load(folder, tmp_path)) == ["Grüße vom Meer/one", "beach/one", *NAMES[2:4]]


def test_umlauts_match_however_they_are_written(folder, tmp_path):
    """As one character in the image's name, as two in that of the mask and in the list."""
    composed, decomposed = "Gr\u00fc\u00dfe", "Gru\u0308\u00dfe"
    (folder / "images" / f"{NAMES[0]}.png").rename(folder / "images" / f"{composed}.png")
    (folder / "labels" / f"{NAMES[0]}.png").rename(folder / "labels" / f"{decomposed}.png")
    write_lists(folder, train=[decomposed, NAMES[1]], validation=NAMES[2:4])
    assert load(folder, tmp_path).read("train").ids == [composed, NAMES[1]]


def test_folders_and_suffixes_have_the_names_that_are_set(folder, tmp_path):
    before = examples(load(folder, tmp_path))
    (folder / "images").rename(folder / "photos")
    (folder / "labels").rename(folder / "annotation")
    for path in (folder / "annotation").iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    names = {"images": "photos", "labels": "annotation/"}
    after = examples(load(folder, tmp_path, **names, label_suffix="_mask"))
    for name, (image, label) in before.items():
        np.testing.assert_array_equal(after[name][0], image)
        np.testing.assert_array_equal(after[name][1], label)
    # Without the suffix none of them is found, but what they seem to be.
    found = problems_of(folder, tmp_path, **names)
    assert f"- photos/{NAMES[3]}.png" in found and f"- annotation/{NAMES[0]}_mask.png" in found
    assert "- they seem to end in '_mask': set --config.data.label_suffix=_mask" in found


def test_masks_may_lie_among_the_images(folder, tmp_path):
    for path in (folder / "labels").iterdir():
        path.rename(folder / "images" / f"{path.stem}_mask.png")
    one = {"images": "images", "labels": "images"}
    # As macOS may write it: a letter and its dots.
    for path in (folder / "images").glob("*_mask.png"):
        path.rename(path.with_stem(path.stem.replace("_mask", "_u\u0308ber")))
    assert names_in(load(folder, tmp_path, **one, label_suffix="_\u00fcber")) == NAMES[:4]
    for path in (folder / "images").glob("*ber.png"):
        path.rename(path.with_stem(path.stem.replace("_u\u0308ber", "_mask")))
    assert names_in(load(folder, tmp_path, **one, label_suffix="_mask")) == NAMES[:4]
    with pytest.raises(InputError, match="both 'images': name two folders, or set --config.data.l"):
        load(folder, tmp_path, **one)


@pytest.mark.parametrize("wrong", [{"images": "photos"}, {"labels": "."}])
def test_a_subfolder_that_is_not_there_is_named(wrong, folder, tmp_path):
    [(field, name)] = wrong.items()
    with pytest.raises(InputError, match=f"no {name}/ in it: .* in --config.data.{field}"):
        load(folder, tmp_path, **wrong)


def test_lists_may_be_written_in_any_usual_way(folder, tmp_path):
    """val.txt; names with suffix, with images/ in front, with a dot in them; no test list."""
    move(folder, NAMES[0], "beach/one.two")
    lists = {"train": [f"images/{NAMES[1]}.png", "beach\\one.two"], "val": [f"./{NAMES[2]}.png"]}
    write_lists(folder, **lists)
    data_set = load(folder, tmp_path)
    assert data_set.splits == ("train", "validation")
    assert data_set.read("train").ids == [NAMES[1], "beach/one.two"]
    assert data_set.read("validation").ids == [NAMES[2]]
    write_lists(folder, validation=NAMES[2:3])
    assert "- validation.txt and val.txt are both there: keep one" in problems_of(folder, tmp_path)


def test_what_is_left_out_is_named(folder, tmp_path):
    for name in ("one.HEIC", "two.gif", ".DS_Store", "Thumbs.db"):
        (folder / "images" / name).write_bytes(b"...")
    (folder / "labels" / "legend.txt").write_text("...")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "labels" / "gone.png")
    write_lists(folder, train=NAMES[:2], validation=NAMES[2:3])
    found = notices_of(folder, tmp_path)
    assert list(found.values()) == [
        ["images/one.HEIC"],
        ["images/two.gif", "labels/legend.txt"],
        ["labels/gone.png"],
        [f"images/{NAMES[3]}.png"],
    ]
    kinds = "HEIC photographs are left out", "files of another", "masks without an", "images that"
    assert all(kind.startswith(start) for kind, start in zip(found, kinds, strict=True))


def test_text_files_that_are_read_as_nothing_are_named(folder, tmp_path):
    (folder / "README.txt").write_text("...")
    assert notices_of(folder, tmp_path)[folder_files.NO_LIST] == ["README.txt"]
    (folder / "Train.txt").write_text("\n".join(NAMES[:2]))
    assert "- Train.txt must be called train.txt: rename it" in problems_of(folder, tmp_path)


@pytest.mark.parametrize(("inner", "outer"), [("labels", "images"), ("images", "labels")])
def test_one_folder_may_lie_in_the_other(inner, outer, folder, tmp_path):
    (folder / inner).rename(folder / outer / "more")
    data_set = load(folder, tmp_path, **{inner: f"{outer}/more"})
    assert names_in(data_set) == sorted(NAMES[:4])


def test_masks_beside_the_photographs_are_not_left_out(folder, tmp_path):
    """GIF is a format of masks alone."""
    for name in NAMES[:4]:
        with Image.open(folder / "labels" / f"{name}.png") as mask:
            mask.save(folder / "images" / f"{name}_mask.gif")
    found = notices_of(folder, tmp_path, labels="images", label_suffix="_mask")
    assert not any("left out" in kind for kind in found)


def test_where_nothing_remains_it_is_said_why(folder, tmp_path):
    for path in (folder / "images").iterdir():
        path.rename(path.with_suffix(".heic"))
    found = problems_of(folder, tmp_path)
    assert found[1].startswith("- 0 images (.jpg, ") and found[1].endswith("three are needed")
    assert f"- images/{NAMES[0]}.heic" in found and f"- labels/{NAMES[0]}.png" in found


def test_of_many_the_first_are_named(folder, tmp_path):
    for number in range(27):
        (folder / "images" / f"more_{number:02}.png").write_bytes(b"")
    found = problems_of(folder, tmp_path)
    assert found[0].startswith("images without a mask") or found[0] == "files that cannot be read:"
    assert len(found) == 22 and found[-1] == "- and 7 more"


def test_a_mask_beside_its_picture_is_taken_and_the_same_name_twice_is_not(folder, tmp_path):
    picture = Image.fromarray(np.zeros((10, 12), np.uint8))
    picture.save(folder / "labels" / f"{NAMES[0]}.jpg")
    assert names_in(load(folder, tmp_path)) == NAMES[:4]
    picture.save(folder / "labels" / f"{NAMES[0]}.bmp")
    found = problems_of(folder, tmp_path)
    assert f"- labels/{NAMES[0]}.bmp and labels/{NAMES[0]}.png" in found
    for suffix in ("png", "bmp"):
        (folder / "labels" / f"{NAMES[0]}.{suffix}").unlink()
    found = problems_of(folder, tmp_path)
    assert found[0].startswith("masks as JPEG") and found[1] == f"- labels/{NAMES[0]}.jpg"


def copies(tmp_path):
    return {path.name for path in (tmp_path / "prepared/image_folder").glob("mine_*")}


def test_a_copy_depends_on_images_labels_and_lists_alone(folder, tmp_path):
    load(folder, tmp_path)
    [first] = copies(tmp_path)
    (folder / "run").mkdir()  # A workdir.
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "run" / "picture.png")
    (folder / "notes.txt").write_text("...")
    load(folder, tmp_path)
    assert copies(tmp_path) == {first}
    (folder / "classes.txt").write_text("sky\nroad\ntree\n")
    with told() as messages:
        load(folder, tmp_path)
    [second] = copies(tmp_path) - {first}
    place = tmp_path / "prepared/image_folder"
    assert f"prepared copy of the data; to remove it: rm -r {place / second}" in messages
    what = "other copies of this folder, of earlier contents or other fields"
    assert f"{what}; to remove them: rm -r {place / first}" in messages
    for options in ({"void": "2"}, {"longest_side": 32}):
        before = copies(tmp_path)
        load(folder, tmp_path, **options)
        assert len(copies(tmp_path) - before) == 1


def test_a_copy_that_was_not_finished_is_none(folder, tmp_path):
    (folder / "labels" / f"{NAMES[0]}.png").unlink()
    problems_of(folder, tmp_path)
    write_lists(folder, train=NAMES[1:3], validation=NAMES[3:4])
    with told() as messages:
        load(folder, tmp_path)
    assert messages and not any("other copies" in line for line in messages)


def test_too_small_a_side_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=f"longest_side=8: set it to {image_folder.LEAST_SIDE} or"):
        load(folder, tmp_path, longest_side=8)
