"""What each turn costs, counted in its program: nobody pays for what the turn drops."""

import functools

import jax
import jax.numpy as jnp
import pytest
import small

from segadv_jax import encodings, optimizers
from segadv_jax.alternation import PLAYERS
from segadv_jax.losses import Objective
from segadv_jax.models import MultiScale, TwoBranch
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step

# Full width, where the convolutions outweigh the rest; one level of the pyramid compiles faster.
SEGMENTER, ADVERSARY = MultiScale(8, levels=1), TwoBranch()
CANVAS = (64, 64)
MARGIN = 0.01  # For the losses, the encoding and the optimizer.


def shape(*dimensions, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dimensions, dtype)


IMAGE, SIZE = shape(2, *CANVAS, 3), shape(2, 2, dtype=jnp.int32)
LABEL_MAP = shape(2, *small.cells(CANVAS), 8)


def count(function, *args):
    """Floating-point operations of a function, as they are handed to the compiler."""
    return jax.jit(function).lower(*args).cost_analysis()["flops"]


def initial(module, *args):
    return jax.eval_shape(module.init, jax.random.key(0), *args)["params"]


THETA_S, THETA_A = initial(SEGMENTER, IMAGE, SIZE), initial(ADVERSARY, LABEL_MAP, IMAGE, SIZE)


def segment(theta, image, size):
    return SEGMENTER.apply({"params": theta}, image, size)


def embed(theta, image, size):
    return ADVERSARY.apply({"params": theta}, image, size, method="embed_image")


def judge(theta, label_map, embedded, size):
    return ADVERSARY.apply({"params": theta}, label_map, embedded, size, method="judge")


def total(x):
    return jnp.sum(jnp.square(x))


@pytest.fixture(scope="module")
def turns():
    """Operations of each turn."""
    optimizer = optimizers.alternate(optimizers.player("sgd", 0.1), optimizers.player("sgd", 0.1))
    params = {"segmenter": THETA_S, "adversary": THETA_A}
    state = TrainState(shape(dtype=jnp.int32), params, jax.eval_shape(optimizer.init, params))
    batch = {"image": shape(*IMAGE.shape, dtype=jnp.uint8), "size": SIZE}
    batch["label"] = shape(*IMAGE.shape[:3], dtype=jnp.uint8)
    key = jax.eval_shape(lambda: jax.random.key(0))

    setup = Setup(SEGMENTER, ADVERSARY, encodings.basic, optimizer, Objective(lam=0.1))

    def play(turn, *args):
        return train_step(*args, turn, setup=setup)

    return {t: count(functools.partial(play, t), state, batch, key) for t in PLAYERS}


@pytest.fixture(scope="module")
def parts():
    """Operations of the parts that a turn is to be made of, compiled on their own."""

    def segmenter_loss(theta, image, size):
        return total(segment(theta, image, size))

    def map_loss(label_map, theta, image, size):
        return total(judge(theta, label_map, embed(theta, image, size), size))

    def adversary_loss(theta, real, synthetic, image, size):
        embedded = embed(theta, image, size)  # Once, and so is the way back through it.
        on_real, on_synthetic = (judge(theta, y, embedded, size) for y in (real, synthetic))
        return total(on_real) - total(on_synthetic)

    return {
        "segmenter forward": count(segment, THETA_S, IMAGE, SIZE),
        "segmenter": count(jax.grad(segmenter_loss), THETA_S, IMAGE, SIZE),
        "verdict": count(map_loss, LABEL_MAP, THETA_A, IMAGE, SIZE),
        "map": count(jax.grad(map_loss), LABEL_MAP, THETA_A, IMAGE, SIZE),
        "adversary": count(jax.grad(adversary_loss), THETA_A, LABEL_MAP, LABEL_MAP, IMAGE, SIZE),
    }


def test_standard_training_does_not_pay_for_the_adversary(turns, parts):
    assert turns["standard"] == pytest.approx(parts["segmenter"], rel=MARGIN)


def test_segmenters_turn_looks_at_the_synthetic_map_only(turns, parts):
    """Forward, and back to the map: neither the real map nor a gradient for the adversary."""
    assert turns["segmenter"] == pytest.approx(parts["segmenter"] + parts["map"], rel=MARGIN)


def test_adversarys_turn_does_not_go_back_through_the_segmenter(turns, parts):
    expected = parts["segmenter forward"] + parts["adversary"]
    assert turns["adversary"] == pytest.approx(expected, rel=MARGIN)


def test_both_players_share_one_forward_pass(turns, parts):
    """Of the segmenter, and of the adversary on the synthetic map."""
    back_to_map = parts["map"] - parts["verdict"]
    expected = parts["segmenter"] + parts["adversary"] + back_to_map
    assert turns["both"] == pytest.approx(expected, rel=MARGIN)


def test_turns_cost_what_they_need(turns):
    assert turns["standard"] < turns["segmenter"] < turns["both"]
    assert turns["adversary"] < turns["both"]


def test_the_margin_is_narrow(parts):
    """Narrower than the smallest part that a turn could do in vain."""
    vain = min(parts["verdict"], parts["map"] - parts["verdict"], parts["segmenter forward"])
    assert vain > 2 * MARGIN * (parts["segmenter"] + parts["adversary"])
