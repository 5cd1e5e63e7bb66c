"""A training step whose segmenter has dropout: what is drawn, and from which key."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from test_accumulate import state, step, uneven

from segadv_jax import devices, scene
from segadv_jax.train_step import train_step


def test_nothing_is_drawn_twice_from_a_key():
    """Each image's augmentation, dropout and noise are independent, and so are the images."""
    key, rows = jax.random.key(3), range(8)
    setup, shards = step(1).keywords["setup"], devices.Shards(None)
    prepared = jax.jit(lambda batch: scene.prepare(batch, key, setup, shards))(uneven())
    # Row r is augmented with fold_in(key, r).
    keys = {"augmentation": jnp.stack([jax.random.fold_in(key, row) for row in rows])}
    keys |= {name: prepared[f"{name}_keys"] for name in ("dropout", "noise")}
    drawn = [tuple(data) for each in keys.values() for data in jax.random.key_data(each).tolist()]
    assert len(set(drawn)) == len(drawn) == 3 * len(rows)


def test_dropout_is_on_in_both_players_turns():
    """The batch's key draws the mask, whoever's turn it is, and here nothing else."""
    as_they_are = dataclasses.replace(step(1).keywords["setup"], augmentation=None)
    play = jax.jit(functools.partial(train_step, setup=as_they_are), static_argnums=3)
    mce = {
        (turn, seed): float(play(state(), uneven(), jax.random.key(seed), turn)[1]["mce"])
        for turn in ("both", "adversary")
        for seed in (3, 4)
    }
    for seed in (3, 4):
        assert mce["both", seed] == pytest.approx(mce["adversary", seed], rel=1e-5)
    assert abs(mce["adversary", 3] - mce["adversary", 4]) > 1e-3 * mce["adversary", 3]
