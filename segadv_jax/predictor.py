"""The one way to predict: the segmenter of a run, or of a file of weights, with its classes."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Float, Int64, Integer, UInt8
from ml_collections import ConfigDict

from segadv_jax import (
    class_balance,
    configuration,
    experiment,
    files,
    initialize,
    prediction,
    weights,
)
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import DataSet, Palette, order
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import SELECTING
from segadv_jax.models import Segmenter
from segadv_jax.prediction import Views
from segadv_jax.weights import description
from segadv_jax.weights.description import Description
from segadv_jax.workdir import Workdir

_predict = jax.jit(prediction.predict, static_argnames=("segmenter", "views"))


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A trained segmenter, whose predictions have the classes and colours of the data set."""

    class_names: tuple[str, ...]
    palette: Palette
    segmenter: Segmenter  # In the tiles in which it is evaluated.
    params: Any  # NumPy arrays.
    step: int  # Of the checkpoint; 0: of weights that no run trained.
    views: Views  # What predictions are averaged over, and by what their logits are shifted.
    config: ConfigDict  # The run's.

    @property
    def longest_side(self) -> int:
        """To how many pixels larger photographs are shrunk, as for training; 0: not at all."""
        return self.config.data.get("longest_side", 0)

    def predict(
        self, image: UInt8[np.ndarray, "n H W 3"], size: Integer[np.ndarray, "n 2"]
    ) -> Float[np.ndarray, "n H W C"]:
        """Class probabilities at every pixel of images of true `size`."""
        found = _predict(self._placed, image, size, segmenter=self.segmenter, views=self.views)
        return np.asarray(found)

    @functools.cached_property
    def _placed(self) -> Any:
        """The parameters on the device, once for all predictions."""
        return jax.device_put(self.params)


@dataclasses.dataclass(frozen=True, eq=False)
class DataPredictor(Predictor):
    """A predictor beside the data set of its run."""

    data_set: DataSet


def load(config: ConfigDict, folder: files.PathLike, views: bool = True) -> DataPredictor:
    """The segmenter of the checkpoint that `config.evaluate.checkpoint` names, for evaluation.

    Without any checkpoint it is the one whose weights `config.init` is the path of, a file's or
    another run's: published weights are evaluated without training.

    With `views` it predicts on the tiles, flips and scales of `config.evaluate` and corrects the
    logits by its `prior_shift` and `temperature`, otherwise on whole images as they are.

    Raises:
        InputError: the workdir `folder` has no checkpoint, or one of another architecture or of
            other classes.
    """
    experiment.check_numbers(config)
    data_set, workdir = experiment.load_data(config), Workdir(folder)
    configuration.check_classes(workdir, data_set.class_names)
    segmenter = experiment.build_segmenter(config, len(data_set.class_names))
    _check_record(config, workdir)
    params, step = _restore(config, workdir, segmenter, config.evaluate.checkpoint)
    if jax.process_index() == 0 and not workdir.has_checkpoints():
        workdir.make()
        configuration.record(workdir, config)
        workdir.write_classes(data_set.class_names, data_set.palette.tolist())
    if views:
        segmenter = experiment.in_tiles(segmenter, config.evaluate.tile)
    chosen = experiment.views_of(config) if views else Views()
    if views and config.evaluate.prior_shift:
        chosen = chosen._replace(shift=_shift(config, data_set, segmenter))
    own = data_set.class_names, data_set.palette
    return DataPredictor(*own, segmenter, params, step, chosen, config, data_set)


def check_alike(predictors: Sequence[Predictor]) -> None:
    """Raises an InputError unless the label maps of all of them mean the same."""
    first, *others = (one.class_names for one in predictors)
    for other in others:
        if other != first:
            names = f"{', '.join(first)} and {', '.join(other)}"
            raise InputError(f"these runs are of different classes, {names}: show them one by one")


def from_run(
    folder: files.PathLike,
    checkpoint: str = "",
    views: bool = True,
    overrides: Sequence[str] = (),
) -> Predictor:
    """The segmenter of a run, as it is evaluated with the run's own configuration.

    No data set is needed, but by a run of an older version, which did not record its classes, and
    with `views` by one with `config.evaluate.prior_shift`.

    Args:
        folder: the workdir of the run.
        checkpoint: as `config.evaluate.checkpoint`, which it is if not given.
        views: as for `load`.
        overrides: "--config.FIELD=VALUE" each, of `configuration.OF_EVALUATION`.

    Raises:
        InputError: it is no run, it has no such checkpoint, or its data set is needed and not
            there.
    """
    workdir = Workdir(folder)
    config = configuration.of_evaluation(workdir, overrides)
    experiment.check_numbers(config)
    about = describe(workdir, config, views)
    segmenter = experiment.build_segmenter(config, len(about.class_names))
    params, step = _restore(config, workdir, segmenter, checkpoint or config.evaluate.checkpoint)
    return _described(about._replace(step=step), params, views)


def from_weights(path: files.PathLike, views: bool = True) -> Predictor:
    """The segmenter in a file that `save_weights` wrote; neither run nor data set is needed.

    Args:
        path: of the .safetensors file.
        views: as for `load`.

    Raises:
        InputError: it is no such file.
    """
    described = description.read(path)
    try:
        config = configuration.completed(described.config)
        segmenter = experiment.build_segmenter(config, len(described.class_names))
        params = weights.load(path, initialize.shapes(segmenter))
        return _described(described, params, views)
    except InputError:
        raise
    except Exception as error:  # Whatever a configuration can cause that is none.
        raise description.damaged(path, error) from error


