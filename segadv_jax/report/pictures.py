"""Pictures of several finished runs: test images with their predictions, and curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from segadv_jax import files, predictor, visualize
from segadv_jax.campaign import comparison
from segadv_jax.data import Batch, DataSet
from segadv_jax.report import table1_files as table1
from segadv_jax.report.page_files import Row
from segadv_jax.report.table1_files import ARMS

Probabilities = dict[str, Float[np.ndarray, "n H W C"]]


def predict(
    runs: Mapping[str, tuple[ConfigDict, files.PathLike]], count: int
) -> tuple[DataSet, Batch, Probabilities]:
    """Class probabilities of the first test images, by the checkpoint that the validation selected.

    Args:
        runs: {name: (config, workdir)}, all with the same data.
        count: of images.

    Returns:
        (data set, batch of its images, {name: what the run predicts for them}).
    """
    loaded = {name: predictor.load(c, str(w), views=False) for name, (c, w) in runs.items()}
    data_set = next(iter(loaded.values())).data_set
    config, _ = next(iter(runs.values()))
    split = data_set.read(config.data.test)
    split = split.take(range(min(count, len(split.ids))))
    batch = next(split.eval_batches(batch_size=len(split.ids), canvas=split.canvas()))
    probabilities = {
        name: one.predict(batch["image"], batch["size"]) for name, one in loaded.items()
    }
    return data_set, batch, probabilities


def draw_labels(
    path: files.PathLike,
    data_set: DataSet,
    batch: Batch,
    probabilities: Probabilities,
    given: bool = True,
) -> None:
    """A row per image: image and truth, if they are to be `given`, and each run's prediction."""
    picture = visualize.comparison_grid(
        batch["image"] if given else None,
        batch["label"] if given else None,
        {name: maps.argmax(-1) for name, maps in probabilities.items()},
        batch["size"],
        data_set.palette,
        data_set.class_names,
    )
    visualize.save_png(picture, path)


def draw_probabilities(
    path: files.PathLike,
    data_set: DataSet,
    batch: Batch,
    probabilities: Probabilities,
    row: int,
    given: bool = True,
) -> None:
    """A row per run: one image and its truth, if `given`, the prediction, each class's map."""
    number = len(probabilities)
    image, label, size = (np.stack([batch[k][row]] * number) for k in ("image", "label", "size"))
    maps = np.stack([each[row] for each in probabilities.values()])
    picture = visualize.prediction_grid(
        image if given else None,
        label if given else None,
        maps.argmax(-1),
        maps,
        size,
        data_set.palette,
        data_set.class_names,
    )
    visualize.save_png(picture, path)


def draw_curves(path: Path, histories: list[Row], how: Mapping[str, Any]) -> None:
    """Draws the class accuracy on training and validation images by epoch."""
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, split in zip(both, ("train", "validation"), strict=True):
        for i, arm in enumerate(ARMS):
            points = table1.by_update(table1.main_rows(histories, how), arm)
            epochs = [epoch for _, epoch, _ in points]
            means = [table1.mean_of(part, f"{split}_class_accuracy") for *_, part in points]
            values = [np.nan if mean is None else 100 * mean for mean in means]
            axes.plot(epochs, values, color=f"C{i}", marker=".", label=arm)
        axes.set(title=split, xlabel="epoch", ylabel="class accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=80)


def draw_gain(path: Path, rows: list[Row], how: Mapping[str, Any]) -> None:
    """Draws the gain in mean IoU over *standard* by the part of the training images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(ARMS[1:], 1):
        pairs = {
            fraction: comparison.compare(part, arm, "standard")["mean_iou"]
            for fraction, part in table1.by_fraction(rows, how).items()
        }
        known = {x: pair for x, pair in pairs.items() if pair["t_interval"] is not None}
        means = np.array([100 * pair["mean"] for pair in known.values()])
        reach = np.array([100 * pair["t_interval"][1] for pair in known.values()]) - means
        at = np.array(list(known)) * 1.02**i  # Side by side.
        axes.errorbar(at, means, reach, color=f"C{i}", marker="o", capsize=3, label=arm)
    axes.axhline(0, color="C0", linewidth=1, label="standard")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="part of the training images", ylabel="gain in mean IoU, points")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=80)
