"""Whole-state checkpoints: the latest, to go on from, and the best, to evaluate."""

import errno
import json
import os

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from segadv_jax.errors import InputError
from segadv_jax.train_state import TrainState, evaluated


def make_workdir(workdir):
    """Makes the folder of a run if it is not there.

    Raises:
        InputError: it cannot be made or written.
    """
    try:
        os.makedirs(workdir, exist_ok=True)
        if not os.access(workdir, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission to write")
    except OSError as error:
        raise InputError(
            f"--workdir={workdir} is not a folder that can be written ({error.strerror}); "
            "choose another"
        ) from error


def open_manager(workdir):
    """Opens ``<workdir>/checkpoints``, which keeps the latest checkpoint and the best.

    The best has the highest mean IoU on the validation split (Section 4).
    """

    def score(metrics):
        return metrics["mean_iou"]

    # A checkpoint without metrics (of a stopped run, say) must neither be kept for ever nor be
    # deleted while it is the latest, which `max_to_keep` with `best_fn` alone does.
    policy = AnyPreservationPolicy(
        [LatestN(1), BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)]
    )
    return ocp.CheckpointManager(
        os.path.abspath(os.path.join(workdir, "checkpoints")),
        item_names=("segmenter", "training"),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy, best_fn=score, best_mode="max", cleanup_tmp_directories=True
        ),
    )


def are_in(workdir):
    """Whether a run of ``workdir`` has saved a checkpoint that it can go on from."""
    folder = os.path.join(workdir, "checkpoints")
    return os.path.isdir(folder) and any(name.isdigit() for name in os.listdir(folder))


def save(manager, state, step, mean_iou=None):
    """Saves a state in the background.

    It is saved as NumPy arrays, so that any number of devices and hosts can go on from it.

    Args:
        manager: of ``open_manager``.
        state: TrainState.
        step: int, its step; a checkpoint that is there already is left alone.
        mean_iou: on the validation split, by which the best is chosen; None if it was not measured.
    """
    if step in manager.all_steps():
        return
    segmenter, training = _items(jax.device_get(state))
    items = ocp.args.Composite(
        segmenter=ocp.args.StandardSave(segmenter), training=ocp.args.StandardSave(training)
    )
    metrics = None if mean_iou is None else {"mean_iou": mean_iou}
    manager.save(step, args=items, metrics=metrics, force=True)


def restore(manager, state, step):
    """The whole state of ``step`` as NumPy arrays; ``state`` gives the shapes."""
    segmenter, training = _items(_empty(state))
    items = ocp.args.Composite(
        segmenter=ocp.args.StandardRestore(segmenter),
        training=ocp.args.StandardRestore(training),
    )
    restored = _read(manager, step, items)
    training, average = restored["training"], None
    segmenter = restored["segmenter"]
    if state.average is not None:
        segmenter, average = training["segmenter"], segmenter
    params = {"segmenter": segmenter, "adversary": training["adversary"]}
    return TrainState(training["step"], params, training["opt_state"], average)


def restore_segmenter(manager, params, step):
    """The segmenter alone, whatever it was trained with; ``params`` gives the shapes."""
    items = ocp.args.Composite(segmenter=ocp.args.StandardRestore(_empty(params)))
    return _read(manager, step, items)["segmenter"]


def restore_adversary(manager, step):
    """The adversary's parameters of ``step``, of whatever shapes, as NumPy arrays."""
    folder = os.path.join(str(manager.directory), str(step), "training")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return jax.device_get(checkpointer.restore(folder)["adversary"])
    except (ValueError, KeyError, OSError) as error:
        raise _unreadable(folder, error) from error


def _read(manager, step, items):
    try:
        return manager.restore(step, args=items)
    except (ValueError, KeyError, OSError) as error:
        raise _unreadable(manager.directory / str(step), error) from error


def _unreadable(folder, error):
    reason = str(error).strip().split("\n")[0]
    return InputError(
        f"the checkpoint {folder} cannot be read ({reason}); delete that folder to go on from an "
        "earlier one, if there is one, or from the start"
    )


def _items(state):
    """A state as the items of a checkpoint: (the segmenter's evaluated parameters, the rest)."""
    training = {
        "step": state.step,
        "adversary": state.params["adversary"],
        "opt_state": state.opt_state,
    }
    if state.average is not None:
        training["segmenter"] = state.params["segmenter"]
    return evaluated(state), training


def _empty(tree):
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), tree)


def record_config(workdir, config, identity, added=()):
    """Writes ``<workdir>/config.json`` on the first run; checks later runs against it.

    Args:
      workdir: folder of the run, which is there.
      config: the whole configuration as a dict.
      identity: names of the fields, or groups of fields, without which a checkpoint has no meaning.
      added: {name: value that a run meant by not having the field yet}.

    Returns:
      Names of the other fields in which the two differ, sorted, "a.b" for config.a.b.

    Raises:
      InputError: the workdir's run differs in one of ``identity``.
    """
    path = os.path.join(workdir, "config.json")
    config = json.loads(json.dumps(config))
    if not os.path.exists(path):
        part = f"{path}.{os.getpid()}"  # Every process of a pod writes the same.
        with open(part, "w") as file:
            json.dump(config, file, indent=2)
        os.replace(part, path)
        return []
    try:
        with open(path) as file:
            recorded, now = _flatten(json.load(file)), _flatten(config)
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}); delete it to have it written again from this "
            "configuration, which must be the one that the run was started with"
        ) from error
    recorded = {name: value for name, value in dict(added).items() if name in now} | recorded
    changed = sorted(k for k in now.keys() | recorded.keys() if now.get(k) != recorded.get(k))
    for name in changed:
        if any(name == field or name.startswith(f"{field}.") for field in identity):
            raise InputError(
                f"--workdir={workdir} holds a run of another architecture or schedule: its "
                f"config.{name} is {recorded.get(name)!r}, this one's {now.get(name)!r}; choose "
                f"another --workdir, or the configuration in {path}"
            )
    return changed


def _flatten(tree, prefix=""):
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
