"""What a file of our own weights says about itself: all that is needed to predict with them.

Beside "format" the metadata of the safetensors file are
    player     "segmenter", or "adversary"
    step       the checkpoint's, 0 for weights that no run trained
    segmenter  the fields of `config.segmenter`, or of `config.adversary` under "adversary", as JSON
    classes    {"class_names": [...], "palette": [[r, g, b], ...]}
    config     the whole configuration of the run
    shift      [...], only if there is one: what is added to the logits of each class
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.weights import files

_AGAIN = (
    "export them again, with 'segadv_jax convert_weights RUN TARGET.safetensors', or name the run "
    "itself, {}"
)
_RUN = "--workdir=RUN"


class Description(NamedTuple):
    """What the weights of a segmenter are."""

    config: dict[str, Any]
    class_names: tuple[str, ...]
    palette: UInt8[np.ndarray, "C 3"]
    step: int
    shift: tuple[float, ...] = ()


def metadata(about: Description) -> dict[str, str]:
    """The metadata of a file."""
    own = {"player": "segmenter", "step": str(about.step)}
    own |= {"segmenter": json.dumps(about.config["segmenter"]), "config": json.dumps(about.config)}
    own["classes"] = json.dumps(
        {"class_names": list(about.class_names), "palette": about.palette.tolist()}
    )
    return own | ({"shift": json.dumps(about.shift)} if about.shift else {})


def read(path: PathLike) -> Description:
    """What a file says about its weights.

    Raises:
        InputError: it is not a safetensors file of ours, holds an adversary, or does not say.
    """
    files.check(path)
    said = files.metadata(path)
    if said.get("format") != files.FORMAT:
        raise InputError(
            f"{path} was not written by segadv_jax: give a .safetensors file that "
            "'segadv_jax convert_weights RUN TARGET.safetensors' wrote"
        )
    if said.get("player", "segmenter") != "segmenter":
        raise InputError(f"{path} is an adversary, which predicts nothing; export the segmenter")
    missing = [name for name in ("classes", "config") if name not in said]
    if missing:
        raise InputError(
            f"{path} does not say what its {' and '.join(missing)} are, as files of older versions "
            f"and of published weights: {_AGAIN.format(_RUN)}"
        )
    try:
        return _parse(said)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise damaged(path, error) from error


def damaged(path: PathLike, reason: object, run: str = _RUN) -> InputError:
    """The InputError about a file that says of itself what cannot be; `run` names one instead."""
    what = f"what it says about itself is damaged ({files.shown(str(reason))})"
    return InputError(f"{path}: {what}: {_AGAIN.format(run)}")


def _parse(said: Mapping[str, str]) -> Description:
    classes, config = json.loads(said["classes"]), json.loads(said["config"])
    if not isinstance(config, dict):
        raise ValueError("its config is no JSON object")
    class_names = tuple(classes["class_names"])
    if not all(isinstance(name, str) for name in class_names):
        raise ValueError("its classes have no names")
    palette = np.array(classes["palette"], np.uint8)
    if palette.shape != (len(class_names), 3):
        raise ValueError(f"{len(class_names)} classes, but a palette {palette.shape}")
    shift = tuple(map(float, json.loads(said.get("shift", "[]"))))
    if len(shift) not in (0, len(class_names)):
        raise ValueError(f"{len(class_names)} classes, but a shift of {len(shift)}")
    return Description(config, class_names, palette, int(said.get("step", 0)), shift)
