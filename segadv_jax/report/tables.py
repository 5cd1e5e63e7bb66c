"""The paper's tables with our figures beside the printed ones, as Markdown and CSV files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.report import markdown
from segadv_jax.report.cells import Table
from segadv_jax.report.measured import Arm, Images

PAGE = "tables.md"
COLUMNS = ("row", "column", "paper", "ours", "std", "note", "from", "warning")


def sources(table: Table) -> list[tuple[Arm, str, str]]:
    """The arms that a table's figures are of, each once: [(Arm, how it was made, warning)].

    The warning is empty if the figures are of the images that the paper's are of.
    """
    arms = {cell.arm.folder: cell.arm for cell in table.cells if cell.arm is not None}
    result = []
    for arm in arms.values():
        seeds = ", ".join(map(str, arm.seeds))
        text = f"{arm.folder}{f' ({arm.note})' if arm.note else ''}: seeds {seeds}; "
        text += f"{_images(arm.labels)}"
        if arm.boundaries not in (None, arm.labels):
            text += f"; BF on {_images(arm.boundaries)}"
        warnings = []
        for what, found, wanted in (
            ("", arm.labels, table.labels),
            ("BF on ", arm.boundaries, table.boundaries),
        ):
            if found and wanted and found != wanted:
                warnings.append(f"{what}{_images(found)}, the paper's on {_images(wanted)}")
        fraction = arm.config["data"].get("fraction", 1)
        if fraction != 1:
            warnings.append(f"trained on {fraction:g} of the training images")
        warning = f"{arm.name} is no reproduction: {'; '.join(warnings)}" if warnings else ""
        result.append((arm, text, warning))
    return result


def _images(of: Images) -> str:
    split, number = of
    return f"split {split}, {number:,} images"


def render(table: Table) -> str:
    """A table as Markdown: the paper's columns, each followed by ours, and the notes on them."""
    made = sources(table)
    lines = [f"- Ours, {arm.name}: {text}" for arm, text, _ in made]
    lines += [f"- **Warning:** {warning}" for _, _, warning in made if warning]
    columns = list(dict.fromkeys(cell.column for cell in table.cells))
    printed = any(cell.paper != "-" for cell in table.cells)
    heads = [name for c in columns for name in ([f"{c}, paper", "ours"] if printed else [c])]
    grid: dict[str, list[str]] = {}
    notes: list[str] = []
    for cell in table.cells:
        figure = cell.paper
        if cell.note:
            notes.append(cell.note)
            figure += f" [{len(notes)}]"
        ours = "-" if cell.ours is None else format(cell.ours, cell.form)
        ours += "" if cell.std is None else f" ± {format(cell.std, cell.form)}"
        grid.setdefault(cell.row, []).extend([figure, ours] if printed else [ours])
    return markdown.join(
        f"## {table.title}",
        table.text,
        "\n".join(lines) or ("- Ours: no run was given." if table.labels else ""),
        markdown.table(["", *heads], ([row, *cells] for row, cells in grid.items())),
        *(f"[{number}] {note}" for number, note in enumerate(notes, 1)),
    )


def csv_rows(table: Table) -> Iterator[dict[str, Any]]:
    """A table as dicts with the keys `COLUMNS`, one per cell."""
    made = {arm.folder: (text, warning) for arm, text, warning in sources(table)}
    for cell in table.cells:
        text, warning = made[cell.arm.folder] if cell.arm else ("", "")
        ours, std = (None if x is None else format(x, ".10g") for x in (cell.ours, cell.std))
        values = (cell.row, cell.column, cell.paper, ours, std, cell.note, text, warning)
        yield dict(zip(COLUMNS, values, strict=True))


def write(folder: files.PathLike, contents: Sequence[Table]) -> Path:
    """Writes all tables; returns the path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    page = files.writable_folder(folder, "--out") / PAGE
    head = (
        "# The paper's tables\n\nWritten by `segadv_jax tables`; do not edit it. Figures are mean "
        "± standard deviation over seeds; a dash stands for what was not run or not measured."
    )
    for table in contents:
        files.write_csv(page.with_name(f"{table.file}.csv"), COLUMNS, csv_rows(table))
    with files.replacing(page) as file:
        file.write(markdown.join(head, *map(render, contents)) + "\n")
    return page
