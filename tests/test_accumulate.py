"""A batch in parts, one after the other, makes the step of the undivided batch."""

import functools

import flax.linen as nn
import jax
import numpy as np
import small

from segadv_jax import VOID, devices, encodings, optimizers
from segadv_jax.augment import Augmentation
from segadv_jax.losses import Objective
from segadv_jax.models import ADVERSARIES
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.geometry import count_cells
from segadv_jax.models.layers import Conv, dropout
from segadv_jax.scene import Setup
from segadv_jax.train_step import train_step


class Segmenter(SegmenterModule):
    """Two layers with dropout between them: quick to compile."""

    num_classes: int = small.CLASSES
    stride = 4

    @nn.compact
    def __call__(self, image, size, keys=None):
        x = Conv(16, 4, stride=4, padding=((0, 0), (0, 0)))(image / 128 - 1, size)
        x = dropout(nn.relu(x), keys, 0, 0.5)
        return Conv(self.num_classes, 3)(x, count_cells(size, 4))


KEY = jax.random.key(3)
SEGMENTER = Segmenter()
ADVERSARY = ADVERSARIES["fully_convolutional"](features=(4,), stride=4)
OPTIMIZER = optimizers.alternate(
    optimizers.player("sgd", 1e-3, 0.9), optimizers.player("sgd", 1e-3, 0.9)
)


def state():
    return small.state(SEGMENTER, ADVERSARY, OPTIMIZER)


def uneven(**more):
    """Eight images; of two there is no label at all."""
    sizes = [(24, 24), (24, 17), (19, 24), (24, 24)]
    made = small.batch(np.array(sizes + sizes[::-1]), (24, 24), square=9) | more
    made["label"][2:4] = VOID
    return made


@functools.cache
def step(accumulate, **settings):
    """The step in so many parts."""
    setup = Setup(
        *(SEGMENTER, ADVERSARY, encodings.basic, OPTIMIZER, Objective(lam=0.5, **settings)),
        augmentation=Augmentation(crop=24, flip=True, rotation=0.0, scale=(1.0, 1.0)),
        accumulate=accumulate,
    )
    return functools.partial(train_step, setup=setup)


@functools.cache
def compiled(accumulate):
    """Both players' turn on one device."""
    whole = jax.jit(step(accumulate), static_argnums=3)
    return whole.lower(state(), uneven(), KEY, "both").compile()


def assert_same(got, expected):
    """The players' gradients, which the momenta are after one step, and the metrics."""
    (state, metrics), (wanted, wanted_metrics) = got, expected
    for player in ("segmenter", "adversary"):
        small.assert_close(small.momentum(state, player), small.momentum(wanted, player), 1e-4)
    assert metrics.keys() == wanted_metrics.keys()
    for name, value in wanted_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


def test_parts_make_the_step_of_the_whole():
    """Means of the parts' means would be others, and so would masks drawn part by part."""
    assert_same(*(compiled(parts)(state(), uneven(), KEY) for parts in (4, 1)))


def test_images_without_labels_are_parted_too_and_shared_by_devices():
    """With all that is divided by a count: both lambdas, entropy, pseudo-labels, R1; and noise."""
    settings = {"lam_unlabelled": 0.4, "entropy": 0.3, "r1": 0.2, "boundary": 2.0, "noise": 0.1}
    settings |= {"pseudo_labels": 0.5, "pseudo_threshold": 0.4}
    more = small.batch(np.full((8, 2), 24), (24, 24), seed=5)
    made = uneven(unlabelled={"image": more["image"], "size": more["size"]})
    whole, parted = (
        jax.jit(step(parts, **settings), static_argnums=3)(state(), made, KEY, "both")
        for parts in (1, 2)
    )
    assert {"pseudo_mce", "entropy", "r1", "adversarial_term_unlabelled"} <= whole[1].keys()
    assert_same(parted, whole)
    mapped = devices.map_train_step(step(2, **settings))
    args = devices.shard(made), KEY, "both", np.int32(0)
    assert_same(mapped(devices.replicate(state()), *args), whole)


def test_parts_take_less_memory():
    whole, parted = (compiled(n).memory_analysis().temp_size_in_bytes for n in (1, 4))
    assert parted < 0.6 * whole
