"""The runs of a study: its points, its arms, and what they measured."""

import datetime
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segadv_jax import configuration, experiment, files
from segadv_jax.campaign import arms, comparison, runs
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError
from segadv_jax.report import study_beside, study_choices, study_files
from segadv_jax.report.pages import Row
from segadv_jax.report.study_definition import (
    TUNING,
    WORKDIR,
    Fields,
    Key,
    Study,
)
from segadv_jax.workdir import Workdir

Choices = Mapping[Key, Mapping[str, Any]]


class Place(NamedTuple):
    """Where runs lie and their data: `data` are arguments, "--config.data.archives=FOLDER"."""

    workdir: str
    data: tuple[str, ...]


def arguments(study: Study, key: Key, chosen: Fields, place: Place) -> tuple[str, ...]:
    """The arguments of `segadv_jax train` for an arm of a block with fields that were chosen."""
    config = study.blocks[key[0]].arms[key[1]].config or study.config
    fields = _set({**study.fixed(key), **chosen}, place)
    return f"--config={config}", *place.data, *fields


def _set(fields: Fields, place: Place) -> list[str]:
    folder = os.path.abspath(place.workdir)
    return [
        f"--config.{name}={value.replace(WORKDIR, folder) if isinstance(value, str) else value}"
        for name, value in fields.items()
    ]


def check_configs(study: Study, keys: Iterable[Key], place: Place) -> None:
    """Raises an InputError if a point of these arms has a field that a configuration has not."""
    for key in keys:
        try:
            config = arms.load_config(arguments(study, key, {}, place))
            for point in study.blocks[key[0]].arms[key[1]].grid.values():
                for field in _set(point, place):
                    configuration.set_field(config, field)
        except InputError as error:
            raise InputError(f"arm {key[1]} of the block {key[0]}: {error}") from error


def check_data(study: Study, keys: Iterable[Key], place: Place) -> None:
    """Prepares the data of these arms; raises an InputError if it cannot be read.

    Before the first of many runs would find that out, each for itself.
    """
    seen: list[Any] = []
    for key in keys:
        config = arms.load_config(arguments(study, key, {}, place))
        options = {name: config.data[name] for name in config.data if name != "fraction"}
        splits = study.blocks[key[0]].splits
        if (options, splits) not in seen:
            seen.append((options, splits))
            data_set = experiment.load_data(config)
            experiment.check_splits(config, data_set)
            for split in splits:
                data_set.check_labelled(split, f"data.test beside that of the block {key[0]}")


def tuning(study: Study, key: Key, choices: Choices, place: Place) -> dict[str, list[Run]] | None:
    """{point: its runs}, measured on the validation images; None before all it inherits is chosen.

    The validation split takes the place of the test images, which are not to be read yet.
    """
    block, arm = key
    definition = study.blocks[block].arms[arm]
    inherited = [(block, other) for other in definition.after]
    if not all(other in choices for other in inherited):
        return None
    split = arms.load_config(arguments(study, key, {}, place)).data.validation
    result = {}
    for point, own in definition.grid.items():
        chosen = {**study_choices.merged(choices, inherited), **own, "data.test": split}
        given = arguments(study, key, chosen, place)
        folder, name = os.path.join(place.workdir, TUNING), f"{block}/{arm}/{point}"
        planned = arms.plan(folder, {name: given}, study.blocks[block].tuning_seeds)
        result[point] = [run._replace(arm=f"{TUNING}/{run.arm}") for run in planned]
    return result


def choose(
    study: Study, key: Key, planned: Mapping[str, Sequence[Run]], choices: Choices
) -> dict[str, Any] | None:
    """The choice of `study_choices.read` for an arm; None while a run is not done.

    Raises:
        InputError: a run was made with other arguments, or has no BF.
    """
    definition = study.blocks[key[0]].arms[key[1]]
    points: dict[str, dict[str, Any]] = {}
    for point, some in planned.items():
        for run in some:
            runs.check_arguments(run)
        results = runs.results(some)
        if len(results) < len(some):
            return None
        spread = comparison.spread(results, study_choices.POINT_MEASURES)
        means = {name: spread[name]["mean"] for name in study_choices.POINT_MEASURES}
        fields = json.loads(json.dumps(definition.grid[point]))  # As they are read again.
        points[point] = {
            "fields": fields,
            "score": study_choices.score(means, study.primary),
        } | means
    best = max(points, key=lambda point: points[point]["score"])
    inherited = study_choices.merged(choices, [(key[0], other) for other in definition.after])
    return {"points": points, "chosen": best, "fields": {**inherited, **points[best]["fields"]}}


