"""Pictures of several finished runs: test images with their predictions, and curves."""

import functools

import jax
import numpy as np

from segadv_jax import evaluate, experiment, prediction, visualize
from segadv_jax.data import pipeline
from tools import comparison, results_files

_SHOWN = ("image", "label", "size")


def predict(runs, count):
    """Class probabilities of the first test images, by the checkpoint that the validation selected.

    Args:
        runs: {name: (config, workdir)}, all with the same data.
        count: images.

    Returns:
        (DataSet, batch of ``data``, {name: f32[count,H,W,C]}).
    """
    shared, _ = next(iter(runs.values()))
    data_set = experiment.load_data(shared)
    split = pipeline.read_split(data_set.builder, shared.data.test).first(count)
    batch = next(pipeline.eval_batches(split, batch_size=count, canvas=split.canvas()))
    probabilities = {}
    for name, (config, workdir) in runs.items():
        segmenter, params, _ = evaluate.restore_best(config, workdir, data_set)
        one = jax.jit(functools.partial(prediction.predict, segmenter=segmenter))
        probabilities[name] = np.asarray(one(params, batch["image"], batch["size"]))
    return data_set, batch, probabilities


def draw_labels(path, data_set, batch, probabilities, given=True):
    """A row per image: image and truth, if they are to be ``given``, and each run's prediction."""
    picture = visualize.comparison_grid(
        batch["image"] if given else None,
        batch["label"] if given else None,
        {name: maps.argmax(-1) for name, maps in probabilities.items()},
        batch["size"],
        data_set.palette,
        data_set.class_names,
    )
    visualize.save_png(picture, path)


def draw_probabilities(path, data_set, batch, probabilities, row, given=True):
    """A row per run: one image and its truth, if ``given``, the prediction, each class's map."""
    image, label, size = (np.stack([batch[k][row]] * len(probabilities)) for k in _SHOWN)
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


def draw_curves(folder, rows, histories, how):
    """Draws ``figure4.png``, the class accuracy by epoch, and ``gain.png``, the gain by labels."""
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, split in zip(
        figure.subplots(1, 2, sharey=True), ("train", "validation"), strict=True
    ):
        for i, arm in enumerate(results_files.ARMS):
            points = results_files.by_update(results_files.main_rows(histories, how), arm)
            epochs = [epoch for _, epoch, _ in points]
            values = [
                100 * results_files.mean_of(part, f"{split}_class_accuracy") for *_, part in points
            ]
            axes.plot(epochs, values, color=f"C{i}", marker=".", label=arm)
        axes.set(title=split, xlabel="epoch", ylabel="class accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(folder / "figure4.png", dpi=80)

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(results_files.ARMS[1:], 1):
        pairs = {
            fraction: comparison.compare(part, arm, "standard")["mean_iou"]
            for fraction, part in results_files.by_fraction(rows, how).items()
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
    figure.savefig(folder / "gain.png", dpi=80)
