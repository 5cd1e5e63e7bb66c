"""The synthetic data set: drawn scenes, nothing to download, prepared in seconds."""

import numpy as np
from jaxtyping import UInt8

from segadv_jax.data import DataSet, builders, pipeline, scenes
from segadv_jax.data.cpu_tensorflow import tfds

PALETTE = np.array(
    [
        [135, 206, 250],  # sky: light blue
        [160, 60, 50],  # building: brick red
        [255, 240, 130],  # window: pale yellow
        [0, 100, 0],  # tree: dark green
        [0, 60, 200],  # water: blue
        [120, 120, 125],  # road: grey
        [124, 220, 60],  # grass: light green
        [255, 120, 0],  # vehicle: orange
    ],
    np.uint8,
)
SPLITS = {"train": 512, "validation": 64, "test": 128}
SEED = 2016

# Raise it with every change of what is drawn: prepared data is kept per version.
GENERATOR_VERSION = "1.0.0"


class Synthetic(builders.Builder):
    """Example `index` of split number `split` is drawn from RandomState([SEED, split, index])."""

    VERSION = tfds.core.Version(GENERATOR_VERSION)

    def _info(self):
        return self.dataset_info_from_configs(
            description=scenes.__doc__,
            features=builders.features("png"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing to download.
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        for index in range(SPLITS[split]):
            image, label = example(split, index)
            name = f"{split}_{index:04d}"
            yield name, builders.example(name, builders.png(image), label)


def example(split: str, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Draws an example, its image and its label; the same for the same arguments."""
    return scenes.draw(np.random.RandomState([SEED, list(SPLITS).index(split), index]))


def prepare(*, archives: str = "", data_dir: str = "") -> DataSet:
    """Returns the prepared data set; `archives` is not looked at, as there are none."""
    del archives
    builder = builders.prepare(Synthetic, data_dir=builders.folder(data_dir))
    return pipeline.data_set(builder, scenes.CLASS_NAMES, PALETTE)
