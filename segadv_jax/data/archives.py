"""Official archives: found in a folder or downloaded, identified by digest, read completely."""

import contextlib
import fcntl
import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike, writable_folder

FIELD = "--config.data.archives"


class Archive(NamedTuple):
    """An official archive: its file name and where its authors publish it."""

    file_name: str
    url: str


def find(archive: Archive, folder: PathLike, data_dir: PathLike) -> Path:
    """Returns the path of `archive`, which is in `folder` or, if that is empty, downloaded.

    Downloads go to `data_dir`/downloads and are kept there.

    Raises:
        InputError: the archive is not in the folder, or cannot be downloaded.
    """
    if not folder:
        with lock(Path(data_dir) / "downloads"):
            return _download(archive, Path(data_dir) / "downloads")
    path = Path(folder).expanduser() / archive.file_name
    if not path.is_file():
        raise InputError(
            f"{FIELD}: there is no file {path}; put {archive.file_name} there, or leave"
            f" {FIELD} empty to have it downloaded from {archive.url}"
        )
    return path


def find_beside(file_name: str, folder: PathLike) -> Path | None:
    """The path of an archive that may lie in `folder`, or None; it cannot be downloaded."""
    path = Path(folder).expanduser() / file_name
    return path if folder and path.is_file() else None


def _download(archive: Archive, folder: Path) -> Path:
    # Imported only here: finding, locking and reading archives needs no TensorFlow.
    from segadv_jax.data.cpu_tensorflow import tfds

    manager = tfds.download.DownloadManager(download_dir=folder)
    try:
        # TFDS keeps such a note beside each file that it has downloaded.
        if not any(archive.url in note.read_text() for note in folder.glob("*.INFO.json")):
            _check_network(archive.url)
        return Path(manager.download(archive.url))
    except (OSError, tfds.download.DownloadError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"cannot download {archive.url} ({reason}); put {archive.file_name} into a folder"
            f" and name that folder in {FIELD}"
        ) from error


def _check_network(url: str) -> None:
    """Raises OSError at once where there is no network: TFDS would retry for two minutes."""
    request = urllib.request.Request(url, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=30).close()


def key(archive: Archive, path: PathLike, *more: str) -> str:
    """Returns a short name for the content of `path`: changed archives get another key.

    It covers the archive's official name, its size, its SHA-256 and the strings `more`.
    """
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [archive.file_name, str(os.path.getsize(path)), content, *more]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Members:
    """The members of an archive in memory, by name."""

    def __init__(self, path: PathLike, members: Mapping[str, Any]):
        self.path, self._members = path, members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The content of a member; an InputError names the archive if it has no such member."""
        if name not in self:
            raise InputError(f"{self.path} holds no {name}: it is incomplete; fetch it again")
        return self._content(self._members[name], name)

    def _content(self, member: Any, name: str) -> bytes:
        del name
        return member


class StoredMembers(Members):
    """The members of a tar archive that is not compressed: they need not fit in memory.

    Raises:
        InputError: the archive is damaged or cut off.
    """

    def __init__(self, path: PathLike):
        try:
            with tarfile.open(path, "r:") as tar:
                places = {m.name: (m.offset_data, m.size) for m in tar if m.isfile()}
        except (tarfile.TarError, EOFError, OSError) as error:
            raise damaged(path, error) from error
        super().__init__(path, places)

    def _content(self, member: tuple[int, int], name: str) -> bytes:
        start, size = member
        with open(self.path, "rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) < size:
            raise damaged(self.path, f"it ends within {name}")
        return content


def read_tar(path: PathLike, wanted: Callable[[str], bool]) -> Members:
    """Reads the members of a tar archive for whose name `wanted(name)` is true.

    The archive is read to its end.

    Raises:
        InputError: the archive is damaged or cut off.
    """
    try:
        with tarfile.open(path) as tar:
            members = (member for member in tar if member.isfile() and wanted(member.name))
            return Members(path, {m.name: _extracted(tar, m) for m in members})
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise damaged(path, error) from error


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "only files are extracted"
    return file.read()


def damaged(path: PathLike, reason: object) -> InputError:
    """The InputError about an archive that cannot be read, for the `reason` given."""
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
    folder = writable_folder(folder, "--config.data.data_dir")
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
