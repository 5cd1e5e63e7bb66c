"""The runs that a page is about: read, put together by arm, and what they measured side by side."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import files
from segadv_jax.campaign import comparison
from segadv_jax.campaign.runs import ARGUMENTS
from segadv_jax.errors import InputError
from segadv_jax.files import AnyPath
from segadv_jax.workdir import End, Workdir

# Measures of a table of results, as far as they were measured: name -> whether more is better;
# None where neither is.
MEASURES: dict[str, bool | None] = {
    "mean_iou": True,
    "pixel_accuracy": True,
    "class_accuracy": True,
    "mean_bf": True,
    "mean_boundary_iou": True,
    "certainty": None,
    "ece": False,
    "nll": False,
}


class Run(NamedTuple):
    """One finished or unfinished run."""

    workdir: Workdir
    config: dict[str, Any]
    history: list[dict[str, float]]
    warnings: list[dict[str, Any]]  # Of its watcher.
    result: dict[str, Any] | None  # Its evaluation on the page's split.
    end: End | None
    environment: dict[str, Any] | None
    command: str | None  # That begins it again, if it is known.


class Arm(NamedTuple):
    """The runs of one setting, by seed."""

    name: str
    runs: list[Run]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def results(self) -> list[dict[str, Any]]:
        return [run.result for run in self.runs if run.result]


def read(texts: Sequence[str], split: str = "") -> tuple[list[Arm], str]:
    """The arms that a command line names, each "WORKDIR" or "NAME=WORKDIR", and their split.

    A WORKDIR is the folder of a run or that of an arm, with its seeds in "seed_*". The split is by
    default the test split of the first.

    Raises:
        InputError: a folder is not there or holds no run, two have the same name, a file is
            damaged, or no run was evaluated on a split that was asked for.
    """
    folders = [_folder(text) for text in texts]
    names = _names(folders)
    found = {name: _runs(folder) for name, (_, folder) in zip(names, folders, strict=True)}
    first = next(iter(found.values()))[0]
    chosen = split or _config(Workdir(first))["data"].get("test") or "test"
    arms = [Arm(name, [_read(run, chosen) for run in runs]) for name, runs in found.items()]
    if split and not any(arm.results for arm in arms):
        raise InputError(f"--split={split}: no run was evaluated on it; {remedy(arms[0], split)}")
    return arms, chosen


def remedy(arm: Arm, split: str) -> str:
    """What to run for an arm's evaluation on a split."""
    folder = shlex.quote(str(arm.first.workdir))
    return f"run: segadv_jax evaluate --workdir={folder} --config.evaluate.split={split}"


def _folder(text: str) -> tuple[str, AnyPath]:
    """(name or "", folder) of an argument; a path may itself hold an equals sign."""
    name, equals, path = text.partition("=")
    if not equals or "://" in name or Path(text).is_dir():
        name, path = "", text
    if not path or not files.is_folder(path):
        raise InputError(f"{text}: there is no folder {path or '(empty)'}; give that of a run")
    return name, files.to_path(path)


