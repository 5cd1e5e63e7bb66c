"""Writes weights as a .safetensors file, which --config.init and other programs read.

    python -m tools.convert_weights dilation8_pascal_voc.caffemodel dilated8.safetensors
    python -m tools.convert_weights VGG_ILSVRC_16_layers.caffemodel vgg16.safetensors
    python -m tools.convert_weights runs/voc/adversarial segmenter.safetensors
    python -m tools.convert_weights runs/voc/adversarial adversary.safetensors --player=adversary

The source is
- the released Dilated-8: the target is the complete network, for --config.init=TARGET;
- a VGG-16 classifier, of Caffe (.caffemodel), Keras (.h5), torchvision or timm (.safetensors): the
  target is Dilated-8's front end, conv1_1 to fc7, for --config.init=vgg:TARGET;
- the workdir of a run: the target is a player of the best checkpoint, or of the latest if none was
  validated;
- a .safetensors file of one of these: it is checked and written anew.

Kernels are f32[kh,kw,I,O], the input is RGB in 0..255 minus the mean that the segmenter subtracts.
The exit status is 0, or 2 if there is nothing to convert.
"""

import json
import os

import jax
import orbax.checkpoint as ocp

from segadv_jax import checkpoints, weights
from segadv_jax.errors import InputError
from segadv_jax.weights import files
from tools import command_line

PLAYERS = ("segmenter", "adversary")


def convert(source, target):
    """Writes the weights of the file ``source`` to ``target``; returns what to say of them.

    Raises:
        InputError: the source is no file of weights, or not a complete one.
    """
    kind, flat, metadata = weights.read_any(source)
    if kind == "other":
        if metadata.get("format") != files.FORMAT:
            raise InputError(
                f"{source} is no file of ours: {', '.join(flat)}; give one that this wrote"
            )
    else:
        weights.check_complete(source, kind, flat)
    weights.save(target, flat, {"source": os.path.basename(source)} | metadata)
    said = {"front_end": "Dilated-8's front end of VGG-16", "other": "one network"}
    if kind == "dilated8":
        said[kind] = f"Dilated-8 of {flat['final/bias'].size} classes"
    return f"{said[kind]}: {describe(flat)}"


def export(workdir, target, player):
    """Writes a player of a run's best checkpoint to ``target``; returns what to say of it.

    Args:
        workdir: folder of the run.
        target: path of the file.
        player: one of PLAYERS. The segmenter is the one that is evaluated, averaged if the run
            averages.

    Raises:
        InputError: the folder holds no checkpoint, or none that can be read.
    """
    if not os.path.isdir(os.path.join(workdir, "checkpoints")):
        raise InputError(f"{workdir} is a folder without checkpoints; give the workdir of a run")
    with checkpoints.open_manager(workdir) as manager:
        best = manager.best_step()
        step = manager.latest_step() if best is None else best
        if step is None:
            raise InputError(f"{workdir} holds no checkpoint yet; train up to one")
        folder = os.path.join(str(manager.directory), str(step))
    item = "segmenter" if player == "segmenter" else "training"
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(os.path.join(folder, item))
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"the checkpoint {folder} cannot be read ({reason})") from error
    params = jax.device_get(params if player == "segmenter" else params["adversary"])
    metadata = {"source": workdir, "player": player, "step": str(step)}
    recorded = os.path.join(workdir, "config.json")
    if os.path.exists(recorded):
        # What it was trained as: parameters of the same shapes may mean something else.
        with open(recorded) as file:
            metadata[player] = json.dumps(json.load(file)[player])
    weights.save(target, params, metadata)
    chosen = "the latest, none was validated" if best is None else "the best"
    return f"{player} of step {step}, {chosen}: {describe(files.flatten(params))}"


def describe(flat):
    """Number of layers and parameters of {"layer/kernel": array}, in words."""
    layers = {name.rpartition("/")[0] for name in flat}
    return f"{len(layers)} layers, {sum(array.size for array in flat.values()):,} parameters"


def main(argv):
    """Runs the command line ``argv``, without the program's name."""
    parser = command_line.Parser("tools.convert_weights", __doc__)
    parser.add_argument("source", help="file of weights, or workdir of a run")
    parser.add_argument("target", help="file to write, .safetensors")
    parser.add_argument("--player", choices=PLAYERS, help="of a run; the segmenter if not given")
    options = parser.parse_args(argv)
    source, target = options.source, options.target
    if not target.endswith(".safetensors"):
        raise InputError(f"{target}: the target's name must end in .safetensors")
    if os.path.isdir(target):
        raise InputError(f"{target} is a folder; name a file to write")
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise InputError(f"{target} is the source itself; choose another target")
    if os.path.isdir(source):
        said = export(source, target, options.player or "segmenter")
    elif options.player:
        raise InputError(f"--player={options.player}: {source} is no workdir of a run")
    else:
        said = convert(source, target)
    print(f"{target}: {said}")


if __name__ == "__main__":
    command_line.run(main)
