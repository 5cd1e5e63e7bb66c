"""The synthetic data set: drawn scenes, nothing to download, prepared in seconds."""

import numpy as np

from segadv_jax.data import DataSet, builders, pipeline, scenes
from segadv_jax.data.cpu_tensorflow import tfds

PALETTE = np.array(
    [
        [135, 206, 250],  # sky: light blue
        [160, 60, 50],  # building: brick red
        [255, 220, 60],  # window: yellow
        [0, 100, 0],  # tree: dark green
        [0, 60, 200],  # water: blue
        [128, 64, 128],  # road: purple
        [124, 220, 60],  # grass: light green
        [255, 120, 0],  # vehicle: orange
    ],
    np.uint8,
)
SPLITS = {"train": 512, "validation": 64, "test": 128}
SEED = 2016


class Synthetic(builders.Builder):
    """Drawn scenes, losslessly encoded."""

    # Raise it with every change of what is drawn: prepared data is kept per version.
    VERSION = tfds.core.Version("1.0.0")
    about = scenes.__doc__
    encoding = "png"

    def examples(self):
        self.number = sum(SPLITS.values())
        return {split: _examples(split) for split in SPLITS}


def _examples(split):
    for index in range(SPLITS[split]):
        image, label = example(split, index)
        yield builders.example(f"{split}_{index:04d}", builders.png(image), label)


def example(split: str, index: int) -> scenes.Scene:
    """Draws an image and its label from RandomState([SEED, number of the split, index])."""
    return scenes.draw(np.random.RandomState([SEED, list(SPLITS).index(split), index]))


def prepare(*, archives: str = "", data_dir: str = "") -> DataSet:
    """Returns the prepared data set; `archives` is not looked at, as there are none."""
    del archives
    builder = builders.prepare(Synthetic, data_dir)
    return pipeline.data_set(builder, scenes.CLASS_NAMES, PALETTE)
