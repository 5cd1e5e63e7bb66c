"""A batch as both players look at it: augmented, segmented, with the labels of its cells."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from segadv_jax import VOID, prediction
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


class Scene(NamedTuple):
    """A prepared batch, as both players look at it."""

    image: Images  # Without the segmenter's margin.
    size: Sizes
    # Of images without labels, void is where they are not to be seen, and all else of class 0.
    cell_label: CellLabels
    noise_keys: Key[Array, " n"]  # One per row.
    seen: Seen  # What the adversary is shown as the image.
    labelled: int  # The first rows have labels; the others have none.


def prepare(
    state: TrainState, batch: Batch, key: Key[Array, ""], setup: Setup, shards: Shards
) -> tuple[Scene, Callable]:
    """Augments a batch: (Scene, the segmenter on it as a function of its trained parameters).

    The arguments are those of `train_step.train_step`.
    """
    segmenter, labelled = setup.segmenter, len(batch["label"])
    shown = _augment(batch, key, setup, shards)
    if "unlabelled" in batch:
        more, key = batch["unlabelled"], jax.random.fold_in(key, _UNLABELLED)
        there = inside(more["size"], more["image"].shape[1:3])[..., 0]
        shown_more = _augment(more | {"label": jnp.where(there, 0, VOID)}, key, setup, shards)
        shown = jax.tree.map(lambda *rows: jnp.concatenate(rows), shown, shown_more)
    image, size = shown["image"], shown["size"]

    def apply(params, method, *args):
        return segmenter.apply({"params": params | state.frozen}, *args, method=method)

    def segment(params):
        if "embedded" in shown:
            return apply(params, "decide", shown["embedded"], size, shown["dropout_keys"])
        return apply(params, "__call__", image, size, shown["dropout_keys"])

    cell_label = downsample_labels(shown["label"], segmenter.stride, segmenter.offset)
    window = seen = prediction.without_margin(image, segmenter.margin)
    if setup.adversary is not None and setup.adversary.sees == "features":
        # Constants to both players. XLA computes them once, for the segmenter and for this.
        if "embedded" in shown:
            seen = apply(state.params[SEGMENTER], "features_of", shown["embedded"])
        else:
            seen = apply(state.params[SEGMENTER], "features", image, size)
    return Scene(window, size, cell_label, shown["noise_keys"], seen, labelled), segment


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
