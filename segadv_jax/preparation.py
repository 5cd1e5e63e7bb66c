"""From a configuration to a run that can begin: what is refused, read, made and restored."""

import contextlib
import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from segadv_jax import (
    class_balance,
    configuration,
    devices,
    environment,
    experiment,
    feature_cache,
    files,
    streams,
)
from segadv_jax.alternation import SEGMENTER
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import DataSet, Split
from segadv_jax.errors import InputError
from segadv_jax.experiment import Experiment
from segadv_jax.initialize import check_init, check_seen, initialize
from segadv_jax.journal import (
    open_journal,
    tabulate,
    write_parameters,
)
from segadv_jax.signals import stop_signals
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step
from segadv_jax.training_run import TrainingRun
from segadv_jax.validation import Validator
from segadv_jax.watcher import Watcher
from segadv_jax.workdir import Workdir

SHOWN = 12  # So many classes are named at the start.


def check(config: ConfigDict, workdir: Workdir | None = None) -> None:
    """Raises an InputError for what can be known to be wrong before anything is read."""
    experiment.check_numbers(config)
    if workdir is not None and files.is_folder(workdir.folder):
        configuration.compare(workdir, config)
    setup = experiment.build(config, num_classes=2).setup
    check_seen(setup)
    if config.train.feature_cache:
        feature_cache.check(setup.segmenter, setup.augmentation)
    if (
        workdir is None or not workdir.has_checkpoints()
    ):  # A resumed run no longer needs its initial weights.
        check_init(config.init)
        if config.init == "scratch" and setup.segmenter.frozen:
            raise InputError(
                "config.init is 'scratch', but a part of this segmenter is frozen and would stay "
                "as it is drawn: set config.init to pretrained weights, such as efficientnet_lite0,"
                " or config.segmenter.freeze to 'none'"
            )
    check_shares(config, jax.device_count())


def check_shares(config: ConfigDict, devices: int) -> None:
    """Raises an InputError if so many devices cannot share a batch, each in its parts."""
    parts = config.train.accumulate
    each = devices * parts
    for field in ("batch_size", "unlabelled_batch_size"):
        if config.train[field] % each:
            over = f"{devices} device{'s' if devices > 1 else ''}"
            over += f" in {parts} parts each" if parts > 1 else ""
            other = ", or config.train.accumulate lower" if parts > 1 else ""
            raise InputError(
                f"config.train.{field} is {config.train[field]}, which cannot be shared evenly "
                f"over {over}; set it to a multiple of {each}{other}"
            )


class Assembled(NamedTuple):
    """What a configuration stands for, before a run begins."""

    data_set: DataSet
    images: streams.Images
    experiment: Experiment
    begin: Callable[..., TrainState]  # (init="scratch") -> the state before the first step.


def assemble(config: ConfigDict) -> Assembled:
    """Reads the data and makes the networks; writes nothing but prepared data."""
    data_set = experiment.load_data(config)
    images, num_classes = streams.read(config, data_set), len(data_set.class_names)
    canvas = images.canvas
    weights = _class_weights(config, data_set, images.training)
    parts = experiment.build(config, num_classes, weights)
    experiment.check_worth(parts.setup.objective, num_classes)
    patch = (config.train.crop, config.train.crop) if config.train.crop else canvas
    begin = functools.partial(initialize, parts.setup, config.seed, patch, num_classes)
    return Assembled(data_set, images, parts, begin)


