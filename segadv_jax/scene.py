"""A batch as both players look at it: augmented, segmented, with the labels of its cells."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from segadv_jax import VOID, losses, prediction
from segadv_jax.alternation import SEGMENTER
from segadv_jax.augment import Augmentation, augment, is_flipped
from segadv_jax.devices import Shards
from segadv_jax.losses import Objective
from segadv_jax.models import Adversary, Segmenter
from segadv_jax.models.contracts import Seen
from segadv_jax.models.geometry import downsample_labels, inside
from segadv_jax.shapes import Batch, CellLabels, Images, Sizes
from segadv_jax.train_state import TrainState

# Folded into a batch's key for what is drawn beside the augmentation, which folds in the rows.
_NOISE, _DROPOUT, _UNLABELLED = 2**32 - 1, 2**32 - 2, 2**32 - 3

Rows = dict[str, Any]  # Arrays by name; their first axis is that of the images.
Counts = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a step takes beside its state and its batch; static."""

    segmenter: Segmenter
    adversary: Adversary | None  # None in the standard arm.
    encode: Callable  # One of `encodings.ENCODINGS`.
    optimizer: optax.GradientTransformationExtraArgs  # Of `optimizers.alternate`.
    objective: Objective = Objective()
    augmentation: Augmentation | None = None  # None shows the training images as they are.
    ema: float = 0.0  # Decay of the average of the segmenter's parameters, if the state keeps one.
    # Parts into which each device's rows are split, one after the other: less memory, same step.
    accumulate: int = 1


class Scene(NamedTuple):
    """Prepared images, as both players look at them."""

    image: Images  # Without the segmenter's margin.
    size: Sizes
    # Of images without labels, void is where they are not to be seen, and all else of class 0.
    cell_label: CellLabels
    noise_keys: Key[Array, " n"]  # One per row.
    seen: Seen  # What the adversary is shown as the image.
    labelled: int  # The first rows have labels; the others have none.
    counts: Counts  # Of the whole batch, see `count`.


def prepare(batch: Batch, key: Key[Array, ""], setup: Setup, shards: Shards) -> Rows:
    """The rows of a batch, augmented; those without labels are the last.

    Args:
        batch, key: as those of `train_step.train_step`.
        setup: static.
        shards: numbers the rows, each of which has random numbers of its own.

    Returns:
        {"image", "size", "cell_label", "dropout_keys", "noise_keys"} and perhaps "embedded".
    """
    shown = _augment(batch, key, setup, shards)
    if "unlabelled" in batch:
        more, key = batch["unlabelled"], jax.random.fold_in(key, _UNLABELLED)
        there = inside(more["size"], more["image"].shape[1:3])[..., 0]
        shown_more = _augment(more | {"label": jnp.where(there, 0, VOID)}, key, setup, shards)
        shown = jax.tree.map(lambda *rows: jnp.concatenate(rows), shown, shown_more)
    cells = setup.segmenter.stride, setup.segmenter.offset
    return shown | {"cell_label": downsample_labels(shown.pop("label"), *cells)}


def count(rows: Rows, labelled: int, setup: Setup) -> Counts:
    """What the sums of the losses are to be divided by, by their names; the labels alone tell.

    With an adversary also the number of its "verdicts", and of those without labels.
    """
    cell_label = rows["cell_label"]
    logits = jnp.zeros((*cell_label.shape, setup.segmenter.num_classes))
    terms = setup.objective.own_terms(logits, cell_label, labelled, 0)
    counts = {name: number for name, (_, (_, number)) in terms.items()}
    if setup.adversary is not None:
        weights = jnp.sum(weights_of(setup.adversary, cell_label, rows["size"]), (1, 2))
        counts |= {
            "verdicts": jnp.sum(weights[:labelled]),
            "verdicts_unlabelled": jnp.sum(weights[labelled:]),
        }
    return counts


def weights_of(adversary: Adversary, cell_label: CellLabels, size: Sizes) -> Float[Array, "n p q"]:
    """The weights of an adversary's predictions, see `losses.prediction_weights`."""
    judged = adversary.apply({}, cell_label, size, method="block_labels")
    return losses.prediction_weights(judged, adversary.block)


def split(rows: Rows, labelled: int, parts: int) -> Rows:
    """The rows in so many parts, along a new first axis; each has its share without labels."""

    def parted(x):
        return x.reshape(parts, len(x) // parts, *x.shape[1:])

    return jax.tree.map(
        lambda x: jnp.concatenate([parted(x[:labelled]), parted(x[labelled:])], 1), rows
    )


def look(
    state: TrainState, rows: Rows, labelled: int, counts: Counts, setup: Setup
) -> tuple[Scene, Callable]:
    """Some rows of a batch: (Scene, the segmenter on it as a function of its trained parameters).

    The first rows, so many, are `labelled`.
    """
    segmenter, image, size = setup.segmenter, rows["image"], rows["size"]

    def apply(params, method, *args):
        return segmenter.apply({"params": params | state.frozen}, *args, method=method)

    def segment(params):
        if "embedded" in rows:
            return apply(params, "decide", rows["embedded"], size, rows["dropout_keys"])
        return apply(params, "__call__", image, size, rows["dropout_keys"])

    window = seen = prediction.without_margin(image, segmenter.margin)
    if setup.adversary is not None and setup.adversary.sees == "features":
        # Constants to both players. XLA computes them once, for the segmenter and for this.
        if "embedded" in rows:
            seen = apply(state.params[SEGMENTER], "features_of", rows["embedded"])
        else:
            seen = apply(state.params[SEGMENTER], "features", image, size)
    scene = Scene(window, size, rows["cell_label"], rows["noise_keys"], seen, labelled, counts)
    return scene, segment


def _augment(rows, key, setup, shards):
    """Rows of a batch as they are shown, with a key for dropout and one for noise each."""
    image, label, size = rows["image"], rows["label"].astype(jnp.uint8), rows["size"]
    margin, number = setup.segmenter.margin, len(label)
    shown = {
        "dropout_keys": shards.row_keys(jax.random.fold_in(key, _DROPOUT), number),
        "noise_keys": shards.row_keys(jax.random.fold_in(key, _NOISE), number),
    }
    flipped = jnp.zeros(number, bool)
    if setup.augmentation is None:
        image = prediction.with_margin(image, size, setup.segmenter)
    else:
        keys = shards.row_keys(key, number)
        one = functools.partial(augment, augmentation=setup.augmentation, margin=margin)
        flipped = jax.vmap(functools.partial(is_flipped, augmentation=setup.augmentation))(keys)
        image, label, size = jax.vmap(one)(keys, image, label, size)
    if "embedded" in rows:
        views = rows["embedded"]
        shown["embedded"] = jnp.where(flipped[:, None, None, None], views[:, 1], views[:, 0])
    return shown | {"image": image, "label": label, "size": size}
