"""Training: the loop. What it begins with is in `preparation.py`."""

import contextlib
from collections.abc import Sequence

import jax
from absl import logging
from ml_collections import ConfigDict

from segadv_jax.checkpoints import Checkpoints
from segadv_jax.preparation import check, prepare
from segadv_jax.signals import Stopped
from segadv_jax.soundness import UnsoundError
from segadv_jax.train_state import TrainState
from segadv_jax.training_run import TrainingRun
from segadv_jax.workdir import PATIENCE, UPDATES, Workdir


def train(config: ConfigDict, folder: str) -> None:
    """Trains a segmenter, against an adversary or not, or resumes a run that was stopped.

    Leaves in the folder what `workdir.py` lists. All axes count the segmenter's updates. The test
    split is not read. Training ends after `config.train.updates`, or when the measure on the
    validation split that selects the checkpoint, `config.evaluate.select`, has stayed below its
    best for `config.train.patience` validations, once all terms of the loss have begun.

    SIGTERM or Ctrl-C saves a checkpoint and ends the process; the same command resumes the run and,
    on a CPU, arrives at the same state bit for bit.

    Args:
        config: with the fields of `configs/common.py`.
        folder: of the run.

    Raises:
        InputError: a field holds what it cannot, the data cannot be read, the folder holds a run
            of another architecture, or another process is training there.
        UnsoundError: a loss is not finite or has exploded, and no more batches may be left out.
        SystemExit: stopped by a signal, with status 128 + signal.
    """
    workdir = Workdir(folder)
    check(config, workdir)
    workdir.make()
    with workdir.held() if jax.process_index() == 0 else contextlib.nullcontext():
        _train(config, workdir)


def _train(config, workdir):
    skipped = workdir.skipped()
    while True:
        try:
            with contextlib.ExitStack() as stack:
                run, state = prepare(config, workdir, stack, skipped)
                reason = _loop(run, state)
                run.end(reason)
            if run.caught:  # While the last checkpoint was being written.
                raise Stopped(128 + run.caught[0])
            return
        except UnsoundError as error:
            skipped = skip(config.train.skips, workdir, skipped, error)
            if run.caught:
                raise Stopped(128 + run.caught[0]) from error


def skip(limit: int, workdir: Workdir, skipped: Sequence[int], error: UnsoundError) -> list[int]:
    """The steps to leave out when training begins again from the last checkpoint.

    A step is left out for good: its batch is drawn, and nobody learns from it.

    Args:
        limit: on the number of steps that are left out, `config.train.skips`.
        workdir: in which they are recorded, by the first process.
        skipped: the steps that were left out already.
        error: what was wrong with another one.

    Raises:
        UnsoundError: that would be too many; it says what is kept.
    """
    with Checkpoints(workdir, to_read=True) as checkpoints:
        last = checkpoints.latest_step()
    kept = f"the checkpoint of step {last} is kept" if last else "nothing was saved before"
    if len(skipped) >= limit:
        remedy = f"{kept}; " + (
            f"{limit} batches were left out already, as config.train.skips allows"
            if limit
            else "if steps before it were sound, config.train.skips=1 leaves out its batch alone"
        )
        raise UnsoundError(error.step, f"{error}; {remedy}") from error
    logging.warning("%s; %s: going back, and step %d is left out", error, kept, error.step)
    skipped = sorted({*skipped, error.step})
    if jax.process_index() == 0:
        workdir.write_skipped(skipped)
    return skipped


def _loop(run: TrainingRun, state: TrainState) -> str:
    """Trains to the end; returns why it is the end."""
    turns, every = run.experiment.alternation, run.config.train.checkpoint_every
    inputs = run.inputs()
    for step in range(run.start, run.total):
        if (step == run.start or run.is_validation(step)) and run.has_waited_in_vain(step):
            return PATIENCE
        turn = turns.turn(step)
        batch, key, updates = next(inputs)
        if step + 1 in run.skipped:
            state, metrics = state._replace(step=state.step + 1), {}
        else:
            with run.journal.compiling(turn):
                state, metrics = run.train_step(state, batch, key, turn, updates)

        after, at_end = step + 1, step + 1 == run.total
        run.journal.add(metrics, turns.updates(after), run.position(after), at_end)
        stop = run.stop_requested(after)
        if at_end or run.is_validation(after):
            run.validate(state, metrics, after)
            stop = stop or next(iter(run.caught), 0)  # Meanwhile.
        elif stop or after % every == 0:
            run.journal.check()  # What is saved must be worth resuming.
            run.checkpoints.save(state, after)
        if stop:
            run.checkpoints.wait()
            where = f"step {after}, update {run.updates(after)} of {run.config.train.updates}"
            logging.info("stopped at %s; the same command resumes the run", where)
            raise SystemExit(128 + stop)
    return UPDATES
