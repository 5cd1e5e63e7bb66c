"""From a configuration to the parts of an experiment: the factories.

A wrong value is reported by the name of its field.
"""

import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from absl import logging
from ml_collections import ConfigDict

from segadv_jax import data, encodings, limits, optimizers
from segadv_jax.alternation import ADVERSARY, SEGMENTER, Alternation
from segadv_jax.augment import Augmentation
from segadv_jax.configuration import fields_of
from segadv_jax.data import DataSet
from segadv_jax.errors import InputError
from segadv_jax.losses import Objective
from segadv_jax.metrics.names import SELECTING
from segadv_jax.models import ADVERSARIES, SEGMENTERS, Adversary, Segmenter
from segadv_jax.models.contracts import offers_features
from segadv_jax.prediction import Views
from segadv_jax.scene import Setup

Made = TypeVar("Made")
Fields: TypeAlias = Mapping[str, Any] | ConfigDict

# What the numbers can be that no part below would refuse.
NUMBERS = {
    "seed": limits.Range(0, 2**32, whole=True, below=True),
    "data.fraction": limits.Range(0, 1, above=True),
    "data.longest_side": limits.SIZE_OR_NONE,
    "train.updates": limits.COUNT,
    "train.crop": limits.SIZE_OR_NONE,
    "train.ema": limits.SHARE,
    "train.batch_size": limits.SIZE,
    "train.unlabelled_batch_size": limits.SIZE_OR_NONE,
    "train.accumulate": limits.SIZE,
    "train.log_every": limits.COUNT,
    "train.checkpoint_every": limits.COUNT,
    "train.patience": limits.COUNT_OR_NONE,
    "train.profile": limits.COUNT_OR_NONE,
    "train.skips": limits.COUNT_OR_NONE,
    "evaluate.every": limits.COUNT,
    "evaluate.batch_size": limits.SIZE,
    "evaluate.train_images": limits.COUNT_OR_NONE,
    "evaluate.pictures": limits.COUNT,
    "evaluate.tile": limits.SIZE_OR_NONE,
    "evaluate.prior_shift": limits.Range(-2, 2),
    "evaluate.temperature": limits.Range(0.01, 100),
    "loss.start": limits.COUNT_OR_NONE,
    "loss.balance": limits.Range(0, 1),
    "loss.largest_weight": limits.Range(1),
} | {
    f"optimizer.{player}.{name}": allowed
    for player in (SEGMENTER, ADVERSARY)
    for name, allowed in {
        "learning_rate": limits.NOT_NEGATIVE,
        "momentum": limits.SHARE,
        "warmup": limits.COUNT_OR_NONE,
        "clip": limits.NOT_NEGATIVE,
        "weight_decay": limits.NOT_NEGATIVE,
    }.items()
}
# Which checkpoint is evaluated: the selected one, the latest, or the best by a measure.
CHECKPOINTS = ("selected", "latest", *SELECTING)
# Of config.data, what is not the data set's own option.
_SPLITS = ("name", "fraction", "unlabelled", "train", "validation", "test")
_TEST = "test"  # The split that is the test split where none is named.
# Of config.loss, what class weights are made of.
_BALANCE = ("balance", "largest_weight")


class Experiment(NamedTuple):
    """What a run needs beside its data."""

    alternation: Alternation  # Whose turn each step is.
    setup: Setup  # Networks, encoding, losses, optimizer: what a training step takes.
    learning_rates: dict[str, Callable]  # Of each player in the game, by its own updates.


def load_data(config: ConfigDict) -> DataSet:
    """The data set that the configuration names, prepared.

    Where `config.data.test` and `config.evaluate.split` are empty, they are set.
    """
    options = {k: v for k, v in config.data.items() if k not in _SPLITS}
    data_set = data.load(config.data.name, **options)
    if not config.data.test:
        config.data.test = _TEST if _TEST in data_set.splits else config.data.validation
        if config.data.test == config.data.validation:
            logging.warning(
                "there is no test split: the evaluation is on the validation images, whose figures "
                "flatter, because they also chose the checkpoint"
            )
    config.evaluate.split = config.evaluate.split or config.data.test
    return data_set


def check_splits(config: ConfigDict, data_set: DataSet) -> None:
    """Raises an InputError if the data set lacks one of the splits, or the split has no labels."""
    for field in ("train", "validation", "test"):  # The last is only needed when all is done.
        data_set.check_labelled(config.data[field], f"data.{field}")


def build_segmenter(config: ConfigDict, num_classes: int) -> Segmenter:
    """The configuration's segmenter."""
    return _module("segmenter", SEGMENTERS, config.segmenter, num_classes=num_classes)


