"""The much-repeated claims of Section 4: do they hold on Stanford Background?

    python -m tools.ablations train  --workdir=W --archives=FOLDER --processes=2
    python -m tools.ablations report --workdir=W
    python -m tools.ablations report

`train` trains each arm of `configs/ablations.py` with each of --seeds, and then measures the
selected checkpoints on the validation images, which the adversary judges as well. The same command
resumes a training that was stopped. `report` writes `runs.csv` and `campaign.json` in
`docs/ablations/` and, from the files there alone, `docs/ablations.md`; without --workdir it writes
the page only. `notes.md` there is what people say about it.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from segadv_jax import cli, configuration, files
from segadv_jax.campaign import arms, command_line, provenance
from segadv_jax.campaign.runs import Run
from segadv_jax.errors import InputError
from segadv_jax.evaluate import evaluate
from segadv_jax.report import ablations_page, pages
from segadv_jax.report.ablations_page import ARMS, COLUMNS, RUNS, VERDICTS
from segadv_jax.report.pages import CAMPAIGN

PROGRAM = "tools.ablations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pages.add_arguments(parser, ("train", "report"), "ablations")
    parser.add_argument("--seeds", default="0,1,2", help="as 0,1,2: a run of each arm with each")


def main(options: argparse.Namespace) -> int:
    seeds = arms.parse_seeds(options.seeds)
    if options.overrides:
        raise InputError(f"{options.overrides[0]}: the arms are those of configs/ablations.py")
    if options.stage == "train":
        return train(options, seeds)
    if options.workdir:
        write_files(options)
    pages.write(options.results, ablations_page.render(options.results))
    return 0


def plan(options: argparse.Namespace, seeds: list[int]) -> list[Run]:
    """The runs of all arms with all seeds, seed by seed."""
    data = pages.data_fields(options)
    chosen = {arm: (f"--config=configs/ablations.py:{arm}", *data) for arm in ARMS}
    return arms.plan(options.workdir, chosen, seeds)


def train(options: argparse.Namespace, seeds: list[int]) -> int:
    """Trains what is not done and measures it on the validation images; the exit status."""
    pages.make_workdir(options)
    planned = plan(options, seeds)
    status = command_line.report_failures(command_line.train(options, planned))
    for run in planned:
        if run.workdir.result() is not None:
            config = configuration.recorded(run.workdir)
            if run.workdir.result(config.data.validation) is None:
                evaluate(config, run.folder, config.data.validation)
    path = Path(options.workdir, CAMPAIGN)
    before = pages.read_json(path, ("seeds",))["seeds"] if path.exists() else []
    provenance.record(path, PROGRAM, options.processes, seeds=sorted({*before, *seeds}))
    return status


def write_files(options: argparse.Namespace) -> None:
    """Writes the files of the page from the runs."""
    how = pages.read_json(Path(options.workdir, CAMPAIGN), ("seeds",))
    planned = plan(options, how["seeds"])
    lacking = [run.name for run in planned if run.workdir.result() is None]
    if lacking:
        raise InputError(f"--workdir={options.workdir} lacks {', '.join(lacking)}: train first")
    files.write_csv(options.results / RUNS, COLUMNS, map(row_of, planned))
    files.write_json(options.results / CAMPAIGN, how)


def row_of(run: Run) -> dict[str, Any]:
    """The row of `runs.csv` for a finished run.

    Raises:
        InputError: it was not measured on the validation images, or a file of it is damaged.
    """
    config = configuration.recorded(run.workdir)
    result, verdicts = (run.workdir.result(s) for s in (config.data.test, config.data.validation))
    if result is None or verdicts is None:
        raise InputError(f"{run.folder} has no evaluation on its validation images: train first")
    validations = run.workdir.history()
    pushes = [
        row["grad_norm_adversarial"] / row["grad_norm_mce"]
        for row in validations
        if row.get("grad_norm_mce") and "grad_norm_adversarial" in row
    ]
    scores = [row["validation_mean_iou"] for row in validations]
    row = {name: result.get(name) for name in COLUMNS} | {"arm": run.arm, "seed": run.seed}
    row |= {name: verdicts.get(name) for name in VERDICTS}
    row["push"] = statistics.mean(pushes) if pushes else None
    row["lost"] = max(scores) - scores[-1]
    return row


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
