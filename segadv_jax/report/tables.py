"""The paper's tables with our figures beside the printed ones, as Markdown and CSV files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segadv_jax import files
from segadv_jax.configs import hyperparameters
from segadv_jax.metrics.names import PAPER_MEASURES, bf_caution, title
from segadv_jax.models import ADVERSARIES
from segadv_jax.report import differences, markdown, paper
from segadv_jax.report.measured import BOUNDARY, Arm, Config, Images, differ, row_of

PAGE = "tables.md"
OTHERWISE, VOID_BORDERS = "†", "‡"  # The marks of figures that are not to be compared.
COLUMNS = ("row", "column", "paper", "ours", "std", "note", "from", "warning")

Arms = Mapping[paper.Key, Arm]
Printed = Mapping[paper.Key, Sequence[str]]


class Cell(NamedTuple):
    """A figure of the paper as printed, "-" for none, and ours in its unit.

    `form` is how to show ours, `note` what there is to say about the printed figure, `arm` what
    ours is of, and `measure` what it measures; empty if it is a setting.
    """

    row: str
    column: str
    paper: str
    ours: float | None = None
    std: float | None = None
    form: str = ".1f"
    note: str = ""
    arm: Arm | None = None
    measure: str = ""


class Source(NamedTuple):
    """Where an arm's figures in a table come from.

    `text` is how they were made; `warning` what differs from the paper, and `caution` why their BF
    says little: both are empty if there is nothing to say.
    """

    arm: Arm
    text: str
    warning: str
    caution: str


class Table(NamedTuple):
    """A table of the paper, its cells row by row; `file` is a name without ending.

    The paper's measures are of the images `labels`, its BF of `boundaries`.
    """

    file: str
    title: str
    cells: list[Cell]
    labels: Images | None = None
    boundaries: Images | None = None
    text: str = ""


def tables(arms: Arms, others: Sequence[Arm] = ()) -> list[Table]:
    """All tables; that of the `others`, for which the paper has no row, comes last if needed."""
    measures = {title(measure): measure for measure in PAPER_MEASURES}
    both = {"mIoU": "mean_iou", "mBF": "mean_bf"}
    voc_val = (paper.VOC_VAL, paper.VOC_VAL_FULL)
    made = [
        Table(
            "table1",
            "Table 1: Stanford Background, test set, %",
            _rows(paper.TABLE_1, arms, measures),
            paper.STANFORD_TEST,
        ),
        Table(
            "table2",
            "Table 2: PASCAL VOC 2012, validation set, %",
            _rows(paper.TABLE_2, arms, both),
            *voc_val,
        ),
        Table(
            "supplement_table1",
            f"Supplement, Table 1: parameters for C = {paper.CLASSES}",
            _parameters(),
            text="Ours are counted from the shapes of the networks; no run is needed.",
        ),
        Table(
            "supplement_table2",
            "Supplement, Table 2: PASCAL VOC 2012, validation set, %",
            _selected(arms),
            *voc_val,
            "Sigma is the standard deviation of BF over images. Lambda is a weight between sums: "
            "ours is config.loss.lam, times 16 where config.loss.reduction is 'mean' "
            "(configs/hyperparameters.py).",
        ),
        Table(
            "supplement_table3",
            "Supplement, Table 3: PASCAL VOC 2012, test set, IoU, %",
            _classes(arms),
            paper.VOC_TEST,
            text="The labels of the test set are not public: ours are of another split.",
        ),
    ]
    if others:
        measures["mean BF"] = "mean_bf"
        named: Arms = {arm.name: arm for arm in others}
        cells = _rows(dict.fromkeys(named, ["-"] * len(measures)), named, measures)
        made.append(Table("other_runs", "Runs for which the paper has no cell, %", cells))
    return made


def _rows(
    printed: Printed, arms: Arms, columns: Mapping[str, str], form: str = ".1f"
) -> list[Cell]:
    """The cells of rows with the `printed` figures of the measures in {column: measure}."""
    cells = []
    for key, figures in printed.items():
        arm = arms.get(key)
        for (column, measure), figure in zip(columns.items(), figures, strict=True):
            value = arm.values.get(measure, {}) if arm else {}
            ours, std = (None if x is None else 100 * x for x in map(value.get, ("mean", "std")))
            cells.append(Cell(_title(key), column, figure, ours, std, form, "", arm, measure))
    return cells


def _title(key: paper.Key) -> str:
    return key if isinstance(key, str) else f"{paper.ADVERSARY_TITLES[key[0]]}, {key[1]}"


def _parameters() -> list[Cell]:
    cells = []
    for adversary, printed in paper.PARAMETERS.items():
        for i, (column, factor) in enumerate((("C' = C", 1), ("C' = 3C", 3))):
            ours = count_parameters(adversary, factor * paper.CLASSES)
            note = paper.MISPRINTED_PARAMETERS.get((adversary, i), "")
            row = paper.ADVERSARY_TITLES[adversary]
            cells.append(Cell(row, column, printed[i], ours, form=",", note=note))
    return cells


def count_parameters(adversary: str, channels: int) -> int:
    """The parameters of an adversary for label maps of so many channels, from shapes alone."""
    module = ADVERSARIES[adversary](stride=8)

    def init():
        label_map, image = jnp.zeros((1, 40, 40, channels)), jnp.zeros((1, 320, 320, 3))
        return module.init(jax.random.key(0), label_map, image, jnp.full((1, 2), 320))["params"]

    return sum(math.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(init)))


def _selected(arms: Arms) -> list[Cell]:
    columns = {"mIoU": "mean_iou", "mBF": "mean_bf", "sigma": "std_bf"}
    cells = []
    selected: list[tuple[paper.Key, hyperparameters.Selected]]
    selected = [("baseline", hyperparameters.BASELINE), *hyperparameters.SELECTED.items()]
    for key, printed in selected:
        cells += _rows({key: [f"{x:.2f}" for x in printed[:3]]}, arms, columns, ".2f")
        row, arm = _title(key), arms.get(key)
        settings = _settings(arm.config) if arm else {"slr": None, "alr": None, "lambda": None}
        for (column, ours), chosen in zip(settings.items(), printed[3:], strict=True):
            if chosen is None:  # The baseline has no adversary.
                cells.append(Cell(row, column, "-", arm=arm))
            else:
                cells.append(Cell(row, column, f"{chosen:g}", ours, form="g", arm=arm))
    return cells


def _settings(config: Config) -> dict[str, Any]:
    """A run's settings, its lambda between sums, as we read the paper's."""
    optimizer, loss = config["optimizer"], config["loss"]
    lam = loss["lam"] * (16 if loss["reduction"] == "mean" else 1)
    slr, alr = (optimizer[player]["learning_rate"] for player in ("segmenter", "adversary"))
    return {"slr": slr, "alr": alr, "lambda": lam}


def _classes(arms: Arms) -> list[Cell]:
    """The table turned on its side: a row for each class."""
    columns = {name: f"iou {name}" for name in paper.TABLE_3_CLASSES} | {"mIoU": "mean_iou"}
    printed = {key: [*row, paper.TABLE_3_MEAN[key]] for key, row in paper.TABLE_3.items()}
    by_arm, cells = _rows(printed, arms, columns), []
    for i, name in enumerate(columns):
        for cell in by_arm[i :: len(columns)]:
            doubtful = (name, cell.row) == ("background", _title(paper.SCALING))
            note = paper.DOUBTFUL_BACKGROUND if doubtful else ""
            cells.append(cell._replace(row=name, column=cell.row, note=note))
    return cells


def _sources(table: Table) -> dict[str, Source]:
    """The arms that a table's figures are of, by their folders."""
    arms = {cell.arm.folder: cell.arm for cell in table.cells if cell.arm}
    return {folder: _source(arm, table) for folder, arm in arms.items()}


