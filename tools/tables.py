"""The paper's tables with our figures beside the printed ones, in Markdown and CSV.

    python -m tools.tables --out=docs/tables baseline=runs/voc/baseline grid=runs/grid ...

Each NAME=WORKDIR is the folder of a run, of an arm of tools.campaign with its seeds, of a whole
campaign, or of tools.grid_search, whose best point is taken. Which cell it fills is read from its
configuration; what fills none comes in a table of its own. Cells without a run show the paper's
figure and "-" for ours. FOLDER/tables.md has all tables, and FOLDER/*.csv one each.

Figures are those of WORKDIR/eval/SPLIT.json, in the paper's units: mean +- standard deviation over
the seeds that are done. SPLIT is config.data.test of the run, or --split. As in the paper, mean BF
on PASCAL VOC is that of val_full, where the run has its evaluation (python main.py --mode=evaluate
--config.evaluate.split=val_full ...), otherwise that of SPLIT.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from configs import hyperparameters
from segadv_jax.errors import InputError
from segadv_jax.measures import MEASURES
from tools import command_line, comparison, grid_search, paper_tables, results_files, runs

PAGE = "tables.md"
COLUMNS = ("row", "column", "paper", "ours", "std", "note", "from", "warning")
BOUNDARY = ("mean_bf", "std_bf")
# Of a configuration, what may differ between the seeds of an arm: where its data lies.
PLACES = ("archives", "data_dir")


class Arm(NamedTuple):
    """The runs of one setting.

    Attributes:
        name: by which it is shown.
        folder: of the run, or of its seeds.
        config: dict, of one of its seeds.
        values: {measure or "iou CLASS": {"mean", "std": fraction or None}}, over the seeds.
        seeds: list of int.
        labels: (split, number of its images), of all measures but BF.
        boundaries: the same of BF; None if it was not measured.
        note: how it was found; empty if it was named.
    """

    name: str
    folder: str
    config: dict
    values: dict
    seeds: list
    labels: tuple[str, int]
    boundaries: tuple[str, int] | None
    note: str


def find(name, workdir):
    """The folders that ``NAME=WORKDIR`` stands for.

    Returns:
        [(name of an arm, its folder, [folders of its runs], note)].

    Raises:
        InputError: it holds no runs.
    """
    root = Path(workdir)
    if (root / "config.json").is_file():
        return [(name, workdir, [workdir], "")]
    if (root / grid_search.GRID).is_file():
        point, number = grid_search.best_of(workdir)
        folders = [(name, root / point, f"{point}, the best of {number} points by mean IoU")]
    elif list(root.glob("seed_*/config.json")):
        folders = [(name, root, "")]
    else:
        arms = sorted({path.parents[1] for path in root.glob("*/seed_*/config.json")})
        folders = [(f"{name}/{arm.name}", arm, "") for arm in arms]
    if not folders:
        raise InputError(f"{name}={workdir}: no run is in this folder; train one there first")
    return [
        (arm, str(folder), sorted(str(p.parent) for p in folder.glob("seed_*/config.json")), note)
        for arm, folder, note in folders
    ]


def read_arm(name, folder, run_folders, note="", split=""):
    """An Arm of those runs that are done, or None if none is.

    Raises:
        InputError: a file is damaged, or the runs are not seeds of the same setting, evaluated on
            the same images.
    """
    done = [(run, found) for run in run_folders if (found := _read_run(run, split))]
    if not done:
        return None
    first, (config, _) = done[0]
    for run, (other, _) in done:
        if _setting(other) != _setting(config):
            raise InputError(
                f"{name}: {first} and {run} differ in more than their seed; name one of them"
            )
    rows = [row for _, (_, row) in done]
    seeds = sorted(row["seed"] for row in rows)
    if len({(r["labels"], r["boundaries"]) for r in rows}) > 1 or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{name}: the runs in {folder} were evaluated on different images, or two have the "
            "same seed; evaluate all of them on the same splits"
        )
    ious = [key for key in rows[0] if key.startswith("iou ")]
    spread = comparison.spread(rows, (*MEASURES, *BOUNDARY, *ious))
    return Arm(name, folder, config, spread, seeds, rows[0]["labels"], rows[0]["boundaries"], note)


def _read_run(folder, split):
    """(configuration, row) of a run; None as long as it is not done.

    The row has "seed", "labels" and "boundaries" as in Arm, and the measures, "iou CLASS" among
    them.
    """
    row = runs.read_result(folder, split)
    if row is None:
        return None
    try:
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        place(config)  # So that what it lacks is reported here.
        full = None
        if config["data"]["name"] == "voc_sbd":
            full = runs.read_result(folder, paper_tables.VOC_VAL_FULL[0])
        source = full if full and full.get("mean_bf") is not None else row
        if source["step"] != row["step"]:
            raise InputError(
                f"{folder}: its evaluations on {row['split']} and {source['split']} are of steps "
                f"{row['step']} and {source['step']}; evaluate the older one again"
            )
        row |= {measure: source.get(measure) for measure in BOUNDARY}
        row |= {"seed": config["seed"], "labels": (row["split"], row["images"])}
        measured = row["mean_bf"] is not None
        row["boundaries"] = (source["split"], source["images"]) if measured else None
        row |= {f"iou {name}": value for name, value in row.get("iou", {}).items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: config.json or an evaluation is damaged ({type(error).__name__}: {error}); "
            "mend it, or make the run anew"
        ) from error
    return config, row


def _setting(config):
    """A configuration without the seed and the folders of the data."""
    data = {name: value for name, value in config["data"].items() if name not in PLACES}
    return config | {"data": data, "seed": None}


def place(config):
    """The cell that a run fills: "standard" or "adversarial" (Stanford Background), "baseline" or
    (adversary, encoding) (PASCAL VOC), or None if the paper has no such run.

    Args:
        config: dict, of ``config.json``.
    """
    data_set, standard = config["data"]["name"], config["alternation"]["schedule"] == "standard"
    adversary, encoding = config["adversary"]["name"], config["encoding"]
    if data_set == "stanford_background" and (standard or adversary == "two_branch"):
        return "standard" if standard else "adversarial"
    if data_set == "voc_sbd":
        key = "baseline" if standard else (adversary, encoding)
        return key if standard or key in hyperparameters.SELECTED else None
    return None


def read_all(named, split=""):
    """What all workdirs hold.

    Args:
        named: {name: workdir}.
        split: instead of each run's test split.

    Returns:
        ({cell as of ``place``: Arm}, [other Arm]).

    Raises:
        InputError: as ``find`` and ``read_arm``; nothing is done; or two fill the same cell.
    """
    cells, others = {}, []
    for name, workdir in named.items():
        arms = [read_arm(*found, split) for found in find(name, workdir)]
        arms = [arm for arm in arms if arm is not None]
        if not arms:
            raise InputError(
                f"{name}={workdir}: no run is done with its evaluation on "
                f"{split or 'its test split'}; let it end, or evaluate it"
            )
        for arm in arms:
            key = place(arm.config)
            if key is None:
                others.append(arm)
            elif key in cells:
                raise InputError(
                    f"{cells[key].folder} and {arm.folder} fill the same cell; name one of them"
                )
            else:
                cells[key] = arm
    return cells, others


def sources(table):
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


def _images(of):
    split, number = of
    return f"split {split}, {number:,} images"


def markdown(table):
    """A table as Markdown: the paper's columns, each followed by ours, and what is to be noted."""
    made = sources(table)
    lines = [f"- Ours, {arm.name}: {text}" for arm, text, _ in made]
    lines += [f"- **Warning:** {warning}" for _, _, warning in made if warning]
    columns = list(dict.fromkeys(cell.column for cell in table.cells))
    printed = any(cell.paper != "-" for cell in table.cells)
    titles = [name for c in columns for name in ([f"{c}, paper", "ours"] if printed else [c])]
    grid, notes = {}, []
    for cell in table.cells:
        paper = cell.paper
        if cell.note:
            notes.append(cell.note)
            paper += f" [{len(notes)}]"
        ours = "-" if cell.ours is None else format(cell.ours, cell.form)
        ours += "" if cell.std is None else f" ± {format(cell.std, cell.form)}"
        grid.setdefault(cell.row, {})[cell.column] = [paper, ours] if printed else [ours]
    rows = [["", *titles], ["---"] * (len(titles) + 1)]
    rows += [[row, *(x for c in columns for x in cells[c])] for row, cells in grid.items()]
    text = [
        f"## {table.title}",
        table.text,
        "\n".join(lines) or ("- Ours: no run was given." if table.labels else ""),
        "\n".join("| " + " | ".join(row) + " |" for row in rows),
        "\n\n".join(f"[{number}] {note}" for number, note in enumerate(notes, 1)),
    ]
    return "\n\n".join(part for part in text if part)


