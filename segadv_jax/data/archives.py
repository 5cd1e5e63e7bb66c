"""Official archives: found in a folder or downloaded, identified by digest, read completely."""

import contextlib
import fcntl
import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

from segadv_jax.errors import InputError

FIELD = "--config.data.archives"


class Archive(NamedTuple):
    """An official archive: its file name and where its authors publish it."""

    file_name: str
    url: str


def find(archive, folder, data_dir):
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


def find_beside(file_name, folder):
    """The path of an archive that may lie in `folder`, or None; it cannot be downloaded."""
    path = Path(folder).expanduser() / file_name
    return path if folder and path.is_file() else None


def _download(archive, folder):
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


def _check_network(url):
    """Raises OSError at once where there is no network: TFDS would retry for two minutes."""
    request = urllib.request.Request(url, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=30).close()


def key(archive, path, *more):
    """Returns a short name for the content of `path`: changed archives get another key.

    It covers the archive's official name, its size, its SHA-256 and the strings `more`.
    """
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [archive.file_name, str(os.path.getsize(path)), content, *more]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_tar(path, wanted):
    """Reads the members of a tar archive for whose name `wanted(name)` is true.

    Returns:
      A dict from member name to bytes. The archive is read to its end.

    Raises:
      InputError: the archive is damaged or cut off.
    """
    try:
        with tarfile.open(path) as tar:
            return {m.name: tar.extractfile(m).read() for m in tar if m.isfile() and wanted(m.name)}
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise damaged(path, error) from error


def damaged(path, error):
    """The InputError about an archive that cannot be read."""
    reason = str(error).partition("\n")[0].rstrip(":")
    return InputError(
        f"the archive {path} ({os.path.getsize(path)} bytes) is damaged or incomplete"
        f" ({reason}); delete it and fetch it again"
    )


def writable_folder(path):
    """Creates the folder `path` if needed and returns it.

    Raises:
      InputError: it cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise InputError(
            f"--config.data.data_dir: cannot write to {path} ({error.strerror or error})"
        ) from error
    return path


@contextlib.contextmanager
def lock(folder):
    """Holds a lock on `folder` (created if needed) against the other processes of this host.

    The system releases it when the process ends, however it ends.
    """
    folder = writable_folder(Path(folder))
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
