"""PASCAL VOC 2012 with SBD: the lists, the labels, and incomplete archives."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from segadv_jax import data
from segadv_jax.data import voc_sbd
from segadv_jax.errors import InputError

VOC_IDS = {"train": ["a", "b"], "val": ["c", "d"]}
SBD_IDS = {"train": ["b", "e", "c"], "val": ["f"]}
SIZES = {name: (9 + i, 14) for i, name in enumerate("abcdef")}


def label_of(name, source):
    """u8[H,W], different for each source; VOC's has void."""
    random = np.random.RandomState(ord(name) + 100 * (source == "voc"))
    known = [*range(21), 255] if source == "voc" else range(21)
    return random.choice(np.array(known, np.uint8), SIZES[name])


def write(folder, drop=()):
    """Small archives in the official layout."""
    folder.mkdir()
    root, sbd = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
    voc_files, sbd_files = {}, {}
    for name, size in SIZES.items():
        buffer = io.BytesIO()
        random = np.random.RandomState(ord(name))
        Image.fromarray(random.randint(0, 256, (*size, 3)).astype(np.uint8)).save(buffer, "jpeg")
        voc_files[f"{root}/JPEGImages/{name}.jpg"] = buffer.getvalue()
    for part, names in VOC_IDS.items():
        voc_files[f"{root}/ImageSets/Segmentation/{part}.txt"] = "\n".join(names).encode()
        for name in names:
            buffer, label = io.BytesIO(), Image.fromarray(label_of(name, "voc"))
            label = label.convert("P")
            label.putdata(label_of(name, "voc").reshape(-1).tolist())
            label.putpalette(voc_sbd.PALETTE.reshape(-1).tolist())
            label.save(buffer, "png")
            voc_files[f"{root}/SegmentationClass/{name}.png"] = buffer.getvalue()
    for part, names in SBD_IDS.items():
        sbd_files[f"{sbd}/{part}.txt"] = "\n".join(names).encode()
        for name in names:
            buffer = io.BytesIO()
            scipy.io.savemat(buffer, {"GTcls": {"Segmentation": label_of(name, "sbd")}})
            sbd_files[f"{sbd}/cls/{name}.mat"] = buffer.getvalue()
    for archive, mode, files in ((voc_sbd.VOC, "w", voc_files), (voc_sbd.SBD, "w:gz", sbd_files)):
        with tarfile.open(folder / archive.file_name, mode) as tar:
            for name, content in files.items():
                if Path(name).name not in drop:
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def load(folder, tmp_path, allow_partial=True):
    return data.load(
        "voc_sbd",
        archives=str(folder),
        data_dir=str(tmp_path / "prepared"),
        allow_partial=allow_partial,
    )


def decoded(data_set, split):
    """{name: label} of a split, in its order."""
    part = data_set.read(split)
    return {
        name: np.array(Image.open(io.BytesIO(label)))
        for name, label in zip(part.ids, part.labels, strict=True)
    }


def test_splits_take_vocs_label_where_both_annotate(tmp_path):
    data_set = load(write(tmp_path / "archives"), tmp_path)
    assert len(data_set.class_names) == len(data_set.palette) == 21
    expected = {
        "train_aug": {"a": "voc", "b": "voc", "e": "sbd", "f": "sbd"},
        "train": {"a": "voc", "b": "voc"},
        "val": {"c": "voc", "d": "voc"},
        "val_full": {"c": "sbd"},
    }
    assert set(data_set.splits) == set(expected)
    for split, sources in expected.items():
        labels = decoded(data_set, split)
        assert list(labels) == list(sources)
        for name, source in sources.items():
            np.testing.assert_array_equal(labels[name], label_of(name, source))


def test_incomplete_archives_are_used_only_if_that_is_allowed(tmp_path):
    folder = write(tmp_path / "archives")
    message = "train_aug has 4 of 10,582, train has 2 of 1,464, .*val_full has 1 of 1,103 images;"
    with pytest.raises(InputError, match=message + ".* set --config.data.allow_partial"):
        load(folder, tmp_path, allow_partial=False)
    load(folder, tmp_path)
    with pytest.raises(InputError, match=message):  # Also when it is prepared already.
        load(folder, tmp_path, allow_partial=False)
    with pytest.raises(InputError, match="allow_partial is not an option of the data set synth"):
        data.load("synthetic", data_dir=str(tmp_path), allow_partial=True)


