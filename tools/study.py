"""Carries out a study of `segadv_jax/report/studies/`: arms x blocks x seeds, all equally tuned.

    python -m tools.study light tune   --workdir=W --archives=FOLDER --processes=2
    git add docs/results/light_choices.json; git commit -m "Choices for the study light"
    python -m tools.study light train  --workdir=W --archives=FOLDER --processes=2
    python -m tools.study light report --workdir=W
    python -m tools.study light report

    python -m tools.study light repeat --workdir=W2 --archives=FOLDER --blocks=natural --seeds=0

The same command resumes a stage that was stopped. `tune` trains every point of every arm's grid
and measures it on the validation images; the test images are not read. An arm is tuned when those
that it inherits from have their choices. The choices must be committed before `train` reads them,
which trains all arms of all blocks, seed by seed, and then measures what a block names beside
them: predictions that are corrected at test time, other checkpoints, other images. What is not done
is named, and the exit status is 1. --blocks, --arms and, but for `tune`, --seeds limit a call to a
part, as --arms=standard,features; `report` takes none of them.

`report` writes `docs/results/<study>.csv`, the histories that the study shows, pictures and, from
the files there alone, `docs/<study>_study.md`, the first page of `docs/results.md` and the rows
that the README has of it; without --workdir it writes the pages only. Several machines may share a
study: `tune` takes the choices of other arms, and `report` the rows of other runs, from the files
that are there. To begin anew, delete these. `repeat` trains one seed of each arm of a block again
(the first block and seed 0 unless it is told others) and compares it with what is recorded.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segadv_jax import cli, compilation, configuration
from segadv_jax.campaign import command_line, provenance
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import describe, percent, title
from segadv_jax.report import (
    course,
    figures,
    front_page,
    pages,
    pictures,
    study_beside,
    study_choices,
    study_definition,
    study_files,
    study_page,
    study_runs,
    study_selection,
    table1_page,
)
from segadv_jax.report.pages import CAMPAIGN
from segadv_jax.report.study_definition import Key, Study

PROGRAM = "tools.study"
REPEATED = ("mean_iou", "pixel_accuracy", "class_accuracy", "mean_bf")
REPEAT = "repeat.json"  # In a workdir of `repeat`: how its runs, which are not recorded, were made.
PICTURED = (0, 28, 56, 84, 112)  # Test images, by their places in the split.
# Of what limits a call to a part, what a stage does not take.
NOT_TAKEN = {"tune": ("seeds",), "report": ("blocks", "arms", "seeds")}
# Of a fraction of pixels, within which a repeated run must agree. The same code with as many cores
# of one processor repeats a run exactly; others, or another JAX, round otherwise, step by step. On
# Stanford Background that moved most runs by less than 0.001, where seeds of one arm differ by
# 0.003. Runs that kept another checkpoint then, and those of the paper's network with an adversary,
# moved by up to 0.009, runs with one on a few images of PASCAL VOC by up to 0.03, as seeds do.
TOLERANCE = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", help="a file in segadv_jax/report/studies, as light")
    pages.add_arguments(parser, STAGES, "results")
    parser.add_argument("--blocks", default="", help="as natural,few: these blocks only")
    parser.add_argument("--arms", default="", help="as standard,features: these arms only")
    parser.add_argument("--seeds", default="", help="as 0,1: these seeds only")


def main(options: argparse.Namespace) -> int:
    if options.overrides:
        raise InputError(f"{options.overrides[0]}: the fields are those of the study")
    for flag in NOT_TAKEN.get(options.stage, ()):
        if getattr(options, flag):
            raise InputError(f"--{flag}: the stage {options.stage} does not take it; leave it out")
    if options.stage != "repeat" and options.workdir and Path(options.workdir, REPEAT).exists():
        raise InputError(
            f"--workdir={options.workdir} holds runs of the stage repeat, which are compared with "
            "those that are recorded and not recorded themselves; choose another folder"
        )
    study = study_definition.load(options.study)
    return STAGES[options.stage](options, study)


def place_of(options: argparse.Namespace) -> study_runs.Place:
    return study_runs.Place(options.workdir, tuple(pages.data_fields(options)))


def selected(options: argparse.Namespace, study: Study) -> list[Key]:
    return study_selection.keys(study, options.blocks, options.arms)


def check_data(options: argparse.Namespace, study: Study, keys: Iterable[Key]) -> None:
    if not options.program:  # A stand-in for the training reads none.
        study_runs.check_data(study, keys, place_of(options))


def record(options: argparse.Namespace) -> None:
    """Keeps in the workdir how its runs are made."""
    path = Path(options.workdir, REPEAT if options.stage == "repeat" else CAMPAIGN)
    provenance.record(path, PROGRAM, options.processes, study=options.study)


def tune(options: argparse.Namespace, study: Study) -> int:
    """Trains the grids, measures them on the validation images, and writes the choices."""
    pages.make_workdir(options)
    tuned, place = [key for key, _ in study.tuned()], place_of(options)
    wanted = set(selected(options, study)) & set(tuned)
    if not wanted:
        raise InputError(f"--blocks={options.blocks}: these take the choices of another block")
    path = study_choices.path_of(options.results, options.study)
    before = study_choices.read(path, study, of_other_grids=True) if path.exists() else {}
    study_runs.check_configs(study, tuned, place)
    check_data(options, study, wanted)
    left, failures = tuned, []
    choices: dict[Key, dict[str, Any]] = {}
    while left:
        # In turn those whose choices all others wait for, then those that wait for these alone.
        # Choices of before that are to be made again are none yet.
        kept = study_choices.keep(study, before, choices)
        known = {key: kept[key] for key in kept if key in choices or key not in wanted}
        found = {key: study_runs.tuning(study, key, known, place) for key in left}
        ready = {key: planned for key, planned in found.items() if planned}
        todo = [
            run
            for key, planned in ready.items()
            for run in itertools.chain(*planned.values())
            if key in wanted
        ]
        failures += command_line.train(options, todo)
        made = {key: study_runs.choose(study, key, ready[key], known) for key in ready}
        choices |= {key: choice for key, choice in made.items() if choice}
        left = [key for key in left if key not in ready]
        if not any(made.values()):
            break
    kept = study_choices.keep(study, before, choices)
    if choices:
        how = {"program": PROGRAM, "processes": options.processes}
        study_choices.write(path, study, kept, how)
    for (block, arm), choice in kept.items():
        best = choice["points"][choice["chosen"]]
        print(f"{block}/{arm}: {choice['chosen']}, on the validation images in %: {describe(best)}")
    lacking = [key for key in tuned if key not in kept]
    report_lacking("not tuned yet", lacking)
    return max(command_line.report_failures(failures), int(not wanted.isdisjoint(lacking)))


def report_lacking(what: str, keys: Iterable[Key]) -> None:
    names = [f"{block}/{arm}" for block, arm in keys]
    if names:
        print(f"{what}: {', '.join(names)}", file=sys.stderr)


def train(options: argparse.Namespace, study: Study) -> int:
    """Trains what is chosen, seed by seed, then measures what is to be measured beside."""
    path, place = study_choices.path_of(options.results, options.study), place_of(options)
    choices = study_choices.read(path, study)
    provenance.check_committed(path)
    keys = selected(options, study)
    seeds = study_selection.seeds(study, keys, options.seeds, options.blocks)
    lacking = [key for key in keys if study.source(key) not in choices]
    todo = study_runs.training(study, keys, choices, seeds, place)
    pages.make_workdir(options)  # Not before: what is refused leaves no folder.
    check_data(options, study, keys)
    record(options)
    # All at once: a run of the next seed begins when one of this seed is done.
    failures = command_line.train(options, different(run for _, run in todo))
    measure(options, study, todo)
    report_lacking("not tuned, so not trained", lacking)
    return max(command_line.report_failures(failures), int(bool(lacking)))


def different(some: Iterable[Run]) -> list[Run]:
    """The runs, of which blocks that share them name some twice."""
    return list({run.folder: run for run in some}.values())


def measure(options: argparse.Namespace, study: Study, some: Iterable[tuple[Key, Run]]) -> None:
    """What is measured beside the selected checkpoint of finished runs, in this process."""
    # They need the programs that the runs compiled.
    with compilation.shared(command_line.cache_folder(options)):
        for (block, arm), run in some:
            if run.workdir.result() is None:
                continue
            for end, corrected in study.blocks[block].corrected.items():
                if arm in corrected:
                    study_beside.correct(run, end, study)
            for what in study.blocks[block].beside:
                study_beside.measure_beside(run, what)


def report(options: argparse.Namespace, study: Study) -> int:
    """Writes the files in `docs/results`, if there is a workdir, and the page."""
    folder, name = options.results, options.study
    table = study_files.table_path(folder, name)
    if options.workdir:
        # Runs and files are read before the first file is written.
        choices = study_choices.read(study_choices.path_of(folder, name), study)
        keys = [(b, arm) for b in study.blocks for arm in study.blocks[b].arms]
        seeds = sorted({seed for block in study.blocks.values() for seed in block.seeds})
        every = study_runs.training(study, keys, choices, seeds, place_of(options))
        done = study_runs.done(every)
        if not done:
            raise InputError(f"--workdir={options.workdir} holds no finished run; train first")
        rows = study_files.read_rows(table, study) if table.exists() else []
        rows = study_files.of_other_runs(study, rows, done)
        rows += study_runs.rows(study, every)
        lines = study_files.read_histories(study_files.histories_path(folder, name), study)
        lines = study_files.of_other_runs(study, lines, done)
        lines += study_runs.histories(study, every)
        needed = ("commits", "commands", "machine")
        how = pages.read_json(Path(options.workdir, CAMPAIGN), needed)
        predicted = predict(study, every, pages.data_fields(options))
        provenance.add(study_files.campaign_path(folder, name), how)
        study_files.write_rows(table, study, rows)
        write_histories(options, study, lines)
        if predicted:
            picture = study_files.picture_path(folder, name)
            pictures.draw_boundaries(picture, *predicted, given=False)
            # The photographs and their labels are not ours to publish: they stay in the workdir.
            pictures.draw_boundaries(Path(options.workdir, picture.name), *predicted)
    page, text = study_files.page_path(folder, name), study_page.render(folder, name, study)
    # Its first page has figures of studies.
    results = table1_page.render(folder) if (folder / front_page.FRONT).exists() else ""
    page.write_text(text, encoding="utf-8")
    print(f"written: {page} and {folder}")
    lacking = study_page.lacking(study, study_files.read_rows(table, study))
    if lacking:
        few = ", ".join(list(lacking)[:3]) + (", ..." if len(lacking) > 3 else "")
        print(f"{table} lacks runs of {len(lacking)} arms, as {page} says: {few}", file=sys.stderr)
    if results:
        pages.write(folder, results)
        readme = folder.resolve().parents[1] / "README.md"
        if readme.exists():
            before = readme.read_text(encoding="utf-8")
            readme.write_text(front_page.follow(before, results), encoding="utf-8")
            print(f"written: {readme}")
    return 0


def write_histories(options: argparse.Namespace, study: Study, rows: list[pages.Row]) -> None:
    """Writes and draws the validations of the blocks that show them, if any."""
    folder, name = options.results, options.study
    if rows:
        study_files.write_histories(study_files.histories_path(folder, name), study, rows)
    for block in dict.fromkeys(row["block"] for row in rows):
        mine = [row for row in rows if row["block"] == block]
        curves = course.histories(mine, study.blocks[block].arms)
        figures.draw_curves(study_files.curves_path(folder, name, block), curves)


def predict(
    study: Study, every: Iterable[tuple[Key, Run]], data: Iterable[str]
) -> tuple[Any, pictures.Maps] | None:
    """(test images, the pictured arms' maps of them); None before all of these arms are done.

    The `data` are fields that say where the data lies now, if not where the runs had it.
    """
    block, definition = next(iter(study.blocks.items()))
    wanted = [(block, arm) for arm in study.pictured]
    first = definition.seeds[0]
    found = {key: run for key, run in every if run.seed == first and key in wanted}
    if not wanted or not all(key in found and found[key].workdir.result() for key in wanted):
        return None
    shown = {key[1]: found[key] for key in wanted}
    runs = {arm: (configuration.recorded(run.workdir), run.folder) for arm, run in shown.items()}
    for (config, _), field in itertools.product(runs.values(), data):
        configuration.set_field(config, field)
    _, batch, maps = pictures.predict(runs, PICTURED)
    return batch, maps


def repeat(options: argparse.Namespace, study: Study) -> int:
    """Trains one seed of each arm of a block again; 0 if all agree with what is recorded."""
    if Path(options.workdir, CAMPAIGN).exists():
        raise InputError(
            f"--workdir={options.workdir} holds the runs that were recorded; choose another folder"
        )
    options.blocks = options.blocks or next(iter(study.blocks))
    keys = selected(options, study)
    seeds = study_selection.seeds(study, keys, options.seeds, options.blocks)
    seeds = seeds[: None if options.seeds else 1]
    recorded = study_files.read_rows(study_files.table_path(options.results, options.study), study)
    known = {(row["block"], row["arm"], row["seed"]): row for row in recorded}
    choices = study_choices.read(study_choices.path_of(options.results, options.study), study)
    for block, arm in keys:
        if study.source((block, arm)) not in choices:
            raise InputError(
                f"{block}/{arm} is not tuned, so there is nothing to repeat; tune first"
            )
    todo = study_runs.training(study, keys, choices, seeds, place_of(options))
    for (block, arm), seed in itertools.product(keys, seeds):
        if seed in study.blocks[block].seeds and (block, arm, seed) not in known:
            name = f"{block}/{arm}/seed_{seed}"
            raise InputError(f"{options.study}.csv has no run of {name}; choose others to repeat")
    pages.make_workdir(options)  # As in `train`.
    check_data(options, study, keys)
    record(options)
    failures = command_line.train(options, different(run for _, run in todo))
    status = command_line.report_failures(failures)
    if status:
        return status
    agrees = True
    for row in study_runs.rows(study, todo):
        if (row["block"], row["arm"]) not in keys:  # What is measured beside an arm.
            continue
        before = known[row["block"], row["arm"], row["seed"]]
        both = [measure for measure in REPEATED if None not in (row[measure], before[measure])]
        off, where = max((abs(row[measure] - before[measure]), measure) for measure in both)
        agrees &= off <= TOLERANCE
        name = f"{row['block']}/{row['arm']}, seed {row['seed']}"
        print(f"{name}: largest difference {percent(off, '.4f')} %, in {title(where)}")
    print("agrees" if agrees else "DOES NOT AGREE", f"within {percent(TOLERANCE)} %")
    if not agrees:
        path = study_files.campaign_path(options.results, options.study)
        recorded_on = provenance.machines(pages.read_json(path)) if path.exists() else []
        here = provenance.machine(options.processes)
        print(
            "Another kind of processor and another version of JAX round otherwise, which an "
            "adversary can make much of.\n"
            f"Recorded on: {provenance.described(recorded_on) or 'not known'}.\n"
            f"This is: {provenance.described([here])}."
        )
    return 0 if agrees else 1


STAGES = {"tune": tune, "train": train, "report": report, "repeat": repeat}

if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
