"""From a configuration to the parts of an experiment: the factories.

Beside this module only the loops in ``train.py`` and ``evaluate.py`` see the configuration. A wrong
value is reported by the name of its field.
"""

import dataclasses
import json
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging

from segadv_jax import VOID, alternation, data, encodings, losses, optimizers, weights
from segadv_jax.errors import InputError
from segadv_jax.models import ADVERSARIES, SEGMENTERS
from segadv_jax.models.geometry import count_cells
from segadv_jax.train_state import TrainState

# Fields that give a checkpoint its meaning: which parameters it has, and whose turn its step is.
IDENTITY = (
    "data.name",
    "segmenter",
    "adversary",
    "encoding",
    "alternation",
    "train.ema",
    "optimizer.segmenter.momentum",
    "optimizer.adversary.momentum",
)

# What fields of those meant before they existed: runs of that time can still be gone on with.
ADDED = {
    "init": "scratch",
    "segmenter.shrink": 1,
    "adversary.spectral_norm": False,
    "train.ema": 0.0,
}

# The least value of fields that no factory below would refuse.
AT_LEAST = {
    "seed": 0,
    "train.updates": 1,
    "train.batch_size": 1,
    "train.crop": 0,
    "train.rotation": 0,
    "train.log_every": 1,
    "train.checkpoint_every": 1,
    "train.patience": 0,
    "loss.lam": 0,
    "loss.start": 0,
    "loss.ramp": 0,
    "loss.noise": 0,
    "loss.r1": 0,
    "evaluate.every": 1,
    "evaluate.batch_size": 1,
    "evaluate.train_images": 0,
    "evaluate.pictures": 1,
    "evaluate.tile": 0,
    "optimizer.segmenter.learning_rate": 0,
    "optimizer.adversary.learning_rate": 0,
}


class Experiment(NamedTuple):
    """What a run needs beside its data.

    Attributes:
        alternation: Alternation, whose turn each step is.
        segmenter: Flax module.
        adversary: Flax module; None in the standard arm.
        learning_rates: {player in the game: learning rate as a function of its own updates}.
        step: keyword arguments of ``steps.train_step``, the two modules among them.
    """

    alternation: alternation.Alternation
    segmenter: Any
    adversary: Any
    learning_rates: dict[str, Any]
    step: dict[str, Any]


def load_data(config):
    """The DataSet that the configuration names, prepared."""
    return data.load(
        config.data.name,
        archives=config.data.archives,
        data_dir=config.data.data_dir,
        allow_partial=config.data.allow_partial,
    )


def build_segmenter(config, num_classes):
    """The configuration's segmenter."""
    return _module("segmenter", SEGMENTERS, config.segmenter, num_classes=num_classes)


def in_tiles(segmenter, tile):
    """The segmenter as it is evaluated: on tiles of so many cells, or on whole images for 0."""
    if not tile:
        return segmenter
    if "tile" not in {field.name for field in dataclasses.fields(segmenter)}:
        raise InputError(
            f"config.evaluate.tile is {tile}, but this segmenter takes whole images: set it to 0"
        )
    return _checked("evaluate", segmenter.clone, {"tile": tile})


def check_numbers(config):
    """Raises an InputError that names the first field whose number is out of range."""
    for field, least in AT_LEAST.items():
        value = operator.attrgetter(field)(config)
        if not value >= least:  # NaN is no good either.
            raise InputError(f"config.{field} is {value}: set it to {least} or more")
        if field.startswith("loss.") and not math.isfinite(value):
            raise InputError(f"config.{field} is {value}: set it to a finite number")
    if config.seed >= 2**32:
        raise InputError(f"config.seed is {config.seed}: set it below 2**32")
    for player in (alternation.SEGMENTER, alternation.ADVERSARY):
        momentum = config.optimizer[player].momentum
        if not 0 <= momentum < 1:
            raise InputError(f"config.optimizer.{player}.momentum is {momentum}: set it below 1")
    # With half of the labels turned round, ground truth would count as synthetic.
    for field, limit in (("train.ema", 1), ("loss.smoothing", 0.5)):
        value = operator.attrgetter(field)(config)
        if not 0 <= value < limit:
            raise InputError(f"config.{field} is {value}: set it from 0 to below {limit}")
    fraction = config.data.fraction
    if not 0 < fraction <= 1:
        raise InputError(f"config.data.fraction is {fraction}: set it above 0 and up to 1")
    loss = config.loss
    if config.alternation.schedule != "standard" and loss.start >= config.train.updates:
        raise InputError(
            f"config.loss.start is {loss.start}, but config.train.updates {config.train.updates}: "
            "the adversarial term would never begin; set it lower"
        )
    if loss.saturating and loss.game != "bce":
        raise InputError(f"config.loss.saturating is of the game 'bce', not of {loss.game!r}")
    if loss.smoothing and loss.game == "hinge":
        raise InputError("config.loss.smoothing has no meaning in the game 'hinge': set it to 0")
    scales = config.evaluate.scales
    if not scales or not all(0 < scale <= 8 for scale in scales):
        raise InputError(f"config.evaluate.scales is {scales}: set it to numbers above 0, up to 8")
    scale = config.train.scale
    if not (len(scale) == 2 and 0 < scale[0] <= scale[1]):
        raise InputError(f"config.train.scale is {scale}: set it to (smallest, largest), above 0")