def test_missing_members_are_left_out(tmp_path):
    data_set = load(write(tmp_path / "archives", drop=("e.jpg", "b.png", "f.mat")), tmp_path)
    assert list(decoded(data_set, "train_aug")) == ["a"]
    assert list(decoded(data_set, "val")) == ["c", "d"]


def write_test(folder, names):
    """The archive of test images, of which its list names one more."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((7, 8, 3), np.uint8)).save(buffer, "jpeg")
    members = {"ImageSets/Segmentation/test.txt": b"t\nleft_out\n"}
    members |= {f"JPEGImages/{name}.jpg": buffer.getvalue() for name in names}
    with tarfile.open(folder / voc_sbd.TEST, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"VOCdevkit/VOC2012/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_test_archive_without_images_is_named(tmp_path):
    folder = write(tmp_path / "archives")
    write_test(folder, [])
    with pytest.raises(InputError, match="the archives hold no image of test"):
        load(folder, tmp_path)


def test_images_of_the_test_archive_have_no_labels(tmp_path):
    folder = write(tmp_path / "archives")
    write_test(folder, ["t"])
    data_set = load(folder, tmp_path)
    with pytest.raises(InputError, match="config.data.test is 'test', but the images of test have"):
        data_set.check_labelled("test", "data.test")
    labels = decoded(data_set, "test")
    assert list(labels) == ["t"] and labels["t"].shape == (7, 8) and np.all(labels["t"] == 255)


@pytest.mark.parametrize(
    ("archive", "keep"), [(voc_sbd.VOC, 0.5), (voc_sbd.SBD, 0.5), (voc_sbd.VOC, 0.0)]
)
def test_damaged_archives_are_named(archive, keep, tmp_path):
    folder = write(tmp_path / "archives")
    content = (folder / archive.file_name).read_bytes()
    (folder / archive.file_name).write_bytes(content[: int(keep * len(content)) + 7])
    with pytest.raises(InputError, match=archive.file_name):
        load(folder, tmp_path)


def test_derivation_gives_the_published_lists(voc_archive):
    """From lists of both archives that overlap in every way."""
    lists = voc_archive.parent / "voc_lists"
    train_aug, val = ((lists / f"{name}.txt").read_text().split() for name in ("train_aug", "val"))
    assert (len(train_aug), len(val)) == (10_582, 1_449)
    annotated = val[:1_103]
    random = np.random.RandomState(0)
    shuffled = random.permutation(train_aug).tolist()
    voc = {"train": shuffled[:1_464], "val": random.permutation(val).tolist()}
    # SBD also annotates most of VOC's training images, and splits its images differently.
    by_sbd = random.permutation(shuffled[400:] + annotated).tolist()
    splits = voc_sbd.derive_splits(voc, {"train": by_sbd[:8_498], "val": by_sbd[8_498:]})
    assert splits["train_aug"] == train_aug and splits["val"] == val
    assert splits["val_full"] == sorted(annotated) and splits["train"] == sorted(voc["train"])
    voc_sbd.check_complete({name: len(ids) for name, ids in splits.items()}, allow_partial=False)


def test_official_layout_is_read(voc_archive, tmp_path):
    data_set = load(voc_archive.parent, tmp_path)
    numbers = {name: len(data_set.read(name).ids) for name in ("train", "val", "val_full")}
    assert numbers == {"train": 81, "val": 140, "val_full": 106}
    labels = decoded(data_set, "val")
    values = np.unique(np.concatenate([label.reshape(-1) for label in labels.values()]))
    np.testing.assert_array_equal(values, [*range(21), 255])
    full = decoded(data_set, "val_full")
    assert set(full) < set(labels) and not any(np.any(label == 255) for label in full.values())
