"""Table 1 of the paper over several seeds: does adversarial training help on Stanford Background?

Three arms, all from ``configs/stanford.py``: *standard*, cross-entropy alone; *printed*, the
adversary as the paper prints it; *tuned*, the best adversarial setting found on the validation
subset. In stages, each of which goes on where it was stopped:

    python -m tools.reproduce_table1 tune    --workdir=W --archives=FOLDER --processes=2
    git add docs/results/choices.json; git commit -m "Choices for Table 1"
    python -m tools.reproduce_table1 train   --workdir=W --archives=FOLDER --processes=2
    python -m tools.reproduce_table1 confirm --workdir=W --archives=FOLDER --processes=2
    python -m tools.reproduce_table1 report  --workdir=W --archives=FOLDER

``tune`` trains every point of the two grids and measures them on the validation subset; the test
images are not read. Its choices have to be committed before ``train`` reads them. ``train`` runs
the arms with --seeds on all training images and with --fraction_seeds, and --fraction_updates at
the most, on parts of them; ``confirm`` repeats the setting with the largest gain with
--fresh_seeds. Later stages take these from the workdir. ``report`` writes
``docs/results/*.csv``, the pictures and, from those files alone, ``docs/results.md``; without
--workdir it writes the page only. One seed of each arm again, beside what is recorded:

    python -m tools.reproduce_table1 repeat  --workdir=W2 --archives=FOLDER --processes=2 --seeds=0

(with --part=0.125 those on an eighth of the images, which is quicker).

What follows "--" are fields of main.py for all runs, before the settings of the arms, such as the
resolution; ``tune`` records them with its choices, the other stages take them from there.
"""

import os
import sys
from pathlib import Path

from segadv_jax import history
from segadv_jax.errors import InputError
from segadv_jax.measures import MEASURES, describe, percent
from tools import (
    campaign,
    command_line,
    comparison,
    pictures,
    pool,
    provenance,
    results_files,
    results_page,
    runs,
)

PROGRAM = "tools.reproduce_table1"
STAGES = ("tune", "train", "confirm", "report", "repeat")
CONFIG = "--config=configs/stanford.py"
# The part of the training images -> the folder of its runs, in the order in which they are made.
FRACTIONS = {1.0: "all", 1 / 8: "eighth", 1 / 4: "quarter", 1 / 2: "half"}
SEEDS = {
    "seeds": "0,1,2,3,4",
    "fraction_seeds": "0,1,2",
    "fresh_seeds": "10,11,12,13,14",
    "tuning_seeds": "100",
}
TOLERANCE = 1e-4  # Of a fraction of pixels, within which a repeated run has to agree.

# Both arms that are tuned get the same number of points, the segmenter's rate among what is tuned.
_RATE = "--config.optimizer.segmenter.learning_rate={}"
GRID = {
    "standard": {f"rate_{rate}": [_RATE.format(rate)] for rate in (0.01, 0.02, 0.03, 0.04)},
    "tuned": {
        "scaling": [_RATE.format(0.02), "--config.encoding=scaling"],
        "scaling_light": [
            _RATE.format(0.03),
            "--config.encoding=scaling",
            "--config.loss.lam=0.03",
        ],
        "product": [_RATE.format(0.02), "--config.encoding=product"],
        "hinge": [
            _RATE.format(0.03),
            "--config.loss.game=hinge",
            "--config.loss.lam=0.02",
            "--config.adversary.spectral_norm=True",
        ],
    },
}


def arguments(arm, choices, fraction, place):
    """The arguments of ``main.py`` for one arm: its configuration, the settings, the data."""
    control = arm == results_files.CONTROL
    fields = [*choices["shared"], *choices["chosen"]["tuned" if control else arm]]
    fields.append(f"--config.data.fraction={fraction}")
    fields += choices["parts"] if fraction < 1 else []
    return _arguments("standard" if control else arm, [*place, *fields])


def _arguments(arm, fields):
    """The configuration of an arm, then the fields; of one that comes twice, the last."""
    variant = "standard" if arm == "standard" else "printed"
    (parsed,) = campaign.parse_arms([f"{arm}={CONFIG}:{variant}"], fields).values()
    return parsed