def prepare(
    config: ConfigDict,
    workdir: Workdir,
    stack: contextlib.ExitStack,
    skipped: Collection[int] = (),
) -> tuple[TrainingRun, TrainState]:
    """Reads the data, makes the networks, restores the state, opens what the loop writes to.

    The steps `skipped` are left out.

    Returns:
        (the run, the state at its start, replicated); `stack` closes what is opened.
    """
    data_set, images, parts, begin = assemble(config)
    turns, setup = parts.alternation, parts.setup
    total = turns.steps(config.train.updates)
    first = jax.process_index() == 0
    changed = configuration.compare(workdir, config)
    checkpoints = stack.enter_context(Checkpoints(workdir))
    start = checkpoints.latest_step() or 0
    # A resumed run takes all from its checkpoint: nothing is drawn, and no weights are read.
    state = jax.eval_shape(begin) if start else begin(config.init)
    if first:
        configuration.record(workdir, config)
        if changed:
            logging.warning("differs from %s in %s", workdir.config_path, ", ".join(changed))
    _check_selection(config, workdir, checkpoints.selected_by())
    if start:
        configuration.check_classes(workdir, data_set.class_names)
        state = checkpoints.restore(state, start)
    if jax.process_index() == 0:
        workdir.write_classes(data_set.class_names, data_set.palette.tolist())
        _record_images(workdir, images, config.data.validation, start)
        if not start:
            workdir.write_environment(environment.describe())
        files.clear_parts(workdir.folder)
        workdir.cut_history(start)
        write_parameters(workdir, state.params | {"segmenter, frozen": state.frozen})
    _introduce(config, data_set, images, state, workdir)
    given = turns.batches(start)
    batches = streams.make(config, images, setup.segmenter, state.frozen, given)
    stack.callback(batches.clear)  # TensorFlow complains of iterators that outlive Python.
    run = TrainingRun(
        config,
        workdir,
        parts,
        start,
        total,
        updates_per_epoch=len(images.training.ids) // config.train.batch_size,
        batches=batches,
        keys=devices.replicate(streams.keys(config.seed)),
        train_step=devices.map_train_step(
            devices.keyed(functools.partial(train_step, setup=setup))
        ),
        validator=Validator(config, data_set, *images[:2], setup.segmenter),
        checkpoints=checkpoints,
        journal=stack.enter_context(
            open_journal(
                workdir,
                config.train,
                turns.updates(start),
                tabulate(parts.learning_rates, turns.updates(total)),
                config.evaluate.select,
            )
        ),
        watcher=Watcher(
            workdir,
            config.loss.game,
            experiment.begun(config),
            turns.updates(start)[SEGMENTER],
        ),
        skipped=skipped,
        # A pod's signals are JAX's to handle.
        caught=stack.enter_context(stop_signals(True)) if jax.process_count() == 1 else [],
    )
    if start < total and not run.has_waited_in_vain(start):
        if start:
            logging.info("resuming %s at step %d of %d", workdir, start, total)
        if jax.process_index() == 0:
            workdir.mark_unfinished()
    return run, devices.replicate(state)


def _introduce(
    config: ConfigDict,
    data_set: DataSet,
    images: streams.Images,
    state: TrainState,
    workdir: Workdir,
) -> None:
    """Says what is trained, on what, for how long, and where the results go."""
    names = data_set.class_names
    said = (
        f"{len(images.training.ids)} images to train on, {len(images.validation.ids)} to validate"
    )
    if images.unlabelled is not None:
        said += f", {len(images.unlabelled.ids)} without labels"
    shown = ", ".join([*names[:SHOWN], *["..."][: len(names) > SHOWN]])
    logging.info("%s: %s; %d classes: %s", data_set.name, said, len(names), shown)
    for line in describe_networks(config, state):
        logging.info("%s", line)
    updates, every = config.train.updates, config.evaluate.every
    said = f"{updates} updates of {config.train.batch_size} images, a validation every {every}"
    logging.info("%s; results go to %s", said, workdir)


def describe_networks(config: ConfigDict, state: TrainState) -> list[str]:
    """A line for each player's network: its name and its number of parameters."""
    lines = []
    for player, tree in state.params.items():
        frozen = state.frozen if player == SEGMENTER else {}
        more = f", and {_count(frozen):,} that are frozen" if frozen else ""
        if tree:
            lines.append(f"{player} {config[player].name}: {_count(tree):,} parameters{more}")
    return lines


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _check_selection(config: ConfigDict, workdir: Workdir, before: str | None) -> None:
    """Raises an InputError if checkpoints would be compared by two measures."""
    if before not in (None, config.evaluate.select):
        raise InputError(
            f"config.evaluate.select is {config.evaluate.select!r}, but the checkpoint in "
            f"--workdir={workdir} was selected by {before!r}: set it to that, or choose another "
            "--workdir"
        )


def _record_images(workdir: Workdir, images: streams.Images, split: str, start: int) -> None:
    """Records what is trained on, beside what was before step `start`; warns of what is new."""
    before, now = workdir.trained_on() if start else set(), {*images.training.ids}
    if before and now - before:
        logging.warning("%d of the training images are new since the run began", len(now - before))
    workdir.write_trained_on(before | now)
    before, now = workdir.validated_on() if start else set(), {*images.validation.ids}
    if before and before != now:
        logging.warning(
            "the validation images are others than when the run began (%d new, %d gone): earlier "
            "validations are not comparable with later ones, nor is the checkpoint that they "
            "selected; to select among equals choose another --workdir",
            len(now - before),
            len(before - now),
        )
    if not before:
        workdir.write_validated_on(now)
    if flattering := workdir.flattering(split, images.validation.ids):
        logging.warning("%s", flattering)


def _class_weights(config: ConfigDict, data_set: DataSet, training: Split) -> tuple[float, ...]:
    """The weights that balance the classes of the training images; none unless that is wanted."""
    if not config.loss.balance:
        return ()
    names = data_set.class_names
    segmenter = experiment.build_segmenter(config, len(names))
    counts = class_balance.count_cells(training, segmenter.stride, segmenter.offset, len(names))
    weights = class_balance.weights(counts, config.loss.balance, config.loss.largest_weight)
    of_classes = zip(names, weights, strict=True)
    logging.info(
        "class weights: %s", ", ".join(f"{name} {weight:.2f}" for name, weight in of_classes)
    )
    return weights
