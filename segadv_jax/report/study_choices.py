"""`<study>_choices.json`: every point that was tuned, and what was chosen."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segadv_jax import files
from segadv_jax.campaign import provenance
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES
from segadv_jax.report import pages
from segadv_jax.report.study_definition import Fields, Key, Study

# Of a point, which is {"fields": its own, "score": ..., measure: mean}, all on validation images.
POINT_MEASURES = (*PAPER_MEASURES, "mean_bf")


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}_choices.json"


def score(result: Mapping[str, Any], primary: Sequence[str]) -> float:
    """By which a point is chosen.

    Raises:
        InputError: a primary measure was not measured, or is not defined.
    """
    values = [value for measure in primary if (value := result.get(measure)) is not None]
    if len(values) < len(primary):
        raise InputError(f"an evaluation lacks one of {', '.join(primary)}: set evaluate.bf")
    return sum(values)


def read(path: Path, study: Study, of_other_grids: bool = False) -> dict[Key, dict[str, Any]]:
    """{(block, arm): {"points": {name: point}, "chosen": name, "fields": all chosen ones}}.

    Arms that are not tuned yet are not in it, nor, with `of_other_grids`, those whose grid is
    another one now, which otherwise is an error.

    Raises:
        InputError: the file is missing or damaged, or was made for other grids than the study's.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: run the stage tune first")
    content, result = pages.read_json(path, ("blocks",)), {}
    for (block, arm), definition in study.tuned():
        try:
            choice = content["blocks"].get(block, {}).get(arm)
            if choice is None:
                continue
            tried = {name: point["fields"] for name, point in choice["points"].items()}
            whole = all({*POINT_MEASURES} <= {*point} for point in choice["points"].values())
            whole &= choice["chosen"] in tried and isinstance(choice["fields"], dict)
        except (AttributeError, KeyError, TypeError):
            whole = False
        if not whole:
            wrong = f"the choice of {block}/{arm} is not whole"
            raise files.damaged(path, wrong, "restore it, or delete it and tune again")
        if tried != json.loads(json.dumps(definition.grid)):
            if of_other_grids:
                continue
            raise InputError(
                f"{path}: the grid of {block}/{arm} is another one in the study; tune it again"
            )
        result[block, arm] = choice
    return result


def write(
    path: Path, study: Study, choices: Mapping[Key, Mapping[str, Any]], how: Mapping[str, Any]
) -> None:
    """Writes `<study>_choices.json`; `how` are the arguments of `provenance.record`."""
    blocks: dict[str, dict[str, Any]] = {}
    for (block, arm), choice in choices.items():
        blocks.setdefault(block, {})[arm] = choice
    measure = " + ".join(study.primary)
    provenance.record(
        path,
        **how,
        criterion=f"{measure} on the validation images, a mean over the tuning seeds",
        tuning_seeds={b: study.blocks[b].tuning_seeds for b in blocks},
        settings_tried=sum(len(choice["points"]) for choice in choices.values()),
        blocks=blocks,
    )


def keep(
    study: Study, before: Mapping[Key, dict[str, Any]], found: Mapping[Key, dict[str, Any]]
) -> dict[Key, dict[str, Any]]:
    """What was found, and what was chosen before of the other arms.

    The choice of an arm is dropped if that of an arm that it inherits from is another one now, or
    is no longer there.
    """
    result: dict[Key, dict[str, Any]] = {}
    for key, arm in study.tuned():
        inherited = [(key[0], other) for other in arm.after]
        same = all(
            other in result and result[other]["fields"] == before.get(other, {}).get("fields")
            for other in inherited
        )
        if key in found:
            result[key] = found[key]
        elif key in before and same:
            result[key] = before[key]
    return result


def merged(choices: Mapping[Key, Mapping[str, Any]], keys: Iterable[Key]) -> Fields:
    """The chosen fields of several arms; of a field that several have, the last one's."""
    fields: dict[str, Any] = {}
    for key in keys:
        fields |= choices[key]["fields"]
    return fields
