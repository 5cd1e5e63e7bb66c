"""Safetensors from other files of weights, and from the checkpoints of a run."""

import json
import os

from segadv_jax import weights
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.weights import files
from segadv_jax.workdir import Workdir

PLAYERS = ("segmenter", "adversary")


def convert(source: str, target: str) -> str:
    """Writes the weights of the file `source` to `target`; returns what they are.

    Raises:
        InputError: the source is not a file of weights, or not a complete one.
    """
    kind, flat, about = weights.read_any(source)
    if kind != "other":
        weights.check_complete(source, kind, flat)
    elif about.get("format") != files.FORMAT:
        raise InputError(
            f"{source} was not written by segadv_jax: {', '.join(flat)}; give a file that was"
        )
    weights.save(target, flat, {"source": os.path.basename(source)} | about)
    if kind == "dilated8":
        what = f"Dilated-8 of {flat['final/bias'].size} classes"
    else:
        what = "Dilated-8's front end of VGG-16" if kind == "front_end" else "one network"
    return f"{what}: {_count(flat)}"


def export(workdir: Workdir, target: str, player: str) -> str:
    """Writes a player of a run's best checkpoint to `target`; returns what it is.

    If no checkpoint was validated, it is the latest. What the player was trained as is stored
    beside it, as parameters of the same shapes may mean something else.

    Args:
        workdir: of the run.
        target: path of the file.
        player: one of `PLAYERS`. The segmenter is the one that is evaluated, averaged if the run
            averages.

    Raises:
        InputError: the run has no checkpoint, or none that can be read.
    """
    params = step = best = None
    if workdir.has_checkpoints():
        with Checkpoints(workdir) as checkpoints:
            best = checkpoints.best_step()
            step = checkpoints.latest_step() if best is None else best
            if step is not None:
                params = checkpoints.restore_player(player, step)
    if params is None:
        raise InputError(f"{workdir} holds no checkpoint; give the workdir of a run that saved one")
    metadata = {"source": str(workdir), "player": player, "step": str(step)}
    config = workdir.recorded_config()
    if config is not None:
        metadata[player] = json.dumps(config[player])
    weights.save(target, params, metadata)
    chosen = "the latest, none was validated" if best is None else "the best"
    return f"{player} of step {step}, {chosen}: {_count(files.flatten(params))}"


def _count(flat: files.Flat) -> str:
    layers = {name.rpartition("/")[0] for name in flat}
    return f"{len(layers)} layers, {sum(array.size for array in flat.values()):,} parameters"


def check_target(source: str, target: str) -> None:
    """Raises an InputError if `target` cannot be the file to write."""
    if not target.endswith(".safetensors"):
        raise InputError(f"{target}: the target's name must end in .safetensors")
    if os.path.isdir(target):
        raise InputError(f"{target} is a folder; name a file to write")
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise InputError(f"{target} is the source itself; choose another target")
