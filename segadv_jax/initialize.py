"""The state before the first step: drawn by the seed, or from the weights that `init` names."""

import json
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from segadv_jax import VOID, weights
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.errors import InputError
from segadv_jax.models import Segmenter
from segadv_jax.models.geometry import count_cells
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import Setup


def initialize(
    setup: Setup, seed: int, canvas: tuple[int, int], num_classes: int, init: str = "scratch"
) -> TrainState:
    """The state before the first step, the same segmenter for every arm with the same seed.

    Parameters are initialised with an image of the `canvas` (height, width): any will do.

    Raises:
        InputError: as `pretrained`, or the canvas is too small for the adversary.
    """
    key = jax.random.key(seed)
    # Jitted: run operation by operation, initialisation takes longer than some trainings.
    init_segmenter = jax.jit(setup.segmenter.init)
    arguments = _example(setup.segmenter, canvas)
    segmenter = init_segmenter(jax.random.fold_in(key, 0), *arguments)["params"]
    segmenter = pretrained(init, segmenter, getattr(setup.segmenter, "padding", None))
    adversary: Any = {}
    if setup.adversary is not None:
        adversary = _adversary(setup, jax.random.fold_in(key, 1), canvas, num_classes)
    params = {SEGMENTER: segmenter, ADVERSARY: adversary}
    average = segmenter if setup.ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, setup.optimizer.init(params), average)


def _adversary(setup, key, canvas, num_classes):
    """The adversary's first parameters."""
    cells = (count_cells(pixels, setup.segmenter.stride) for pixels in canvas)
    probabilities = jnp.zeros((1, *cells, num_classes))
    label = jnp.full(probabilities.shape[:3], VOID, jnp.uint8)
    label_map, _ = setup.encode(probabilities, label, jnp.zeros((*label.shape, 3)))
    least = setup.adversary.least_cells
    if min(label.shape[1:]) < least:
        raise InputError(
            f"the images' canvas of {canvas[0]}x{canvas[1]} pixels is too small for this "
            f"adversary, which sees {least} label cells at once: set config.adversary.padding "
            "to 'same'"
        )
    arguments = label_map, jnp.zeros((1, *canvas, 3)), jnp.array([canvas], jnp.int32)
    return jax.jit(setup.adversary.init)(key, *arguments).get("params", {})


def shapes(segmenter: Segmenter) -> Any:
    """The shapes of a segmenter's parameters, without their values."""
    arguments = _example(segmenter, (16, 16))
    return jax.eval_shape(segmenter.init, jax.random.key(0), *arguments)["params"]


def _example(segmenter, canvas):
    """What a segmenter is called with for one image: (f32[1,H+2*margin,W+2*margin,3], i32[1,2])."""
    sides = (side + 2 * segmenter.margin for side in canvas)
    return jnp.zeros((1, *sides, 3)), jnp.array([canvas], jnp.int32)


def check_init(init: str) -> None:
    """Raises an InputError, before anything long is done, if `config.init` names no file."""
    if not init:
        raise InputError(
            "config.init is not set: this network is fine-tuned. Set it to the path of pretrained "
            "weights, as they were published (dilation8_pascal_voc.caffemodel) or converted by "
            "'segadv_jax convert_weights dilation8_pascal_voc.caffemodel dilated8.safetensors'; "
            "to vgg:PATH, those of a VGG-16 classifier; or to scratch"
        )
    if init != "scratch":
        try:
            weights.check(init.removeprefix("vgg:"))
        except InputError as error:
            raise InputError(
                f"config.init is {init!r}: {error}; it is a path, vgg:PATH or scratch"
            ) from error


def names_a_network(init: str) -> bool:
    """Whether `config.init` is the path of weights of a whole network."""
    return init not in ("", "scratch") and not init.startswith("vgg:")


def pretrained(init: str, params: Any, padding: str | None = None) -> Any:
    """The segmenter's parameters that `config.init` names.

    Args:
        init: "scratch"; the path of weights for the whole network, converted or original; or
            "vgg:" and the path of those of a VGG-16 classifier, for Dilated-8's front end.
        params: freshly initialised, or their shapes.
        padding: the segmenter's; a warning says if the weights were trained with another.
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
