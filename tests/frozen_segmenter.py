"""A small segmenter with a frozen part, for runs that are quick to compile."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from segadv_jax.data import arrays
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.geometry import count_cells
from segadv_jax.models.layers import Conv, zero_outside

SIZES = [(32, 48), (29, 41), (17, 33), (32, 20), (21, 48), (32, 47), (30, 30), (18, 39), (25, 44)]
CLASSES = ("ground", "sky", "water")
STRIDE, MAPS = 4, 6


class Frozen(SegmenterModule):
    """Maps of patches, frozen, that are not their own mirror image; a convolution that is not."""

    num_classes: int
    shift: float = 0.0  # Of the frozen maps.
    stride = STRIDE

    @property
    def frozen(self):
        return ("backbone",)

    def setup(self):
        self.backbone = nn.Conv(MAPS, (STRIDE, STRIDE), (STRIDE, STRIDE))
        self.decoder = Conv(self.num_classes, 3)

    def embed(self, image, size):
        return jnp.tanh(self.backbone(zero_outside(image / 127.5 - 1, size))) + self.shift

    def features_of(self, embedded):
        return embedded / 2

    def features(self, image, size):
        return self.features_of(self.embed(image, size))

    def decide(self, embedded, size, keys=None):
        return self.decoder(embedded, count_cells(size, self.stride))

    def __call__(self, image, size, keys=None):
        return self.decide(self.embed(image, size), size, keys)


def images(sizes=SIZES, seed=0, labels=True):
    """A split in memory of images of these sizes."""
    random = np.random.RandomState(seed)
    made = [random.randint(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    classes = [
        (image.mean(-1) // 86 if labels else np.full(size, 255)).astype(np.uint8)
        for image, size in zip(made, sizes, strict=True)
    ]
    return arrays.Arrays([f"{seed}_{i}" for i in range(len(sizes))], made, classes)


def data_set(**splits):
    """A data set in memory; its validation and test images are others than its training images."""
    palette = np.array([[0, 0, 0], [255, 255, 255], [0, 0, 255]], np.uint8)
    given = {"train": images(), "validation": images(SIZES[:2], 1), "test": images(SIZES[:2], 2)}
    return arrays.data_set("odd", given | splits, CLASSES, palette)