def csv_rows(table):
    """A table as dicts with the keys ``COLUMNS``, one per cell."""
    made = {arm.folder: (text, warning) for arm, text, warning in sources(table)}
    for cell in table.cells:
        text, warning = made[cell.arm.folder] if cell.arm else ("", "")
        ours, std = (None if x is None else format(x, ".10g") for x in (cell.ours, cell.std))
        values = (cell.row, cell.column, cell.paper, ours, std, cell.note, text, warning)
        yield dict(zip(COLUMNS, values, strict=True))


def write(folder, tables):
    """Writes all tables; returns the path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    page = Path(folder) / PAGE
    head = "# The paper's tables\n\nWritten by `python -m tools.tables`, never by a hand. Figures "
    head += "are mean ± standard deviation over seeds; a dash: not run, or not measured."
    try:
        for table in tables:
            path = page.with_name(f"{table.file}.csv")
            results_files.write_csv(path, COLUMNS, csv_rows(table))
        page.write_text("\n\n".join([head, *map(markdown, tables)]) + "\n")
    except OSError as error:
        raise InputError(f"--out={folder}: {error.strerror}; choose another folder") from error
    return page


def main(argv):
    """Runs the command line ``argv``, without the program's name; returns the exit status."""
    parser = command_line.Parser("tools.tables", __doc__)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--split", default="", help="instead of each run's config.data.test")
    parser.add_argument("named", nargs="*", metavar="NAME=WORKDIR")
    options, named = parser.parse_args(argv), {}
    for text in options.named:
        name, equals, workdir = text.partition("=")
        if not equals or not re.fullmatch(r"[\w.+-]+", name) or not os.path.isdir(workdir):
            raise InputError(f"{text}: give NAME=WORKDIR, the workdir a folder that holds runs")
        if name in named:
            raise InputError(f"{text}: there are two of that name; rename one")
        named[name] = workdir
    tables = paper_tables.tables(*read_all(named, options.split))
    page = write(options.out, tables)
    for table in tables:
        for _, _, warning in sources(table):
            if warning:
                print(f"warning: {table.title}: {warning}", file=sys.stderr)
    print(f"Tables: {page}\nCSV:    {', '.join(f'{table.file}.csv' for table in tables)}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
