"""What is measured and drawn between two training steps."""

import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from segadv_jax import devices, evaluate, experiment, prediction, visualize
from segadv_jax.data import DataSet, Split
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.models import Segmenter
from segadv_jax.workdir import CURVES, STRUCTURE

# How people call the images of each split.
_KINDS = {"validation": "validation", "train": "training"}


class Validator:
    """Measures the segmenter on validation and training images, and draws some predictions.

    The training images are measured as the validation images are, without augmentation; boundaries
    and regions, if they are wanted, on validation images only.
    """

    def __init__(
        self,
        config: ConfigDict,
        data_set: DataSet,
        training: Split,
        validation: Split,
        segmenter: Segmenter,
    ):
        segmenter = experiment.in_tiles(segmenter, config.evaluate.tile)
        self._data_set, self._batch_size = data_set, config.evaluate.batch_size
        self._canvas = shared_canvas(training, validation)
        self._splits = {"validation": validation}
        number = len(training.ids)
        count = min(config.evaluate.train_images, number)
        if count:  # Spread over the split, whose order groups what is alike.
            self._splits["train"] = training.take(np.arange(count) * number // count)
        step = functools.partial(eval_step, segmenter=segmenter)
        self._steps = dict.fromkeys(self._splits, devices.map_eval_step(step))
        self._structure = config.evaluate.history_bf
        if self._structure:
            boundaries = evaluate.boundaries_of(config, validation)
            self._steps["validation"] = devices.map_eval_step(
                functools.partial(step, boundaries=boundaries)
            )
        pictures = config.evaluate.pictures
        self._shown = next(validation.eval_batches(batch_size=pictures, canvas=self._canvas))
        self._predict = jax.jit(
            lambda params: prediction.predict(
                params, self._shown["image"], self._shown["size"], segmenter
            )
        )

    def measure(self, params: Any) -> dict[str, float | None]:
        """The curves of `history.csv` of the segmenter with these parameters, replicated."""
        measures: dict[str, float | None] = {}
        for name, split in self._splits.items():
            structure = self._structure and name == "validation"
            zeros = zero_totals(len(self._data_set.class_names), structure)
            totals = evaluate.accumulate(
                self._steps[name],
                params,
                split,
                zeros,
                self._batch_size,
                self._canvas,
                what=f"measuring {_KINDS[name]} images",
            )
            summary = evaluate.summarize(totals, self._data_set.class_names)
            curves = (*CURVES, *STRUCTURE) if structure else CURVES
            measures |= {f"{name}_{curve}": summary[curve] for curve in curves}
        return measures

    def draw(self, params: Any) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """Pictures of the "predictions" on the first validation images, and of "probabilities"."""
        probabilities = np.asarray(self._predict(jax.device_get(params)))
        image, label, size = (self._shown[name] for name in ("image", "label", "size"))
        own = size, self._data_set.palette, self._data_set.class_names
        predicted = probabilities.argmax(-1)
        return {
            "predictions": visualize.prediction_grid(image, label, predicted, *own),
            "probabilities": visualize.probability_grid(probabilities, *own),
        }


def shared_canvas(training: Split, validation: Split) -> tuple[int, int]:
    """(height, width) of the canvas that both splits fit on."""
    height, width = np.maximum(training.canvas(), validation.canvas()).tolist()
    return height, width
