"""Archives: members in memory and on disk, keys, and the lock."""

import contextlib
import io
import tarfile
import threading

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
