"""Test images with the predictions of several finished runs, for the eye."""

import functools

import jax
import numpy as np

from segadv_jax import evaluate, experiment, steps, visualize
from segadv_jax.data import pipeline


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
        one = jax.jit(functools.partial(steps.predict, segmenter=segmenter))
        probabilities[name] = np.asarray(one(params, batch["image"], batch["size"]))
    return data_set, batch, probabilities


def draw_labels(path, data_set, batch, probabilities):
    """A row per image: image, truth, then each run's prediction."""
    picture = visualize.comparison_grid(
        batch["image"],
        batch["label"],
        {name: maps.argmax(-1) for name, maps in probabilities.items()},
        batch["size"],
        data_set.palette,
        data_set.class_names,
    )
    visualize.save_png(picture, path)


def draw_probabilities(path, data_set, batch, probabilities, row):
    """A row per run: one image, its truth, the prediction and the map of each class."""
    image, label, size = (np.stack([batch[k][row]] * len(probabilities)) for k in _SHOWN)
    maps = np.stack([each[row] for each in probabilities.values()])
    picture = visualize.prediction_grid(
        image, label, maps.argmax(-1), maps, size, data_set.palette, data_set.class_names
    )
    visualize.save_png(picture, path)


_SHOWN = ("image", "label", "size")
