"""Data that is damaged, changes, or is empty: named before training, nothing half done."""

import io
import os
import shutil

import numpy as np
import pytest
import test_stanford_background as stanford
import test_voc_sbd as voc
from frozen_segmenter import data_set
from PIL import Image
from small_runs import small_config, told
from test_image_folder import NAMES, load, write, write_lists

from segadv_jax import VOID, streams
from segadv_jax.data import (
    arrays,
    builders,
    folder_files,
    folder_reading,
    photographs,
    statistics,
    unlabelled,
)
from segadv_jax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "mine", NAMES)
    return tmp_path / "mine"


def copies(place):
    """Prepared copies, finished or not."""
    return [path for path in place.rglob("*") if path.suffix in (".json", ".tfrecord")]


def png_that_only_pillow_reads():
    """Of a chunk's length one byte is wrong."""
    file = io.BytesIO()
    Image.fromarray(np.arange(2160, dtype=np.uint8).reshape(24, 30, 3)).save(file, "png")
    content = bytearray(file.getvalue())
    assert content[37:41] == b"IDAT"
    content[34] = 1
    return bytes(content)


def test_all_damaged_members_of_an_archive_are_named_at_once(tmp_path):
    files = stanford.small_files()
    files[stanford.image_of("c")] = files[stanford.image_of("c")][:300]
    files[stanford.label_of("e")] = b"1 2 3\n4"
    del files[stanford.label_of("b")]
    place = stanford.write_archive(tmp_path / "archives", files)
    with pytest.raises(InputError) as error:
        stanford.load(place, tmp_path / "data")
    assert error.value.message.startswith("3 things are wrong with the archives' content; fetch")
    for name in ("images/c.jpg is not a", "labels/e.regions.txt is not a", "holds no iccv09Data/l"):
        assert sum(name in line for line in error.value.details) == 1
    assert not copies(tmp_path / "data")


def test_damage_in_both_archives_of_voc_is_named_at_once(tmp_path, monkeypatch):
    place, read = voc.write(tmp_path / "archives"), voc.voc_sbd.read_tar

    def damaged(path, *which, **how):
        members = read(path, *which, **how)
        for name in members:
            if name.endswith(("JPEGImages/a.jpg", "cls/e.mat")):
                members[name] = members.read(name)[:200]
        return members

    monkeypatch.setattr(voc.voc_sbd, "read_tar", damaged)
    with pytest.raises(InputError, match="2 things are wrong") as error:
        voc.load(place, tmp_path)
    # The image is in two splits and named once.
    for name in ("JPEGImages/a.jpg is not a readable image", "e.mat is not a readable annotation"):
        assert sum(name in line for line in error.value.details) == 1
    assert not copies(tmp_path / "prepared")


def test_an_image_that_only_one_library_reads_is_named(folder, tmp_path):
    (folder / "images" / f"{NAMES[2]}.png").write_bytes(png_that_only_pillow_reads())
    photographs.read_photograph(folder / "images" / f"{NAMES[2]}.png", "it")
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(folder / "labels" / f"{NAMES[2]}.png")
    with pytest.raises(InputError, match=f"images/{NAMES[2]}.png is not a readable image"):
        load(folder, tmp_path)
    assert not copies(tmp_path / "prepared")
    with pytest.raises(InputError, match=f"images: {NAMES[2]}.png is not a readable image"):
        unlabelled.read(data_set(), str(folder / "images"), "train", np.array([0]), {})


@pytest.mark.parametrize("change", ["touched", "resized", "deleted", "added"])
def test_a_folder_that_changes_while_it_is_read(change, folder, tmp_path, monkeypatch):
    read, path = photographs.read_photograph, folder / "labels" / f"{NAMES[6]}.png"
    changed = path if change != "added" else folder / "images" / "new.png"

    def interfering(*args):
        if change == "touched":
            os.utime(path, ns=(1, 1))
        elif change == "resized":
            Image.fromarray(np.zeros((3, 4), np.uint8)).save(path)
        elif change == "deleted":
            path.unlink(missing_ok=True)
        else:
            shutil.copy(folder / "images" / f"{NAMES[0]}.png", changed)
        return read(*args)

    monkeypatch.setattr(photographs, "read_photograph", interfering)
    with pytest.raises(InputError) as error:
        load(folder, tmp_path)
    lines = list(error.value.details)
    changes = lines[lines.index(folder_reading.CHANGED) + 1 :]
    assert changes[0] == f"- {changed.relative_to(folder).as_posix()}"
    assert not copies(tmp_path / "prepared")
    monkeypatch.undo()
    if change in ("touched", "added"):
        (folder / "images" / "new.png").unlink(missing_ok=True)
        assert load(folder, tmp_path).read("train").ids


