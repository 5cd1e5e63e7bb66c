"""The claims of Section 4 that everyone repeats: are they so on Stanford Background?

    python -m tools.ablations train  --workdir=W --archives=FOLDER --processes=2
    python -m tools.ablations report --workdir=W
    python -m tools.ablations report

``train`` trains each arm of ``configs/ablations.py`` with each of --seeds, and then measures the
selected checkpoints on the validation images, where the adversary's verdicts are taken. It goes on
where it was stopped. ``report`` writes ``runs.csv`` and ``campaign.json`` in ``docs/ablations/``
and, from the files there alone, ``docs/ablations.md``; without --workdir it writes the page only.
``notes.md`` there is what people say about it.
"""

import json
import os
import statistics
from pathlib import Path

from configs import ablations as arms_config
from segadv_jax import evaluate, history
from segadv_jax.errors import InputError
from segadv_jax.measures import MEASURES, percent, title
from tools import campaign, command_line, comparison, pool, provenance, results_files, runs

PROGRAM = "tools.ablations"
FOLDER = provenance.ROOT / "docs" / "ablations"
ARMS = tuple(arms_config.ARMS)
VERDICTS = ("accuracy_real", "accuracy_synthetic")
COLUMNS = ("arm", "seed", "split", *MEASURES, "segmenter_updates", *VERDICTS, "push", "lost")

# Claim: what the paper says, the arms that show it, and what the difference would have to be.
CLAIMS = (
    (
        "Slow alternation",
        "We found the second scheme [slow] to led to the most stable training. (Section 4)",
        (("slow", "fast"), ("slow", "simultaneous"), ("fast", "simultaneous")),
    ),
    (
        "Pre-training the adversary",
        "This, however, led to the training to be rapidly instable after just a few epochs in many "
        "experiments. (Section 4)",
        (("fast_pretrained", "fast"), ("slow_pretrained", "slow")),
    ),
    (
        "Encodings",
        "We found that for the basic input encoding, the adversarial does not succeed in perfectly "
        "separating ground-truth and predicted label maps, it rather has a discrimination accuracy "
        "that is comparable to that obtained with the other input encodings. (Section 4)",
        (("product", "simultaneous"), ("scaling", "simultaneous")),
    ),
    (
        "RGB beside the label map",
        "Preliminary experiments in this set-up show no difference when adding the corresponding "
        "RGB image. (Section 3.2, of the basic encoding)",
        (("label_map_rgb", "label_map"),),
    ),
    (
        "The non-saturating term",
        "Preliminary experiments confirmed that this is indeed important in practice to speedup "
        "training. (Section 3.1)",
        (("simultaneous", "saturating"),),
    ),
    (
        "Adversarial training itself",
        "Our experiments show that our adversarial training approach leads to improved accuracy. "
        "(Abstract)",
        tuple((arm, "standard") for arm in ARMS if arm != "standard"),
    ),
)


def plan(workdir, seeds, place):
    """The runs of all arms with all seeds, seed by seed."""
    arms = {arm: (f"--config=configs/ablations.py:{arm}", *place) for arm in ARMS}
    return campaign.plan(workdir, arms, seeds)


def train(options):
    """Trains what is not done and measures on the validation images; whether all went well."""
    place = [f"--config.data.archives={options.archives}"] if options.archives else []
    place += [f"--config.data.data_dir={options.data_dir}"] if options.data_dir else []
    planned = plan(options.workdir, options.seeds, place)
    campaign.make_folder(options.workdir)
    failures = pool.run_all(planned, options.processes)
    campaign.report_failures(failures)
    for run in planned:
        if runs.read_result(run.folder) is not None:
            measure(run.folder)
    path = Path(options.workdir) / results_files.CAMPAIGN
    provenance.record(path, PROGRAM, options.processes, seeds=options.seeds)
    return not failures


def measure(folder):
    """Evaluates a finished run on its validation images, unless that is done."""
    config = runs.read_config(folder)
    path = Path(folder) / "eval" / f"{config.data.validation}.json"
    # A run of an older version has the evaluation, but no verdicts.
    if path.is_file():
        found = json.loads(path.read_text())
        if config.alternation.schedule == "standard" or VERDICTS[0] in found:
            return
    evaluate.evaluate(config, folder, config.data.validation)


def row_of(run):
    """A row of ``runs.csv`` for a finished run, None for one that is not."""
    result = runs.read_result(run.folder)
    if result is None:
        return None
    config = runs.read_config(run.folder)
    path = os.path.join(run.folder, "eval", f"{config.data.validation}.json")
    try:
        with open(path) as file:
            verdicts = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run 'train' again") from error
    row = {"arm": run.arm, "seed": run.seed} | {name: result.get(name) for name in COLUMNS[2:]}
    row |= {name: verdicts.get(name) for name in VERDICTS}
    validations = history.read(os.path.join(run.folder, "history.csv"))
    pushes = [
        v["grad_norm_adversarial"] / v["grad_norm_mce"]
        for v in validations
        if v.get("grad_norm_mce") and "grad_norm_adversarial" in v
    ]
    row["push"] = statistics.mean(pushes) if pushes else None
    means = [v["validation_mean_iou"] for v in validations]
    row["lost"] = max(means) - means[-1]
    return row