def in_tiles(segmenter: Segmenter, tile: int) -> Segmenter:
    """The segmenter as it is evaluated: on tiles of so many cells, or on whole images for 0."""
    if not tile:
        return segmenter
    if "tile" not in {field.name for field in fields_of(type(segmenter))}:
        raise InputError(
            f"config.evaluate.tile is {tile}, but this segmenter takes whole images: set it to 0"
        )
    return _checked("evaluate", segmenter.clone, {"tile": tile})


def views_of(config: ConfigDict) -> Views:
    """The views over which an evaluation averages, without the shift of their logits.

    Raises:
        InputError: a scale is out of range.
    """
    scales, allowed = config.evaluate.scales, limits.Range(0, 8, above=True)
    _within_limits(limits.check_each, "evaluate.scales", scales, allowed, 1, 32)
    temperature = float(config.evaluate.temperature)
    return Views(bool(config.evaluate.flip), tuple(scales), temperature=temperature)


def check_numbers(config: ConfigDict) -> None:
    """Raises an InputError that names the first field whose number is out of range.

    So does a measure that cannot select the checkpoint.
    """
    for field, allowed in NUMBERS.items():
        _within_limits(limits.check, field, operator.attrgetter(field)(config), allowed)
    start, updates, late = config.loss.start, config.train.updates, _late_terms(config)
    if late and start >= updates:
        raise InputError(
            f"config.loss.start is {start}, but config.train.updates {updates}: the term of "
            f"config.loss.{late[-1]} would never begin; set config.loss.start lower"
        )
    if config.loss.feature_matching and config.alternation.schedule == "standard":
        raise InputError(
            "config.loss.feature_matching needs an adversary, but config.alternation.schedule is "
            "'standard': set it to False, or choose another schedule"
        )
    if config.loss.feature_matching and config.train.accumulate > 1:
        raise InputError(
            "config.loss.feature_matching compares means over a whole batch, but "
            f"config.train.accumulate is {config.train.accumulate}: set that to 1"
        )
    if config.train.unlabelled_batch_size and not config.data.unlabelled:
        raise InputError(
            f"config.train.unlabelled_batch_size is {config.train.unlabelled_batch_size}, but "
            "config.data.unlabelled is empty: name the images, or set it to 0"
        )
    _choice("evaluate.select", SELECTING, config.evaluate.select)
    _choice("evaluate.checkpoint", CHECKPOINTS, config.evaluate.checkpoint)
    _check_unlabelled(config)
    views_of(config)


def begun(config: ConfigDict) -> int:
    """The updates after which all terms of the segmenter's loss have all their weight."""
    return config.loss.start + config.loss.ramp if _late_terms(config) else 0


def _late_terms(config):
    """The weights in config.loss of what begins at config.loss.start."""
    late = [name for name in ("entropy", "pseudo_labels") if config.loss[name]]
    return late + (["lam"] if config.alternation.schedule != "standard" else [])


def _check_unlabelled(config: ConfigDict) -> None:
    """Raises an InputError if images without labels would be of no use, or are missing."""
    using, needing = ["entropy", "pseudo_labels"], ["pseudo_labels"]
    if config.alternation.schedule != "standard":
        using, needing = [*using, "lam_unlabelled"], [*needing, "lam_unlabelled"]
    if config.data.unlabelled and not any(config.loss[name] for name in using):
        idle = config.loss.lam_unlabelled and "config.loss.lam_unlabelled needs an adversary; "
        raise InputError(
            f"config.data.unlabelled is {config.data.unlabelled!r}, but nothing uses these images: "
            f"{idle or ''}set {' or '.join(f'config.loss.{name}' for name in using)}, or leave it "
            "empty"
        )
    for name in needing:
        if config.loss[name] and not config.data.unlabelled:
            raise InputError(
                f"config.loss.{name} is {config.loss[name]}, but there are no images without "
                "labels: set config.data.unlabelled, to 'rest' for instance, or "
                f"config.loss.{name} to 0"
            )


