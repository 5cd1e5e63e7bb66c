"""How fast BF is measured, beside SciPy's exact distance transforms on one core.

On ordinary maps, of two or three classes each as photographs have, and on crowded ones, of all.
"""

import functools
import math
import time

import jax
import numpy as np
from jaxtyping import Float, Integer, UInt8
from scipy import ndimage

from segadv_jax import VOID
from segadv_jax.errors import InputError
from segadv_jax.metrics.boundary import Tolerance, boundary_f

CLASSES = 21  # Of PASCAL VOC.
VOID_WIDTH = 5  # Of the band around its objects.
Map = UInt8[np.ndarray, "H W"]


def ordinary(random: np.random.RandomState, height: int, width: int) -> tuple[Map, Map]:
    """(prediction, label) of one or two objects before a background, roughly predicted."""
    label, predicted = np.zeros((2, height, width), np.uint8)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    for _ in range(random.randint(1, 3)):
        centre, axes = random.uniform(0.2, 0.8, 2), random.uniform(0.1, 0.35, 2)
        down, right = (y - centre[0]) / axes[0], (x - centre[1]) / axes[1]
        waves = np.sin(7 * np.arctan2(down, right))
        kind = random.randint(1, CLASSES)
        label[np.hypot(down, right) < 1 + 0.1 * waves] = kind
        predicted[np.hypot(down - 0.1, right) < 1 + 0.05 * waves] = kind
    apart = ndimage.maximum_filter(label, VOID_WIDTH) != ndimage.minimum_filter(label, VOID_WIDTH)
    label[apart] = VOID
    return predicted, label


def crowded(random: np.random.RandomState, height: int, width: int) -> tuple[Map, Map]:
    """(prediction, label) of smooth regions of all classes; half of them are predicted."""

    def regions(classes):
        noise = random.normal(size=(classes, height // 4, width // 4))
        coarse = ndimage.gaussian_filter(noise, (0, 4, 4)).argmax(0).astype(np.uint8)
        return coarse.repeat(4, 0).repeat(4, 1)

    label, other = regions(CLASSES), regions(CLASSES)
    return np.where(regions(2) == 0, label, other), label


MAPS = {"ordinary": ordinary, "crowded": crowded}


def seconds(
    size: tuple[int, int], batch_size: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """The seconds that a batch takes in each round: {kind of maps: {"ours": ..., "scipy": ...}}.

    Raises:
        InputError: the programs do not find the same.
    """
    sizes = np.tile(np.array(size, np.int32), (batch_size, 1))
    tolerance = Tolerance.of(sizes)
    measure = jax.jit(functools.partial(boundary_f, num_classes=CLASSES, tolerance=tolerance))
    theta = tolerance.theta * math.hypot(*size)

    def ours(predicted, label):
        return np.asarray(measure(predicted.astype(np.int32), label, sizes))

    def scipy(predicted, label):
        pairs = zip(predicted, label, strict=True)
        return np.stack([with_scipy(*pair, CLASSES, theta) for pair in pairs])

    result: dict[str, dict[str, list[float]]] = {}
    for kind, draw in MAPS.items():
        random = np.random.RandomState(0)
        pairs = [draw(random, *size) for _ in range(batch_size)]
        maps = [np.stack(each) for each in zip(*pairs, strict=True)]
        if not np.allclose(ours(*maps), scipy(*maps), atol=1e-5, equal_nan=True):
            raise InputError(f"bf, {kind} maps: F is not what SciPy finds; nothing was timed")
        result[kind] = {"ours": [], "scipy": []}
        for _ in range(rounds):
            for program in (ours, scipy):
                begin = time.perf_counter()
                program(*maps)
                result[kind][program.__name__].append(time.perf_counter() - begin)
    return result


def with_scipy(
    prediction: Integer[np.ndarray, "H W"],
    label: Map,
    num_classes: int,
    theta: float,
    border: str = "outside",
) -> Float[np.ndarray, " C"]:
    """What `metrics.boundary.boundary_f` returns for an image, each class within its own box.

    Theta is in pixels; the border is as there.
    """
    void, result = label == VOID, np.full(num_classes, np.nan)
    beside_void = ndimage.binary_dilation(void)
    for c in np.unique(label[~void]):
        masks = label == c, (prediction == c) & ~void
        (box,) = ndimage.find_objects((masks[0] | masks[1]).astype(np.uint8))
        # With what lies beside the box: only the image's border is a border.
        box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
        true, predicted = (
            mask[box]
            & ~ndimage.binary_erosion(mask[box], border_value=border == "ignore")
            & ~beside_void[box]
            for mask in masks
        )
        if not true.any():
            continue
        result[c] = 0
        if predicted.any():
            recall = np.mean(ndimage.distance_transform_edt(~predicted)[true] < theta)
            precision = np.mean(ndimage.distance_transform_edt(~true)[predicted] < theta)
            if precision + recall:
                result[c] = 2 * precision * recall / (precision + recall)
    return result
