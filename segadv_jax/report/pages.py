"""What the programs that write a page share: their arguments, and the files beside the page."""

import argparse
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import command_line, comparison, provenance
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.report import markdown

CAMPAIGN = "campaign.json"
Row = dict[str, Any]

_REMEDY = "restore it, or run the stage that writes it again"


def add_arguments(parser: argparse.ArgumentParser, stages: Iterable[str], page: str) -> None:
    """Adds the stage, the folders, `docs/PAGE` among them, and those of a pool of processes."""
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--workdir", default="", help="folder of the runs")
    parser.add_argument("--archives", default="", help="folder with the official archives")
    parser.add_argument("--data_dir", default="", help="where prepared data is kept")
    docs = provenance.ROOT / "docs" / page
    parser.add_argument("--results", type=Path, default=docs, help="folder to write")
    command_line.add_pool_arguments(parser)


def make_workdir(options: argparse.Namespace) -> None:
    """Makes the folder of the runs; raises an InputError if it is not given or not writable."""
    if not options.workdir:
        raise InputError(f"--workdir: the stage {options.stage} needs a folder for its runs")
    files.writable_folder(options.workdir, "--workdir")


def data_fields(options: argparse.Namespace) -> list[str]:
    """The fields of a configuration that say where the data lies."""
    given = {"archives": options.archives, "data_dir": options.data_dir}
    return [f"--config.data.{name}={value}" for name, value in given.items() if value]


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The object in a JSON file; an InputError if it is missing or lacks a field `needed`."""
    return files.read_json(_existing(path), _REMEDY, needed)


def read_rows(
    path: Path, columns: Sequence[str], text: Collection[str], arms: Collection[str]
) -> list[Row]:
    """The rows of a CSV file: numbers as numbers, but for the columns `text`, empty fields as None.

    Raises:
        InputError: the file is missing or damaged, or a row's "arm" is none of `arms`.
    """
    lines = files.read_csv(_existing(path), _REMEDY, columns, whole=True)
    if lines and "arm" not in lines[0]:
        raise files.damaged(path, "it has no column arm", _REMEDY)
    try:
        rows = [{k: v if k in text else _number(v) for k, v in line.items()} for line in lines]
    except ValueError as error:
        raise files.damaged(path, error, _REMEDY) from error
    for row in rows:
        if row["arm"] not in arms:
            raise files.damaged(path, f"it has an unknown arm, {row['arm']}", _REMEDY)
    return rows


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path} is missing; {_REMEDY}")
    return path


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    number = int(text) if text.isdigit() else float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def notes(folder: Path, name: str = "notes.md") -> str:
    """What people say about the results, in `notes.md` or another file; empty without it."""
    path = folder / name
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def of_arm(
    rows: Iterable[Row], arm: str, columns: Sequence[str] = PAPER_MEASURES
) -> dict[str, Any]:
    """Mean and spread of one arm."""
    return comparison.spread([row for row in rows if row["arm"] == arm], columns)


def listed(items: Iterable[object]) -> str:
    """ "0, 1, 2"."""
    return ", ".join(map(str, items))


def fill(template: str, **parts: Any) -> str:
    """A page from one of the templates beside this module; empty parts leave no gap."""
    text = Path(__file__).with_name(template).read_text(encoding="utf-8").strip()
    return markdown.join(*(each.format(**parts) for each in text.split("\n\n"))) + "\n"


def write(folder: Path, text: str) -> None:
    """Writes the page of a folder, `docs/results.md` of `docs/results`."""
    page = folder.resolve()
    page = page.with_name(f"{page.name}.md")
    page.write_text(text, encoding="utf-8")
    print(f"written: {page} and {folder}")
