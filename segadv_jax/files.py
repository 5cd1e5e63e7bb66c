"""Files that are written whole or not at all, folders that can be written, JSON and CSV."""

import contextlib
import csv
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from segadv_jax.errors import InputError

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: PathLike, mode: str = "w") -> Iterator[IO]:
    """Opens a file that takes the place of `path` once all of it is written.

    Makes the folder if needed. Several processes may write the same file at once.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, mode, newline=None if "b" in mode else "") as file:
            yield file
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def writable_folder(path: PathLike, field: str) -> Path:
    """Makes the folder `path` if needed and returns it.

    Raises:
        InputError: it cannot be made or written; the message begins with `field`.
    """
    try:
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission to write")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{field}={path} is not a folder that can be written ({reason}); choose another"
        ) from error
    return Path(path)


def read_json(path: PathLike, remedy: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is damaged or lacks a field `needed`; `remedy` says what to do.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        missing = [name for name in needed if name not in content]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(path, error, remedy) from error
    return content


def write_json(path: PathLike, content: Mapping[str, Any]) -> None:
    """Writes a JSON file."""
    with replacing(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def read_csv(path: PathLike, remedy: str, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file as text.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is damaged, or has not the `columns` given; `remedy` says what to do.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            found = tuple(reader.fieldnames or ())
            if columns and found != tuple(columns):
                raise ValueError(f"its columns are not {','.join(columns)}")
            rows = list(reader)
            if any(None in row or None in row.values() for row in rows):
                raise ValueError("a row has too many or too few fields")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, error, remedy) from error
    return rows


def write_csv(path: PathLike, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV file; of each row the fields of `columns`, None as an empty field."""
    with replacing(path) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def damaged(path: PathLike, reason: object, remedy: str) -> InputError:
    """The InputError about a file that cannot be read as what it should be."""
    reason = " ".join(str(reason).split())
    return InputError(f"{path} is damaged ({reason}); {remedy}")
