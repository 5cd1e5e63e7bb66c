"""Pixel accuracy, class accuracy and intersection over union, from one confusion matrix."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Int32, Integer, UInt8

from segadv_jax import VOID
from segadv_jax.shapes import AnyArray


def confusion_matrix(
    prediction: Integer[AnyArray, "*s"], label: UInt8[AnyArray, "*s"], num_classes: int
) -> Int32[Array, "C C"]:
    """Counts pixels by true (row) and predicted class (column); void pixels count nowhere."""
    index = label.astype(jnp.int32) * num_classes + prediction
    # Void pixels fall into one bin past the end, which is cut off.
    index = jnp.where(label == VOID, num_classes**2, index)
    counts = jnp.bincount(index.reshape(-1), length=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes).astype(jnp.int32)


def measures(confusion: Integer[AnyArray, "C C"]) -> dict[str, Any]:
    """The paper's three measures (Section 4; IoU as PASCAL VOC defines it), and the IoU by class.

    The class accuracy is the mean recall over the classes that occur in the ground truth. The IoU
    of a class that occurs neither there nor in the predictions is NaN and left out of the mean.
    Without a labelled pixel all are NaN.
    """
    counts = np.asarray(confusion, np.float64)
    right, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        recall, iou = right / true, right / (true + predicted - right)
        return {
            "pixel_accuracy": float(right.sum() / true.sum()),
            "class_accuracy": mean_known(recall),
            "mean_iou": mean_known(iou),
            "iou": iou,
        }


def shares(confusion: Integer[AnyArray, "C C"]) -> dict[str, Float64[np.ndarray, " C"]]:
    """Of the labelled pixels, the share of each class: as labelled and as predicted; NaN of none.

    They are "histogram_true" and "histogram_predicted".
    """
    counts = np.asarray(confusion, np.float64)
    with np.errstate(invalid="ignore"):
        return {
            f"histogram_{name}": counts.sum(axis) / counts.sum()
            for name, axis in (("true", 1), ("predicted", 0))
        }


def mean_known(values: Float64[np.ndarray, " C"]) -> float:
    """The mean of those of the classes' values that are defined; NaN if none is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
