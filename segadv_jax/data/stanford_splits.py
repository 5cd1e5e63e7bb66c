"""The Stanford Background splits: 142 test images, and the other 573 in eight subsets.

The paper takes 573 and 142 images "introduced in [10]" and cuts the training images into eight
subsets, one of which validates (Section 5); neither list was published. Ours are derived from
the sorted ids of all 715 images and a seed. The lists are shipped. To write them again:

    python -m segadv_jax.data.stanford_splits iccv09Data.tar.gz
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from segadv_jax.data.archives import read_tar
from segadv_jax.files import PathLike

SEED = 2016
TEST = 142
SUBSETS = 8
FOLDER = Path(__file__).parent / "stanford_background_splits"


def derive(ids: Iterable[str], seed: int = SEED) -> dict[str, list[str]]:
    """Splits ids into {"test", "subset_0", ..., "subset_7"}, each a sorted list.

    The sorted ids are permuted once. The first 142 are for testing, the others are cut into eight
    consecutive parts, whose sizes differ by at most one image.
    """
    order = np.random.RandomState(seed).permutation(sorted(ids))
    parts = np.array_split(order[TEST:], SUBSETS)
    splits = {"test": order[:TEST]} | {f"subset_{i}": part for i, part in enumerate(parts)}
    return {name: sorted(part.tolist()) for name, part in splits.items()}


def read() -> dict[str, list[str]]:
    """Returns the shipped lists, in the form that `derive` returns."""
    names = ["test"] + [f"subset_{i}" for i in range(SUBSETS)]
    return {name: (FOLDER / f"{name}.txt").read_text().split() for name in names}


def write(archive: PathLike, folder: Path = FOLDER) -> None:
    """Derives the lists from the images in `archive` and writes them to `folder`."""
    ids = [Path(name).stem for name in read_tar(archive, lambda name: name.endswith(".jpg"))]
    for name, part in derive(ids).items():
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
