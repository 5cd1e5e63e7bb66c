"""Images without labels to train with: the rest of the training split, splits, or photographs."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer

from segadv_jax.data import DataSet, Split
from segadv_jax.errors import InputError

FIELD = "config.data.unlabelled"
REST = "rest"
SPLIT = "unlabelled"  # That of a data set which has images without labels.


def read(
    data_set: DataSet,
    which: str,
    train: str,
    chosen: Integer[np.ndarray, " m"],
    held_out: dict[str, str],
) -> Split:
    """Reads the images that `config.data.unlabelled` names; nobody looks at their labels.

    Args:
        data_set: of the run.
        which: "rest", the images of `train` that are not `chosen` and those of the data set that
            have no labels; the names of splits, joined with "+"; or a folder of photographs.
        train: the training split.
        chosen: its rows whose labels are used.
        held_out: splits that must not be among them, by the names of their fields. They are only
            compared by the names of their images.

    Raises:
        InputError: there are no such images, or they are held out, or cannot be read.
    """
    if which == REST:
        return _rest(data_set, train, chosen)
    try:
        data_set.check_split(which)
    except InputError as error:
        folder = Path(which).expanduser()
        if folder.is_dir():
            # Imported only here: the rest needs no TensorFlow.
            from segadv_jax.data import photographs

            return photographs.read(folder)
        raise InputError(
            f"{FIELD} is {which!r}, which is neither 'rest', nor a folder, nor splits of the data "
            f"set {data_set.name}: {', '.join(data_set.splits)} (join several with +)"
        ) from error
    split = data_set.read(which)
    for field, other in held_out.items():
        both = sorted({*split.ids} & {*data_set.read(other).ids})
        if both:
            raise InputError(
                f"{FIELD} is {which!r}, of which {len(both)} images, such as {both[0]}, are in "
                f"config.{field}, {other!r}: name splits that have no image in common"
            )
    return split


def _rest(data_set: DataSet, train: str, chosen: Integer[np.ndarray, " m"]) -> Split:
    """The images that are not used with their labels, or have none."""
    split = data_set.read(f"{train}+{SPLIT}" if SPLIT in data_set.splits else train)
    rows = np.setdiff1d(np.arange(len(split.ids)), chosen)
    if not len(rows):
        raise InputError(
            f"{FIELD} is 'rest', but all images are used with their labels: set "
            "config.data.fraction below 1, name other splits or a folder of photographs, or set "
            f"{FIELD} to ''"
        )
    return split.take(rows)
