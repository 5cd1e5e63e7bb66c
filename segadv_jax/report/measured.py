"""What finished runs measured, put together by arm, and the cell of the paper that an arm fills."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax.campaign import comparison, grid
from segadv_jax.configs import hyperparameters
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.report import paper
from segadv_jax.workdir import Workdir

BOUNDARY = ("mean_bf", "std_bf")
# Of a configuration, what may differ between the seeds of an arm: where its data lies.
PLACES = ("archives", "data_dir")

Config = dict[str, Any]
Images = tuple[str, int]


class Arm(NamedTuple):
    """The runs of one setting.

    Attributes:
        name: by which it is shown.
        folder: of the run, or of its seeds.
        config: of one of its seeds.
        values: {measure or "iou CLASS": {"mean", "std": fraction or None}}, over the seeds.
        seeds: of its runs.
        labels: (split, number of its images) of all measures but BF.
        boundaries: the same of BF; None if it was not measured.
        note: how it was found; empty if it was named.
    """

    name: str
    folder: str
    config: Config
    values: dict[str, dict[str, float | None]]
    seeds: list[int]
    labels: Images
    boundaries: Images | None
    note: str


class Found(NamedTuple):
    """An arm in a workdir.

    Attributes:
        name, folder, note: as of `Arm`.
        runs: folders of its runs.
    """

    name: str
    folder: str
    runs: list[str]
    note: str = ""


def read_all(named: Mapping[str, str], split: str = "") -> tuple[dict[paper.Key, Arm], list[Arm]]:
    """What all workdirs hold.

    Args:
        named: {name: workdir}.
        split: instead of each run's test split.

    Returns:
        ({cell as of `cell_of`: Arm}, the arms for which the paper has no cell).

    Raises:
        InputError: as `find` and `read_arm`; no run is done; or two arms fill the same cell.
    """
    cells: dict[paper.Key, Arm] = {}
    others: list[Arm] = []
    for name, workdir in named.items():
        arms = [arm for found in find(name, workdir) if (arm := read_arm(found, split))]
        if not arms:
            raise InputError(
                f"{name}={workdir}: no run is done with its evaluation on "
                f"{split or 'its test split'}; let it end, or evaluate it"
            )
        for arm in arms:
            key = cell_of(arm.config)
            if key is None:
                others.append(arm)
            elif key in cells:
                raise InputError(
                    f"{cells[key].folder} and {arm.folder} fill the same cell; name one of them"
                )
            else:
                cells[key] = arm
    return cells, others


def find(name: str, workdir: str) -> list[Found]:
    """The arms that `NAME=WORKDIR` stands for.

    Raises:
        InputError: it holds no runs.
    """
    root = Path(workdir)
    if Workdir(root).config_path.is_file():
        return [Found(name, workdir, [workdir])]
    if (root / grid.GRID).is_file():
        point, number = grid.best_of(workdir)
        note = f"{point}, the best of {number} points by mean IoU"
        found = [Found(name, str(root / point), _seeds(root / point), note)]
    elif _seeds(root):
        found = [Found(name, workdir, _seeds(root))]
    else:
        arms = [path for path in sorted(root.iterdir()) if _seeds(path)]
        found = [Found(f"{name}/{arm.name}", str(arm), _seeds(arm)) for arm in arms]
    if not found:
        raise InputError(f"{name}={workdir}: no run is in this folder; train one there first")
    return found


def _seeds(arm: Path) -> list[str]:
    """The folders of an arm's runs."""
    folders = sorted(str(folder) for folder in arm.glob("seed_*"))
    return [folder for folder in folders if Workdir(folder).config_path.is_file()]


def read_arm(found: Found, split: str = "") -> Arm | None:
    """An Arm of those runs that are done; None if none is.

    Raises:
        InputError: a file is damaged, or the runs are not seeds of the same setting, evaluated on
            the same images.
    """
    done = [(run, read) for run in found.runs if (read := _read_run(run, split))]
    if not done:
        return None
    first, (config, _) = done[0]
    for run, (other, _) in done:
        if _setting(other) != _setting(config):
            raise InputError(
                f"{found.name}: {first} and {run} differ in more than their seed; name one of them"
            )
    rows = [row for _, (_, row) in done]
    seeds = sorted(row["seed"] for row in rows)
    if len({(r["labels"], r["boundaries"]) for r in rows}) > 1 or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{found.name}: the runs in {found.folder} were evaluated on different images, or two "
            "have the same seed; evaluate all of them on the same splits"
        )
    ious = [key for key in rows[0] if key.startswith("iou ")]
    values = comparison.spread(rows, (*PAPER_MEASURES, *BOUNDARY, *ious))
    labels, boundaries = rows[0]["labels"], rows[0]["boundaries"]
    return Arm(found.name, found.folder, config, values, seeds, labels, boundaries, found.note)


def _read_run(folder: str, split: str) -> tuple[Config, dict[str, Any]] | None:
    """(configuration, row) of a run; None while it is not done.

    The row has "seed", "labels" and "boundaries" as in `Arm`, and the measures, "iou CLASS" among
    them.
    """
    workdir = Workdir(folder)
    row, config = workdir.result(split), workdir.recorded_config()
    if row is None or config is None:
        return None
    try:
        cell_of(config)  # So that what it lacks is reported here.
        full = None
        if config["data"]["name"] == "voc_sbd":
            full = workdir.evaluation(paper.VOC_VAL_FULL[0])
        if full is not None and full.get("mean_bf") is not None:
            source = full | {"split": paper.VOC_VAL_FULL[0]}
        else:
            source = row
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
            "mend it, or train again in another folder"
        ) from error
    return config, row


def _setting(config: Config) -> Config:
    """A configuration without the seed and the folders of the data."""
    data = {name: value for name, value in config["data"].items() if name not in PLACES}
    return config | {"data": data, "seed": None}


def cell_of(config: Config) -> paper.Key | None:
    """The cell that a run of this configuration fills.

    Returns:
        "standard" or "adversarial" (Stanford Background); "baseline" or (adversary, encoding)
        (PASCAL VOC); None if the paper has no such run.
    """
    data_set, standard = config["data"]["name"], config["alternation"]["schedule"] == "standard"
    adversary, encoding = config["adversary"]["name"], config["encoding"]
    if data_set == "stanford_background" and (standard or adversary == "two_branch"):
        return "standard" if standard else "adversarial"
    if data_set == "voc_sbd":
        if standard:
            return "baseline"
        return (adversary, encoding) if (adversary, encoding) in hyperparameters.SELECTED else None
    return None
