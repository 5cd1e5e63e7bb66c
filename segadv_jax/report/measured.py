"""What finished runs measured, put together by arm, and the row of the paper that an arm fills."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from segadv_jax import configuration, files
from segadv_jax.campaign import comparison, grid
from segadv_jax.errors import InputError
from segadv_jax.files import AnyPath
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.report import paper
from segadv_jax.workdir import Workdir

BOUNDARY = ("mean_bf", "std_bf")
# What may differ between the seeds of an arm, and says nothing of what was trained.
_OF_A_SEED = ("seed", "data.archives", "data.data_dir", "train.feature_cache", "evaluate.split")
# Fields of config.loss, and their values where there is no control.
_CONTROLS = {"entropy": 0.0, "pseudo_labels": 0.0, "boundary": 1.0, "label_smoothing": 0.0}

Config = dict[str, Any]
Images = tuple[str, int | None]
# The measures of a run, "iou CLASS" among them, and its "seed", "config", "labels" and "boundaries"
# as in `Arm`.
Measured = dict[str, Any]


class Arm(NamedTuple):
    """The runs of one setting.

    Attributes:
        name: by which it is shown.
        folder: of the run, or of its seeds.
        note: how it was found; empty if it was named.
        config: of one of its seeds.
        seeds: those that are done.
        values: {measure or "iou CLASS": {"mean", "std": fraction or None}}, over the seeds.
        labels: (split, number of its images, None if unknown) of all measures but BF.
        boundaries: the same of BF; None if it was not measured.
    """

    name: str
    folder: str
    note: str
    config: Config
    seeds: list[int]
    values: dict[str, dict[str, float | None]]
    labels: Images
    boundaries: Images | None


def read(name: str, workdir: str, split: str = "") -> list[Arm]:
    """The arms that a workdir holds, with figures of `split`, or of each run's test split.

    Raises:
        InputError: there is no run or none is done, a file is damaged, or runs of an arm are no
            seeds of the same setting evaluated on the same images.
    """
    arms = [arm for found in _find(name, workdir) if (arm := _read_arm(*found, split))]
    if not arms:
        raise InputError(
            f"{name}={workdir}: no run is done with its evaluation on "
            f"{split or 'its test split'}; let it end, or evaluate it"
        )
    return arms


def by_row(arms: Iterable[Arm]) -> tuple[dict[paper.Key, Arm], list[Arm]]:
    """The arms by the row of the paper's tables that they fill, and those that fill none.

    Raises:
        InputError: two arms fill the same row.
    """
    rows: dict[paper.Key, Arm] = {}
    others: list[Arm] = []
    for arm in arms:
        key = row_of(arm.config)
        if key is None:
            others.append(arm)
        elif key in rows:
            raise InputError(
                f"{rows[key].folder} and {arm.folder} fill the same cell; name one of them"
            )
        else:
            rows[key] = arm
    return rows, others


def _find(name: str, workdir: str) -> list[tuple[str, AnyPath, str, list[AnyPath]]]:
    """(name, folder, note, folders of its runs) of each arm that `NAME=WORKDIR` stands for."""
    root = files.to_path(workdir)
    if Workdir(root).config_path.is_file():
        return [(name, root, "", [root])]
    if (root / grid.GRID).is_file():
        point, number = grid.best_of(workdir)
        note = f"{point}, the best of {number} points by mean IoU"
        return [(name, root / point, note, _seeds(root / point))]
    if seeds := _seeds(root):
        return [(name, root, "", seeds)]
    arms = {path: _seeds(path) for path in sorted(root.iterdir())}
    found = [(f"{name}/{arm.name}", arm, "", seeds) for arm, seeds in arms.items() if seeds]
    if not found:
        raise InputError(f"{name}={workdir}: no run is in this folder; train one there first")
    return found


def _seeds(arm: AnyPath) -> list[AnyPath]:
    return [run for run in sorted(arm.glob("seed_*")) if Workdir(run).config_path.is_file()]


def _read_arm(name: str, folder: AnyPath, note: str, runs: list[AnyPath], split: str) -> Arm | None:
    """An Arm of those runs that are done; None if none is."""
    done = {run: row for run in runs if (row := _read_run(run, split))}
    if not done:
        return None
    return make(name, str(folder), note, done)


def make(name: str, folder: str, note: str, done: Mapping[Any, Measured]) -> Arm:
    """The arm of {run: what it measured}.

    Raises:
        InputError: the runs are no seeds of the same setting evaluated on the same images.
    """
    rows, first = list(done.values()), next(iter(done))
    row = done[first]
    for run, other in done.items():
        if _setting(other["config"]) != _setting(row["config"]):
            raise InputError(
                f"{name}: {first} and {run} differ in more than their seed; name one of them"
            )
    seeds = sorted(row["seed"] for row in rows)
    labels, boundaries = ([r[key] for r in rows] for key in ("labels", "boundaries"))
    if differ(labels) or differ(boundaries) or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{name}: the runs in {folder} were evaluated on different images, or two have the "
            "same seed; evaluate all of them on the same splits"
        )
    ious = [key for key in row if key.startswith("iou ")]
    values = comparison.spread(rows, (*PAPER_MEASURES, *BOUNDARY, *ious))
    images = _known(labels), _known(boundaries)
    return Arm(name, folder, note, row["config"], seeds, values, *images)


def differ(images: Sequence[Images | None]) -> bool:
    """Whether these are known to be different images: rows of before do not say how many."""
    counts = {of[1] for of in images if of} - {None}
    return len({of and of[0] for of in images}) > 1 or len(counts) > 1


def _known(images: Sequence[Any]) -> Any:
    """Those of all runs: their number is unknown if that of one is."""
    return next((of for of in images if of and of[1] is None), images[0])


def _read_run(folder: AnyPath, split: str) -> Measured | None:
    """What a run measured, if it is done."""
    workdir = Workdir(folder)
    row, config = workdir.result(split), workdir.recorded_config()
    if row is None or config is None:
        return None
    try:
        row_of(config)  # So that what it lacks is reported here.
        boundaries, (val_full, _) = row, paper.VOC_VAL_FULL
        if config["data"]["name"] == "voc_sbd":
            full = workdir.evaluation(val_full)
            if full is not None and full.get("mean_bf") is not None:
                boundaries = full | {"split": val_full}
        if boundaries["step"] != row["step"]:
            raise InputError(
                f"{folder}: its evaluations on {row['split']} and {boundaries['split']} are of "
                f"steps {row['step']} and {boundaries['step']}; evaluate the older one again"
            )
        row |= {measure: boundaries.get(measure) for measure in BOUNDARY}
        row |= {"seed": config["seed"], "config": config, "labels": (row["split"], row["images"])}
        measured = row["mean_bf"] is not None
        row["boundaries"] = (boundaries["split"], boundaries["images"]) if measured else None
        return row | {f"iou {name}": value for name, value in row.get("iou", {}).items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: config.json or an evaluation is damaged ({type(error).__name__}: {error}); "
            "mend it, or train again in another folder"
        ) from error


def _setting(config: Config) -> Config:
    """A configuration, completed, without what may differ between the seeds of an arm."""
    fields = configuration.plain(config)  # Older versions recorded fewer of them.
    return {name: value for name, value in fields.items() if name not in _OF_A_SEED}


def row_of(config: Config) -> paper.Key | None:
    """The row of the paper's tables that a run of this configuration fills, if there is one.

    Without an adversary it is that of cross-entropy alone: no control of `controls.py` beside it.
    """
    data_set, standard = config["data"]["name"], config["alternation"]["schedule"] == "standard"
    adversary, encoding = config["adversary"]["name"], config["encoding"]
    if standard and any(config["loss"].get(name, off) != off for name, off in _CONTROLS.items()):
        return None
    if data_set == "stanford_background" and (standard or adversary == "two_branch"):
        return "standard" if standard else "adversarial"
    key: paper.Key = "baseline" if standard else (adversary, encoding)
    return key if data_set == "voc_sbd" and key in paper.TABLE_2 else None
