"""Pictures of several finished runs: test images with their predictions, and gains."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from segadv_jax import predictor, visualize
from segadv_jax.campaign import comparison
from segadv_jax.data import Batch, DataSet
from segadv_jax.drawing import WIDTH
from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.metrics import boundary
from segadv_jax.report.figures import style
from segadv_jax.report.table1_files import ARMS, Parts

Maps = dict[str, Float[np.ndarray, "n H W C"]]


def predict(
    runs: Mapping[str, tuple[ConfigDict, PathLike]], rows: Sequence[int], split: str = ""
) -> tuple[DataSet, Batch, Maps]:
    """The images of these `rows`, as far as there are, and {name: class probabilities}.

    They are those of the checkpoint that `config.evaluate.checkpoint` names. All `runs`, {name:
    (config, workdir)}, have the same data; the `split` is by default the first one's test split.
    """
    loaded = {name: predictor.load(c, str(w), views=False) for name, (c, w) in runs.items()}
    predictor.check_alike(list(loaded.values()))
    data_set = next(iter(loaded.values())).data_set
    config, _ = next(iter(runs.values()))
    examples = data_set.read(split or config.data.test)
    there = [row for row in rows if row < len(examples.ids)]
    if not there:
        raise InputError(f"there is no image {rows[0]}, only 0 to {len(examples.ids) - 1}")
    examples = examples.take(there)
    batch = next(examples.eval_batches(batch_size=len(examples.ids), canvas=examples.canvas()))
    maps = {name: one.predict(batch["image"], batch["size"]) for name, one in loaded.items()}
    return data_set, batch, maps


def draw_labels(
    path: PathLike,
    data_set: DataSet,
    batch: Batch,
    maps: Maps,
    given: bool = True,
    width: int = WIDTH,
) -> None:
    """A row per image: image and truth, if they are to be `given`, and each run's prediction."""
    image, label = (batch["image"], batch["label"]) if given else (None, None)
    predictions = {name: each.argmax(-1) for name, each in maps.items()}
    colours = data_set.palette, data_set.class_names
    picture = visualize.prediction_grid(image, label, predictions, batch["size"], *colours, width)
    visualize.save_png(picture, path)


def draw_probabilities(path: PathLike, data_set: DataSet, batch: Batch, maps: Maps) -> None:
    """The probability maps of the first image, by each run."""
    first = np.stack([each[0] for each in maps.values()])
    colours = data_set.palette, data_set.class_names
    picture = visualize.probability_grid(first, [batch["size"][0]] * len(maps), *colours, [*maps])
    visualize.save_png(picture, path)


def draw_boundaries(path: PathLike, batch: Batch, maps: Maps, given: bool = True) -> None:
    """A row per image: it and its truth, if they are to be `given`, each run's boundaries, and how
    certain the run is. Without image and truth, boundaries that follow the truth are black, others
    red.
    """
    args = (batch["image"], batch["label"], maps, batch["size"])
    visualize.save_png(visualize.boundary_grid(*args, given, boundary.PIXELS), path)


def draw_gain(path: Path, parts: Parts) -> None:
    """Draws the gain in mean IoU over *standard* by the part of the training images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(ARMS[1:], 1):
        pairs = {
            x: comparison.compare(part, arm, "standard")["mean_iou"] for x, part in parts.items()
        }
        known = {x: pair for x, pair in pairs.items() if pair["t_interval"] is not None}
        means = np.array([100 * pair["mean"] for pair in known.values()])
        reach = np.array([100 * pair["t_interval"][1] for pair in known.values()]) - means
        at = np.array(list(known)) * 1.02**i  # Side by side.
        axes.errorbar(at, means, reach, capsize=3, label=arm, **style(i))
    axes.axhline(0, color=style(0)["color"], linewidth=1, label="standard")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="part of the training images", ylabel="gain in mean IoU, points")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=80)
