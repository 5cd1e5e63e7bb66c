"""The smallest networks that keep the contracts; and that all networks keep them."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import small

from segadv_jax.models import ADVERSARIES, SEGMENTERS, Adversary, Segmenter
from segadv_jax.models.contracts import AdversaryModule, SegmenterModule


class Blocks(SegmenterModule):
    """As little as a segmenter can be: a convolution of blocks of 8 pixels."""

    num_classes: int
    stride = 8

    @nn.compact
    def __call__(self, image, size, keys=None):
        return nn.Conv(self.num_classes, (8, 8), (8, 8))(image)


def test_a_minimal_segmenter_has_defaults_for_all_else():
    module = Blocks(5)
    assert (module.num_classes, module.stride, module.offset) == (5, 8, 3.5)
    assert (module.margin, module.tile) == (0, 0)
    image, size = small.images([(16, 24), (13, 20)], (16, 24))
    params = module.init(jax.random.key(0), image, size)
    assert module.apply(params, image, size).shape == (2, 2, 3, 5)
    colours = np.asarray(module.apply({}, image, size, method="colours"))
    for n, (height, width) in enumerate(size):
        for i, j in np.ndindex(2, 3):
            block = image[n, 8 * i : min(8 * i + 8, height), 8 * j : min(8 * j + 8, width)]
            np.testing.assert_allclose(colours[n, i, j], block.mean((0, 1)) - 127.5, atol=1e-3)


def test_a_minimal_segmenter_has_no_part_to_be_kept_and_no_features():
    image, size = small.images([(16, 24)], (16, 24))
    for method in ("embed", "decide"):
        with pytest.raises(ValueError, match="no frozen part that could be kept"):
            Blocks(5).apply({}, image, size, method=method)
    with pytest.raises(ValueError, match="offers no features"):
        Blocks(5).apply({}, image, method="features_of")


@pytest.mark.parametrize("name", sorted(SEGMENTERS))
def test_segmenters_keep_the_contract(name):
    """`tile` is a field of those that can be evaluated on tiles, and 0 unless it is set."""
    module = SEGMENTERS[name](num_classes=3)
    assert isinstance(module, Segmenter)
    assert module.num_classes == 3 and module.tile == 0
    assert module.stride % 4 == 0 and 0 <= module.offset < module.stride


class Mean(AdversaryModule):
    """As little as an adversary can be: a linear layer on the mean of a block."""

    stride: int
    block = 2

    @nn.compact
    def judge(self, label_map, embedded, size):
        assert embedded is None
        return nn.Dense(1)(nn.avg_pool(label_map, (self.block, self.block), (self.block,) * 2))


def test_a_minimal_adversary_has_defaults_for_all_else():
    module = Mean(stride=4)
    assert (module.stride, module.block, module.least_cells) == (4, 2, 1)
    image, size = small.images([(24, 40)], (24, 40))
    label_map = np.random.RandomState(0).uniform(size=(1, 6, 10, 3)).astype(np.float32)
    params = small.parameters(module, label_map, image, size)
    logits = module.apply({"params": params}, label_map, image, size)
    means = label_map.reshape(1, 3, 2, 5, 2, 3).mean((2, 4))
    expected = means @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"].reshape(1, 1, 1, -1)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    label = np.arange(60, dtype=np.uint8).reshape(1, 6, 10)
    labels = module.apply({}, label, size, method="block_labels")
    np.testing.assert_array_equal(labels, label)
    assert module.apply({}, image, size, method="embed_image") is None


@pytest.mark.parametrize("name", sorted(ADVERSARIES))
def test_adversaries_keep_the_contract(name):
    module = ADVERSARIES[name](stride=8)
    assert isinstance(module, Adversary)
    block = 8 if name == "fully_convolutional" else 4
    assert (module.stride, module.block, module.least_cells) == (8, block, 1)
