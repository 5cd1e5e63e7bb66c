"""Files that are written whole or not at all, folders that can be written, JSON and CSV.

A path is one of this machine or a URL, as gs://bucket/run, which etils' epath opens.
"""

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any

from segadv_jax.errors import InputError

PathLike = str | os.PathLike[str]
if TYPE_CHECKING:
    AnyPath = Path
else:
    AnyPath = PurePath  # A URL's is no Path but has its methods.
SCHEMES = ("gs",)  # Of URLs; epath knows more, which were not tried.


def is_remote(path: PathLike) -> bool:
    """Whether a path is a URL.

    Raises:
        InputError: of a scheme that nothing here knows: it would become a folder of that name.
    """
    scheme, colon, _ = os.fspath(path).partition("://")
    if not colon:
        return False
    if scheme not in SCHEMES:
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise InputError(f"{path}: nothing here reads {scheme}://; known: {known}")
    return True


def to_path(path: PathLike) -> AnyPath:
    """A local path or that of a URL, which has the same methods."""
    if not is_remote(path):
        return Path(path)
    from etils import epath  # Most runs do without.

    remote: Any = epath.Path(path)
    return remote


@contextlib.contextmanager
def reaching(path: PathLike) -> Iterator[None]:
    """Makes what a URL's store raises an InputError, but for the FileNotFoundError.

    It may be anything: TensorFlow's errors are no OSErrors. Those of a local path stay as they are.
    """
    try:
        yield
    except (FileNotFoundError, InputError):
        raise
    except ImportError as error:
        if not is_remote(path):
            raise
        what = f"{path} needs a library that is not installed ({_line(error)})"
        raise InputError(f"{what}; install it, or name a folder of this machine") from error
    except Exception as error:
        if not is_remote(path):
            raise
        remedy = "check the name, the network, and what you may read and write there"
        raise InputError(f"{path} cannot be reached ({_line(error)}); {remedy}") from error


def _line(error: object) -> str:
    return " ".join(str(error).split())


def exists(path: PathLike) -> bool:
    with reaching(path):
        return to_path(path).exists()


def is_folder(path: PathLike) -> bool:
    with reaching(path):
        return to_path(path).is_dir()


def absolute(path: PathLike) -> AnyPath:
    """A local path from the root on; a URL as it is, which epath would put below this folder."""
    return to_path(path) if is_remote(path) else Path(path).absolute()


def on_this_machine(path: PathLike, field: str) -> Path:
    """A local path, the home folder for "~"; an InputError about `field` for a URL."""
    if is_remote(path):
        raise InputError(f"{field}={path} must be a folder of this machine, which a URL is not")
    return Path(path).expanduser()


@contextlib.contextmanager
def local_copy(path: PathLike) -> Iterator[str]:
    """A path of this machine, for libraries that know no others; a URL's is deleted afterwards.

    Of a folder nothing is copied: it is named as it is.
    """
    if not is_remote(path) or is_folder(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, to_path(path).name)
        with reaching(path), to_path(path).open("rb") as source, open(copied, "wb") as target:
            shutil.copyfileobj(source, target)
        yield str(copied)


@contextlib.contextmanager
def replacing(path: PathLike, mode: str = "w") -> Iterator[IO]:
    """Opens a file that takes the place of `path` once all of it is written.

    Makes the folder if needed. Text is UTF-8, whatever the machine's own. Several processes may
    write the same file at once, also of machines that share the folder. An object of a store is
    replaced whole: it is written from memory once all of it is known.
    """
    if is_remote(path):
        content = io.BytesIO()
        text = io.TextIOWrapper(content, "utf-8", newline="")
        yield content if "b" in mode else text
        text.flush()
        with reaching(path):
            to_path(path).parent.mkdir(parents=True, exist_ok=True)
            to_path(path).write_bytes(content.getvalue())
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Of a name as long as it may be, too.
    name = hashlib.sha256(os.fsencode(os.path.basename(path))).hexdigest()[:16]
    part = Path(path).with_name(f".{name}.{socket.gethostname()}.{os.getpid()}.part")
    newline, encoding = (None, None) if "b" in mode else ("", "utf-8")
    try:
        with open(part, mode, newline=newline, encoding=encoding) as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def clear_parts(folder: PathLike) -> None:
    """Deletes what processes left in a folder that were killed within `replacing`."""
    if not is_remote(folder):
        for part in Path(folder).rglob("*.part"):
            if _PART.match(part.name):
                part.unlink(missing_ok=True)


