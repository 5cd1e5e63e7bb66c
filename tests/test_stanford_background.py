"""The Stanford Background builder, on small archives drawn here and on the official one."""

import contextlib
import fcntl
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import end_of, wait_until
from small_runs import ROOT, start_process

from segadv_jax import data
from segadv_jax.data import stanford_background
from segadv_jax.data.cpu_tensorflow import tfds
from segadv_jax.errors import InputError

ARCHIVE = stanford_background.ARCHIVE
SPLITS = {"test": ["b", "d"], "subset_0": ["a", "c"], "subset_1": ["e"]}
SIZES = {"a": (12, 18), "b": (20, 16), "c": (12, 18), "d": (9, 10), "e": (16, 16)}


def small_files():
    """The members of a small archive in the official layout."""
    random, files = np.random.RandomState(0), {"iccv09Data/horizons.txt": b"not read\n"}
    for name, size in SIZES.items():
        buffer = io.BytesIO()
        Image.fromarray(random.randint(0, 256, (*size, 3)).astype(np.uint8)).save(buffer, "jpeg")
        files[image_of(name)] = buffer.getvalue()
        files[label_of(name)] = matrix(random.randint(-1, 8, size))
    return files


def image_of(name):
    return f"iccv09Data/images/{name}.jpg"


def label_of(name):
    return f"iccv09Data/labels/{name}.regions.txt"


def matrix(values):
    return "".join(" ".join(map(str, row)) + " \n" for row in values).encode()


def write_archive(folder, files):
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / ARCHIVE.file_name, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder


def load(folder, data_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stanford_background, "read_splits", lambda: SPLITS)
        return data.load("stanford_background", archives=str(folder), data_dir=str(data_dir))


def prepared(data_dir):
    """The folders of prepared data, one per content."""
    return sorted((data_dir / "stanford_background").glob("*/"))


def decoded(split, index):
    with Image.open(io.BytesIO(split.labels[index])) as label:
        return np.asarray(label)


def assert_one_line(message):
    assert "\n" not in message.strip()


def test_examples_are_those_of_the_archive(tmp_path):
    files = small_files()
    data_set = load(write_archive(tmp_path / "archives", files), tmp_path / "data")
    for name, ids in SPLITS.items():
        split = data_set.read(name)
        assert split.ids == ids
        for index, example in enumerate(ids):
            assert split.images[index] == files[image_of(example)]
            assert tuple(split.sizes[index]) == SIZES[example]
            values = np.loadtxt(io.BytesIO(files[label_of(example)]), dtype=int)
            expected = np.where(values < 0, 255, values)
            np.testing.assert_array_equal(decoded(split, index), expected)


def test_a_changed_mask_is_seen(tmp_path):
    files = small_files()
    folder = write_archive(tmp_path / "archives", files)
    before = load(folder, tmp_path / "data").read("subset_1")
    files[label_of("e")] = matrix(np.full((16, 16), 6))
    write_archive(folder, files)
    after = load(folder, tmp_path / "data").read("subset_1")
    assert not np.all(decoded(before, 0) == 6)
    assert np.all(decoded(after, 0) == 6)


def test_prepared_data_is_used_again(tmp_path, monkeypatch):
    folder = write_archive(tmp_path / "archives", small_files())
    load(folder, tmp_path / "data")
    monkeypatch.setattr(stanford_background, "read_tar", None)  # calling it would fail
    again = load(folder, tmp_path / "data")
    assert len(prepared(tmp_path / "data")) == 1
    assert again.read("test").ids == SPLITS["test"]


def broken(name):
    """Small files with one defect, and what the error must name."""
    files = small_files()
    if name == "no image":
        del files[image_of("c")]
        return files, "holds no iccv09Data/images/c.jpg"
    if name == "no label":
        del files[label_of("d")]
        return files, "holds no iccv09Data/labels/d.regions.txt"
    if name == "other shape":
        files[label_of("a")] = matrix(np.zeros((18, 12), int))
        return files, r"images/a.jpg is 12x18 .* label is 18x12"
    if name == "unknown class":
        files[label_of("b")] = matrix(np.full((20, 16), 8))
        return files, "labels/b.regions.txt has a class 8"
    if name == "ragged":
        files[label_of("b")] = b"1 2 3\n1 2\n"
        return files, "labels/b.regions.txt is not a matrix"
    files[image_of("e")] = files[image_of("e")][:200]
    return files, "images/e.jpg is not a readable image"


