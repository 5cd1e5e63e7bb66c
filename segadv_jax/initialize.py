"""The state before the first step: drawn by the seed, or from the weights that `init` names."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import traverse_util

from segadv_jax import VOID, files, weights
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.models import SEGMENTERS, Segmenter
from segadv_jax.models.geometry import count_cells
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState, split_frozen
from segadv_jax.weights import description
from segadv_jax.workdir import Workdir

# Classifiers whose weights are a part of a segmenter's, by how `config.init` begins.
_VGG, _EFFICIENTNET_LITE = "vgg", "efficientnet_lite0"


def initialize(
    setup: Setup, seed: int, canvas: tuple[int, int], num_classes: int, init: str = "scratch"
) -> TrainState:
    """The state before the first step, the same segmenter for every arm with the same seed.

    It begins with the weights that `init` names, but for the layers that depend on the number of
    classes: they start anew if that is another one.

    Parameters are initialised with an image of the `canvas` (height, width): any will do.

    Raises:
        InputError: as `pretrained`, or the canvas is too small for the adversary.
    """
    key, module = jax.random.key(seed), setup.segmenter
    segmenter = pretrained(init, shapes(module), module, strict=False)
    segmenter = _draw(module, jax.random.fold_in(key, 0), _example(module, canvas), segmenter)
    adversary: Any = {}
    if setup.adversary is not None:
        adversary = _adversary(setup, jax.random.fold_in(key, 1), canvas, num_classes)
    segmenter, frozen = split_frozen(segmenter, setup.segmenter.frozen)
    params = {SEGMENTER: segmenter, ADVERSARY: adversary}
    average = segmenter if setup.ema else None
    return TrainState(
        jnp.zeros((), jnp.int32), params, setup.optimizer.init(params), average, frozen
    )


def _draw(module, key, arguments, known):
    """`known` with those of its leaves drawn that are mere shapes; the others are not compiled."""
    flat = _flatten(known)
    absent = (name for name, leaf in flat.items() if isinstance(leaf, jax.ShapeDtypeStruct))
    drawn = _drawn(module, key, arguments, tuple(absent))
    return traverse_util.unflatten_dict(flat | drawn, sep="/")


# Jitted: run operation by operation, initialisation takes longer than some trainings.
@functools.partial(jax.jit, static_argnames=("module", "names"))
def _drawn(module, key, arguments, names=None):
    """A module's parameters, or those of these names alone, each as "layer/kernel"."""
    drawn = _flatten(module.init(key, *arguments).get("params", {}))
    return drawn if names is None else {name: drawn[name] for name in names}


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
    seen = jnp.zeros((1, *canvas, 3))
    if setup.adversary.sees == "features":
        seen = jnp.zeros(_features_shape(setup.segmenter, canvas))
    arguments = label_map, seen, jnp.array([canvas], jnp.int32)
    return traverse_util.unflatten_dict(_drawn(setup.adversary, key, arguments), sep="/")


def check_seen(setup: Setup) -> None:
    """Raises an InputError if the adversary is to see features and the segmenter offers none."""
    if setup.adversary is not None and setup.adversary.sees == "features":
        _features_shape(setup.segmenter, (64, 64))


def _features_shape(segmenter, canvas):
    """The shape of what the segmenter lets an adversary see of one image."""
    arguments = _example(segmenter, canvas)

    def features(key):
        variables = segmenter.init(key, *arguments)
        return segmenter.apply(variables, *arguments, method="features")

    try:
        return jax.eval_shape(features, jax.random.key(0)).shape
    except ValueError as error:
        raise InputError(
            f"config.adversary.image_branch is 'features', but {error}: set it to 'pixels', or "
            "choose another segmenter"
        ) from error


def shapes(segmenter: Segmenter) -> Any:
    """The shapes of a segmenter's parameters, without their values."""
    arguments = _example(segmenter, (16, 16))
    return jax.eval_shape(segmenter.init, jax.random.key(0), *arguments)["params"]


def _example(segmenter, canvas):
    """What a segmenter is called with for one image: (f32[1,H+2*margin,W+2*margin,3], i32[1,2])."""
    sides = (side + 2 * segmenter.margin for side in canvas)
    return jnp.zeros((1, *sides, 3)), jnp.array([canvas], jnp.int32)


def _split(init: str) -> tuple[str, str]:
    """(the kind of classifier, its path) that `config.init` names; ("", a network's path)."""
    if init == _EFFICIENTNET_LITE:
        return _EFFICIENTNET_LITE, weights.installed_efficientnet_lite()
    kind, colon, path = init.partition(":")
    return (kind, path) if colon and kind in (_VGG, _EFFICIENTNET_LITE) else ("", init)


def check_init(init: str) -> None:
    """Raises an InputError, before anything long is done, if `config.init` names no weights."""
    if not init:
        raise InputError(
            "config.init is not set: this network is fine-tuned. Set it to the weights of a whole "
            "network: the path of published ones (dilation8_pascal_voc.caffemodel), of those that "
            "'segadv_jax convert_weights SOURCE TARGET.safetensors' wrote, or of a run's folder; "
            "to those of a classifier: vgg:PATH for dilated8, efficientnet_lite0 (installed) or "
            "efficientnet_lite0:PATH for efficientnet_lite0; or to scratch"
        )
    if init == "scratch":
        return
    kind, path = _split(init)
    if not kind and Workdir(path).has_checkpoints():
        return
    try:
        if not files.is_remote(path):
            weights.check(path)
        elif not files.exists(path):
            raise InputError(f"there is no file {path}")
    except InputError as error:
        raise InputError(
            f"config.init is {init!r}: {error}; it is a path, of weights or of the folder of a run "
            "that saved checkpoints, vgg:PATH, efficientnet_lite0[:PATH] or scratch"
        ) from error


