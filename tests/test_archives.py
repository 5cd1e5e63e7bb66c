"""Archives: members in memory and on disk, keys, and the lock."""

import contextlib
import io
import tarfile
import threading
import tracemalloc

import pytest

from segadv_jax.data import archives
from segadv_jax.errors import InputError

MEMBERS = {"a.txt": b"first", "folder/b.txt": b"second", "folder/c.bin": bytes(range(256)) * 20}


@pytest.fixture
def path(tmp_path):
    """A tar archive that is not compressed."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return tmp_path / "a.tar"


@pytest.mark.parametrize("stored", [True, False])
def test_members_are_read_by_name(path, stored):
    members = archives.read_tar(path, stored=stored)
    assert list(members) == list(MEMBERS)
    for name, content in MEMBERS.items():
        assert name in members and members.read(name) == content
    assert "d" not in members
    with pytest.raises(InputError, match=r"a\.tar holds no d: it is incomplete; fetch it again"):
        members.read("d")
    assert members.read_text("a.txt") == "first"
    with pytest.raises(InputError, match=r"a\.tar .* is damaged.*folder/c\.bin is no text"):
        members.read_text("folder/c.bin")


def test_only_the_members_that_are_wanted_are_read(path):
    assert list(archives.read_tar(path, (".txt",))) == list(MEMBERS)[:2]


def test_an_archive_that_shrinks_while_it_is_read_is_damaged(path):
    members = archives.read_tar(path, stored=True)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.tar .*ends within folder/c\.bin"):
        members.read("folder/c.bin")


def test_the_key_depends_on_name_content_and_the_rest(path):
    archive = archives.Archive("a.tar", "")
    key = archives.key(archive, path, "x")
    assert key == archives.key(archive, path, "x")
    assert key != archives.key(archive, path, "y")
    assert key != archives.key(archive._replace(file_name="b.tar"), path, "x")
    path.write_bytes(path.read_bytes().replace(b"first", b"First"))
    assert key != archives.key(archive, path, "x")


def test_who_waits_for_the_lock_says_so(tmp_path, monkeypatch):
    said, holder = [], contextlib.ExitStack()

    def say(message, *args):
        said.append(message % args)
        holder.close()

    monkeypatch.setattr(archives.logging, "info", say)
    with holder:
        holder.enter_context(archives.lock(tmp_path))
        assert not said
        with archives.lock(tmp_path):
            pass
    assert said == [f"waiting for another process, which is at work in {tmp_path}"]


def test_the_lock_keeps_others_out_until_it_is_released(tmp_path):
    entered, events = threading.Event(), []

    def other():
        entered.wait()
        with archives.lock(tmp_path):
            events.append("other")

    thread = threading.Thread(target=other)
    with archives.lock(tmp_path):
        thread.start()
        entered.set()
        thread.join(0.3)
        events.append("first")
    thread.join(10)
    assert events == ["first", "other"]


def add(tar, name, content=b"x", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("stored", [True, False])
def test_only_plain_files_are_members_and_none_is_written(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../up.txt", "/tmp/absolute.txt", "a/../../up.txt", "a.txt"]
    with tarfile.open("a.tar", "w") as tar:
        for name in names:
            add(tar, name)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            add(tar, f"link{int(kind)}.txt", b"", type=kind, linkname="/etc/passwd")
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            add(tar, f"device{int(kind)}.txt", b"", type=kind, devmajor=1, devminor=5)
    members = archives.read_tar("a.tar", (".txt",), stored)
    assert list(members) == names and all(members.read(name) == b"x" for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    assert not (tmp_path.parent / "up.txt").exists()


def zeros(tar):
    add(tar, "a.txt", bytes(2**25))


def holes(tar):
    add(tar, "a.txt", b"", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": f"{2**40}"})


def claimed(tar):
    member = tarfile.TarInfo("a.txt")
    member.size = 2**50
    tar.addfile(member)


def long_header(tar):
    member = tarfile.TarInfo("a.txt")
    member.size, member.type = 2**50, tarfile.XHDTYPE
    tar.addfile(member)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("kind", [zeros, holes, claimed, long_header])
def test_an_archive_that_claims_to_be_large_takes_no_memory(kind, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LITTLE", 2**20)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w" if stored else "w:gz", format=tarfile.PAX_FORMAT) as tar:
        kind(tar)
    if kind is zeros and stored:  # It is as large as it says.
        return
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.tar .* is damaged or incomplete .*fetch it again"):
        archives.read_tar(path, stored=stored)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * (2**20 + 100 * path.stat().st_size)
