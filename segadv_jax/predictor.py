"""The one way to predict: a run's data set, its segmenter and what it was trained to."""

import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float64, Integer, UInt8
from ml_collections import ConfigDict

from segadv_jax import class_balance, configuration, experiment, initialize, prediction
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import DataSet, order
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import SELECTING
from segadv_jax.models import Segmenter
from segadv_jax.prediction import Views
from segadv_jax.workdir import Workdir


class Predictor:
    """A trained segmenter, whose predictions have the classes and colours of the data set.

    It is the module in the tiles in which it is evaluated, with its parameters as NumPy arrays, of
    the checkpoint of `step` (0: of weights that no run trained); `predict` averages over `views`,
    whose logits are shifted as these say.
    """

    def __init__(
        self, data_set: DataSet, segmenter: Segmenter, params: Any, step: int, views: Views
    ):
        self.data_set, self.segmenter = data_set, segmenter
        self.params, self.step, self.views = params, step, views
        self._predict = jax.jit(
            functools.partial(prediction.predict, segmenter=segmenter, views=views)
        )

    def predict(
        self, image: UInt8[np.ndarray, "n H W 3"], size: Integer[np.ndarray, "n 2"]
    ) -> Float[np.ndarray, "n H W C"]:
        """Class probabilities at every pixel of images of true `size`."""
        return np.asarray(self._predict(self.params, image, size))


def load(config: ConfigDict, folder: str, views: bool = True) -> Predictor:
    """The segmenter of the checkpoint that `config.evaluate.checkpoint` names.

    Without any checkpoint it is the one whose weights `config.init` is the path of, a file's or
    another run's: published weights are evaluated without training.

    With `views` it predicts on the tiles, flips and scales of `config.evaluate` and shifts the
    logits by its `prior_shift`, otherwise on whole images as they are.

    Raises:
        InputError: the workdir `folder` has no checkpoint, or one of another architecture.
    """
    experiment.check_numbers(config)
    data_set = experiment.load_data(config)
    segmenter, params, step = _restore(config, Workdir(folder), len(data_set.class_names))
    if views:
        segmenter = experiment.in_tiles(segmenter, config.evaluate.tile)
    chosen = experiment.views_of(config) if views else Views()
    if views and config.evaluate.prior_shift:
        shares = log_shares(config, data_set, segmenter)
        shift = class_balance.prior_shift(shares, config.evaluate.prior_shift)
        chosen = chosen._replace(shift=shift)
    return Predictor(data_set, segmenter, params, step, chosen)


def log_shares(
    config: ConfigDict, data_set: DataSet, segmenter: Segmenter
) -> Float64[np.ndarray, " C"]:
    """`class_balance.log_shares` of the training images that the run uses.

    Raises:
        InputError: they have no labels.
    """
    training = data_set.read(config.data.train)
    part = order.part(len(training.ids), config.data.fraction, config.seed)
    counts = class_balance.count_cells(
        training.take(part),
        segmenter.stride,
        segmenter.offset,
        len(data_set.class_names),
        training.canvas(),
        config.evaluate.batch_size,
    )
    return class_balance.log_shares(counts)


def _restore(config, workdir, num_classes):
    """(segmenter, parameters, step)."""
    segmenter = experiment.build_segmenter(config, num_classes)
    shapes = initialize.shapes(segmenter)
    is_path = initialize.names_a_network(config.init)
    fresh = not workdir.has_checkpoints()
    if fresh and not is_path:
        raise InputError(
            f"--workdir={workdir} holds no checkpoint; train first, or set config.init to the "
            "path of a whole network's weights or of another run's folder"
        )
    if fresh:
        params = initialize.pretrained(config.init, shapes, segmenter)
        workdir.make()
    changed = configuration.record(workdir, config)
    if fresh:
        return segmenter, params, 0
    if is_path and "init" in changed:
        raise InputError(
            f"config.init is {config.init!r}, but --workdir={workdir} holds checkpoints of its "
            "own, which would be evaluated: name another --workdir for these weights"
        )
    with Checkpoints(workdir) as checkpoints:
        step = _step_of(config.evaluate.checkpoint, checkpoints)
        if step is not None:
            params = checkpoints.restore_segmenter(shapes, step)
    # Raised within, it would leave the manager's thread behind.
    if step is None:
        name = config.evaluate.checkpoint
        if name in SELECTING:
            raise InputError(
                f"config.evaluate.checkpoint is {name!r}, but no checkpoint in --workdir={workdir} "
                "was measured by it, as in runs of older versions: set it to 'selected' or 'latest'"
            )
        raise InputError(
            f"--workdir={workdir} holds no validated checkpoint; train up to a validation"
        )
    return segmenter, params, step


def _step_of(name, checkpoints):
    """The step of the checkpoint that `config.evaluate.checkpoint` names, or None."""
    if name == "latest":
        return checkpoints.latest_step()
    return checkpoints.best_step("" if name == "selected" else name)