def _source(arm: Arm, table: Table) -> Source:
    text = f"{arm.folder}{f' ({arm.note})' if arm.note else ''}: "
    text += f"seeds {', '.join(map(str, arm.seeds))}; {_images(arm.labels)}"
    if arm.boundaries not in (None, arm.labels):
        text += f"; BF on {_images(arm.boundaries)}"
    caution = ""
    if arm.boundaries and any(cell.measure in BOUNDARY for cell in table.cells):
        caution = bf_caution(arm.config["data"]["name"], arm.boundaries[0])
    others = [
        f"{what}{_images(found)}, the paper's on {_images(wanted)}"
        for what, found, wanted in (
            ("", arm.labels, table.labels),
            ("BF on ", None if caution else arm.boundaries, table.boundaries),
        )
        if found and wanted and differ([found, wanted])
    ]
    key = row_of(arm.config)
    if key is not None:
        others += differences.from_paper(arm.config, key)
    return Source(arm, text, f"no reproduction: {'; '.join(others)}" if others else "", caution)


def _images(of: Images) -> str:
    split, number = of
    return f"split {split}, " + (f"{number:,} images" if number else "images not counted")


def _warnings(cell: Cell, source: Source) -> dict[str, str]:
    """What is to be said of a figure, by its mark."""
    said = {OTHERWISE: source.warning, VOID_BORDERS: source.caution}
    if cell.measure not in BOUNDARY:
        del said[VOID_BORDERS]
    return {mark: text for mark, text in said.items() if text}


