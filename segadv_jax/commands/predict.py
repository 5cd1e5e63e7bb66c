"""Predicts photographs with a trained network.

    segadv_jax predict --workdir=runs/mine photograph.jpg --out=predicted
    segadv_jax predict --workdir=runs/mine FOLDER --out=predicted --probabilities
    segadv_jax predict --weights=mine.safetensors FOLDER --out=predicted

The network is that of a run, or of the file that `segadv_jax convert_weights RUN mine.safetensors`
wrote, which needs neither the run nor its data. A folder is searched with all folders in it, linked
ones too, and --out has the same folders. HEIC photographs are named and left out. Of each other
photograph NAME there is then

    NAME.png                the class of each pixel, as its index, in the classes' colours
    NAME_overlay.jpg        the photograph under these colours, with a legend
    NAME_probabilities.npz  with --probabilities: the classes' probabilities as the network saw the
                            photograph, `probabilities` f16[h,w,C], `class_names`, and `size`, the
                            photograph's own height and width

The label map is as large as the photograph and as upright as its camera says. It is what an
evaluation would measure. Results of an earlier call are replaced, other files never.

The exit status is 1 if a photograph could not be read: it is named, and the others are predicted.
"""

import argparse
import collections
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segadv_jax import commands, files, predicted, progress
from segadv_jax.data import photographs
from segadv_jax.data.folder_files import walk
from segadv_jax.errors import InputError
from segadv_jax.predicted import Photograph
from segadv_jax.predictor import Predictor

MULTIPLE = 64  # Of a canvas's sides: few shapes are compiled.
PIXELS = 2**21  # Of a batch, unless one photograph has more.
LARGE = 2000  # Pixels on a side that hardly a network was trained with.
NAME_BYTES = 255  # Of a file's name, on nearly all file systems.
NAMED = 8  # Classes that the summary names.

Job = tuple[Path, Path]  # A photograph, and where its results go, without suffix.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER", help="what to predict")
    commands.add_network_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--probabilities", action="store_true", help="write them as well")
    about = "photographs at once, 4 if not given; fewer where they are large"
    parser.add_argument("--batch_size", type=int, default=4, metavar="N", help=about)
    about = (
        "shrink larger photographs to so many pixels first, 0 for none; as in training if not given"
    )
    parser.add_argument("--longest_side", type=int, metavar="N", help=about)


def main(options: argparse.Namespace) -> int:
    _check(options)
    jobs = _jobs(options.inputs, Path(options.out), options.probabilities)
    trained = commands.network(options)
    files.writable_folder(options.out, "--out")
    longest_side = trained.longest_side if options.longest_side is None else options.longest_side
    shares, done = np.zeros(len(trained.class_names)), 0
    own = trained.palette, trained.class_names, options.probabilities
    with progress.bar("predicting", len(jobs)) as bar:
        read = _read(jobs, longest_side, options.probabilities, bar)
        for target, photograph, probabilities in _predict(trained, read, options.batch_size):
            try:
                labels = predicted.write(target, photograph, probabilities, *own)
            except OSError as error:
                raise InputError(f"--out={options.out} cannot be written: {error}") from error
            shares += np.bincount(labels.ravel(), minlength=len(shares)) / labels.size
            done += 1
            bar.update()
    if done:
        print(f"Classes: {_describe(shares / done, trained.class_names)}")
        results = predicted.paths(Path(options.out, "NAME"), options.probabilities)
        print(f"Results: {', '.join(map(str, results))}")
    failed = len(jobs) - done
    print(
        f"{done} of {len(jobs)} photographs predicted"
        + (f"; {failed} could not be read" if failed else "")
    )
    return 1 if failed else 0