def plan(workdir, choices, fraction, seeds, place, arms=results_files.ARMS):
    """The runs of the arms on a part of the training images, seed by seed."""
    chosen = {arm: arguments(arm, choices, fraction, place) for arm in arms}
    return campaign.plan(os.path.join(workdir, FRACTIONS[fraction]), chosen, seeds)


def tune(options, place, shared):
    """Trains the grids, measures them on the validation subset, and writes the choices."""
    planned = {}
    folder = os.path.join(options.workdir, "tuning")
    for arm, points in GRID.items():
        for point, fields in points.items():
            # In place of the test images, which are not to be read yet.
            fields = [*place, *shared, *fields, "--config.data.test=subset_7"]
            one = {f"{arm}_{point}": _arguments(arm, fields)}
            planned[arm, point] = campaign.plan(folder, one, options.tuning_seeds)
    train(options, [run for seeds in planned.values() for run in seeds])
    choices = {"shared": list(shared), "seeds": options.tuning_seeds, "grid": {}, "chosen": {}}
    for (arm, point), seeds in planned.items():
        rows = runs.results(seeds)
        entry = {"fields": GRID[arm][point]}
        entry |= {m: sum(row[m] for row in rows) / len(rows) for m in MEASURES}
        choices["grid"].setdefault(arm, {})[point] = entry
    for arm, points in choices["grid"].items():
        best = max(points, key=lambda point: points[point]["mean_iou"])
        choices["chosen"][arm] = points[best]["fields"]
        print(f"{arm}: {best}, on the validation subset in %: {describe(points[best])}")
    # The paper took the hyper-parameters of the segmenter over, with and without adversary.
    choices["chosen"]["printed"] = choices["chosen"]["standard"]
    choices |= {"commit": provenance.commit(), "command": provenance.command(PROGRAM)}
    results_files.write_json(Path(options.results) / results_files.CHOICES, choices)


def read_choices(options, committed=True):
    """The choices of ``tune``, and what else holds for parts of the training images.

    Raises:
        InputError: there are none, or, if ``committed``, they are not committed as they are.
    """
    path = Path(options.results) / results_files.CHOICES
    needed = results_files.NEEDED[results_files.CHOICES]
    choices = results_files.read_json(path, needed) | {"parts": []}
    if options.fraction_updates:
        choices["parts"].append(f"--config.train.updates={options.fraction_updates}")
    if committed:
        if not provenance.git("ls-files", "--", path.name, cwd=path.parent) or provenance.git(
            "status", "--porcelain", "--", path.name, cwd=path.parent
        ):
            raise InputError(f"{path} is not committed; commit it before the test images are read")
    return choices


def train(options, planned):
    """Trains and evaluates the runs that are not done.

    Raises:
        SystemExit: a run failed, with status 1.
    """
    failures = campaign.run_all(options, planned)
    campaign.report_failures(failures)
    if failures:
        sys.exit(1)


def _seeds(options):
    """{part of the training images: its seeds}, in the order in which the runs are made."""
    return dict.fromkeys(FRACTIONS, options.fraction_seeds) | {1.0: options.seeds}


def all_runs(options, choices, place):
    """The runs of the stage train: all arms, with each part of the images its seeds."""
    return [
        run
        for fraction, numbers in _seeds(options).items()
        for run in plan(options.workdir, choices, fraction, numbers, place)
    ]


def confirm(options, choices, place):
    """Trains the pair with the largest gain in mean IoU over *standard* with fresh seeds.

    Beside *tuned*, whose segmenter has settings of its own, its control is trained. The pair is
    chosen once, by all runs of the stage train, and kept in ``campaign.json``.
    """
    path = Path(options.workdir) / results_files.CAMPAIGN
    recorded = results_files.read_json(path)
    if "confirmed" not in recorded:
        for run in all_runs(options, choices, place):
            if runs.read_result(run.folder) is None:
                raise InputError(f"{run.folder} is not done; finish the stage train first")
        rows, gains = collect(options, choices, place)[0], {}
        for fraction, part in results_files.by_fraction(rows, vars(options)).items():
            for arm in results_files.ARMS[1:]:
                gain = comparison.compare(part, arm, "standard")["mean_iou"]["mean"]
                gains[arm, fraction] = gain
        recorded["confirmed"] = max(gains, key=gains.get)
        results_files.write_json(path, recorded)
    arm, fraction = recorded["confirmed"]
    print(f"the largest gain: {arm} with {fraction:g} of the training images")
    arms = ("standard", arm, *([results_files.CONTROL] if arm == "tuned" else []))
    train(options, plan(options.workdir, choices, fraction, options.fresh_seeds, place, arms))


