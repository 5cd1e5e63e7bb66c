"""The files beside a page, from which it is written."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.errors import InputError

CAMPAIGN, NOTES = "campaign.json", "notes.md"
Row = dict[str, Any]

_REMEDY = "restore it, or run the stage that writes it again"


def page_of(folder: files.PathLike) -> Path:
    """`docs/results` -> `docs/results.md`."""
    return Path(folder).resolve().with_suffix(".md")


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The object in a JSON file, which has the fields `needed`.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return files.read_json(path, _REMEDY, needed)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {_REMEDY}") from error


def read_rows(
    path: Path, columns: Sequence[str], text: Collection[str], arms: Collection[str]
) -> list[Row]:
    """The rows of a CSV file: numbers as numbers, empty fields as None.

    Args:
        path: of the file.
        columns: its columns, "arm" among them.
        text: those that are not numbers.
        arms: of which each row has one.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        lines = files.read_csv(path, _REMEDY, columns)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; {_REMEDY}") from error
    try:
        rows = [{k: v if k in text else _number(v) for k, v in line.items()} for line in lines]
    except ValueError as error:
        raise files.damaged(path, error, _REMEDY) from error
    for row in rows:
        if row["arm"] not in arms:
            raise files.damaged(path, f"it has an unknown arm, {row['arm']}", _REMEDY)
    return rows


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    return int(text) if text.isdigit() else float(text)


def notes(folder: Path) -> str:
    """What people say about the results, in `notes.md`; empty without it."""
    path = folder / NOTES
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