def _names(folders):
    """A name for each: the one given, or what tells its path from the others' paths."""
    parts = [_whole(path).parts for _, path in folders]
    depth = 1
    shortest = [p[-1:] for p in parts]
    while len(set(shortest)) < len(parts) and depth < max(map(len, parts)):
        depth += 1
        shortest = [p[-depth:] for p in parts]
    # "standard/seed_0" and "features/seed_0" are told apart by what is before.
    while len(parts) > 1 and all(s[1:] and s[-1] == shortest[0][-1] for s in shortest):
        shortest = [s[:-1] for s in shortest]
    names = [name or "/".join(short) for (name, _), short in zip(folders, shortest, strict=True)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: two runs have that name; give each one its own, NAME=RUN")
    return names


def _whole(path: AnyPath) -> AnyPath:
    return path if files.is_remote(path) else path.resolve()


def _runs(folder: AnyPath) -> list[AnyPath]:
    if Workdir(folder).config_path.is_file():
        return [folder]
    seeds = sorted(folder.glob("seed_*"), key=_number)
    found = [seed for seed in seeds if Workdir(seed).config_path.is_file()]
    if not found:
        below = sorted({path.parent for path in folder.glob("*/config.json")})
        below += sorted({path.parent.parent for path in folder.glob("*/seed_*/config.json")})
        hint = f"; did you mean {' '.join(map(str, below[:4]))}?" if below else ""
        raise InputError(
            f"{folder}: no run is in this folder, it has no config.json nor folders seed_*{hint}"
        )
    return found


def _number(path):
    found = re.search(r"\d+$", path.name)
    return (int(found[0]) if found else 0, path.name)


def _config(workdir: Workdir) -> dict[str, Any]:
    config = workdir.recorded_config() or {}
    try:
        config["data"]["name"], config["train"]["updates"], config["alternation"]["schedule"]
        config["seed"], config["loss"]["lam"]
    except (KeyError, TypeError) as error:
        raise files.damaged(workdir.config_path, f"it lacks {error}", "restore it") from error
    return config


def _read(folder: AnyPath, split: str) -> Run:
    workdir = Workdir(folder)
    config, environment = _config(workdir), workdir.environment()
    result = workdir.evaluation(split)
    if result is not None and not isinstance(result.get("iou"), dict | None):
        path = workdir.evaluation_path(split)
        raise files.damaged(path, "iou is no JSON object", "delete it and evaluate again")
    command = environment.get("command") if environment else _arguments(workdir)
    told = workdir.history(), workdir.warnings()
    return Run(workdir, config, *told, result, workdir.end(), environment, command)


def _arguments(workdir: Workdir) -> str | None:
    """The command of a campaign's run, which records its arguments."""
    try:
        recorded = json.loads((workdir.folder / ARGUMENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(recorded, list):
        return None
    own = [*map(str, recorded), f"--workdir={workdir}"]
    return shlex.join(["segadv_jax", "train", *own])


def values(arm: Arm, measure: str, class_name: str | None = None) -> list[float]:
    """A measure of an arm, of one class if that is given, of each seed that has it."""
    found = [result.get(measure) for result in arm.results]
    if class_name is not None:
        found = [each.get(class_name) for each in found if isinstance(each, Mapping)]
    return [float(each) for each in found if isinstance(each, int | float)]


def mean(arm: Arm, measure: str, class_name: str | None = None) -> float | None:
    """The mean of `values`; None without any."""
    found = values(arm, measure, class_name)
    return sum(found) / len(found) if found else None


def in_common(arm: Arm, other: Arm) -> tuple[Arm, Arm]:
    """Both with the seeds alone with which both were evaluated.

    A difference of means over different seeds would be one of these seeds, too. Arms of one seed
    each are left as they are.
    """
    if len(arm.results) == len(other.results) == 1:
        return arm, other
    seeds = [{run.config["seed"] for run in each.runs if run.result} for each in (arm, other)]
    both = set.intersection(*seeds)
    first, second = (
        each._replace(runs=[run for run in each.runs if run.config["seed"] in both])
        for each in (arm, other)
    )
    return first, second


def difference(arm: Arm, other: Arm, measure: str, class_name: str | None = None) -> float | None:
    """The mean of an arm less that of the other, over `in_common`; None without such runs."""
    ours, theirs = (mean(each, measure, class_name) for each in in_common(arm, other))
    return None if ours is None or theirs is None else ours - theirs


def class_names(arm: Arm) -> tuple[str, ...]:
    """The classes that an arm was evaluated on; none if it was not."""
    for result in arm.results:
        return tuple(result.get("iou") or ())
    return ()


def why_apart(arms: Sequence[Arm]) -> str:
    """Why the figures of arms cannot be compared; "" if they can."""
    names = list(dict.fromkeys(arm.first.config["data"]["name"] for arm in arms))
    if len(names) > 1:
        return f"they are of different data sets, {' and '.join(names)}"
    measured = [arm for arm in arms if arm.results]
    if len({class_names(arm) for arm in measured}) > 1:
        return "their classes differ"
    counts = {result.get("images") for arm in measured for result in arm.results}
    if len(counts) > 1:
        return "they were measured on different numbers of images"
    shares = [r["histogram_true"] for arm in measured for r in arm.results if "histogram_true" in r]
    if any(share != shares[0] for share in shares):
        return "they were measured on different images, or on the same at different sizes"
    return ""


def finding(arm: Arm, other: Arm, split: str) -> str:
    """In one sentence, how the mean IoU of `arm` compares with that of `other`."""
    one_each = len(arm.results) == len(other.results) == 1
    arm, other = in_common(arm, other)
    ours, theirs = mean(arm, "mean_iou"), mean(other, "mean_iou")
    if ours is None or theirs is None:
        return ""
    points = 100 * (ours - theirs)
    size = f"{abs(points):.1f} points of mean IoU {'above' if points > 0 else 'below'}"
    if abs(points) < 0.05:
        size = "level in mean IoU with"
    said = f"{arm.name} is {size} {other.name} on the split {split} "
    said += f"({100 * ours:.1f} against {100 * theirs:.1f} %)"
    rows = [
        {"arm": name, "seed": run.config["seed"], "split": split} | run.result
        for name, each in (("ours", arm), ("theirs", other))
        for run in each.runs
        if run.result
    ]
    pair = comparison.compare(rows, "ours", "theirs")
    interval = pair["mean_iou"]["t_interval"]
    if interval is None:
        seeds = "one seed each" if one_each else "one seed in common"
        return f"{said}; {seeds}, so this says little."
    low, high = (100 * end for end in interval)
    by_chance = low <= 0 <= high
    what = "this may be chance" if by_chance else "more than chance explains"
    return (
        f"{said}; over the {len(pair['seeds'])} seeds in common the 95 % interval of the "
        f"difference is {low:+.1f} to {high:+.1f} points: {what}."
    )
