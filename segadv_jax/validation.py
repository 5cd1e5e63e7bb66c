"""What is measured and drawn between two training steps."""

from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from segadv_jax import evaluate, experiment, prediction, visualize
from segadv_jax.data import DataSet, Split
from segadv_jax.eval_step import zero_totals
from segadv_jax.models import Segmenter
from segadv_jax.workdir import CURVES, STRUCTURE

Pictures = dict[str, UInt8[np.ndarray, "h w 3"]]
# How people call the images of each split.
_KINDS = {"validation": "validation", "train": "training"}
_at_pixels = jax.jit(prediction.at_pixels, static_argnames=("shape", "segmenter"))


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
        self._steps = dict.fromkeys(self._splits, evaluate.mapped_step(segmenter))
        self._structure = config.evaluate.history_bf
        if self._structure:
            boundaries = evaluate.boundaries_of(config, validation)
            self._steps["validation"] = evaluate.mapped_step(segmenter, boundaries)
        # More rows would be predicted for nothing.
        self._pictures = min(config.evaluate.pictures, visualize.ROWS, len(validation.ids))
        self._segmenter = segmenter

    def measure(self, params: Any) -> tuple[dict[str, float | None], Pictures]:
        """Measures and draws the segmenter with these parameters, replicated.

        Returns:
            The curves of `history.csv`; and pictures of the "predictions" on the first validation
            images, and of "probabilities".
        """
        measures: dict[str, float | None] = {}
        seen: list[dict[str, Any]] = []  # Batches of validation images, with their logits.
        for name, split in self._splits.items():
            structure = self._structure and name == "validation"
            zeros = zero_totals(len(self._data_set.class_names), structure)

            def step(params, totals, batch, name=name):
                totals, logits = self._steps[name](params, totals, batch)
                if name == "validation" and sum(x["mask"].size for x in seen) < self._pictures:
                    seen.append(batch | {"logits": logits})
                return totals

            totals = evaluate.accumulate(
                step,
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
        return measures, self._draw(seen)

    def _draw(self, seen):
        """Pictures of the first that were seen; of several hosts each has a part of a batch."""

        def together(*arrays):  # Each [devices, rows, ...].
            return np.concatenate([x.reshape(-1, *x.shape[2:]) for x in arrays])

        rows = jax.tree.map(together, *jax.device_get(seen))
        # Those that only fill a batch come last.
        first = np.argsort(-rows["mask"], kind="stable")[: self._pictures]
        names = ("image", "label", "size", "logits")
        image, label, size, logits = (rows[name][first] for name in names)
        at_cells = jax.device_put({"logits": logits, "size": size})
        fixed = {"shape": self._canvas, "segmenter": self._segmenter}
        probabilities = jax.device_get(_at_pixels(**at_cells, **fixed))
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
