"""The training loop."""

import collections
import contextlib
import os
import signal
import sys
import threading
import time

import jax
import numpy as np
from absl import logging
from clu import metric_writers
from tqdm import tqdm

from segadv_jax import checkpoints, evaluate, experiment, history, prediction, steps, visualize
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.data import order, pipeline
from segadv_jax.errors import InputError
from segadv_jax.train_state import evaluated


def train(config, workdir):
    """Trains a segmenter, against an adversary or not, or goes on where a stopped run left off.

    Writes into ``workdir``: ``config.json``; ``checkpoints/``, the latest and the best by mean IoU
    on the validation split; ``history.csv``, a row per validation; ``predictions/*.png``;
    TensorBoard events. All axes count the segmenter's updates. The test split is not read. Training
    ends after ``config.train.updates``, or when the mean IoU on the validation split has not risen
    for ``config.train.patience`` validations.

    SIGTERM or Ctrl-C saves a checkpoint and ends the process; the same command goes on from there
    and, on a CPU, arrives at the same state bit for bit.

    Args:
        config: an ``ml_collections.ConfigDict`` with the fields of ``configs/common.py``.
        workdir: folder of the run.

    Raises:
        InputError: a field holds what it cannot, the data cannot be read, or the workdir holds a
            run of another architecture.
        FloatingPointError: the cross-entropy is no longer finite.
    """
    experiment.check_numbers(config)
    # A run that goes on needs the weights no more that it began with.
    init = "scratch" if checkpoints.are_in(workdir) else config.init
    experiment.check_init(init)
    checkpoints.make_workdir(workdir)
    batch_size, is_first = config.train.batch_size, jax.process_index() == 0
    if batch_size % jax.device_count():
        raise InputError(
            f"config.train.batch_size is {batch_size}, which {jax.device_count()} devices cannot "
            f"share evenly; set it to a multiple of {jax.device_count()}"
        )

    # Data.
    data_set = experiment.load_data(config)
    for field in ("train", "validation", "test"):  # The last is only needed when all is done.
        pipeline.check_split(data_set.builder, config.data[field], f"data.{field}")
    training = pipeline.read_split(data_set.builder, config.data.train)
    training = training.take(order.part(len(training.ids), config.data.fraction, config.seed))
    order.check_batch_size(len(training.ids), batch_size)
    validation = pipeline.read_split(data_set.builder, config.data.validation)
    canvas = tuple(np.maximum(training.canvas(), validation.canvas()).tolist())
    updates_per_epoch = len(training.ids) // batch_size

    # Networks, optimizers, state.
    parts = experiment.build(config, len(data_set.class_names))
    turns = parts.alternation
    total = turns.steps(config.train.updates)
    patch = (config.train.crop, config.train.crop) if config.train.crop else canvas
    state = experiment.initialize(parts, config.seed, patch, len(data_set.class_names), init)
    changed = checkpoints.record_config(
        workdir, config.to_dict(), experiment.IDENTITY, experiment.ADDED
    )
    if changed:
        logging.warning("other than in %s/config.json: %s", workdir, ", ".join(changed))
    manager = checkpoints.open_manager(workdir)
    start = manager.latest_step() or 0
    if start:
        state = checkpoints.restore(manager, state, start)
        logging.info("going on from step %d of %d in %s", start, total, workdir)
    state = steps.replicate(state)
    history_path = os.path.join(workdir, "history.csv")
    if is_first:
        history.cut(history_path, start)

    keys, streams = {}, {}
    for number, player in enumerate((SEGMENTER, ADVERSARY)):
        keys[player] = jax.random.fold_in(jax.random.key(config.seed), 2 + number)
        streams[player] = pipeline.train_batches(
            training,
            batch_size=batch_size,
            canvas=canvas,
            seed=config.seed,
            stream=number,
            start=turns.batches(start)[player],
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    train_step = steps.parallel_train_step(**parts.step)
    patience = config.train.patience * config.evaluate.every

    def exhausted(step):
        """Whether the best validation lies too far back; all processes know it alike."""
        best = manager.best_step() if patience else None
        if best is None:
            return False
        return turns.updates(step)[SEGMENTER] - turns.updates(best)[SEGMENTER] >= patience

    evaluated_as = experiment.in_tiles(parts.segmenter, config.evaluate.tile)
    validate = validator(config, data_set, training, validation, canvas, evaluated_as)
    writer = metric_writers.create_default_writer(workdir, just_logging=not is_first)

    with contextlib.ExitStack() as stack:
        stack.enter_context(manager)
        stack.callback(streams.clear)  # TensorFlow complains of iterators that outlive Python.
        stack.enter_context(metric_writers.ensure_flushes(writer))
        stop_requested = stack.enter_context(stop_signals())
        bar = stack.enter_context(progress_bar(turns, start, config.train.updates, batch_size))
        window, window_began = [], time.time()

        for step in range(start, total):
            if exhausted(step):
                logging.info(
                    "ended after %d updates: no rise of the mean IoU on the validation split in "
                    "%d validations",
                    turns.updates(step)[SEGMENTER],
                    config.train.patience,
                )
                break
            turn = turns.turn(step)
            player = ADVERSARY if turn == "adversary" else SEGMENTER
            batch = steps.shard(next(streams[player]))
            key = jax.random.fold_in(keys[player], turns.batches(step)[player])
            before = np.int32(turns.updates(step)[SEGMENTER])
            state, metrics = train_step(state, batch, key, turn, before)
            window.append(metrics)

            after, at_end = step + 1, step + 1 == total
            updates = turns.updates(after)
            place = {
                "step": after,
                "segmenter_updates": updates[SEGMENTER],
                "epoch": updates[SEGMENTER] / updates_per_epoch,
            }
            bar.update(updates[SEGMENTER] - bar.n)

            if at_end or (after % config.train.log_every == 0 and len(window) > 1):
                # Without the step just dispatched: the device must not wait for Python.
                finished, window = (window, []) if at_end else (window[:-1], window[-1:])
                scalars = means(finished)
                check_finite(scalars, updates[SEGMENTER])
                bar.set_postfix_str(describe(scalars), refresh=False)
                for name, learning_rate in parts.learning_rates.items():
                    scalars[f"learning_rate_{name}"] = float(learning_rate(updates[name]))
                scalars["images_per_second"] = (
                    len(finished) * batch_size / (time.time() - window_began)
                )
                writer.write_scalars(updates[SEGMENTER], scalars | place)
                window_began = time.time()

            due = player == SEGMENTER and updates[SEGMENTER] % config.evaluate.every == 0
            stop = stop_requested(manager, after)
            save = stop or after % config.train.checkpoint_every == 0
            if due or at_end or save:  # What is saved must be worth going on from.
                check_finite(means([metrics]), updates[SEGMENTER])
            if due or at_end:
                measures, pictures = validate(evaluated(state))
                if is_first:
                    game = {name: float(metrics[name]) for name in history.GAME if name in metrics}
                    history.append(history_path, place | measures | game)
                    name = f"{updates[SEGMENTER]:07d}.png"
                    visualize.save_png(pictures, os.path.join(workdir, "predictions", name))
                scalars = {name: value for name, value in measures.items() if value is not None}
                writer.write_scalars(updates[SEGMENTER], scalars)
                writer.write_images(updates[SEGMENTER], {"predictions": pictures[None]})
                checkpoints.save(manager, state, after, measures["validation_mean_iou"])
                window_began = time.time()
            elif save:
                checkpoints.save(manager, state, after)
            if stop:
                manager.wait_until_finished()
                logging.info("stopped at step %d; the same command goes on from there", after)
                raise SystemExit(128 + stop)


def validator(config, data_set, training, validation, canvas, segmenter):
    """Returns a function that measures the segmenter between two training steps.

    It maps the segmenter's parameters to the columns of ``history.csv`` and a picture u8[h,w,3].
    The training images are measured as the validation ones are, without augmentation.
    """
    measured = {"validation": validation}
    if config.evaluate.train_images:
        count, all_images = config.evaluate.train_images, len(training.ids)
        count = min(count, all_images)
        # Spread over the split, whose order groups what is alike.
        measured["train"] = training.take(np.arange(count) * all_images // count)
    eval_step = steps.parallel_eval_step(segmenter=segmenter)
    shown = next(
        pipeline.eval_batches(validation, batch_size=config.evaluate.pictures, canvas=canvas)
    )
    predict = jax.jit(
        lambda params: prediction.predict(params, shown["image"], shown["size"], segmenter)
    )

    def validate(params):
        measures = {}
        for name, split in measured.items():
            totals = evaluate.run(
                eval_step,
                params,
                split,
                steps.zero_totals(len(data_set.class_names)),
                config.evaluate.batch_size,
                canvas,
            )
            summary = evaluate.summarize(totals, data_set.class_names)
            measures |= {f"{name}_{key}": summary[key] for key in history.MEASURES}
        probabilities = np.asarray(predict(jax.device_get(params)))
        picture = visualize.prediction_grid(
            shown["image"],
            shown["label"],
            probabilities.argmax(-1),
            probabilities,
            shown["size"],
            data_set.palette,
            data_set.class_names,
        )
        return measures, picture

    return validate


def check_finite(scalars, updates):
    """Raises a FloatingPointError that names the fields to change if a loss is not finite.

    Args:
        scalars: {name: float}, metrics of a step.
        updates: the segmenter's so far.
    """
    for name, value in scalars.items():
        if np.isfinite(value):
            continue
        # The segmenter's own loss comes first: without it the adversary's mean nothing.
        player = SEGMENTER if not np.isfinite(scalars["mce"]) else ADVERSARY
        what = "the cross-entropy" if player == SEGMENTER else name
        raise FloatingPointError(
            f"{what} is {value} after {updates} updates: lower "
            f"config.optimizer.{player}.learning_rate or set its clip"
        )


def means(metrics):
    """Mean of each metric over the steps that report it: {name: float}."""
    values = collections.defaultdict(list)
    for step in jax.device_get(metrics):
        for name, value in step.items():
            values[name].append(value)
    return {name: float(np.mean(value)) for name, value in values.items()}


def describe(scalars):
    """The health of the game in a few words, for the progress bar."""
    words = {"mce": "mce", "accuracy": "cells"}
    words |= {"accuracy_real": "adversary right on real", "accuracy_synthetic": "on synthetic"}
    return ", ".join(
        f"{word} {scalars[name]:.2f}" for name, word in words.items() if name in scalars
    )


def progress_bar(turns, start, updates, batch_size):
    """A bar over the segmenter's updates, in images."""
    return tqdm(
        initial=turns.updates(start)[SEGMENTER],
        total=updates,
        unit="img",
        unit_scale=batch_size,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        disable=jax.process_index() > 0,
    )


@contextlib.contextmanager
def stop_signals():
    """Catches SIGTERM and Ctrl-C; yields a function (manager, step) to the signal caught, or 0.

    With several processes all of them agree on the step through JAX's preemption service. A second
    signal ends the process at once.
    """
    caught = []

    def catch(number, frame):
        del frame
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)

    def requested(manager, step):
        if jax.process_count() > 1:
            return signal.SIGTERM if manager.reached_preemption(step) else 0
        return caught[0] if caught else 0

    # Python lets only the main thread handle signals, and a pod's are JAX's to handle.
    ours = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if ours else ()
    before = {number: signal.signal(number, catch) for number in numbers}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