def test_a_file_whose_name_is_no_text_is_named(folder):
    (folder / "images" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(InputError, match="images/.*png: its name is not UTF-8; rename the file"):
        list(folder_files.walk(folder / "images"))


def test_links_that_lead_back_have_an_end(folder):
    (folder / "images" / "back").symlink_to(folder / "images")
    (folder / "images" / "over").symlink_to(folder / "labels")
    (folder / "labels" / "over").symlink_to(folder / "images")
    names = [path.name for path in folder_files.walk(folder / "images")]
    assert names == [f"{name}.png" for name in NAMES] * 2


@pytest.mark.parametrize("which", ["all", "validation"])
def test_masks_that_are_void_everywhere_are_refused(which, folder, tmp_path):
    """Also where classes.txt has the classes."""
    (folder / "classes.txt").write_text("sky\nground\ntree\n")
    write_lists(folder, train=NAMES[:4], validation=NAMES[4:6], test=NAMES[6:])
    for name in NAMES if which == "all" else NAMES[4:]:
        path = folder / "labels" / f"{name}.png"
        with Image.open(path) as mask:
            size = mask.size
        Image.new("L", size, VOID).save(path)
    with pytest.raises(InputError, match="void everywhere") as error:
        load(folder, tmp_path)
    assert "- validation, 2 images" in error.value.details
    assert ("- train, 4 images" in error.value.details) == (which == "all")


@pytest.fixture
def prepared(folder, tmp_path):
    """(the folder of a prepared copy, what loads it)."""
    load(folder, tmp_path)
    [path] = (tmp_path / "prepared" / "image_folder").glob("*/[0-9]*")
    return path, lambda: load(folder, tmp_path).read("train+validation")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_a_record(path):
    """A record is its length, a checksum of it, the content, and a checksum of that."""
    content = path.read_bytes()
    path.write_bytes(content[: 16 + int.from_bytes(content[:8], "little")])


def flip(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


def delete(path):
    path.unlink()


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("*-train.tfrecord*", cut),
        ("*-train.tfrecord*", cut_a_record),
        ("*-validation.tfrecord*", flip),
        ("*-train.tfrecord*", delete),
        ("dataset_info.json", cut),
        ("dataset_info.json", delete),
        ("metadata.json", delete),
    ],
)
def test_a_prepared_copy_that_is_damaged_is_named_with_what_to_delete(pattern, damage, prepared):
    path, read = prepared
    [file] = path.glob(pattern)
    damage(file)
    with pytest.raises(InputError, match=rf"^the prepared copy .*: rm -r {path}$") as error:
        read()
    assert "\n" not in str(error.value)
    shutil.rmtree(path)
    assert len(read().ids) == 7


def made(labels, validation=None):
    """A data set of three classes with these training labels."""

    def split(values):
        maps = [np.full((8, 8), value, np.uint8) for value in values]
        return arrays.Arrays(
            [f"{i}" for i in range(len(maps))], [x[..., None].repeat(3, -1) for x in maps], maps
        )

    splits = {"train": split(labels), "validation": split(validation or [0, 1]), "none": split([])}
    return arrays.data_set("made", splits, ("sky", "tree", "road"), np.zeros((3, 3), np.uint8))


def config(**fields):
    return small_config(
        "",
        "standard",
        **{"data.train": "train", "data.validation": "validation", "data.test": "train"} | fields,
    )


@pytest.mark.parametrize("labels", [[0, 1, 1, VOID], [0, 1, 2, 2]])
def test_classes_that_training_never_sees_are_named(labels):
    with told() as lines:
        streams.read(config(), made(labels))
    warned = any("no training image shows road: nobody can learn that" in line for line in lines)
    assert warned == (2 not in labels)


def test_encoded_labels_are_looked_at_too(synthetic):
    split = synthetic.read("validation[:5]")
    labels = [np.array(Image.open(io.BytesIO(content))) for content in split.labels]
    seen = {*np.concatenate([label.reshape(-1) for label in labels]).tolist()}
    assert statistics.unseen(split, 9) == sorted({*range(9)} - seen)
    assert statistics.has_labels(split)


@pytest.mark.parametrize(
    ("labels", "validation", "field"), [([VOID] * 4, [0], "train"), ([0] * 4, [VOID], "validation")]
)
def test_splits_without_a_label_are_refused(labels, validation, field):
    with pytest.raises(InputError, match=f"config.data.{field}: the labels of all its images are "):
        streams.read(config(), made(labels, validation))


def test_an_empty_split_is_refused():
    with pytest.raises(InputError, match="the split 'none' of the data set made is empty"):
        made([0]).read("none")
    with pytest.raises(InputError, match="the split 'none' of the data set made is empty"):
        streams.read(config(**{"data.train": "none"}), made([0]))


def test_problems_of_many_examples_are_cut_short():
    def fail(number):
        raise InputError(f"member {number} is damaged")

    makers = {"train": [lambda number=number: fail(number) for number in range(50)]}
    with pytest.raises(InputError, match="50 things are wrong") as error:
        [*builders.gather(makers)["train"]]
    assert error.value.details[0] == "- member 0 is damaged"
    assert error.value.details[-1] == "- and 30 more"
