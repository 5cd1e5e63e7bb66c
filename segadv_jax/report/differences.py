"""What a run did otherwise than the paper, by the configuration that it recorded.

The paper's setting is that of configs/stanford.py or configs/voc_*.py for the same row. What the
paper does not state, such as batch sizes and the number of updates, was filled in there.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segadv_jax import configuration
from segadv_jax.configs import stanford, voc_baseline
from segadv_jax.report import paper

# Fields that decide what is learned and how it is measured: plainly, without other views.
_COMPARED = """
    segmenter data.train data.validation data.fraction data.unlabelled adversary encoding
    alternation loss train optimizer evaluate.select evaluate.tile evaluate.bf_background
""".split()
# Of them, what changes nothing but the time and the memory that a run takes, and what it tells;
_NO_MATTER = """
    segmenter.remat train.log_every train.profile train.checkpoint_every train.feature_cache
    train.unlabelled_batch_size
""".split()
# what does nothing without an adversary;
_OF_THE_GAME = """
    adversary encoding alternation optimizer.adversary loss.lam loss.saturating loss.start loss.ramp
    loss.game loss.smoothing loss.noise loss.r1 loss.feature_matching loss.lam_unlabelled
""".split()
# and what the paper too searched, on PASCAL VOC; the supplement's Table 2 shows it.
_SEARCHED = "loss.lam optimizer.segmenter.learning_rate optimizer.adversary.learning_rate".split()
_WEIGHTS = (".caffemodel", ".safetensors", ".h5", ".pth", ".pt")  # Suffixes of their files.


def from_paper(config: Mapping[str, Any], key: paper.Key) -> list[str]:
    """What is otherwise than in the paper's row `key`, as text: ["segmenter.width 0.5, not 1"]."""
    found, wanted = configuration.plain(config), configuration.plain(_reference(key).to_dict())
    left_out = [*_NO_MATTER, "loss.reduction"]
    if found["loss.reduction"] == "sum":  # As Eq. 1 is printed; ours is the same between means.
        wanted["loss.lam"] *= 16
    if key in ("standard", "baseline"):
        left_out += _OF_THE_GAME
    if not isinstance(key, str) or key == "baseline":
        left_out += _SEARCHED
    ours, theirs = found.get("segmenter.name"), wanted["segmenter.name"]
    if ours == theirs:
        differences = _initial_weights(str(found["init"]), theirs)
    else:  # Its other fields, its weights and what optimizes it are its own.
        differences = [f"segmenter {ours}, not {theirs}"]
        left_out += ["segmenter", "optimizer.segmenter"]
    for name in sorted(found.keys() & wanted.keys(), key=_order):
        if _within(name, _COMPARED) and not _within(name, left_out) and found[name] != wanted[name]:
            differences.append(f"{name} {_text(found[name])}, not {_text(wanted[name])}")
    if found.get("data.allow_partial"):
        differences.append("data.allow_partial, so that training images may have been missing")
    return differences


def _reference(key: paper.Key) -> ConfigDict:
    """The configuration of the paper's row."""
    if key == "baseline":
        return voc_baseline.get_config()
    if isinstance(key, str):
        return stanford.get_config("standard" if key == "standard" else "printed")
    return voc_baseline.adversarial(*key)


def _initial_weights(init: str, segmenter: str) -> list[str]:
    """What is to be said of `config.init`; what a file of weights holds is not known."""
    if segmenter != "dilated8":
        return [] if init == "scratch" else [f"starting weights {init}, not scratch"]
    if init and init != "scratch" and ":" not in init and Path(init).suffix in _WEIGHTS:
        return []
    return [f"starting weights {init or 'not named'}, not the released ones of Dilated-8"]


def _within(name: str, fields: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{field}.") for field in fields)


def _order(name: str) -> tuple[int, str]:
    """In the order of `_COMPARED`."""
    return next((i for i, field in enumerate(_COMPARED) if _within(name, [field])), 0), name


def _text(value: Any) -> str:
    """A field's value for people: 20,000; 0.05; (1, 1.5); none for an empty text."""
    if isinstance(value, list):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
