"""Training: the loop. What it is made of is in `training_run.py`."""

import contextlib

from absl import logging
from ml_collections import ConfigDict

from segadv_jax.journal import check_finite
from segadv_jax.train_state import TrainState
from segadv_jax.training_run import TrainingRun, check, prepare
from segadv_jax.workdir import PATIENCE, UPDATES, Workdir


def train(config: ConfigDict, folder: str) -> None:
    """Trains a segmenter, against an adversary or not, or resumes a run that was stopped.

    Leaves in the folder what `workdir.py` lists. All axes count the segmenter's updates. The test
    split is not read. Training ends after `config.train.updates`, or when the measure on the
    validation split that selects the checkpoint, `config.evaluate.select`, has not risen for
    `config.train.patience` validations.

    SIGTERM or Ctrl-C saves a checkpoint and ends the process; the same command resumes the run and,
    on a CPU, arrives at the same state bit for bit.

    Args:
        config: with the fields of `configs/common.py`.
        folder: of the run.

    Raises:
        InputError: a field holds what it cannot, the data cannot be read, or the folder holds a run
            of another architecture.
        FloatingPointError: a loss is no longer finite.
        SystemExit: stopped by a signal, with status 128 + signal.
    """
    workdir = Workdir(folder)
    check(config, workdir)
    workdir.make()
    with contextlib.ExitStack() as stack:
        run, state = prepare(config, workdir, stack)
        reason = _loop(run, state)
        run.end(reason)


def _loop(run: TrainingRun, state: TrainState) -> str:
    """Trains to the end; returns why it is the end."""
    turns, every = run.experiment.alternation, run.config.train.checkpoint_every
    inputs = run.inputs()
    for step in range(run.start, run.total):
        if run.has_waited_in_vain(step):
            return PATIENCE
        turn = turns.turn(step)
        batch, key, updates = next(inputs)
        with run.journal.compiling(turn):
            state, metrics = run.train_step(state, batch, key, turn, updates)

        after, at_end = step + 1, step + 1 == run.total
        run.journal.add(metrics, turns.updates(after), run.position(after), at_end)
        stop = run.stop_requested(after)
        if at_end or run.is_validation(after):
            run.validate(state, metrics, after)
        elif stop or after % every == 0:
            # What is saved must be worth resuming.
            check_finite([metrics], run.updates(after))
            run.checkpoints.save(state, after)
        if stop:
            run.checkpoints.wait()
            where = f"step {after}, update {run.updates(after)} of {run.config.train.updates}"
            logging.info("stopped at %s; the same command resumes the run", where)
            raise SystemExit(128 + stop)
    return UPDATES
