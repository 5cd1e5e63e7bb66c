"""What usually goes wrong, looked for before training: in images, labels and configuration."""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from ml_collections import ConfigDict

from segadv_jax.configs import common
from segadv_jax.data import statistics
from segadv_jax.data.statistics import Statistics
from segadv_jax.preparation import Assembled
from segadv_jax.report import costs

RARE = 0.001  # Of the labelled pixels.
FEW = 10  # Images to validate with.
NAMED = 5  # So many of what is wrong are named.
# Fields that only matter with an adversary.
_OF_THE_GAME = """
    encoding loss.lam loss.lam_unlabelled loss.saturating loss.game loss.smoothing loss.noise
    loss.r1
""".split()


def of_data(names: Sequence[str], gathered: Mapping[str, Statistics]) -> Iterator[str]:
    """What looks wrong with images and labels, a sentence each.

    `gathered` are the statistics of "training", "validation" and, if it is another split, "test".
    """
    yield from _of_classes(names, gathered)
    for role, each in gathered.items():
        empty = each.without_labels()
        if empty:
            yield f"nothing but void in {len(empty)} of the {role} images: {_some(empty)}"
        if each.void > 0.5:
            yield f"{100 * each.void:.0f} % of the pixels of the {role} images are void"
    number = len(gathered["validation"].ids)
    if number < FEW:
        yield f"only {number} images to validate with: which checkpoint is best is left to chance"
    odd = statistics.look_like_colours([*gathered.values()], len(names))
    if odd:
        yield f"the labels look like colours or grey levels: {odd}"
    roles = list(gathered)
    for number, one in enumerate(roles):
        for other in roles[number + 1 :]:
            pairs = statistics.shared(gathered[one], gathered[other])
            if pairs:
                said = [" = ".join(dict.fromkeys(pair)) for pair in pairs]
                yield (
                    f"{len(pairs)} of the {one} images are {other} images as well, or nearly so: "
                    f"{_some(said)}; the figures of {other} images will flatter"
                )


def _of_classes(names, gathered):
    shares = {role: each.shares(len(names)) for role, each in gathered.items()}
    training = dict(zip(names, shares.pop("training"), strict=True))
    absent = [name for name, share in training.items() if share == 0]
    if absent:
        yield f"no training image shows {_some(absent)}: nobody can learn that"
    rare = [f"{name} ({100 * x:.3f} %)" for name, x in training.items() if 0 < x < RARE]
    if rare:
        yield (
            f"under {100 * RARE} % of the training pixels: {_some(rare)}; more photographs of them "
            "help, or config.loss.balance"
        )
    for role, of_role in shares.items():
        here = zip(names, of_role, strict=True)
        lacking = [name for name, share in here if training[name] and not share]
        if lacking:
            yield f"the {role} images do not show {_some(lacking)}, which training images do"


def of_config(config: ConfigDict, found: Assembled) -> Iterator[str]:
    """What looks wrong with the configuration."""
    turns = found.experiment.alternation
    counts = costs.turns_of(turns, config.train.updates)
    for player in found.experiment.learning_rates:
        if config.optimizer[player].learning_rate == 0:
            yield f"config.optimizer.{player}.learning_rate is 0: the {player} learns nothing"
    if turns.schedule == "standard":
        usual = common.get_config()
        idle = [
            name for name in _OF_THE_GAME if attrgetter(name)(config) != attrgetter(name)(usual)
        ]
        if idle:
            yield (
                f"nothing uses {', '.join(f'config.{name}' for name in idle)}: there is no "
                "adversary; for one set config.alternation.schedule, to simultaneous for instance"
            )
    else:
        if not (config.loss.lam or config.loss.lam_unlabelled):
            yield "config.loss.lam is 0: the segmenter takes no notice of its adversary"
        if not counts.keys() & {"adversary", "both"}:
            yield (
                f"the adversary is never trained: its first turn comes after "
                f"config.alternation.period, {turns.period}, of {config.train.updates} updates"
            )
        begins = config.loss.start + config.loss.ramp
        if begins > config.train.updates:
            yield (
                f"config.loss.start and ramp, {begins} together, leave the adversary's term no "
                f"update at its full weight: there are {config.train.updates}"
            )
    if config.evaluate.every > config.train.updates:
        yield (
            f"config.evaluate.every is {config.evaluate.every}: the only validation comes after "
            f"the last of {config.train.updates} updates"
        )
    seen, images = config.train.updates * config.train.batch_size, found.images.training.ids
    if seen < len(images):
        yield (
            f"only {seen} of {len(images)} training images will be seen: raise config.train.updates"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