_PART = re.compile(r"\.[0-9a-f]{16}\..+\.\d+\.part$")


@contextlib.contextmanager
def locked(path: PathLike) -> Iterator[int | None]:
    """Locks a file of this machine, which is made if needed; yields None if it is locked already.

    Otherwise a file descriptor: the lock lasts until this process, and those that it gave it to,
    have closed it or ended.

    Raises:
        OSError: the file cannot be written, or its file system knows no locks.
    """
    with open(path, "a") as file:
        lock = None
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock = file.fileno()
        yield lock


def writable_folder(path: PathLike, field: str) -> AnyPath:
    """Makes the folder `path` if needed; an InputError about `field` if it cannot be written."""
    if is_remote(path):
        with reaching(path):
            to_path(path).mkdir(parents=True, exist_ok=True)
        return to_path(path)
    try:
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        what = f"is not a folder that can be written ({error.strerror or error})"
        raise InputError(f"{field}={path} {what}; choose another") from error
    return Path(path)


def not_written(error: BaseException | None) -> str:
    """Why a file could not be written, if an error was raised for that or while it was handled.

    Libraries have errors of their own, which say so; "" of all other errors.
    """
    while error is not None:
        for number in _NOT_WRITTEN:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return ""


_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextlib.contextmanager
def reading(path: PathLike, remedy: str) -> Iterator[None]:
    """Makes what goes wrong in reading a file the InputError of `damaged`.

    Only the FileNotFoundError stays: a file that is not there is not damaged.
    """
    try:
        yield
    except (FileNotFoundError, InputError):
        raise
    except NotADirectoryError as error:
        raise InputError(
            f"{path} cannot be read: a part of its path is a file, no folder"
        ) from error
    except PermissionError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise InputError(f"{what}: let this user read it, or name another folder") from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise damaged(path, error, remedy) from error


def damaged(path: PathLike, reason: object, remedy: str) -> InputError:
    """The InputError about a file that cannot be read as what it should be."""
    return InputError(f"{path} is damaged ({_line(reason)}); {remedy}")


def read_text(path: PathLike) -> str:
    """A file's UTF-8 text, its line ends as they are."""
    with reaching(path):
        content = to_path(path).read_bytes()
    return content.decode("utf-8")


def read_json(path: PathLike, remedy: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The object in a JSON file, which has the fields `needed`; for errors see `reading`."""
    with reading(path, remedy):
        content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        missing = [name for name in needed if name not in content]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return content


def write_json(path: PathLike, content: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def read_csv(
    path: PathLike,
    remedy: str,
    columns: Sequence[str] = (),
    needed: str = "",
    whole: bool = False,
) -> list[dict[str, str]]:
    """The rows of a CSV file as text; for errors see `reading`.

    Args:
        path: of the file.
        remedy: what to do if it is damaged.
        columns: if given, all that it has, in this order.
        needed: if given, a column that it has, unless the file is empty.
        whole: it is written at once; of one to which rows are appended the last may be cut off.
    """
    with reading(path, remedy):
        text = read_text(path)
        if whole and text and not text.endswith("\n"):
            raise ValueError("it ends in the middle of a row")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if columns and tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"its columns are not {','.join(columns)}")
        if needed and reader.fieldnames and needed not in reader.fieldnames:
            raise ValueError(f"it has no column {needed}")
        rows = list(reader)
        if rows and None in rows[-1].values() and not text.endswith("\n"):
            rows.pop()  # The process that was writing it was killed, or the disk was full.
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has too many or too few fields")
        return rows


def write_csv(path: PathLike, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV file; of each row the fields of `columns`, None as an empty field."""
    with replacing(path) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def append_csv(path: PathLike, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Appends a row to a CSV file; its keys are of `columns`. Objects of a store are rewritten."""
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerow(row)
    if is_remote(path):
        before = read_text(path)
        with replacing(path) as file:
            file.write(before + text.getvalue())
        return
    with open(path, "a", newline="", encoding="utf-8") as file:
        file.write(text.getvalue())
