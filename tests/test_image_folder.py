"""Your own images in a folder: what is read, and what is refused before anything is written."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from segadv_jax import data
from segadv_jax.data import folder_reading
from segadv_jax.errors import InputError

NAMES = [f"picture_{i}" for i in range(8)]


def write(folder, names=NAMES, classes=3, palette=True):
    """A folder of small images; (images, labels) that were written."""
    random, images, labels = np.random.RandomState(0), {}, {}
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, name in enumerate(names):
        shape = 10 + number, 12
        images[name] = random.randint(0, 256, (*shape, 3)).astype(np.uint8)
        labels[name] = random.choice(np.array([*range(classes), 255], np.uint8), shape)
        Image.fromarray(images[name]).save(folder / "images" / f"{name}.png")
        label = Image.fromarray(labels[name])
        if palette and number % 2:
            label = label.convert("P")
            label.putdata(labels[name].reshape(-1).tolist())
            label.putpalette(random.randint(0, 256, 768).tolist())
        label.save(folder / "labels" / f"{name}.png")
    return images, labels


def load(folder, tmp_path, **options):
    prepared = str(tmp_path / "prepared")
    return data.load("image_folder", archives=str(folder), data_dir=prepared, **options)


def examples(data_set, splits=("train", "validation", "test")):
    """{name: (image, label)} of all splits, decoded."""
    found = {}
    for split in splits:
        part = data_set.read(split)
        canvas = part.canvas()
        for batch in part.eval_batches(batch_size=1, canvas=canvas):
            high, wide = batch["size"][0]
            assert batch["id"][0] not in found
            found[batch["id"][0]] = batch["image"][0, :high, :wide], batch["label"][0, :high, :wide]
    return found


def test_images_and_labels_come_back(tmp_path):
    images, labels = write(tmp_path / "mine")
    data_set = load(tmp_path / "mine", tmp_path)
    assert data_set.class_names == ("class 0", "class 1", "class 2")
    assert data_set.palette.shape == (3, 3)
    found = examples(data_set)
    assert set(found) == set(NAMES)
    for name, (image, label) in found.items():
        np.testing.assert_array_equal(image, images[name])
        np.testing.assert_array_equal(label, labels[name])


def test_lists_and_class_names_are_taken(tmp_path):
    write(tmp_path / "mine")
    lists = {"train": NAMES[3:], "validation": NAMES[:2], "test": NAMES[2:3]}
    for split, names in lists.items():
        (tmp_path / "mine" / f"{split}.txt").write_text("\n".join(names) + "\n\n")
    (tmp_path / "mine" / "classes.txt").write_text("sky\nground\ntree\ncar\n")
    data_set = load(tmp_path / "mine", tmp_path)
    assert data_set.class_names == ("sky", "ground", "tree", "car")
    for split, names in lists.items():
        assert data_set.read(split).ids == names


def test_a_changed_mask_is_seen(tmp_path):
    _, labels = write(tmp_path / "mine")
    before = examples(load(tmp_path / "mine", tmp_path))
    changed = (labels[NAMES[4]] + 1) % 3
    Image.fromarray(changed.astype(np.uint8)).save(tmp_path / "mine/labels" / f"{NAMES[4]}.png")
    after = examples(load(tmp_path / "mine", tmp_path))
    for name in NAMES:
        same = np.array_equal(after[name][1], before[name][1])
        assert same == (name != NAMES[4])
    np.testing.assert_array_equal(after[NAMES[4]][1], changed)


def test_photographs_are_turned_as_their_exif_data_says(tmp_path):
    """One with an orientation, one grey, one with an alpha channel."""
    images, _ = write(tmp_path / "mine")
    folder = tmp_path / "mine"
    turned = Image.fromarray(images[NAMES[0]]).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Shown turned by 90 degrees clockwise.
    turned.save(folder / "images" / f"{NAMES[0]}.png", exif=exif)
    grey = Image.fromarray(images[NAMES[1]]).convert("L")
    grey.save(folder / "images" / f"{NAMES[1]}.png")
    Image.fromarray(images[NAMES[2]]).convert("RGBA").save(folder / "images" / f"{NAMES[2]}.png")
    found = examples(load(folder, tmp_path))
    np.testing.assert_array_equal(found[NAMES[0]][0], images[NAMES[0]])
    np.testing.assert_array_equal(found[NAMES[1]][0], np.array(grey)[..., None].repeat(3, -1))
    np.testing.assert_array_equal(found[NAMES[2]][0], images[NAMES[2]])


def test_masks_that_fit_a_turned_photograph_either_way_are_named(tmp_path):
    images, _ = write(tmp_path / "mine")
    exif = Image.Exif()
    exif[0x0112] = 3  # Shown turned by 180 degrees.
    path = tmp_path / "mine/images" / f"{NAMES[0]}.png"
    Image.fromarray(images[NAMES[0]]).save(path, exif=exif)
    load(tmp_path / "mine", tmp_path)
    [about] = tmp_path.rglob("metadata.json")
    notices = json.loads(about.read_text())["notices"]
    assert notices[folder_reading.EITHER_WAY] == [f"images/{NAMES[0]}.png"]


def test_what_cannot_be_an_image_is_named_with_the_others(tmp_path, monkeypatch):
    """What is too large, and what is none: no object of the program is shown."""
    write(tmp_path / "mine")
    (tmp_path / "mine/images" / f"{NAMES[1]}.png").write_bytes(b"no image")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70)  # An error above twice as many.
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(InputError) as error:
        load(tmp_path / "mine", tmp_path)
    message = str(error.value)
    assert f"{NAMES[1]}.png is not a readable image (its format is not known)" in message
    assert (
        f"images/{NAMES[7]}.png is too large (Image size (204 pixels) exceeds limit of" in message
    )
    assert f"images/{NAMES[0]}.png" not in message and "): shrink it" in message
    assert "object at" not in message


def test_everything_that_is_wrong_is_reported_together(tmp_path):
    folder = tmp_path / "mine"
    write(folder)
    (folder / "classes.txt").write_text("sky\nground\ntree\n")
    (folder / "labels" / f"{NAMES[0]}.png").unlink()
    (folder / "images" / f"{NAMES[1]}.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(folder / "labels" / f"{NAMES[2]}.png")
    Image.fromarray(np.full((13, 12), 9, np.uint8)).save(folder / "labels" / f"{NAMES[3]}.png")
    content = io.BytesIO()
    Image.fromarray(np.zeros((15, 12), np.uint8)).save(content, "png")
    (folder / "labels" / f"{NAMES[5]}.png").write_bytes(content.getvalue()[:-30])
    Image.fromarray(np.zeros((16, 12, 3), np.uint8)).save(folder / "images" / f"{NAMES[6]}.jpg")
    with pytest.raises(InputError) as error:
        load(folder, tmp_path)
    found = error.value.details
    for problem in (
        "set --config.data.without_masks=True to have them used without labels:",
        f"- images/{NAMES[0]}.png",
        "files that cannot be read:",
        f"- images/{NAMES[1]}.png is not a readable image (its format is not known)",
        "masks of another size than their image (height x width):",
        f"- labels/{NAMES[2]}.png is 3x4, its image 12x12",
        "masks with values that are no classes:",
        f"- labels/{NAMES[3]}.png has 9, but classes.txt names only 3 classes: name the others "
        "there; if 9 means void, set --config.data.void=9",
        f"- labels/{NAMES[5]}.png is not a readable image",
        "two files have one name; keep one of them:",
        f"- images/{NAMES[6]}.jpg and images/{NAMES[6]}.png",
    ):
        assert any(line.endswith(problem) or line.startswith(problem) for line in found), problem
    assert error.value.message == f"{folder}: 6 things are wrong with this data set"
    assert not list((tmp_path / "prepared").rglob("*.tfrecord*"))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["a"]}, "val.txt is missing"),
        (
            {"train": ["a"], "validation": ["b"]},
            "- train.txt names a, which is not in images/\n- validation.txt names b, which is not",
        ),
        ({"train": NAMES[:2], "validation": []}, "validation.txt names no image"),
        ({"train": NAMES[:1] * 2, "validation": NAMES[1:2]}, "train.txt names picture_0 twice"),
        (
            {"train": NAMES[:3], "validation": NAMES[2:]},
            "picture_2 is in both train.txt and valida",
        ),
    ],
)
def test_wrong_lists_are_refused(lists, message, tmp_path):
    write(tmp_path / "mine")
    for split, names in lists.items():
        (tmp_path / "mine" / f"{split}.txt").write_text("\n".join(names))
    with pytest.raises(InputError, match=message):
        load(tmp_path / "mine", tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    for folder in ("", str(tmp_path)):
        with pytest.raises(InputError, match="set it to a folder with images/ and labels/"):
            data.load("image_folder", archives=folder, data_dir=str(tmp_path))


def test_stray_values_are_questioned(tmp_path):
    """254 meant for void, say, would make 255 classes."""
    folder = tmp_path / "mine"
    _, labels = write(folder)
    stray = labels[NAMES[0]].copy()
    stray[0, 0] = 254
    Image.fromarray(stray).save(folder / "labels" / f"{NAMES[0]}.png")
    with pytest.raises(
        InputError, match="up to 254, but no pixel of 3, 4, 5, 6, 7, ...: if 254 me"
    ):
        load(folder, tmp_path)
    with pytest.raises(InputError, match="up to 254, but no pixel of 3, 4, .* set --config.data.v"):
        load(folder, tmp_path, void="0")  # The values are those of the labels.
    for name, label in labels.items():
        label = np.where(label == 255, 255, 1).astype(np.uint8)
        Image.fromarray(label).save(folder / "labels" / f"{name}.png")
    with pytest.raises(InputError, match="fewer than two classes"):
        load(folder, tmp_path)
    for name, label in labels.items():
        label = np.arange(label.size, dtype=np.uint8).reshape(label.shape) % 2
        Image.fromarray(label).save(folder / "labels" / f"{name}.png")
    with pytest.raises(InputError, match="fewer than two classes"):
        load(folder, tmp_path, void="0")  # It is not the second class that 255 would be.
    (folder / "classes.txt").write_bytes(b"sky\n\xff\xea\n")
    with pytest.raises(InputError, match="classes.txt cannot be read .*save it as UTF-8"):
        load(folder, tmp_path)


def test_what_other_systems_leave_does_no_harm(tmp_path):
    folder = tmp_path / "mine"
    write(folder)
    (folder / "images" / "._picture_0.png").write_bytes(b"of macOS")
    lists = {"train": NAMES[:5], "validation": NAMES[5:]}
    for split, names in lists.items():
        (folder / f"{split}.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode())
    data_set = load(folder, tmp_path)
    assert data_set.read("train").ids == NAMES[:5]
    (folder / "images" / "picture_0.png").unlink()
    (folder / "images" / "picture_0.png").symlink_to(folder / "gone")
    with pytest.raises(InputError, match="images/picture_0.png is not a readable image"):
        load(folder, tmp_path)


def without_masks(folder, names):
    for name in names:
        (folder / "labels" / f"{name}.png").unlink()


def write_lists(folder, **lists):
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(names))


def test_images_without_masks_can_be_a_split_of_their_own(tmp_path):
    """The others are drawn as if there were no more; nothing changes where all have masks."""
    images, _ = write(tmp_path / "mine")
    all_masked = load(tmp_path / "mine", tmp_path, without_masks=True)
    assert all_masked.splits == ("train", "validation", "test")
    without_masks(tmp_path / "mine", NAMES[2:4])
    data_set = load(tmp_path / "mine", tmp_path, without_masks=True)
    assert set(data_set.splits) == {"train", "validation", "test", "unlabelled"}
    assert data_set.read("unlabelled").ids == NAMES[2:4]
    with pytest.raises(InputError, match="config.data.train is 'unlabelled', but the images of u"):
        data_set.check_labelled("unlabelled", "data.train")
    found = examples(data_set, ("unlabelled",))
    for name, (image, label) in found.items():
        np.testing.assert_array_equal(image, images[name])
        assert (label == 255).all()
    for name in NAMES[2:4]:
        (tmp_path / "mine" / "images" / f"{name}.png").unlink()
    only = load(tmp_path / "mine", tmp_path)
    for split in ("train", "validation", "test"):
        assert only.read(split).ids == data_set.read(split).ids


def test_lists_say_which_images_are_unlabelled(tmp_path):
    folder = tmp_path / "mine"
    write(folder)
    without_masks(folder, NAMES[5:])
    write_lists(folder, train=NAMES[:2], validation=NAMES[2:4])
    # Those without a mask; one with a mask that no list names is left out, as ever.
    assert load(folder, tmp_path, without_masks=True).read("unlabelled").ids == NAMES[5:]
    assert load(folder, tmp_path).splits == ("train", "validation")
    write_lists(folder, unlabelled=NAMES[4:7])  # Their masks are not looked at.
    data_set = load(folder, tmp_path, without_masks=True)
    assert data_set.read("unlabelled").ids == NAMES[4:7]
    assert all((label == 255).all() for _, label in examples(data_set, ("unlabelled",)).values())


def test_images_without_masks_say_nothing_of_the_masks(tmp_path):
    folder = tmp_path / "mine"
    write(folder)
    for path in (folder / "labels").glob("*.png"):
        with Image.open(path) as opened:
            shape = opened.size[::-1]
        Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    without_masks(folder, NAMES[5:])
    with pytest.raises(InputError, match="fewer than two classes"):
        load(folder, tmp_path, without_masks=True)


def test_a_list_of_unlabelled_images_alone_leaves_the_others_to_be_drawn(tmp_path):
    folder = tmp_path / "mine"
    write(folder)
    without_masks(folder, NAMES[:1])
    write_lists(folder, unlabelled=NAMES[:2])
    data_set = load(folder, tmp_path, without_masks=True)
    drawn = sum((data_set.read(split).ids for split in ("train", "validation", "test")), [])
    assert sorted(drawn) == NAMES[2:] and data_set.read("unlabelled").ids == NAMES[:2]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            {"train": NAMES[:3], "validation": NAMES[3:6]},
            "in a split with labels; name them in .*\n- images/picture_5.png",
        ),
        (
            {"train": NAMES[:3], "validation": NAMES[3:4], "unlabelled": ["picture_1", "gone"]},
            "names gone, which is not in .*\n- picture_1 is in both train.txt and unlabelled.txt",
        ),
        ({"unlabelled": []}, "unlabelled.txt names no image"),
    ],
)
def test_wrong_lists_of_unlabelled_images_are_refused(lists, message, tmp_path):
    write(tmp_path / "mine")
    without_masks(tmp_path / "mine", NAMES[5:6])
    write_lists(tmp_path / "mine", **lists)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "mine", tmp_path, without_masks=True)


def test_an_unlabelled_image_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path / "mine")
    without_masks(tmp_path / "mine", NAMES[5:6])
    (tmp_path / "mine" / "images" / f"{NAMES[5]}.png").write_bytes(b"none")
    with pytest.raises(InputError, match=f"images/{NAMES[5]}.png is not a readable image"):
        load(tmp_path / "mine", tmp_path, without_masks=True)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="none': there is no such folder"):
        data.load("image_folder", archives=str(tmp_path / "none"))