def build(config, num_classes):
    """Builds an Experiment.

    Raises:
        InputError: a field holds what it cannot.
    """
    turns = _checked("alternation", alternation.Alternation, config.alternation)
    standard = turns.schedule == "standard"
    segmenter = build_segmenter(config, num_classes)
    if 0 < config.train.crop < 2 * segmenter.stride:
        raise InputError(
            f"config.train.crop is {config.train.crop}, but a label cell takes {segmenter.stride} "
            f"pixels: set it to {2 * segmenter.stride} or more, or 0 for whole images"
        )
    if segmenter.margin and config.train.crop % segmenter.stride:
        raise InputError(
            f"config.train.crop is {config.train.crop}: set it to a multiple of "
            f"{segmenter.stride}, the pixels of a label cell"
        )
    adversary = None
    if not standard:
        fields = dict(config.adversary)
        adversary = _module("adversary", ADVERSARIES, fields, stride=segmenter.stride)
        least = adversary.least_cells * segmenter.stride
        if 0 < config.train.crop < least:
            raise InputError(
                f"config.train.crop is {config.train.crop}, but without padding this adversary "
                f"sees {least} pixels at once: set it to {least} or more, or "
                "config.adversary.padding to 'same'"
            )
    updates = turns.updates(turns.steps(config.train.updates))
    players, learning_rates = {}, {}
    for player in (alternation.SEGMENTER, alternation.ADVERSARY):
        fields = dict(config.optimizer[player])
        rate = {"learning_rate": fields.pop("learning_rate"), "decay": fields.pop("decay")}
        rate = _checked(f"optimizer.{player}", optimizers.schedule, rate, updates=updates[player])
        players[player] = _checked(
            f"optimizer.{player}", optimizers.sgd, fields, learning_rate=rate
        )
        if player == alternation.SEGMENTER or not standard:
            learning_rates[player] = rate
    step = {
        "segmenter": segmenter,
        "adversary": adversary,
        "encode": encodings.ENCODINGS[_choice("encoding", encodings.ENCODINGS, config.encoding)],
        "optimizer": optimizers.alternate(**players),
        "augment": _augmentation(config.train),
        "reduction": _choice("loss.reduction", losses.REDUCTIONS, config.loss.reduction),
        "game": _choice("loss.game", losses.GAMES, config.loss.game),
        "ema": config.train.ema,
    }
    for field in ("lam", "start", "ramp", "saturating", "smoothing", "noise", "r1"):
        step[field] = config.loss[field]
    return Experiment(turns, segmenter, adversary, learning_rates, step)


def example(segmenter, canvas):
    """What a segmenter is called with for one image: (f32[1,H+2*margin,W+2*margin,3], i32[1,2])."""
    sides = (side + 2 * segmenter.margin for side in canvas)
    return jnp.zeros((1, *sides, 3)), jnp.array([canvas], jnp.int32)


def shapes(segmenter):
    """The shapes of a segmenter's parameters, without their values."""
    arguments = example(segmenter, (16, 16))
    return jax.eval_shape(segmenter.init, jax.random.key(0), *arguments)["params"]