def build(
    config: ConfigDict, num_classes: int, class_weights: tuple[float, ...] = ()
) -> Experiment:
    """Builds an experiment.

    Args:
        config: the configuration.
        num_classes: of the data set.
        class_weights: of the cross-entropy in training, for `config.loss.balance`; () for none.

    Raises:
        InputError: a field holds what it cannot.
    """
    turns = _checked("alternation", Alternation, config.alternation)
    standard = turns.schedule == "standard"
    segmenter, adversary = build_segmenter(config, num_classes), None
    if not standard:
        fields = config.adversary
        adversary = _module("adversary", ADVERSARIES, fields, stride=segmenter.stride)
        if config.loss.feature_matching and not offers_features(adversary):
            raise InputError(
                f"config.loss.feature_matching: the adversary {config.adversary.name} offers no "
                "features to be matched; set it to False, or give it a method `describe`"
            )
    _check_crop(config.train.crop, segmenter, adversary)
    updates = turns.updates(turns.steps(config.train.updates))
    players: dict[str, Any] = {}
    learning_rates: dict[str, Callable] = {}
    for player in (SEGMENTER, ADVERSARY):
        fields = dict(config.optimizer[player])
        chosen = {name: fields.pop(name) for name in ("learning_rate", "decay", "warmup")}
        factor = fields.pop("backbone_factor") if player == SEGMENTER else 1
        where = f"optimizer.{player}"
        rate = _checked(where, optimizers.schedule, chosen, updates=updates[player])
        players[player] = _checked(where, optimizers.player, fields, learning_rate=rate)
        if factor != 1:
            parts = {"backbone_factor": factor, "pretrained": segmenter.pretrained}
            players[player] = _checked(where, optimizers.slow_down, parts, inner=players[player])
        if player == SEGMENTER or not standard:
            learning_rates[player] = rate
    losses = {name: value for name, value in config.loss.items() if name not in _BALANCE}
    objective = _checked("loss", Objective, losses, class_weights=class_weights)
    setup = Setup(
        segmenter,
        adversary,
        encode=encodings.ENCODINGS[_choice("encoding", encodings.ENCODINGS, config.encoding)],
        optimizer=optimizers.alternate(**players),
        objective=objective,
        augmentation=_augmentation(config.train),
        ema=config.train.ema,
        accumulate=config.train.accumulate,
    )
    return Experiment(turns, setup, learning_rates)


def check_worth(objective: Objective, num_classes: int) -> None:
    """Raises an InputError if a term of the loss is on and can have no effect in training."""
    if objective.feature_matching and objective.reduction == "sum":
        raise InputError(
            "config.loss.feature_matching compares means, next to which a sum over all cells "
            "leaves config.loss.lam without effect: set config.loss.reduction to 'mean'"
        )
    smoothing, threshold = objective.label_smoothing, objective.pseudo_threshold
    most = 1 - smoothing + smoothing / num_classes
    if objective.pseudo_labels and smoothing and threshold >= most:
        raise InputError(
            f"config.loss.pseudo_threshold is {threshold}, but with config.loss.label_smoothing = "
            f"{smoothing} no prediction of {num_classes} classes is meant to be more certain than "
            f"{most:.3f}: set one of them lower"
        )


def _check_crop(crop: int, segmenter: Segmenter, adversary: Adversary | None) -> None:
    """Raises an InputError if training patches of this side cannot be used; 0: whole images."""
    stride = segmenter.stride
    if 0 < crop < 2 * stride:
        raise InputError(
            f"config.train.crop is {crop}, but a label cell takes {stride} pixels: set it to "
            f"{2 * stride} or more, or 0 for whole images"
        )
    if segmenter.margin and crop % stride:
        raise InputError(
            f"config.train.crop is {crop}: set it to a multiple of {stride}, the pixels of a label "
            "cell"
        )
    least = adversary.least_cells * stride if adversary else 0
    if 0 < crop < least:
        raise InputError(
            f"config.train.crop is {crop}, but without padding this adversary sees {least} pixels "
            f"at once: set it to {least} or more, or config.adversary.padding to 'same'"
        )


def _augmentation(train: ConfigDict) -> Augmentation | None:
    """What is drawn for each training image, or None for the images as they are."""
    values = {field.name: train[field.name] for field in fields_of(Augmentation)}
    fields = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
    drawn = _checked("train", Augmentation, fields)
    if train.augment:
        return drawn
    return (
        Augmentation(train.crop, flip=False, rotation=0.0, scale=(1.0, 1.0)) if train.crop else None
    )


def _within_limits(check: Callable[..., None], field: str, *arguments: Any) -> None:
    """Calls a check of `limits`; what it says is the user's to mend."""
    try:
        check(f"config.{field}", *arguments)
    except ValueError as error:
        raise InputError(error) from error


def _choice(field: str, choices: Collection[str], value: str) -> str:
    if value not in choices:
        raise InputError(f"config.{field} is {value!r}; known: {', '.join(choices)}")
    return value


def _module(field: str, modules: Mapping[str, Callable], fields: Fields, **arguments: Any) -> Any:
    """The module that `fields.name` names, made with the other fields that it has."""
    fields = dict(fields)
    name = _choice(f"{field}.name", modules, fields.pop("name"))
    known = {each.name for each in fields_of(modules[name])}
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise InputError(
            f"config.{field}.name is {name!r}, which has no {', '.join(unknown)}: begin with a "
            "configuration that was made for it, as configs/stanford.py is for multiscale and "
            "two_branch, configs/stanford_light.py for efficientnet_lite0, configs/voc_baseline.py "
            "for dilated8 and its adversaries"
        )
    return _checked(field, modules[name], fields, **arguments)


def _checked(field: str, make: Callable[..., Made], fields: Fields, **arguments: Any) -> Made:
    """Calls `make`; what it says of a wrong value is reported with the field's name."""
    try:
        return make(**fields, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"config.{field}: {error}") from error