@pytest.mark.parametrize(
    "defect", ["no image", "no label", "other shape", "unknown class", "ragged", "cut image"]
)
def test_a_defective_member_is_named_and_nothing_is_prepared(tmp_path, defect):
    files, message = broken(defect)
    folder = write_archive(tmp_path / "archives", files)
    with pytest.raises(InputError, match=message) as error:
        load(folder, tmp_path / "data")
    assert ARCHIVE.file_name in str(error.value)
    assert_one_line(str(error.value))
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_archive_is_named_with_its_size(tmp_path, damage):
    folder = write_archive(tmp_path / "archives", small_files())
    path = folder / ARCHIVE.file_name
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    path.write_bytes(
        {"cut": content[: len(content) // 2], "empty": b"", "text": b"<html>not found"}.get(
            damage, content
        )
    )
    message = rf"{path} \({path.stat().st_size} bytes\) is damaged .* fetch it again"
    with pytest.raises(InputError, match=message) as error:
        load(folder, tmp_path / "data")
    assert_one_line(str(error.value))


def test_a_missing_archive_says_where_it_should_be_and_where_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        data.load("stanford_background", archives=str(tmp_path), data_dir=str(tmp_path / "data"))
    message = str(error.value)
    assert str(tmp_path / "iccv09Data.tar.gz") in message
    assert "http://dags.stanford.edu/data/iccv09Data.tar.gz" in message
    assert "--config.data.archives" in message
    assert_one_line(message)


def test_without_a_network_the_error_names_the_url_and_the_way_out(tmp_path, monkeypatch):
    url = "http://127.0.0.1:9/iccv09Data.tar.gz"  # nothing listens there
    monkeypatch.setattr(stanford_background, "ARCHIVE", ARCHIVE._replace(url=url))
    # TFDS, which tries again and again for minutes, is not even asked.
    monkeypatch.setattr(tfds.download.DownloadManager, "download", None)
    with pytest.raises(InputError) as error:
        data.load("stanford_background", data_dir=str(tmp_path))
    assert url in str(error.value) and "--config.data.archives" in str(error.value)
    assert_one_line(str(error.value))


@contextlib.contextmanager
def served(folder):
    """Serves a folder over HTTP; yields its address and the list of requested methods."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            requests.append(self.command)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requests
        finally:
            server.shutdown()


def test_an_empty_field_downloads_once_and_matches_the_given_folder(tmp_path, monkeypatch):
    folder = write_archive(tmp_path / "archives", small_files())
    with served(folder) as (address, requests):
        url = f"{address}/{ARCHIVE.file_name}"
        monkeypatch.setattr(stanford_background, "ARCHIVE", ARCHIVE._replace(url=url))
        for _ in range(2):
            load("", tmp_path / "data")
            assert requests.count("GET") == 1
    assert list((tmp_path / "data" / "downloads").glob("*.tar.gz"))
    load(folder, tmp_path / "data")
    assert len(prepared(tmp_path / "data")) == 1


def test_a_page_that_is_not_there_is_an_input_error(tmp_path, monkeypatch):
    with served(tmp_path) as (address, _):
        url = f"{address}/gone.tar.gz"
        monkeypatch.setattr(stanford_background, "ARCHIVE", ARCHIVE._replace(url=url))
        with pytest.raises(InputError, match="cannot download .*gone.tar.gz .*404"):
            load("", tmp_path / "data")


CONCURRENT = """
import json, sys
from pathlib import Path
from processes import wait_until
from segadv_jax.data import stanford_background as module

folder, data_dir, log, splits = sys.argv[1:]
read = module.read_tar

def slow(*args):
    Path(log).touch()
    wait_until(Path(log + "_seen").exists)
    return read(*args)

module.read_tar, module.read_splits = slow, lambda: json.loads(splits)
print(len(module.prepare(archives=folder, data_dir=data_dir).read("test").ids))
"""


def test_of_two_processes_one_prepares_and_both_read(tmp_path, monkeypatch):
    folder, data_dir, log = tmp_path / "archives", tmp_path / "data", tmp_path / "log"
    write_archive(folder, small_files())
    command = ["-c", CONCURRENT, *map(str, (folder, data_dir, log)), json.dumps(SPLITS)]
    process = start_process(command, PYTHONPATH=str(ROOT / "tests"))
    wait_until(log.exists, process)
    flock = fcntl.flock

    def lock(file, how):
        if how == fcntl.LOCK_EX:  # It is to wait for the process, which may end now.
            Path(f"{log}_seen").touch()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    monkeypatch.setattr(stanford_background, "read_tar", None)
    assert len(load(folder, data_dir).read("test").ids) == 2
    status, output, errors = end_of(process)
    assert status == 0 and output.split()[-1] == "2", errors


def test_the_shipped_lists_are_disjoint_and_complete():
    splits = stanford_background.read_splits()
    assert list(splits) == ["test"] + [f"subset_{i}" for i in range(8)]
    assert [len(ids) for ids in splits.values()] == [142] + [72] * 5 + [71] * 3
    every = sum(splits.values(), [])
    assert len(set(every)) == 715 == len(every)


def assert_drawn_from(ids):
    """That the shipped lists are drawn from the ids as the module says."""
    order = np.random.RandomState(2016).permutation(sorted(ids))
    parts = [order[:142], *np.array_split(order[142:], 8)]
    splits = stanford_background.read_splits()
    assert list(splits.values()) == [sorted(part.tolist()) for part in parts]


def test_the_shipped_lists_follow_from_their_ids():
    ids = sum(stanford_background.read_splits().values(), [])
    assert_drawn_from(ids)
    with pytest.raises(AssertionError):
        assert_drawn_from([*ids[:-1], "another"])


def test_the_shipped_lists_follow_from_the_official_archive(stanford_archives):
    with tarfile.open(stanford_archives / ARCHIVE.file_name) as tar:
        assert_drawn_from([Path(name).stem for name in tar.getnames() if name.endswith(".jpg")])


def test_the_official_data_set_has_the_known_statistics(stanford):
    splits = [stanford.read(name) for name in stanford_background.read_splits()]
    assert sum(len(split.ids) for split in splits) == 715
    counts = sum(
        np.bincount(decoded(split, i).ravel(), minlength=256)
        for split in splits
        for i in range(len(split.ids))
    )
    assert counts[8:255].sum() == 0
    shares = 100 * counts / counts.sum()
    assert round(shares[255], 2) == 0.51
    expected = [14.48, 14.02, 22.52, 6.85, 4.00, 22.61, 1.34, 13.66]
    assert shares[:8].round(2).tolist() == expected
    sizes = np.concatenate([split.sizes for split in splits])
    assert len(np.unique(sizes, axis=0)) == 51
    assert np.all(sizes == (240, 320), axis=1).sum() == 531


def test_a_batch_equals_what_is_read_straight_from_the_official_archive(
    stanford, stanford_archives
):
    split = stanford.read("test")
    batch = next(split.eval_batches(batch_size=2, canvas=split.canvas()))
    with tarfile.open(stanford_archives / ARCHIVE.file_name) as tar:
        for i, name in enumerate(batch["id"]):
            with Image.open(tar.extractfile(image_of(name))) as image:
                expected = np.asarray(image.convert("RGB"))
            height, width = batch["size"][i]
            assert expected.shape == (height, width, 3)
            np.testing.assert_array_equal(batch["image"][i, :height, :width], expected)
            label = np.loadtxt(tar.extractfile(label_of(name)), dtype=int)
            label[label < 0] = 255
            np.testing.assert_array_equal(batch["label"][i, :height, :width], label)


def test_names_and_colours_fit_the_classes(stanford):
    assert len(stanford.class_names) == 8
    assert stanford.palette.shape == (8, 3) and stanford.palette.dtype == np.uint8
    colours = stanford.palette.astype(int)
    distance = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(8)
    assert distance.min() > 80
