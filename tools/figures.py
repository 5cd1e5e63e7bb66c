"""The paper's figures, and some more, drawn from your own finished runs.

    python -m tools.figures FIGURE --out=FOLDER NAME=RUN[,RUN...] ...

Each NAME is that of an arm, as the figure is to call it; behind it stand the folders of its runs,
or a folder in which each run is a folder of its own, as "seed_0" and "seed_1". FIGURE is one of

    encodings      Figure 2: image, truth, prediction, and what each encoding shows the adversary
    segmentations  Figure 3: image, truth, and the prediction of each arm; probabilities apart
    curves         Figure 4: measures on training and validation images, mean and spread over runs
    adversary      the adversary's verdicts over an image, and how often it is right over time
    confusion      what each class is taken for, of all pixels of a split
    difference     class by class, by how much the second of two arms is better than the first

    python -m tools.figures segmentations --out=figures without=runs/standard with=runs/adversarial
    python -m tools.figures curves --out=figures --measures=class_accuracy without=... with=...
    python -m tools.figures difference --out=figures --measure=bf without=... with=...

Pictures of images show --images of the first run of each arm. What `segadv_jax evaluate` measured
is read from its file in the run's folder.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segadv_jax import cli, configuration, drawing, files, visualize
from segadv_jax.errors import InputError
from segadv_jax.report import figures, game_pictures, pictures
from segadv_jax.workdir import Workdir

PROGRAM = "tools.figures"
BY_CLASS = {"iou": "IoU", "bf": "BF", "boundary_iou": "Boundary IoU"}
Arms = Mapping[str, list[Workdir]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("figure", choices=FIGURES, metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("named", nargs="+", metavar="NAME=RUN", help="an arm and its runs")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--images", default="0,1,2", help="which of the split, from 0: 0,1,2")
    parser.add_argument("--split", default="", help="instead of each run's config.data.test")
    parser.add_argument("--width", type=int, default=drawing.WIDTH, help="pixels, segmentations")
    parser.add_argument(
        "--measures", default="class_accuracy,mean_iou,mce", help="columns of history.csv, curves"
    )
    parser.add_argument("--measure", choices=BY_CLASS, default="iou", help="of difference")


def main(options: argparse.Namespace) -> None:
    if options.overrides:
        raise InputError(f"{options.overrides[0]}: a run's configuration is its own")
    arms = read_arms(options.named)
    files.writable_folder(options.out, "--out")
    for path in FIGURES[options.figure](options, arms, Path(options.out)):
        print(path)


def read_arms(named: list[str]) -> dict[str, list[Workdir]]:
    """{name: runs} of "NAME=FOLDER[,FOLDER...]" each."""
    arms: dict[str, list[Workdir]] = {}
    for text in named:
        name, equals, folders = text.partition("=")
        if not equals or not name or not folders:
            raise InputError(f"{text}: give NAME=RUN, a name and the folder of a run")
        if safe(name) in map(safe, arms):
            raise InputError(f"{text}: there are two of that name, or of its file; rename one")
        arms[name] = [run for folder in folders.split(",") for run in find_runs(text, folder)]
    return arms


def find_runs(text: str, folder: str) -> list[Workdir]:
    """The run in a folder, or the runs in the folders there."""
    workdir = Workdir(folder)
    if workdir.config_path.is_file():
        return [workdir]
    inside = sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
    found = [Workdir(path) for path in inside if Workdir(path).config_path.is_file()]
    if not found:
        raise InputError(f"{text}: no run is in {folder}; train one there first")
    return found


def rows_of(options: argparse.Namespace) -> list[int]:
    """The numbers of --images."""
    numbers = options.images.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise InputError(f"--images={options.images}: give numbers, as 0,1,2")
    return [int(number) for number in numbers]


def draw_encodings(options: argparse.Namespace, arms: Arms, out: Path) -> list[Path]:
    return [
        draw_looked(game_pictures.draw_encodings, options, run, path)
        for run, path in first_runs(arms, out, "encodings")
    ]


def draw_adversary(options: argparse.Namespace, arms: Arms, out: Path) -> list[Path]:
    chart = out / "adversary_accuracy.png"
    figures.draw_game(chart, histories(arms))
    playing = {name: runs for name, runs in arms.items() if has_adversary(runs[0])}
    return [chart] + [
        draw_looked(game_pictures.draw_verdicts, options, run, path)
        for run, path in first_runs(playing, out, "adversary")
    ]


def draw_looked(draw: Any, options: argparse.Namespace, run: Workdir, path: Path) -> Path:
    looked = game_pictures.look(run.folder, rows_of(options), options.split)
    visualize.save_png(draw(looked), path)
    return path


def draw_segmentations(options: argparse.Namespace, arms: Arms, out: Path) -> list[Path]:
    runs = {name: (configuration.recorded(runs[0]), runs[0].folder) for name, runs in arms.items()}
    if options.width < 300:
        raise InputError(f"--width={options.width}: set it to 300 or more")
    rows = rows_of(options)
    predicted = pictures.predict(runs, rows, options.split)
    number = len(predicted[1]["id"])
    if number < len(rows):
        print(f"warning: only {number} of --images={options.images} are there", file=sys.stderr)
    paths = [out / "segmentations.png", out / "segmentations_probabilities.png"]
    pictures.draw_labels(paths[0], *predicted, width=options.width)
    pictures.draw_probabilities(paths[1], *predicted)
    return paths


def draw_curves(options: argparse.Namespace, arms: Arms, out: Path) -> list[Path]:
    path = out / "curves.png"
    figures.draw_curves(path, histories(arms), options.measures.split(","))
    return [path]


def draw_confusion(options: argparse.Namespace, arms: Arms, out: Path) -> list[Path]:
    paths = []
    for name, runs in arms.items():
        results = [evaluation(options, run, "confusion") for run in runs]
        counts = np.sum([np.array(result["confusion"], np.int64) for result in results], 0)
        paths.append(out / f"{stem('confusion', name, arms)}.png")
        figures.draw_confusion(paths[-1], counts, list(results[0]["iou"]), name)
    return paths


def draw_difference(options: argparse.Namespace, arms: Arms, out: Path) -> list[Path]:
    if len(arms) != 2:
        raise InputError(f"difference takes two arms, not {len(arms)}: NAME=RUN NAME=RUN")
    before, after = (by_seed(options, runs) for runs in arms.values())
    pairs = [(before[seed], after[seed]) for seed in sorted(before.keys() & after.keys())]
    if len(before) == len(after) == 1:  # Whatever their seeds.
        pairs = list(zip(before.values(), after.values(), strict=True))
    if not pairs:
        raise InputError("the two arms have no seed in common: their runs cannot be paired")
    differences: dict[str, list[float]] = {name: [] for name in pairs[0][0]}
    for one, other in pairs:
        if one.keys() != other.keys():
            raise InputError("the two arms have other classes: name runs on the same data")
        for name, value in one.items():
            if value is not None and other[name] is not None:
                differences[name].append(100 * (other[name] - value))
    path, (first, second) = out / f"difference_{options.measure}.png", arms
    figures.draw_difference(path, differences, (first, second), BY_CLASS[options.measure])
    return [path]


def by_seed(options: argparse.Namespace, runs: list[Workdir]) -> dict[int, dict[str, Any]]:
    """{seed: {class: measure}} of runs."""
    seeds = [configuration.recorded(run).seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{runs[0]} and others of that arm have the same seed: name one of them")
    measured = [evaluation(options, run, options.measure)[options.measure] for run in runs]
    return dict(zip(seeds, measured, strict=True))


def evaluation(options: argparse.Namespace, run: Workdir, needed: str) -> dict[str, Any]:
    """What `evaluate` measured of a run on --split."""
    split = options.split or configuration.recorded(run).data.test
    result = run.evaluation(split)
    if result is None or needed not in result:
        lacking = run.evaluation_path(split) if result is None else f"{needed} of {split}"
        again = f"segadv_jax evaluate --workdir={run} --config.evaluate.split={split}"
        again += " --config.evaluate.bf=True" if needed in ("bf", "boundary_iou") else ""
        raise InputError(f"{run} lacks {lacking}: measure it with `{again}`")
    return result


def histories(arms: Arms) -> dict[str, list]:
    return {name: [run.history() for run in runs] for name, runs in arms.items()}


def has_adversary(run: Workdir) -> bool:
    return configuration.recorded(run).alternation.schedule != "standard"


def first_runs(arms: Arms, out: Path, figure: str) -> list[tuple[Workdir, Path]]:
    """The first run of each arm, and where its picture goes."""
    return [(runs[0], out / f"{stem(figure, name, arms)}.png") for name, runs in arms.items()]


def stem(figure: str, name: str, arms: Arms) -> str:
    """A file's name without its suffix: that of the figure, and of the arm if there are more."""
    return figure if len(arms) == 1 else f"{figure}_{safe(name)}"


def safe(name: str) -> str:
    """A name as a part of a file's."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name)


FIGURES = {
    "encodings": draw_encodings,
    "segmentations": draw_segmentations,
    "curves": draw_curves,
    "adversary": draw_adversary,
    "confusion": draw_confusion,
    "difference": draw_difference,
}

if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