def collect(options, choices, place):
    """Rows of ``table1.csv`` and of ``histories.csv`` for all runs that are done."""
    arms = (*results_files.ARMS, results_files.CONTROL)
    rows, histories = [], []
    for fraction, numbers in _seeds(options).items():
        numbers = [*numbers, *options.fresh_seeds]
        planned = plan(options.workdir, choices, fraction, numbers, place, arms)
        for run in planned:
            for result in runs.results([run]):
                runs.check_arguments(run)
                config = campaign.load_config(run.arguments)
                standard = config.alternation.schedule == "standard"
                row = {"arm": run.arm, "seed": run.seed, "fraction": fraction}
                row["encoding"] = "" if standard else config.encoding
                row["lambda"] = 0.0 if standard else config.loss.lam
                row |= {name: result[name] for name in ("split", *results_files.COLUMNS[5:])}
                rows.append(row)
                for line in history.read(os.path.join(run.folder, "history.csv")):
                    histories.append({k: row[k] for k in ("arm", "seed", "fraction")} | line)
    return rows, histories


def report(options, place):
    """Writes the files in ``docs/results`` and the page."""
    folder = Path(options.results)
    if options.workdir:
        choices = read_choices(options)
        rows, histories = collect(options, choices, place)
        done = plan(options.workdir, choices, 1.0, options.seeds[:1], place)
        for run in done:
            if runs.read_result(run.folder) is None:
                raise InputError(f"{run.folder} is not done; run the stage train first")
        drawn = {run.arm: (campaign.load_config(run.arguments), run.folder) for run in done}
        predicted = pictures.predict(drawn, results_page.SHOWN)
        how = describe_campaign(options, rows)
        results_files.write_csv(folder / results_files.TABLE, results_files.COLUMNS, rows)
        results_files.write_csv(
            folder / results_files.HISTORIES, results_files.HISTORY_COLUMNS, histories
        )
        results_files.write_json(folder / results_files.CAMPAIGN, how)
        # The photographs and their labels are not ours to publish: they stay in the workdir.
        for target, given in ((folder, False), (Path(options.workdir), True)):
            pictures.draw_labels(target / "figure3.png", *predicted, given=given)
            maps = target / "figure3_probabilities.png"
            pictures.draw_probabilities(maps, *predicted, row=0, given=given)
        pictures.draw_curves(folder, rows, histories, how)
    results_page.write(folder)
    print(f"written: {results_page.page_of(folder)} and {folder}")


def describe_campaign(options, rows):
    """How the runs were made, for the page: seeds, machine, hours."""
    recorded = results_files.read_json(Path(options.workdir) / results_files.CAMPAIGN)
    seconds, evaluations = 0.0, list(Path(options.workdir).glob("*/*/seed_*/eval/*.json"))
    for path in evaluations:
        seconds += path.stat().st_mtime - (path.parents[1] / "config.json").stat().st_mtime
    return recorded | {
        "hours": seconds / 3600,
        "runs": len(evaluations),
        "tested_runs": len(rows),
    }


def record_campaign(options):
    """Keeps in the workdir how its runs are made, for later stages and for the page."""
    settings = {name: getattr(options, name) for name in (*SEEDS, "fraction_updates")}
    path = Path(options.workdir) / results_files.CAMPAIGN
    provenance.record(path, PROGRAM, options.processes, **settings)