def report(options):
    """Writes the files, if there is a workdir, and the page."""
    if options.workdir:
        recorded = results_files.read_json(Path(options.workdir) / results_files.CAMPAIGN)
        planned = plan(options.workdir, recorded["seeds"], ())
        rows = [row for row in map(row_of, planned) if row is not None]
        if len(rows) < len(planned):
            done = {(row["arm"], row["seed"]) for row in rows}
            lacking = [r.name for r in planned if (r.arm, r.seed) not in done]
            raise InputError(f"--workdir={options.workdir} lacks {', '.join(lacking)}: train first")
        results_files.write_csv(FOLDER / "runs.csv", COLUMNS, rows)
        results_files.write_json(FOLDER / results_files.CAMPAIGN, recorded)
    page = render(FOLDER)
    FOLDER.with_suffix(".md").write_text(page)


def read_rows(folder):
    """The rows of ``runs.csv``, numbers as numbers and empty fields as None."""
    path = Path(folder) / "runs.csv"
    try:
        lines = path.read_text().splitlines()
        names = lines[0].split(",")
        if tuple(names) != COLUMNS:
            raise ValueError(f"its columns are not {','.join(COLUMNS)}")
        rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
        return [
            {"arm": r["arm"], "split": r["split"], "seed": int(r["seed"])}
            | {k: float(r[k]) if r[k] else None for k in COLUMNS[3:]}
            for r in rows
        ]
    except (OSError, IndexError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it, or report again") from error


def render(folder):
    """The text of the page, from the files of ``folder``.

    Raises:
        InputError: one of them cannot be read.
    """
    folder = Path(folder)
    rows = read_rows(folder)
    how = results_files.read_json(folder / results_files.CAMPAIGN)
    notes = folder / "notes.md"
    seeds = ", ".join(map(str, how["seeds"]))
    machine = how["machine"]
    lines = [
        "# Ablations",
        "",
        "The claims of Section 4, each on Stanford Background: seven of eight subsets of the "
        "training images, the checkpoint selected on the eighth, measured on the 142 test images. "
        "Images are seen at half size and training is 300 updates (`configs/ablations.py`); what "
        f"a longer one would do is not shown. Seeds {seeds}; commits {', '.join(how['commits'])}; "
        f"{machine['processor']}, {machine['processes']} processes, jax {machine['jax']}.",
        "",
        *(["    " + command for command in how["commands"]]),
        "    python -m tools.ablations report --workdir=W",
        "",
        "Written by the last command from `docs/ablations/`, where `runs.csv` has a row per run. "
        "Differences are paired by seed, with 95 % intervals by Student's t: one that holds zero "
        "leaves the matter open, as it will for small effects with so few seeds.",
        "",
        *([notes.read_text().strip(), ""] if notes.is_file() else []),
        "## Arms",
        "",
        "In %, mean and standard deviation over the seeds. The adversary's accuracies are on real "
        "and on synthetic maps of whole validation images at the selected checkpoint (50 is a "
        "fooled one); *push* is the norm of the adversarial gradient at the logits, lambda in it, "
        "relative to the cross-entropy's, a mean over the validations; *lost* is how far the last "
        "validation's mean IoU lies below the best one's.",
        "",
    ]
    columns = ("mean_iou", "class_accuracy", "pixel_accuracy", *VERDICTS, "push", "lost")
    titles = [title(m) for m in columns[:3]] + ["right on real", "on synthetic", "push", "lost"]
    lines += ["| arm | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(titles)]
    for arm in ARMS:
        spread = comparison.spread([r for r in rows if r["arm"] == arm], columns)
        cells = [
            f"{percent(spread[c]['mean'], '.1f')} ± {percent(spread[c]['std'], '.1f')}"
            if spread[c]["mean"] is not None
            else "-"
            for c in columns
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    for name, sentence, pairs in CLAIMS:
        lines += ["", f"## {name}", "", f"> {sentence}", ""]
        lines += ["| | mean IoU | 95 % interval | by seed |", "| --- | ---: | ---: | --- |"]
        for pair in pairs:
            found = comparison.compare(rows, *pair)["mean_iou"]
            low, high = found["t_interval"] or (None, None)
            by_seed = ", ".join(percent(v, "+.1f") for v in found["differences"].values())
            interval = f"{percent(low, '+.1f')} to {percent(high, '+.1f')}"
            mean = percent(found["mean"], "+.1f")
            lines.append(f"| {' − '.join(pair)} | {mean} | {interval} | {by_seed} |")
    return "\n".join(lines) + "\n"


def main(argv):
    """Runs the command line ``argv``, without the program's name; returns the exit status."""
    parser = command_line.Parser(PROGRAM, __doc__)
    parser.add_argument("stage", choices=("train", "report"))
    parser.add_argument("--workdir", default="", help="folder of the runs")
    parser.add_argument("--archives", default="", help="folder with iccv09Data.tar.gz")
    parser.add_argument("--data_dir", default="", help="where prepared data is kept")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    options = parser.parse_args(argv)
    options.seeds = campaign.parse_seeds(options.seeds)
    campaign.check_processes(options.processes)
    if options.stage == "report":
        report(options)
        return 0
    if not options.workdir:
        raise InputError("--workdir: name a folder for the runs")
    return 0 if train(options) else 1


if __name__ == "__main__":
    command_line.run(main)
