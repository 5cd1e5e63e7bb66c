"""The images of a run, and each player's batches of them."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segadv_jax import experiment, feature_cache
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.data import Canvas, DataSet, Split, order, statistics, unlabelled
from segadv_jax.errors import InputError
from segadv_jax.feature_cache import Kept
from segadv_jax.models import Segmenter

# A stream of random numbers beside those of the players.
_UNLABELLED = 2
_NAMED = 12  # Classes that a warning names.
Item = TypeVar("Item")


class Images(NamedTuple):
    """The images that a run reads before it ends."""

    training: Split  # Those of the training split that are used with their labels.
    validation: Split
    unlabelled: Split | None  # What else is trained with.

    @property
    def canvas(self) -> Canvas:
        """(height, width) of the canvas that all of them fit on."""
        canvases = [split.canvas() for split in self if split is not None]
        height, width = np.max(canvases, axis=0).tolist()
        return height, width


def read(config: ConfigDict, data_set: DataSet) -> Images:
    """Reads the images.

    Raises:
        InputError: a split does not exist or has no labels, or there are fewer images than a batch
            has. Classes that no training image shows are logged.
    """
    experiment.check_splits(config, data_set)
    training = data_set.read(config.data.train)
    chosen = order.part(len(training.ids), config.data.fraction, config.seed)
    order.check_batch_size(len(chosen), config.train.batch_size)
    more = None
    if config.data.unlabelled:
        held_out = {f"data.{name}": config.data[name] for name in ("validation", "test")}
        which = config.data.unlabelled, config.data.train, chosen, held_out
        more = unlabelled.read(data_set, *which, config.data.get("longest_side", 0))
        order.check_unlabelled_batch_size(len(more.ids), _unlabelled_batch_size(config))
    images = Images(training.take(chosen), data_set.read(config.data.validation), more)
    _check_labels(images, data_set.class_names)
    return images


def _check_labels(images: Images, names: Sequence[str]) -> None:
    """Names the classes that no training image shows.

    Raises:
        InputError: there is nothing at all to learn, or to validate with.
    """
    unseen = statistics.unseen(images.training, len(names))
    for field, empty in (
        ("train", len(unseen) == len(names)),
        ("validation", not statistics.has_labels(images.validation)),
    ):
        if empty:
            raise InputError(
                f"config.data.{field}: the labels of all its images are void everywhere; choose "
                "images with labels"
            )
    if unseen and jax.process_index() == 0:
        few = ", ".join(names[index] for index in unseen[:_NAMED])
        more = f" and {len(unseen) - _NAMED} more" if len(unseen) > _NAMED else ""
        logging.warning("no training image shows %s%s: nobody can learn that", few, more)


def _unlabelled_batch_size(config):
    return config.train.unlabelled_batch_size or config.train.batch_size


def make(
    config: ConfigDict, images: Images, segmenter: Segmenter, frozen: Any, given: dict[str, int]
) -> dict[str, Iterator[dict[str, Any]]]:
    """Each player's batches, after so many as it has been `given`.

    They are those of `Split.train_batches`, with what the `frozen` parameters make of the images if
    that is kept. The segmenter's have a batch of images without labels in them, if there are any,
    and are otherwise the same with and without these.
    """

    def batches(split: Split | Kept, batch_size: int, player: str, number: int) -> Iterator:
        return split.train_batches(
            batch_size=batch_size,
            canvas=images.canvas,
            seed=config.seed,
            stream=number,
            start=given[player],
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def keep(split: Split) -> Split | Kept:
        folder, at_once = config.train.feature_cache, config.evaluate.batch_size
        return feature_cache.keep(folder, split, segmenter, frozen, at_once) if folder else split

    training = keep(images.training)
    streams = {
        player: batches(training, config.train.batch_size, player, number)
        for number, player in enumerate((SEGMENTER, ADVERSARY))
    }
    if images.unlabelled is not None:
        size = _unlabelled_batch_size(config)
        more = batches(keep(images.unlabelled), size, SEGMENTER, _UNLABELLED)
        streams[SEGMENTER] = _beside(streams[SEGMENTER], more)
    return streams


def _beside(labelled, unlabelled):
    """Batches with others in them, of which all is left but names and what is said of labels."""
    for batch, other in zip(labelled, unlabelled, strict=False):  # Both are endless.
        shown = {name: other[name] for name in ("image", "size", "embedded") if name in other}
        yield batch | {"unlabelled": shown}


def keys(seed: int) -> dict[str, jax.Array]:
    """Each player's key, as data: a key itself is no array that many hosts could hold."""
    numbers = enumerate((SEGMENTER, ADVERSARY), 2)  # The first two draw parameters.
    key = jax.random.key(seed)
    return {
        player: jax.random.key_data(jax.random.fold_in(key, number)) for number, player in numbers
    }


def ahead(items: Iterable[Item], number: int) -> Iterator[Item]:
    """The items, of which always so many more are taken than are given."""
    taken = collections.deque[Item]()
    for item in items:
        taken.append(item)
        if len(taken) > number:
            yield taken.popleft()
    yield from taken
