"""The arms of a study, from the rows that it keeps of its runs, as `measured.py` reads workdirs."""

import re
from collections.abc import Iterator, Sequence

from segadv_jax import files
from segadv_jax.campaign import arms
from segadv_jax.errors import InputError
from segadv_jax.report import (
    measured,
    paper,
    study_choices,
    study_definition,
    study_files,
    study_runs,
)
from segadv_jax.report.measured import BOUNDARY, Arm, Config, Measured
from segadv_jax.report.pages import Row
from segadv_jax.report.study_definition import Key, Study

# FILE.csv, FILE.csv:BLOCK or FILE.csv:BLOCK/ARM.
PLACE = re.compile(r"(?P<file>.+[.]csv)(:(?P<block>[^:/]+)(/(?P<arm>[^:/]+))?)?")


def read(name: str, place: str, split: str = "") -> list[Arm]:
    """The trained arms of a study, with figures of `split`, or of each arm's test split.

    `place` is as in `PLACE`. BF on PASCAL VOC is that of val_full if the study measured it.

    Raises:
        InputError: there is no such study, block or arm, a file is missing or damaged, or there is
            no row of the split.
    """
    found = PLACE.fullmatch(place)
    if found is None:
        raise InputError(f"{name}={place}: give FILE.csv, FILE.csv:BLOCK or FILE.csv:BLOCK/ARM")
    path = files.on_this_machine(found["file"], name)
    if not path.is_file():
        raise InputError(f"{name}={place}: there is no file {path}")
    try:
        study = study_definition.load(path.stem)
    except InputError as error:
        raise InputError(f"{name}={place}: a file has its study's name: {error}") from error
    rows = study_files.read_rows(path, study)
    choices_path = study_choices.path_of(path.parent, path.stem)
    if not choices_path.exists():
        raise InputError(f"{name}={place}: {choices_path.name} is to lie beside it; copy it there")
    choices = study_choices.read(choices_path, study)
    result = []
    for key in _keys(study, found["block"], found["arm"], f"{name}={place}"):
        if study.source(key) not in choices:
            continue
        chosen = choices[study.source(key)]["fields"]
        config, *fields = study_runs.arguments(study, key, chosen, study_runs.Place("", ()))
        # From anywhere, not where there is a folder configs/ alone.
        config = re.sub(r"=configs/(\w+)[.]py\b", r"=\1", config)
        config = arms.load_config([config, *fields]).to_dict()
        done = dict(_runs(study, key, rows, config, split))
        if done:
            block, arm = key
            result.append(measured.make(f"{name}/{block}/{arm}", f"{path}:{block}/{arm}", "", done))
    if not result:
        raise InputError(f"{name}={place}: it has no row of {split or 'the test split'}")
    return result


def _keys(study: Study, block: str | None, arm: str | None, where: str) -> list[Key]:
    """The arms of that block, and of that name, if given; an InputError if there is none."""
    keys = [(each, mine) for each in study.blocks for mine in study.blocks[each].arms]
    for position, (what, wanted) in enumerate((("block", block), ("arm", arm))):
        known = dict.fromkeys(key[position] for key in keys)
        if wanted and wanted not in known:
            raise InputError(f"{where}: there is no {what} {wanted}; known: {', '.join(known)}")
        keys = [key for key in keys if wanted in (None, key[position])]
    return keys


def _runs(
    study: Study, key: Key, rows: Sequence[Row], config: Config, split: str
) -> Iterator[tuple[int, Measured]]:
    """What the runs of an arm measured, by seed."""
    test, (val_full, _) = config["data"]["test"], paper.VOC_VAL_FULL
    split = split or test
    splits = {test: "", **{beside: f"_{beside}" for beside in study.blocks[key[0]].splits}}
    if split not in splits:
        return
    full = val_full if config["data"]["name"] == "voc_sbd" and val_full in splits else split
    mine, boundaries = (
        {row["seed"]: row for row in rows if (row["block"], row["arm"]) == (key[0], key[1] + end)}
        for end in (splits[split], splits[full])
    )
    for seed, row in mine.items():
        bf, of = (boundaries[seed], full) if seed in boundaries else (row, split)
        ious = {f"iou {kind}": iou for kind, iou in study_files.by_class(row, "iou_").items()}
        of_bf = {measure: bf[measure] for measure in BOUNDARY}
        of_bf["boundaries"] = None if bf["mean_bf"] is None else (of, bf["images"])
        yield seed, row | of_bf | ious | {"config": config, "labels": (split, row["images"])}