def save_weights(trained: Predictor, path: files.PathLike) -> None:
    """Writes a predictor as safetensors, for `from_weights`: all that it is, but for the data.

    Raises:
        InputError: the file cannot be written.
    """
    about = Description(
        trained.config.to_dict(),
        trained.class_names,
        trained.palette,
        trained.step,
        trained.views.shift,
    )
    weights.save(path, trained.params, description.metadata(about))


def describe(workdir: Workdir, config: ConfigDict, views: bool = True) -> Description:
    """What the weights of a run's segmenter are, of step 0; without `views` not their shift.

    Raises:
        InputError: it did not record its classes, or has a shift, and its data set is not there.
    """
    class_names, palette = classes_of(workdir)
    shift: tuple[float, ...] = ()
    if views and config.evaluate.prior_shift:
        segmenter = experiment.build_segmenter(config, len(class_names))
        shift = _shift(config, _data_of(workdir, config), segmenter)
    return Description(config.to_dict(), class_names, palette, 0, shift)


def classes_of(workdir: Workdir) -> tuple[tuple[str, ...], Palette]:
    """The names and colours of a run's classes.

    Raises:
        InputError: it is no run, or it did not record them and its data set is not there.
    """
    found = workdir.classes()
    if found is None:
        data_set = _data_of(workdir, configuration.recorded(workdir))
        return data_set.class_names, data_set.palette
    class_names, palette = found
    return tuple(class_names), np.array(palette, np.uint8)


def count_cells(
    config: ConfigDict, data_set: DataSet, segmenter: Segmenter
) -> Int64[np.ndarray, " C"]:
    """`class_balance.count_cells` of the training images that the run uses."""
    training = data_set.read(config.data.train)
    part = order.part(len(training.ids), config.data.fraction, config.seed)
    return class_balance.count_cells(
        training.take(part), segmenter.stride, segmenter.offset, len(data_set.class_names)
    )


def _shift(config, data_set, segmenter):
    """What `config.evaluate.prior_shift` adds to the logits."""
    counts = count_cells(config, data_set, segmenter)
    return class_balance.prior_shift(counts, config.evaluate.prior_shift)


def _data_of(workdir, config):
    """The data set of a run that cannot be understood without it."""
    try:
        return experiment.load_data(config)
    except InputError as error:
        why = f"its config.evaluate.prior_shift is {config.evaluate.prior_shift}"
        if workdir.classes() is None:
            why = f"it has no {workdir.classes_path.name}, as runs of older versions"
        raise InputError(
            f"--workdir={workdir} needs its data set, as {why}, but that cannot be read: {error}"
        ) from error


def _described(about: Description, params: Any, views: bool) -> Predictor:
    config = configuration.completed(about.config)
    segmenter = experiment.build_segmenter(config, len(about.class_names))
    chosen = Views()
    if views:
        segmenter = experiment.in_tiles(segmenter, config.evaluate.tile)
        chosen = experiment.views_of(config)._replace(shift=about.shift)
    own = about.class_names, about.palette
    return Predictor(*own, segmenter, params, about.step, chosen, config)


def _check_record(config, workdir):
    """Raises an InputError if the folder's run is another one, or if its `init` would mislead."""
    trained, changed = workdir.has_checkpoints(), configuration.compare(workdir, config)
    drawn = ["seed"] if config.data.fraction < 1 else []
    others = [name for name in ("data.train", "data.fraction", *drawn) if name in changed]
    shifted = trained and config.evaluate.prior_shift
    if shifted and others and jax.process_index() == 0:
        logging.warning(
            "config.evaluate.prior_shift takes the classes' shares of other images than those that "
            "the run was trained on: it had another %s",
            " and ".join(f"config.{name}" for name in others),
        )
    if "init" not in changed or not initialize.names_a_network(config.init):
        return
    holds = "holds checkpoints of its own, which would be evaluated"
    if not trained:
        begun = configuration.recorded(workdir).init
        if os.path.realpath(begun) == os.path.realpath(config.init):
            return
        holds = f"was begun with {begun!r}"
    raise InputError(
        f"config.init is {config.init!r}, but --workdir={workdir} {holds}: name another --workdir "
        "for these weights"
    )


def _restore(config, workdir, segmenter, checkpoint):
    """(parameters, step) of a run's checkpoint, or without any of the weights that it names."""
    shapes = initialize.shapes(segmenter)
    if not workdir.has_checkpoints():
        if not initialize.names_a_network(config.init):
            raise InputError(
                f"--workdir={workdir} holds no checkpoint; train first. Weights from elsewhere, a "
                "file or another run's folder, are evaluated with `segadv_jax evaluate "
                "--config=NAME --config.init=PATH --workdir=EMPTY_FOLDER`"
            )
        return initialize.pretrained(config.init, shapes, segmenter), 0
    with Checkpoints(workdir, to_read=True) as checkpoints:
        step = step_of(checkpoint, checkpoints)
        if step is not None:
            params = checkpoints.restore_segmenter(shapes, step)
    # Raised within, it would leave the manager's thread behind.
    if step is None:
        if checkpoint in SELECTING:
            raise InputError(
                f"config.evaluate.checkpoint is {checkpoint!r}, but no checkpoint in "
                f"--workdir={workdir} was measured by it, as in runs of older versions: set it to "
                "'selected' or 'latest'"
            )
        raise InputError(
            f"--workdir={workdir} holds no validated checkpoint; train up to a validation, or set "
            "config.evaluate.checkpoint (--checkpoint of predict) to 'latest'"
        )
    return params, step


def step_of(name, checkpoints):
    """The step of the checkpoint that `config.evaluate.checkpoint` names, or None."""
    if name == "latest":
        return checkpoints.latest_step()
    return checkpoints.best_step("" if name == "selected" else name)
