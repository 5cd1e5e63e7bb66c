"""What the classes' shares of the label cells give: weights in training, a shift at test time.

Luc et al. take "the same hyper-parameters as in [7]", Farabet et al., Learning hierarchical
features for scene labeling, TPAMI 2013. Farabet's own program for this network, on SIFT Flow, draws
a class, all equally often, and then a training pixel of that class. In expectation that is the
cross-entropy with weights in inverse proportion to the classes' frequencies, which works with whole
label maps too, as an adversary must see them.
"""

import numpy as np
from jaxtyping import Int64, Integer

from segadv_jax import VOID
from segadv_jax.data import Split, statistics
from segadv_jax.errors import InputError
from segadv_jax.models.geometry import nearest_pixels


def count_cells(
    split: Split, stride: int, offset: float, num_classes: int
) -> Int64[np.ndarray, " C"]:
    """The label cells of each class in whole images, without void; every process counts them all.

    Args:
        split: the images.
        stride: of the segmenter, in pixels, as its
        offset: where its label cells lie.
        num_classes: C.
    """
    counts = np.zeros(VOID + 1, np.int64)
    for label in statistics.read_labels(split):
        nearest = (nearest_pixels(side, stride, offset) for side in label.shape)
        rows, columns = (at[at < side] for at, side in zip(nearest, label.shape, strict=True))
        counts += np.bincount(label[np.ix_(rows, columns)].ravel(), minlength=VOID + 1)
    return counts[:num_classes]


def weights(counts: Integer[np.ndarray, " C"], balance: float, largest: float) -> tuple[float, ...]:
    """A weight for each class, in proportion to its frequency to the power of -balance.

    The mean weight of the cells is 1, so that learning rates and lambda keep their meaning. Classes
    that would have more than the largest weight have just that, and the others share out the rest.
    A class that does not occur has the weight that ever rarer ones approach: the largest.

    Args:
        counts: of `count_cells`.
        balance: 0 leaves the classes as they are (all weights 1), with 1 all count alike.
        largest: the largest weight, 1 or more.

    Raises:
        InputError: there is no cell to count.
    """
    _check(counts, "config.loss.balance")
    frequency = counts / counts.sum()
    with np.errstate(divide="ignore"):
        shape = frequency**-balance
    limited = np.isinf(shape)
    while True:
        free = ~limited
        left = 1 - largest * frequency[limited].sum()  # For the free classes.
        weight = np.full(len(counts), float(largest))
        weight[free] = left / np.sum(frequency[free] * shape[free]) * shape[free]
        above = weight > largest
        if not above.any() or not (free & ~above).any():  # All above: by rounding, where all are 1.
            return tuple(np.minimum(weight, largest).tolist())
        limited |= above


def prior_shift(counts: Integer[np.ndarray, " C"], alpha: float) -> tuple[float, ...]:
    """What is added to the logits at test time: alpha * log f, f the classes' shares; () for 0.

    A segmenter that was trained with weights f^-alpha has learnt as if all classes were that much
    more alike in number; times f^alpha its probabilities are again those of the images as they are
    (Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14(1), 2002, Eq. 2.4; with negative alpha the logit adjustment
    of Menon et al., Long-tail learning via logit adjustment, ICLR 2021, Eq. 9). A class that has
    the largest weight of `weights` is shifted by more than that weight.

    A class that does not occur has the share that one cell would have. A negative alpha, which
    favours rare classes, does not favour it: nothing was learned of it.

    Args:
        counts: of `count_cells`.
        alpha: the power of the shares.

    Raises:
        InputError: there is no cell to count.
    """
    if not alpha:
        return ()
    _check(counts, "config.evaluate.prior_shift")
    shift = alpha * np.log(np.maximum(counts, 1) / counts.sum())
    if alpha < 0:
        shift = np.where(counts > 0, shift, shift.min())
    return tuple(shift.tolist())


def _check(counts, field):
    """Raises an InputError that names the field if there is no cell to count."""
    if not counts.any():
        raise InputError(
            f"{field} needs the classes' frequencies, but the training images have no labels: set "
            "it to 0"
        )
