"""Table 1 of the paper over several seeds: does adversarial training help on Stanford Background?

Three arms, all from `configs/stanford.py`: *standard*, cross-entropy alone; *printed*, the
adversary as the paper prints it; *tuned*, the best adversarial setting found on the validation
subset. In stages; the same command resumes a stage that was stopped:

    python -m tools.reproduce_table1 tune    --workdir=W --archives=FOLDER --processes=2
    git add docs/results/choices.json; git commit -m "Choices for Table 1"
    python -m tools.reproduce_table1 train   --workdir=W --archives=FOLDER --processes=2
    python -m tools.reproduce_table1 confirm --workdir=W --archives=FOLDER --processes=2
    python -m tools.reproduce_table1 report  --workdir=W --archives=FOLDER

    python -m tools.reproduce_table1 repeat  --workdir=W2 --archives=FOLDER --processes=2 --seeds=0

`tune` trains every point of the two grids and measures them on the validation subset; the test
images are not read. Its choices must be committed before `train` reads them. `train` runs the arms
with --seeds on all training images and with --fraction_seeds, for at most --fraction_updates, on
parts of them; `confirm` repeats the setting with the largest gain with --fresh_seeds. Later stages
take these from the workdir. `report` writes `docs/results/*.csv`, the pictures and, from those
files alone, `docs/results.md`; without --workdir it writes the page only. `repeat` trains one seed
of each arm again and compares it with what is recorded; --part=0.125 takes the runs on an eighth of
the images, which is quicker.

What follows "--" are fields of the configuration for all runs, such as the resolution; the settings
of the arms come after them. `tune` records them with its choices, and the other stages take them
from there.
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segadv_jax import cli, files
from segadv_jax.campaign import arms, command_line, comparison, provenance, runs
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES, describe, percent
from segadv_jax.report import course, figures, pages, pictures, table1_page, table1_runs
from segadv_jax.report import table1_files as table1
from segadv_jax.report.pages import CAMPAIGN
from segadv_jax.report.table1_files import ARMS, CHOICES, CONTROL, TABLE

PROGRAM = "tools.reproduce_table1"
SEEDS = {"seeds": "0,1,2,3,4", "fraction_seeds": "0,1,2"}
SEEDS |= {"fresh_seeds": "10,11,12,13,14", "tuning_seeds": "100"}
TOLERANCE = 1e-4  # Of a fraction of pixels, within which a repeated run must agree.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pages.add_arguments(parser, STAGES, "results")
    add, parts = parser.add_argument, table1_runs.FRACTIONS
    add("--fraction_updates", type=int, help="of the parts; 0: as on all images")
    add("--part", type=float, default=1.0, choices=parts, help="of the images, to repeat")
    for name, seeds in SEEDS.items():
        add(f"--{name}", help=f"as {seeds}, which is the default")


def main(options: argparse.Namespace) -> int:
    if options.overrides and options.stage != "tune":
        raise InputError(
            f"{options.overrides[0]}: fields of all runs are given to the stage tune, once"
        )
    if options.stage != "report":
        pages.make_workdir(options)
    settle(options)
    return STAGES[options.stage](options)


def settle(options: argparse.Namespace) -> None:
    """Gives the seeds and budgets their values: of a flag, of an earlier stage, or the default."""
    folder = options.results if options.stage == "repeat" else options.workdir
    recorded = Path(folder, CAMPAIGN)
    known = pages.read_json(recorded) if folder and recorded.exists() else {}
    for name, default in SEEDS.items():
        text = getattr(options, name)
        seeds = known.get(name) if text is None else None
        if seeds is None:
            seeds = arms.parse_seeds(default if text is None else text, f"--{name}")
        setattr(options, name, seeds)
    if options.fraction_updates is None:
        options.fraction_updates = known.get("fraction_updates", 0)
    if options.fraction_updates < 0:
        raise InputError(f"--fraction_updates={options.fraction_updates}: set it to 0 or more")
    if options.stage == "repeat":  # Any seed there is.
        return
    for name, other in itertools.product(("fresh_seeds", "tuning_seeds"), SEEDS):
        shared = set(getattr(options, name)) & set(getattr(options, other))
        if shared and name != other:
            raise InputError(f"--{name}: {min(shared)} is in --{other} too; choose others")


def tune(options: argparse.Namespace) -> int:
    """Trains the grids, measures them on the validation subset, and writes the choices."""
    fields = [*pages.data_fields(options), *options.overrides]
    for variant in ("standard", "printed"):  # Before anything is recorded.
        arms.load_config([f"--config={table1_runs.CONFIG}:{variant}", *fields])
    record_campaign(options)
    planned = table1_runs.tuning(options, fields)
    status = carry_out(options, itertools.chain(*planned.values()))
    if status:
        return status
    grid: dict[str, dict[str, Any]] = {arm: {} for arm in table1_runs.GRID}
    for (arm, point), some in planned.items():
        spread = comparison.spread(runs.results(some))
        means = {measure: spread[measure]["mean"] for measure in PAPER_MEASURES}
        grid[arm][point] = {"fields": table1_runs.GRID[arm][point]} | means
    chosen = {}
    for arm, points in grid.items():
        best = max(points, key=lambda point: points[point]["mean_iou"])
        chosen[arm] = points[best]["fields"]
        print(f"{arm}: {best}, on the validation subset in %: {describe(points[best])}")
    # The paper keeps the hyper-parameters of the segmenter, with and without adversary.
    chosen["printed"] = chosen["standard"]
    choices = {"shared": options.overrides, "seeds": options.tuning_seeds, "grid": grid}
    made = {"commit": provenance.commit(), "command": provenance.command(PROGRAM)}
    files.write_json(options.results / CHOICES, choices | {"chosen": chosen} | made)
    return 0


def read_choices(options: argparse.Namespace, committed: bool = True) -> dict[str, Any]:
    """The choices of `tune`, and what else holds for parts of the training images.

    Raises:
        InputError: there are none, or, if `committed`, they are not committed as they are.
    """
    choices = table1.read_choices(options.results) | {"parts": []}
    if options.fraction_updates:
        choices["parts"].append(f"--config.train.updates={options.fraction_updates}")
    if committed:
        provenance.check_committed(options.results / CHOICES)
    return choices


def record_campaign(options: argparse.Namespace) -> None:
    """Keeps in the workdir how its runs are made, for later stages and for the page."""
    settings = {name: getattr(options, name) for name in (*SEEDS, "fraction_updates")}
    provenance.record(Path(options.workdir, CAMPAIGN), PROGRAM, options.processes, **settings)


def carry_out(options: argparse.Namespace, planned: Iterable[Run]) -> int:
    """Trains and evaluates the runs that are not done; the exit status, 1 if a run failed."""
    return command_line.report_failures(command_line.train(options, list(planned)))


def check_done(planned: Iterable[Run]) -> None:
    for run in planned:
        if run.workdir.result() is None:
            raise InputError(f"{run.folder} is not done; finish the stage train first")


def train(options: argparse.Namespace) -> int:
    """Trains all arms, with each part of the images its seeds."""
    planned = table1_runs.train(options, read_choices(options))
    record_campaign(options)
    return carry_out(options, itertools.chain(*planned.values()))


def confirm(options: argparse.Namespace) -> int:
    """Trains the pair with the largest gain in mean IoU over *standard* with fresh seeds.

    With *tuned*, whose segmenter has settings of its own, its control is trained as well. The pair
    is chosen once, by all runs of the stage train, and kept in `campaign.json`.
    """
    choices = read_choices(options)
    record_campaign(options)
    path = Path(options.workdir, CAMPAIGN)
    recorded = pages.read_json(path)
    if "confirmed" not in recorded:
        recorded["confirmed"] = largest_gain(options, choices)
        files.write_json(path, recorded)
    arm, fraction = recorded["confirmed"]
    print(f"the largest gain: {arm} with {fraction:g} of the training images")
    names = ("standard", arm, *([CONTROL] if arm == "tuned" else []))
    fresh = table1_runs.plan(options, choices, fraction, options.fresh_seeds, names)
    return carry_out(options, fresh)


def largest_gain(options: argparse.Namespace, choices: Mapping[str, Any]) -> tuple[str, float]:
    """The arm and the part of the images with the largest gain in the stage train."""
    planned = table1_runs.train(options, choices)
    check_done(itertools.chain(*planned.values()))
    rows, _ = table1_runs.collect(planned)
    gains = {
        (arm, fraction): comparison.compare(part, arm, "standard")["mean_iou"]["mean"]
        for fraction, part in table1.by_fraction(rows, vars(options)).items()
        for arm in ARMS[1:]
    }
    return max(gains, key=lambda pair: gains[pair])


def report(options: argparse.Namespace) -> int:
    """Writes the files in `docs/results`, if there is a workdir, and the page."""
    if options.workdir:
        write_files(options, options.results)
    pages.write(options.results, table1_page.render(options.results))
    return 0


def write_files(options: argparse.Namespace, folder: Path) -> None:
    """Writes the files of the page from the runs."""
    choices = read_choices(options)
    planned = table1_runs.train(options, choices)
    shown = [run for run in planned[1.0] if run.seed == options.seeds[0]]
    check_done(shown)
    for fraction, some in planned.items():
        names = (*ARMS, CONTROL)
        some += table1_runs.plan(options, choices, fraction, options.fresh_seeds, names)
    rows, histories = table1_runs.collect(planned)
    drawn = {run.arm: (arms.load_config(run.arguments), run.folder) for run in shown}
    predicted = pictures.predict(drawn, range(table1_page.SHOWN))
    how = pages.read_json(Path(options.workdir, CAMPAIGN)) | table1_runs.cost(options.workdir)
    how["tested_runs"] = len(rows)
    table1.write(folder, rows, histories, how)
    # The photographs and their labels are not ours to publish: they stay in the workdir.
    for target, given in ((folder, False), (Path(options.workdir), True)):
        pictures.draw_labels(target / "figure3.png", *predicted, given=given)
        pictures.draw_probabilities(target / "figure3_probabilities.png", *predicted)
    curves = course.histories(table1.by_fraction(histories, how)[1], ARMS)
    figures.draw_curves(folder / "figure4.png", curves, ["class_accuracy"], "epoch")
    pictures.draw_gain(folder / "gain.png", table1.by_fraction(rows, how))


def repeat(options: argparse.Namespace) -> int:
    """Trains one run of each arm and seed again, on one part of the images; the exit status.

    It is 0 if every measure agrees with `table1.csv` within `TOLERANCE`.
    """
    choices = read_choices(options, committed=False)
    if Path(options.workdir, CAMPAIGN).exists():
        raise InputError(
            f"--workdir={options.workdir} holds the runs that were recorded; choose another folder"
        )
    table = table1.read_rows(options.results, TABLE)
    known = {(row["arm"], row["seed"]): row for row in table if row["fraction"] == options.part}
    planned = table1_runs.plan(options, choices, options.part, options.seeds)
    for run in planned:
        if (run.arm, run.seed) not in known:
            raise InputError(
                f"--seeds: {TABLE} has no run of {run.name} with --part={options.part:g} of the "
                "training images"
            )
    status = carry_out(options, planned)
    if status:
        return status
    worst = 0.0
    for row in runs.results(planned):
        before = known[row["arm"], row["seed"]]
        off = max(abs(row[measure] - before[measure]) for measure in PAPER_MEASURES)
        worst = max(worst, off)
        print(
            f"{row['arm']}, seed {row['seed']}, in %: {describe(row)}; recorded: "
            f"{describe(before)}; largest difference {percent(off, '.4f')}"
        )
    agrees = worst <= TOLERANCE
    print("agrees" if agrees else "DOES NOT AGREE", f"within {percent(TOLERANCE, '.2f')} %")
    return 0 if agrees else 1


STAGES = {"tune": tune, "train": train, "confirm": confirm, "report": report, "repeat": repeat}

if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