def names_a_network(init: str) -> bool:
    """Whether `config.init` is the path of weights of a whole network."""
    return init not in ("", "scratch", _EFFICIENTNET_LITE) and not _split(init)[0]


def pretrained(init: str, params: Any, segmenter: Segmenter, strict: bool = True) -> Any:
    """The segmenter's parameters that `config.init` names.

    Args:
        init: "scratch"; the path of weights for the whole network, converted or original, or of the
            folder of a run, whose selected checkpoint is meant; or "vgg:" and the path of a VGG-16
            classifier, for Dilated-8's front end; or "efficientnet_lite0", for that segmenter's
            backbone, with a colon and a path if the classifier's package is not installed.
        params: their shapes; those that `init` does not name come back as they are.
        segmenter: whose they are; a warning says if the weights were trained with another padding.
        strict: whether a whole network must have the same number of classes. Otherwise the layers
            that depend on it keep `params`.
    """
    check_init(init)
    if init == "scratch":
        return params
    kind, path = _split(init)
    with files.local_copy(path) as local:
        return _load(init, kind, path, local, params, segmenter, strict)


def _load(init, kind, path, local, params, segmenter, strict):
    """As `pretrained`; `local` is where the weights of `path` lie on this machine."""
    if kind == _EFFICIENTNET_LITE:
        return weights.load_efficientnet_lite(local, params)
    if kind == _VGG:
        return weights.load_vgg(local, params)
    flat, trained_as = _read_run(path) if files.is_folder(path) else _read_file(local)
    names = {make: name for name, make in SEGMENTERS.items()}
    ours = names.get(type(segmenter))
    if ours and trained_as.get("name", ours) != ours:
        raise InputError(
            f"config.init is {init!r}, whose segmenter is {trained_as['name']!r}, but "
            f"config.segmenter.name is {ours!r}: set it to that, or choose other weights"
        )
    kept = {} if strict else _kept(flat, params, segmenter)
    rest = {name: leaf for name, leaf in _flatten(params).items() if name not in kept}
    found = {name: array for name, array in flat.items() if name not in kept}
    loaded = weights.fit(path, found, traverse_util.unflatten_dict(rest, sep="/"))
    if not strict:
        _report(path, kept)
    padding = getattr(segmenter, "padding", None)
    if trained_as.get("padding", padding) != padding:
        logging.warning(
            "config.init: these weights were trained with config.segmenter.padding=%s, this "
            "segmenter pads with %r",
            trained_as["padding"],
            padding,
        )
    return traverse_util.unflatten_dict(_flatten(loaded) | kept, sep="/")


def _flatten(tree: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(tree, sep="/")


def _read_file(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters in a file, and the fields of the segmenter that they were trained as."""
    said = weights.metadata(path)
    if said.get("player", "segmenter") != "segmenter":
        raise InputError(f"config.init: {path} is an adversary; export the segmenter")
    try:
        fields = json.loads(said.get("segmenter", "{}"))
        if not isinstance(fields, dict):
            raise ValueError("its segmenter is no JSON object")
    except (ValueError, RecursionError) as error:
        raise description.damaged(path, error, "config.init=RUN") from error
    return weights.read_network(path), fields


def _read_run(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of a run's selected checkpoint."""
    workdir, params = Workdir(folder), None
    with Checkpoints(workdir, to_read=True) as checkpoints:
        step = checkpoints.best_step()
        if step is not None:
            params = checkpoints.restore_player("segmenter", step)
    # Raised within, it would leave the manager's thread behind.
    if params is None:
        raise InputError(
            f"config.init is {folder!r}, a run without a validated checkpoint: train it up to a "
            "validation, or export its latest with 'segadv_jax convert_weights'"
        )
    return _flatten(params), (workdir.recorded_config() or {}).get("segmenter", {})


def _kept(flat: Any, params: Any, segmenter: Segmenter) -> dict[str, Any]:
    """The parameters that start anew because `flat` is of another number of classes.

    These are all whose shapes depend on that number, if one of them has another shape there.
    """
    more = _flatten(shapes(segmenter.clone(num_classes=segmenter.num_classes + 1)))
    ours = _flatten(params)
    kept = {name: leaf for name, leaf in ours.items() if leaf.shape != more[name].shape}
    same = all(name not in flat or flat[name].shape == leaf.shape for name, leaf in kept.items())
    return {} if same else kept


def _report(source: str, kept: dict[str, Any]) -> None:
    """Says which layers are taken from a network and which are not."""
    if not kept:
        logging.info("config.init: all layers are taken from %s", source)
        return
    layers = dict.fromkeys(name.rpartition("/")[0] for name in kept)
    logging.info(
        "config.init: all layers are taken from %s but those whose shapes depend on the number of "
        "classes, which is another one there; these start anew: %s",
        source,
        ", ".join(layers),
    )
