"""Pixel accuracy, class accuracy and intersection over union, from one confusion matrix."""

import jax.numpy as jnp
import numpy as np

from segadv_jax import VOID


def confusion_matrix(prediction, label, num_classes):
    """Counts pixels by true and predicted class; void pixels count nowhere.

    Args:
      prediction: integer[...] in 0..C-1.
      label: u8[...], 255 = void.
      num_classes: C.

    Returns:
      i32[C,C], row = true class, column = predicted class.
    """
    index = label.astype(jnp.int32) * num_classes + prediction
    # Void pixels fall into one bin past the end, which is cut off.
    index = jnp.where(label == VOID, num_classes**2, index)
    counts = jnp.bincount(index.reshape(-1), length=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes).astype(jnp.int32)


def measures(confusion):
    """The paper's three measures (Section 4; IoU as PASCAL VOC defines it).

    Args:
      confusion: integer[C,C], row = true class.

    Returns:
      {"pixel_accuracy", "class_accuracy", "mean_iou": float, "iou": f64[C]}. The class accuracy is
      the mean recall over the classes that occur in the ground truth; the IoU of a class that
      occurs neither there nor in the predictions is NaN and left out of the mean. Without a
      labelled pixel all are NaN.
    """
    confusion = np.asarray(confusion, np.float64)
    right, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        recall, iou = right / true, right / (true + predicted - right)
        return {
            "pixel_accuracy": float(right.sum() / true.sum()),
            "class_accuracy": _mean(recall),
            "mean_iou": _mean(iou),
            "iou": iou,
        }


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
