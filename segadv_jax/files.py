"""Files that are written whole or not at all, folders that can be written, JSON and CSV."""

import contextlib
import csv
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
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        with open(part, mode, newline=None if "b" in mode else "") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def writable_folder(path: PathLike, field: str) -> Path:
    """Makes the folder `path` if needed; an InputError about `field` if it cannot be written."""
    try:
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        what = f"is not a folder that can be written ({error.strerror or error})"
        raise InputError(f"{field}={path} {what}; choose another") from error
    return Path(path)


@contextlib.contextmanager
def reading(path: PathLike, remedy: str) -> Iterator[None]:
    """Makes what goes wrong in reading a file the InputError of `damaged`.

    Only the FileNotFoundError stays: a file that is not there is not damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, error, remedy) from error


def damaged(path: PathLike, reason: object, remedy: str) -> InputError:
    """The InputError about a file that cannot be read as what it should be."""
    reason = " ".join(str(reason).split())
    return InputError(f"{path} is damaged ({reason}); {remedy}")


def read_json(path: PathLike, remedy: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The object in a JSON file, which has the fields `needed`; for errors see `reading`."""
    with reading(path, remedy):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
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


def read_csv(path: PathLike, remedy: str, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file, which has the `columns` if given, as text; see `reading`."""
    with reading(path, remedy), open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if columns and tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"its columns are not {','.join(columns)}")
        rows = list(reader)
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has too many or too few fields")
        return rows


def write_csv(path: PathLike, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV file; of each row the fields of `columns`, None as an empty field."""
    with replacing(path) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