def warnings(table: Table) -> dict[tuple[str, str], list[str]]:
    """{(mark, what is to be said of figures): the names of the arms whose figures they are}."""
    return _shared(table, _sources(table))


def _shared(table: Table, made: Mapping[str, Source]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for cell in table.cells:
        if cell.arm and _is_result(cell):
            for said in _warnings(cell, made[cell.arm.folder]).items():
                names = found.setdefault(said, [])
                names += [cell.arm.name] if cell.arm.name not in names else []
    return found


def _is_result(cell: Cell) -> bool:
    """Whether ours is measured, and no setting."""
    return bool(cell.measure) and cell.ours is not None


def render(table: Table) -> str:
    """A table as Markdown: the paper's columns, each followed by ours, and the notes on them."""
    made = _sources(table)
    columns = list(dict.fromkeys(cell.column for cell in table.cells))
    printed = any(cell.paper != "-" for cell in table.cells)
    heads = [name for c in columns for name in ([f"{c}, paper", "ours"] if printed else [c])]
    grid: dict[str, list[str]] = {}
    notes: list[str] = []
    for cell in table.cells:
        figure = cell.paper
        if cell.note:
            notes.append(f"[{len(notes) + 1}] {cell.note}")
            figure += f" [{len(notes)}]"
        ours = "-" if cell.ours is None else format(cell.ours, cell.form)
        ours += "" if cell.std is None else f" ± {format(cell.std, cell.form)}"
        if cell.arm and _is_result(cell):
            ours = " ".join([ours, *_warnings(cell, made[cell.arm.folder])])
        grid.setdefault(cell.row, []).extend([figure, ours] if printed else [ours])
    lines = [f"- Ours, {source.arm.name}: {source.text}" for source in made.values()]
    return markdown.join(
        f"## {table.title}",
        table.text,
        "\n".join(lines) or ("- Ours: no run was given." if table.labels else ""),
        markdown.table(["", *heads], ([row, *cells] for row, cells in grid.items())),
        *(f"{mark} {', '.join(of)}: {text}." for (mark, text), of in _shared(table, made).items()),
        *notes,
    )


def write(folder: files.PathLike, contents: Sequence[Table]) -> Path:
    """Writes all tables; returns the path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    page = files.writable_folder(folder, "--out") / PAGE
    head = (
        "# The paper's tables\n\nWritten by `segadv_jax tables`; do not edit it. Figures are mean "
        "± standard deviation over seeds; a dash stands for what was not run or not measured. "
        f"{OTHERWISE} marks runs that differ from the paper in more than the seed, {VOID_BORDERS} "
        "BF on images whose objects have a border of void. Where the paper states no setting, such "
        "as the number of updates, the configuration in configs/ for that row stands for it."
    )
    for table in contents:
        files.write_csv(page.with_name(f"{table.file}.csv"), COLUMNS, _csv_rows(table))
    with files.replacing(page) as file:
        file.write(markdown.join(head, *map(render, contents)) + "\n")
    return page


def _csv_rows(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of the table's file, one per cell."""
    made = _sources(table)
    for cell in table.cells:
        source = made[cell.arm.folder] if cell.arm else None
        text = source.text if source else ""
        warning = "; ".join(_warnings(cell, source).values()) if source else ""
        ours, std = (None if x is None else format(x, ".10g") for x in (cell.ours, cell.std))
        values = (cell.row, cell.column, cell.paper, ours, std, cell.note, text, warning)
        yield dict(zip(COLUMNS, values, strict=True))
