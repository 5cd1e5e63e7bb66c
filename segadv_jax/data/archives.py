"""Official archives: found in a folder or downloaded, identified by digest, read completely."""

import contextlib
import fcntl
import gzip
import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike, on_this_machine, writable_folder

_GZIP = b"\x1f\x8b"
# Labels as text shrink to a tenth or less; what shrinks to less than a hundredth is no data.
_MOST_GROWTH, _LITTLE = 100, 2**26

FIELD, DATA_DIR = "--config.data.archives", "--config.data.data_dir"


class Archive(NamedTuple):
    """An official archive: its file name and where its authors publish it."""

    file_name: str
    url: str


def data_folder(data_dir: str) -> Path:
    """The folder of prepared data and downloads: `data_dir`, or TFDS's usual one; creates it.

    Raises:
        InputError: the folder cannot be created or written.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return writable_folder(on_this_machine(chosen, DATA_DIR), DATA_DIR)


def find(archive: Archive, folder: PathLike, data_dir: str) -> Path:
    """The path of `archive`, which is in `folder` or, if that is empty, downloaded and kept.

    Raises:
        InputError: the archive is not in the folder, or cannot be downloaded.
    """
    if not folder:
        downloads = data_folder(data_dir) / "downloads"
        with lock(downloads):
            return _download(archive, downloads)
    path = Path(folder).expanduser() / archive.file_name
    if not path.is_file():
        raise InputError(
            f"{FIELD}: there is no file {path}; put {archive.file_name} there, or leave"
            f" {FIELD} empty to have it downloaded from {archive.url}"
        )
    return path


def _download(archive: Archive, folder: Path) -> Path:
    # Imported only here: finding, locking and reading archives needs no TensorFlow.
    from segadv_jax.data.cpu_tensorflow import tfds

    manager = tfds.download.DownloadManager(download_dir=folder)
    try:
        # TFDS keeps such a note beside each file that it has downloaded.
        if not any(archive.url in note.read_text() for note in folder.glob("*.INFO.json")):
            # Fails at once where there is no network: TFDS would retry for two minutes.
            request = urllib.request.Request(archive.url, method="HEAD")
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=30).close()
        return Path(manager.download(archive.url))
    except (OSError, tfds.download.DownloadError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"cannot download {archive.url} ({reason}); put {archive.file_name} into a folder"
            f" and name that folder in {FIELD}"
        ) from error


def key(archive: Archive, path: PathLike, *more: str) -> str:
    """A short name for the content of `path`: changed archives get another key.

    It covers the archive's official name, its size, its SHA-256 and the strings `more`.
    """
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [archive.file_name, str(os.path.getsize(path)), content, *more]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Members(dict[str, bytes | tuple[int, int]]):
    """The members of the archive `path`: the content of each, or its (offset, size) in the file."""

    path: PathLike

    def read(self, name: str) -> bytes:
        """The content of a member; an InputError names the archive if it has no such member."""
        if name not in self:
            raise InputError(f"{self.path} holds no {name}: it is incomplete; fetch it again")
        content = self[name]
        if isinstance(content, bytes):
            return content
        offset, size = content
        with open(self.path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise _damaged(self.path, f"it ends within {name}")
        return content

    def read_text(self, name: str) -> str:
        """The same as text; the InputError names the member as well if it is none."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise _damaged(self.path, f"{name} is no text: {error}") from error


def read_tar(path: PathLike, suffixes: tuple[str, ...] = ("",), stored: bool = False) -> Members:
    """The members of a tar archive whose names end in one of `suffixes`; it is read to its end.

    With `stored` the archive is not compressed, and the members' content is read when it is asked
    for: it need not fit in memory. Nothing is written anywhere: a member's name is never a path of
    this machine, and only plain files are members, no links or devices.

    Raises:
        InputError: the archive is damaged or cut off, or larger than such an archive can be.
    """
    members = Members()
    members.path = path
    try:
        with _opened(path, stored) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # It would keep all of them.
                if not member.isfile() or not member.name.endswith(suffixes):
                    continue
                if member.issparse():  # A few bytes may stand for any number.
                    raise tarfile.ReadError(f"{member.name} is stored with holes")
                if stored:
                    members[member.name] = member.offset_data, member.size
                else:
                    members[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, MemoryError) as error:
        raise _damaged(path, error) from error
    return members


@contextlib.contextmanager
def _opened(path: PathLike, stored: bool) -> Iterator[Any]:
    """The content of a file, decompressed unless it is `stored`."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        packed = not stored and file.read(2) == _GZIP
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield _Bounded(unpacked, _MOST_GROWTH * size + _LITTLE)
        else:
            yield _Bounded(file, size)


class _Bounded:
    """A file of which only so many bytes are ever read, in one piece or from one place."""

    def __init__(self, file: Any, most: int):
        self.file, self.most = file, most

    def read(self, size: int = -1) -> bytes:
        left = self.most - self.file.tell()
        content = self.file.read(left + 1 if size < 0 else min(size, left + 1))
        self._check()
        return content

    def seek(self, place: int) -> int:
        place = self.file.seek(min(place, self.most + 1))
        self._check()
        return place

    def tell(self) -> int:
        return self.file.tell()

    def _check(self) -> None:
        if self.file.tell() > self.most:
            raise tarfile.ReadError(f"more than {self.most} bytes are claimed to be in it")


def _damaged(path: PathLike, reason: object) -> InputError:
    reason = str(reason).partition("\n")[0].rstrip(":")
    return InputError(
        f"the archive {path} ({os.path.getsize(path)} bytes) is damaged or incomplete"
        f" ({reason}); delete it and fetch it again"
    )


@contextlib.contextmanager
def lock(folder: PathLike) -> Iterator[None]:
    """Holds a lock on `folder` (created if needed) against the other processes of this host.

    The system releases it when the process ends, however it ends.
    """
    folder = writable_folder(folder, DATA_DIR)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("waiting for another process, which is at work in %s", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