def initialize(experiment, seed, canvas, num_classes, init="scratch"):
    """The state before the first step, the same segmenter for every arm with the same seed.

    Args:
        experiment: of ``build``.
        seed: int.
        canvas: (height, width) in pixels that parameters are initialised with; any will do.
        num_classes: C.
        init: where the segmenter's parameters come from, see ``pretrained``.

    Returns:
        TrainState.

    Raises:
        InputError: as ``pretrained``, or the canvas is too small for the adversary.
    """
    key = jax.random.key(seed)
    # Jitted: run operation by operation, initialisation takes longer than some trainings.
    init_segmenter = jax.jit(experiment.segmenter.init)
    arguments = example(experiment.segmenter, canvas)
    segmenter = init_segmenter(jax.random.fold_in(key, 0), *arguments)["params"]
    segmenter = pretrained(init, segmenter, getattr(experiment.segmenter, "padding", None))
    adversary = {}
    if experiment.adversary is not None:
        cells = (count_cells(pixels, experiment.segmenter.stride) for pixels in canvas)
        probabilities = jnp.zeros((1, *cells, num_classes))
        label = jnp.full(probabilities.shape[:3], VOID, jnp.uint8)
        colours = jnp.zeros((*label.shape, 3))
        label_map, _ = experiment.step["encode"](probabilities, label, colours)
        arguments = label_map, jnp.zeros((1, *canvas, 3)), jnp.array([canvas], jnp.int32)
        least = experiment.adversary.least_cells
        if min(label_map.shape[1:3]) < least:
            raise InputError(
                f"the images' canvas of {canvas[0]}x{canvas[1]} pixels is too small for this "
                f"adversary, which sees {least} label cells at once: set config.adversary.padding "
                "to 'same'"
            )
        init_adversary = jax.jit(experiment.adversary.init)
        adversary = init_adversary(jax.random.fold_in(key, 1), *arguments)["params"]
    params = {"segmenter": segmenter, "adversary": adversary}
    opt_state = experiment.step["optimizer"].init(params)
    average = segmenter if experiment.step["ema"] else None
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state, average)


def check_init(init):
    """Raises an InputError, before anything long is done, if ``config.init`` names no file."""
    if not init:
        raise InputError(
            "config.init is not set: this network is fine-tuned. Set it to the path of pretrained "
            "weights, as they were published (dilation8_pascal_voc.caffemodel) or converted by "
            "'python -m tools.convert_weights dilation8_pascal_voc.caffemodel "
            "dilated8.safetensors'; to vgg:PATH, those of a VGG-16 classifier; or to scratch"
        )
    if init != "scratch":
        try:
            weights.check(init.removeprefix("vgg:"))
        except InputError as error:
            raise InputError(
                f"config.init is {init!r}: {error}; it is a path, vgg:PATH or scratch"
            ) from error


def pretrained(init, params, padding=None):
    """The segmenter's parameters that ``config.init`` names.

    Args:
        init: "scratch"; the path of weights for the whole network, converted or original; or
            "vgg:" and the path of those of a VGG-16 classifier, for Dilated-8's front end.
        params: freshly initialised, or their shapes.
        padding: the segmenter's; a warning says if the weights were trained with another.

    Raises:
        InputError: ``init`` is empty, or the weights cannot be read or are another network's.
    """
    check_init(init)
    if init == "scratch":
        return params
    if init.startswith("vgg:"):
        if "conv1_1" not in params:
            raise InputError(
                f"config.init is {init!r}, but only the segmenter 'dilated8' has a front end that "
                "a VGG-16 fits"
            )
        return weights.load_vgg(init.removeprefix("vgg:"), params)
    said = weights.metadata(init)
    if said.get("player", "segmenter") != "segmenter":
        raise InputError(f"config.init: {init} is an adversary; export the segmenter")
    loaded = weights.load(init, params)
    trained_as = json.loads(said.get("segmenter", "{}")).get("padding", padding)
    if trained_as != padding:
        logging.warning(
            "config.init: these weights were trained with config.segmenter.padding=%s, this "
            "segmenter pads with %r",
            trained_as,
            padding,
        )
    return loaded


def _augmentation(train):
    """The keyword arguments of ``augment``, or None for the images as they are."""
    if not train.augment and not train.crop:
        return None
    crop = {"crop": train.crop or None}
    if not train.augment:
        return crop | {"flip": False, "rotation": 0.0, "scale": (1.0, 1.0)}
    return crop | {"flip": train.flip, "rotation": train.rotation, "scale": tuple(train.scale)}


def _choice(field, choices, value):
    if value not in choices:
        raise InputError(f"config.{field} is {value!r}; known: {', '.join(choices)}")
    return value


def _module(field, modules, fields, **arguments):
    """The module that ``fields.name`` names, made with the other fields that it has."""
    fields = dict(fields)
    name = _choice(f"{field}.name", modules, fields.pop("name"))
    make = modules[name]
    known = {each.name for each in dataclasses.fields(getattr(make, "func", make))}
    strange = sorted(fields.keys() - known)
    if strange:
        raise InputError(
            f"config.{field}.name is {name!r}, which has no {', '.join(strange)}: begin with a "
            "configuration that was made for it, as configs/stanford.py is for multiscale and "
            "two_branch, configs/voc_baseline.py for dilated8 and the other adversaries"
        )
    return _checked(field, make, fields, **arguments)


def _checked(field, make, fields, **arguments):
    """Calls ``make``; what it says of a wrong value is reported with the field's name."""
    try:
        return make(**fields, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"config.{field}: {error}") from error
