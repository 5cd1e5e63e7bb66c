"""Steps of a small Dilated-8 with dropout against an adversary of PASCAL VOC."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, devices, encodings, optimizers, scene
from segadv_jax.augment import Augmentation
from segadv_jax.losses import Objective
from segadv_jax.models import ADVERSARIES, Dilated8
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step

SEGMENTER = Dilated8(small.CLASSES, context="basic", width=1 / 32)
ADVERSARY = ADVERSARIES["smallfov_light"](width=1 / 16)
SETUP = Setup(
    SEGMENTER,
    ADVERSARY,
    encodings.product,
    optimizers.alternate(optimizers.player("sgd", 1e-3, 0.9), optimizers.player("sgd", 1e-3, 0.9)),
    Objective(lam=0.5),
)
STEP = functools.partial(train_step, setup=SETUP)


def state():
    label_map = np.zeros((1, 3, 3, 3 * small.CLASSES), np.float32)
    image, size = small.images(small.SIZES[:1], small.CANVAS)
    params = {
        "segmenter": small.segmenter_parameters(SEGMENTER),
        "adversary": small.parameters(ADVERSARY, label_map, image, size),
    }
    # So that signals keep their size through all layers of ReLUs, and logits are of order one.
    params = jax.tree.map(lambda x: x * 2**0.5 if x.ndim > 1 else x / 10, params)
    params["segmenter"]["ct_final"]["kernel"] /= 50
    params["adversary"]["conv1"]["kernel"] /= 50
    return TrainState(np.int32(0), params, SETUP.optimizer.init(params))


def batch():
    """Eight images; device 1 gets no label at all."""
    sizes = [(24, 24), (24, 17), (19, 24), (24, 24)]
    made = small.batch(np.array(sizes + sizes[::-1]), (24, 24), square=9)
    made["label"][2:4] = VOID
    return made


@pytest.fixture(scope="module")
def single():
    return jax.jit(STEP, static_argnums=3)


def test_nothing_is_drawn_twice_from_a_key():
    """Each image's augmentation, dropout and noise are independent, and so are the images."""
    key, rows = jax.random.key(3), range(8)
    patches = dataclasses.replace(SETUP, augmentation=Augmentation(crop=24))
    prepare = jax.jit(lambda batch: scene.prepare(batch, key, patches, devices.Shards(None)))
    prepared = prepare(batch())
    # Row r is augmented with fold_in(key, r).
    keys = {"augmentation": jnp.stack([jax.random.fold_in(key, row) for row in rows])}
    keys |= {name: prepared[f"{name}_keys"] for name in ("dropout", "noise")}
    drawn = [tuple(data) for each in keys.values() for data in jax.random.key_data(each).tolist()]
    assert len(set(drawn)) == len(drawn) == 3 * len(rows)


def test_dropout_is_on_in_both_players_turns(single):
    """The batch's key draws the mask, whoever's turn it is."""
    mce = {
        (turn, seed): float(single(state(), batch(), jax.random.key(seed), turn)[1]["mce"])
        for turn in ("both", "adversary")
        for seed in (3, 4)
    }
    for seed in (3, 4):
        assert mce["both", seed] == pytest.approx(mce["adversary", seed], rel=1e-5)
    assert abs(mce["adversary", 3] - mce["adversary", 4]) > 1e-3 * mce["adversary", 3]
