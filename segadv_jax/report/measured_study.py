"""The arms of a study, from the rows that it keeps of its runs, as `measured.py` reads workdirs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segadv_jax.campaign import arms
from segadv_jax.errors import InputError
from segadv_jax.report import measured, paper, study_definition, study_files, study_runs
from segadv_jax.report.measured import BOUNDARY, Arm, Config, Images, Measured
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
    path = Path(found["file"])
    study = study_definition.load(path.stem)
    rows = study_files.read_rows(path, study)
    choices = study_files.read_choices(study_files.choices_path(path.parent, path.stem), study)
    result = []
    for key in _keys(study, found["block"], found["arm"], f"{name}={place}"):
        if study.source(key) not in choices:
            continue
        chosen = choices[study.source(key)]["fields"]
        given = study_runs.arguments(study, key, chosen, study_runs.Place("", ()))
        config = arms.load_config(given).to_dict()
        done = dict(_runs(path, study, key, rows, config, split))
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
    path: Path, study: Study, key: Key, rows: Sequence[Row], config: Config, split: str
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
        bf, images = (boundaries[seed], full) if seed in boundaries else (row, split)
        yield (
            seed,
            {
                **row,
                **{measure: bf[measure] for measure in BOUNDARY},
                **{f"iou {kind}": iou for kind, iou in study_files.by_class(row, "iou_").items()},
                "config": config,
                "labels": _images(path, split, row),
                "boundaries": None if bf["mean_bf"] is None else _images(path, images, bf),
            },
        )


def _images(path: Path, split: str, row: Mapping[str, object]) -> Images:
    if not isinstance(row["images"], int):
        raise InputError(
            f"{path}: the row of {row['block']}/{row['arm']}, seed {row['seed']}, does not say of "
            "how many images it is; train it again, and report"
        )
    return split, row["images"]
