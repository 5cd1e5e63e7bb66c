"""A pretrained part that is not trained: no gradient, no momentum, no average, one copy of it."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import devices, encodings, optimizers
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.initialize import initialize
from segadv_jax.losses import Objective
from segadv_jax.models import EfficientNetLite, TwoBranch
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.layers import zero_outside
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState, evaluated, split_frozen
from segadv_jax.train_step import train_step
from segadv_jax.workdir import Workdir


class Small(SegmenterModule):
    """A convolution that is pretrained, and a layer that is not."""

    num_classes: int
    stride: int = 4
    freeze: bool = True

    @property
    def pretrained(self):
        return ("backbone",)

    @property
    def frozen(self):
        return self.pretrained if self.freeze else ()

    @nn.compact
    def __call__(self, image, size, keys=None):
        x = nn.Conv(6, (4, 4), (4, 4), name="backbone")(zero_outside(image / 255, size))
        return nn.Dense(self.num_classes, name="decoder")(nn.relu(x))


def setup_of(segmenter, ema=0.9):
    players = (optimizers.player("sgd", 0.1, momentum=0.9) for _ in range(2))
    optimizer = optimizers.alternate(*players)
    adversary = small.adversary()
    return Setup(segmenter, adversary, encodings.basic, optimizer, Objective(lam=0.1), ema=ema)


def state_of(setup):
    image, size = small.images(small.SIZES[:1], small.CANVAS)
    params = small.parameters(setup.segmenter, image, size)
    trained, frozen = split_frozen(params, setup.segmenter.frozen)
    players = {"segmenter": trained, "adversary": small.adversary_parameters(setup.adversary)}
    average = trained if setup.ema else None
    opt_state = setup.optimizer.init(players)
    return TrainState(jnp.zeros((), jnp.int32), players, opt_state, average, frozen)


@functools.cache
def program(segmenter, ema):
    return jax.jit(functools.partial(train_step, setup=setup_of(segmenter, ema)), static_argnums=3)


def step(setup, state, number=0):
    play = program(setup.segmenter, setup.ema)
    return play(state, small.batch(), jax.random.key(number), "both", 0)[0]


def names(tree):
    return {
        str(getattr(key, "key", key)) for path, _ in jax.tree.leaves_with_path(tree) for key in path
    }


def test_the_rest_is_trained_as_if_nothing_were_frozen():
    frozen, free = setup_of(Small(small.CLASSES)), setup_of(Small(small.CLASSES, freeze=False))
    got, want = step(frozen, state_of(frozen)), step(free, state_of(free))
    assert small.equal(got.frozen, state_of(frozen).frozen)
    small.assert_close(got.params["segmenter"]["decoder"], want.params["segmenter"]["decoder"])
    small.assert_close(got.params["adversary"], want.params["adversary"])
    moved = state_of(free).params["segmenter"]["backbone"]
    assert not small.equal(want.params["segmenter"]["backbone"], moved)


def test_what_is_frozen_has_neither_momentum_nor_average():
    setup = setup_of(Small(small.CLASSES))
    state = step(setup, state_of(setup))
    assert "decoder" in names(state.opt_state) and "backbone" not in names(state.opt_state)
    assert set(state.average) == set(state.params["segmenter"]) == {"decoder"}
    assert set(evaluated(state)) == {"backbone", "decoder"}


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_checkpoint_holds_it_once_and_gives_it_back(tmp_path, ema):
    setup = setup_of(Small(small.CLASSES), ema)
    state = step(setup, state_of(setup))
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(devices.replicate(state), 1, {"mean_iou": 0.5})
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        back = checkpoints.restore(state, 1)
        assert small.equal(back, state) and jax.tree.structure(back) == jax.tree.structure(state)
        segmenter = checkpoints.restore_segmenter(evaluated(state), 1)
        assert small.equal(segmenter, evaluated(state))
    items = (tmp_path / "checkpoints" / "1").glob("*/_METADATA")
    trees = [json.loads(path.read_text())["tree_metadata"] for path in items]
    kernels = [name for tree in trees for name in tree if "backbone" in name and "kernel" in name]
    assert len(kernels) == 1


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    setup = setup_of(Small(small.CLASSES))
    first = step(setup, state_of(setup))
    with Checkpoints(Workdir(tmp_path)) as checkpoints:
        checkpoints.save(devices.replicate(first), 1)
        checkpoints.wait()
        restored = checkpoints.restore(first, 1)
    assert small.equal(step(setup, restored, number=1), step(setup, first, number=1))


def test_four_devices_make_the_step_of_one():
    setup = setup_of(Small(small.CLASSES))
    mapped = devices.map_train_step(functools.partial(train_step, setup=setup))
    batch, key = small.batch(), jax.random.key(0)
    got, _ = mapped(devices.replicate(state_of(setup)), devices.shard(batch), key, "both", 0)
    small.assert_close(got.params, step(setup, state_of(setup)).params)
    assert small.equal(got.frozen, state_of(setup).frozen)


def flops(turn, adversary=None, freeze="backbone", compiled=False):
    """Operations of a step, and of the segmenter's forward pass in it.

    Of the compiled programs, or as they are handed to the compiler, which only removes some.
    """
    segmenter = EfficientNetLite(8, freeze=freeze)
    sgd = optimizers.player("sgd", 0.1)
    optimizer = optimizers.alternate(sgd, sgd)
    setup = Setup(segmenter, adversary, encodings.basic, optimizer, Objective(lam=0.1))
    batch = small.batch([(64, 64)], (64, 64))
    image, key = batch["image"].astype(np.float32), jax.random.key(0)
    state = jax.eval_shape(lambda: initialize(setup, 0, (64, 64), 8))

    def play(state, batch, key):
        return train_step(state, batch, key, turn, setup=setup)

    def forward(params, image, size):
        return segmenter.apply({"params": params}, image, size)

    def count(function, *args):
        lowered = jax.jit(function).lower(*args)
        return (lowered.compile() if compiled else lowered).cost_analysis()["flops"]

    step = count(play, state, batch, key)
    return step, count(forward, evaluated(state), image, batch["size"])


def test_a_frozen_backbone_costs_no_backward_pass():
    step, forward = flops("standard")
    # Only the decoder is gone back through.
    assert forward < step < 1.5 * forward
    tuned, same_forward = flops("standard", freeze="none")
    assert same_forward == forward
    assert tuned > 2.5 * forward


def test_what_the_adversary_sees_is_computed_once():
    """It is written down twice: the compiler sees that both are the same."""
    few = {"label_features": 1, "fused_features": (1, 1, 1)}
    step, forward = flops("standard", compiled=True)
    both, _ = flops("both", TwoBranch(stride=8, image_branch="features", **few), compiled=True)
    assert step < both < step + 0.2 * forward