def repeat(options, choices, place):
    """Trains one run of each arm and seed again, on one part of the images; the exit status.

    It is 0 if every measure agrees with ``table1.csv`` within ``TOLERANCE``.
    """
    if (Path(options.workdir) / results_files.CAMPAIGN).exists():
        raise InputError(
            f"--workdir={options.workdir} holds the runs that were recorded; choose another folder"
        )
    known = results_files.read_csv(
        Path(options.results) / results_files.TABLE, results_files.COLUMNS
    )
    known = {(row["arm"], row["seed"]): row for row in known if row["fraction"] == options.part}
    planned = plan(options.workdir, choices, options.part, options.seeds, place)
    for run in planned:
        if (run.arm, run.seed) not in known:
            raise InputError(
                f"--seeds: {results_files.TABLE} has no run of {run.name} with --part="
                f"{options.part:g} of the training images"
            )
    train(options, planned)
    worst = 0.0
    for row in runs.results(planned):
        before = known[row["arm"], row["seed"]]
        off = max(abs(row[measure] - before[measure]) for measure in MEASURES)
        worst = max(worst, off)
        print(
            f"{row['arm']}, seed {row['seed']}, in %: {describe(row)}; recorded: "
            f"{describe(before)}; largest difference {percent(off, '.4f')}"
        )
    agrees = worst <= TOLERANCE
    print("agrees" if agrees else "DOES NOT AGREE", f"within {percent(TOLERANCE, '.2f')} %")
    return 0 if agrees else 1


def _parse(argv):
    """(options, arguments after "--")."""
    parser = command_line.Parser("tools.reproduce_table1", __doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--workdir", default="", help="folder of the runs")
    parser.add_argument("--archives", default="", help="folder with iccv09Data.tar.gz")
    parser.add_argument("--data_dir", default="", help="where prepared data is kept")
    parser.add_argument(
        "--results", default=str(provenance.ROOT / "docs" / "results"), help="folder to write"
    )
    parser.add_argument("--fraction_updates", type=int, help="of the parts; 0: as on all images")
    parser.add_argument(
        "--part", type=float, default=1.0, choices=FRACTIONS, help="of the images, to repeat"
    )
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    parser.add_argument("--program", default=pool.MAIN, help="what to run instead of main.py")
    for name, seeds in SEEDS.items():
        parser.add_argument(f"--{name}", help=f"as {seeds}, which is the default")
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end]), argv[end + 1 :]


def settle(options):
    """Gives the seeds and budgets their values: of a flag, of an earlier stage, or the default."""
    folder = options.results if options.stage == "repeat" else options.workdir
    recorded = Path(folder) / results_files.CAMPAIGN
    known = results_files.read_json(recorded) if folder and recorded.exists() else {}
    for name, default in SEEDS.items():
        text = getattr(options, name)
        if text is None and name in known:
            seeds = known[name]
        else:
            seeds = campaign.parse_seeds(default if text is None else text, f"--{name}")
        setattr(options, name, seeds)
    if options.fraction_updates is None:
        options.fraction_updates = known.get("fraction_updates", 0)
    if options.fraction_updates < 0:
        raise InputError(f"--fraction_updates={options.fraction_updates}: set it to 0 or more")
    if options.stage == "repeat":  # Any seed there is.
        return
    for name, others in (
        ("fresh_seeds", ("seeds", "fraction_seeds", "tuning_seeds")),
        ("tuning_seeds", ("seeds", "fraction_seeds")),
    ):
        for other in others:
            shared = set(getattr(options, name)) & set(getattr(options, other))
            if shared:
                raise InputError(f"--{name}: {min(shared)} is in --{other} too; choose others")


def main(argv):
    """Runs the command line ``argv``, without the program's name; returns the exit status."""
    options, shared = _parse(argv)
    campaign.check_processes(options.processes)
    place = [f"--config.data.archives={options.archives}"] if options.archives else []
    place += [f"--config.data.data_dir={options.data_dir}"] if options.data_dir else []
    if shared and options.stage != "tune":
        raise InputError(f"{shared[0]}: fields of all runs are given to the stage tune, once")
    if options.stage != "report":
        if not options.workdir:
            raise InputError(f"--workdir: the stage {options.stage} needs a folder for its runs")
        campaign.make_folder(options.workdir)
    settle(options)
    if options.stage == "report":
        report(options, place)
        return 0
    if options.stage == "tune":
        for variant in ("standard", "printed"):  # Before anything is recorded.
            campaign.load_config([f"{CONFIG}:{variant}", *place, *shared])
        record_campaign(options)
        tune(options, place, shared)
        return 0
    if options.stage == "repeat":
        return repeat(options, read_choices(options, committed=False), place)
    choices = read_choices(options)
    record_campaign(options)
    if options.stage == "train":
        train(options, all_runs(options, choices, place))
    else:
        confirm(options, choices, place)
    return 0


if __name__ == "__main__":
    command_line.run(main)