def _check(options):
    """Raises an InputError for arguments that contradict each other or are out of range."""
    commands.check_network(options)
    for name, least in (("batch_size", 1), ("longest_side", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"--{name}={value}: set it to {least} or more")


def _jobs(inputs: Sequence[str], out: Path, probabilities: bool) -> list[Job]:
    """All photographs, and where their results go.

    Two photographs of one folder whose names differ in the suffix only keep it: "a.jpg.png".
    """
    found: dict[Path, tuple[Path, Path]] = {}  # {resolved: (as given, folder of its results)}
    for text in inputs:
        if not text:  # An unset variable of the shell, say: the path would be the current folder.
            raise InputError("the name of a photograph or folder is empty; leave it out")
        for path, folder in _find(Path(text), out):
            found.setdefault(path.resolve(), (path, out / folder))
    stems: dict[str, list[Path]] = {}
    for path, folder in found.values():
        stems.setdefault(str(folder / path.stem).casefold(), []).append(path)
    jobs: list[Job] = []
    taken: dict[str, Path] = {}
    for path, folder in found.values():
        alone = len(stems[str(folder / path.stem).casefold()]) == 1
        target = folder / (path.stem if alone else path.name)
        for result in predicted.paths(target, probabilities):
            other = taken.setdefault(str(result).casefold(), path)
            if other is not path:
                raise InputError(
                    f"{other} and {path} would both become {result}: predict them by two calls, "
                    "each with its own --out, or give the folder above them"
                )
        jobs.append((path, target))
    # Of a link the folder that it lies in, and that of what it leads to.
    within = {path.parent for path in found}
    within |= {path.parent.resolve() for path, _ in found.values()}
    for path, target in jobs:
        if target.parent.resolve() in within:
            raise InputError(
                f"--out={out}: the results of {path} would lie among photographs, in "
                f"{target.parent}; name another folder"
            )
    for _, target in jobs:
        for result in predicted.paths(target, probabilities):
            if os.path.exists(result) and not predicted.is_result(result):
                raise InputError(
                    f"--out={out}: {result} is there, and predict did not write it: name another "
                    "folder"
                )
    return jobs


def _find(given: Path, out: Path) -> list[tuple[Path, Path]]:
    """(photograph, where it lies in the folder that is given) of what an argument names."""
    if os.path.isfile(given):  # False of a name that is too long.
        return [(given, Path())]
    if not os.path.isdir(given):
        raise InputError(f"{given}: there is no such file or folder")
    here, results = given.resolve(), out.resolve()
    if results == here:
        raise InputError(f"--out={out} is the folder of the photographs; name another folder")
    found, others = [], collections.Counter[str]()
    for path in walk(given, checked=False):
        # What earlier calls wrote may lie below the photographs; a pipe would never end.
        if not path.is_file() or predicted.is_result(path):
            continue
        if path.suffix.lower() in (*photographs.SUFFIXES, *photographs.HEIC):
            found.append((path, path.relative_to(given).parent))
        else:
            others[path.suffix.lower()] += 1
    if not found:
        suffixes = ", ".join(photographs.SUFFIXES)
        raise InputError(f"{given}: there are no photographs in this folder ({suffixes})")
    if others:
        kinds = ", ".join(
            f"{count} {suffix or 'without suffix'}" for suffix, count in others.items()
        )
        print(f"left out of {given}, as files of another kind: {kinds}", file=sys.stderr)
    return found


def _read(
    jobs: Iterable[Job], longest_side: int, probabilities: bool, bar: tqdm
) -> Iterator[tuple[Path, Photograph]]:
    """(where its results go, the photograph) of all that can be read; the others are named."""
    warned = False
    for path, target in jobs:
        try:
            _check_name(target, probabilities)
            photograph = predicted.read(path, longest_side)
        except InputError as error:
            tqdm.write(f"left out: {' '.join(str(error).split())}", file=sys.stderr)
            bar.update()
            continue
        if not warned and max(photograph.seen.shape) > LARGE:
            warned = True
            height, width = photograph.size
            tqdm.write(
                f"note: {path} is seen at its {width} x {height} pixels, which takes long and much "
                "memory; most networks do better on smaller ones: --longest_side=512",
                file=sys.stderr,
            )
        yield target, photograph


def _check_name(target: Path, probabilities: bool) -> None:
    """Raises an InputError if the results of a photograph cannot have names made of its own."""
    results = predicted.paths(target, probabilities)
    if max(len(os.fsencode(path.name)) for path in results) > NAME_BYTES:
        raise InputError(f"{target.name}: the names of its results would be too long; rename it")


def _predict(
    trained: Predictor, read: Iterable[tuple[Path, Photograph]], batch_size: int
) -> Iterator[tuple[Path, Photograph, np.ndarray]]:
    """Adds the probabilities f32[h,w,C] to each photograph, as the network sees it.

    Photographs on one canvas make a batch; the last one of a canvas is filled up if that spares
    compiling.
    """
    waiting: dict[tuple[int, int], list[tuple[Path, Photograph]]] = {}
    compiled = set()
    for target, photograph in read:
        sides = photograph.seen.shape[:2]
        height, width = (-(-side // MULTIPLE) * MULTIPLE for side in sides)
        group = waiting.setdefault((height, width), [])
        group.append((target, photograph))
        count = max(1, min(batch_size, PIXELS // (height * width)))
        if len(group) == count:
            compiled.add((height, width))
            yield from _batch(trained, waiting.pop((height, width)), (height, width), count)
    for canvas, group in waiting.items():
        full = max(1, min(batch_size, PIXELS // (canvas[0] * canvas[1])))
        yield from _batch(trained, group, canvas, full if canvas in compiled else len(group))


def _batch(trained, group, canvas, count):
    """Predicts the photographs of a group at once, as a batch of `count` on a canvas."""
    image = np.zeros((count, *canvas, 3), np.uint8)
    size = np.tile(np.array(canvas, np.int32), (count, 1))
    for i, (_, photograph) in enumerate(group):
        height, width = size[i] = photograph.seen.shape[:2]
        image[i, :height, :width] = photograph.seen
    for (target, photograph), maps, (height, width) in zip(
        group, trained.predict(image, size), size, strict=False
    ):
        yield target, photograph, maps[:height, :width]


def _describe(shares, class_names):
    """The classes found, in percent of a photograph on average, the most frequent first."""
    order = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= 0.0005]
    parts = [f"{class_names[i]} {100 * shares[i]:.1f} %" for i in order[:NAMED]]
    more = len(order) - NAMED
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