def training(
    study: Study, keys: Iterable[Key], choices: Choices, seeds: Iterable[int], place: Place
) -> list[tuple[Key, Run]]:
    """The runs of all blocks and arms that have choices.

    Seed by seed, so that a campaign that is cut short has few seeds of all arms.
    """
    result: dict[int, list[tuple[Key, Run]]] = {seed: [] for seed in seeds}
    for key in keys:
        block, source = study.blocks[key[0]], study.source(key)
        if source not in choices:
            continue
        given = arguments(study, key, choices[source]["fields"], place)
        mine = {f"{block.shares or key[0]}/{key[1]}": given}
        for seed in result:
            if seed in block.seeds:
                result[seed] += [(key, run) for run in arms.plan(place.workdir, mine, [seed])]
    return list(itertools.chain(*result.values()))


def done(planned: Iterable[tuple[Key, Run]]) -> set[tuple[str, str, int]]:
    """(block, arm, seed) of the finished runs."""
    return {(*key, run.seed) for key, run in planned if run.workdir.result() is not None}


def rows(study: Study, planned: Iterable[tuple[Key, Run]]) -> Iterator[Row]:
    """The rows of `<study>.csv` for what is done.

    Raises:
        InputError: a file of a run is damaged, or it was made with other arguments.
    """
    for (block, arm), run in planned:
        result = run.workdir.result()
        if result is None:
            continue
        runs.check_arguments(_placed(study, (block, arm), run))
        row = {"block": block, "seed": run.seed} | study_files.conditions(study, (block, arm))
        row["segmenter_updates"] = result["segmenter_updates"]
        yield row | {"arm": arm, "hours": _hours(run.workdir, result["split"])} | _measures(result)
        for end, correction in study_beside.CORRECTIONS.items():
            mine = arm in study.blocks[block].corrected[end]
            found = study_beside.corrected(run, end, study) if mine else None
            if found is not None:
                own = {"arm": arm + end, correction.column: found[correction.chosen]}
                yield row | own | _measures(found["result"])
        for what in study.blocks[block].beside:
            other = study_beside.beside(run, what)
            if other is not None:
                row["segmenter_updates"] = _updates_at(run, other["step"])
                yield row | {"arm": f"{arm}_{what}"} | _measures(other)


def _hours(workdir: Workdir, split: str) -> float | None:
    """From the beginning of a run to its evaluation; None if its folder does not say."""
    started, ended = (workdir.environment() or {}).get("started"), workdir.evaluation_path(split)
    if not started or not isinstance(ended, Path):
        return None
    began = datetime.datetime.fromisoformat(started).timestamp()
    return (ended.stat().st_mtime - began) / 3600


def histories(study: Study, planned: Iterable[tuple[Key, Run]]) -> Iterator[Row]:
    """The rows of `<study>_histories.csv` for what is done in blocks that show their histories."""
    for (block, arm), run in planned:
        if study.blocks[block].histories and run.workdir.result() is not None:
            place = {"block": block, "arm": arm, "seed": run.seed}
            yield from (place | line for line in run.workdir.history())


def _updates_at(run: Run, step: int) -> int | None:
    """The segmenter's updates at a validation."""
    at = [row["segmenter_updates"] for row in run.workdir.history() if row["step"] == step]
    return int(at[0]) if at else None


def _placed(study: Study, key: Key, run: Run) -> Run:
    """The run in the folders that it was made with: where they were plays no part in a report."""
    path, remedy = Path(run.folder, runs.ARGUMENTS), f"delete {run.folder} to make the run again"
    if not path.exists():
        return run
    places = {"data.archives", "data.data_dir"}
    places |= {name for name, value in study.fixed(key).items() if WORKDIR in str(value)}
    begins = tuple(f"--config.{name}=" for name in places)
    with files.reading(path, remedy):
        recorded = json.loads(path.read_text())
        if not isinstance(recorded, list):
            raise ValueError("it is no list of arguments")
        there = [each for each in map(str, recorded) if each.startswith(begins)]
    kept = [each for each in run.arguments if not each.startswith(begins)]
    return run._replace(arguments=(*kept, *there))


def _measures(result: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: result.get(name) for name in study_files.MEASURES}
    for begin, name in study_files.BY_CLASS.items():
        row |= {begin + kind: value for kind, value in (result.get(name) or {}).items()}
    return row
