"""The mapped steps on four virtual devices against the same functions on one."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, encodings, optimizers, steps
from segadv_jax.alternation import PLAYERS

DEVICES = 4
# A single level: quick to compile, and all levels go through the same lines of a step.
SEGMENTER, ADVERSARY = small.segmenter(levels=1), small.adversary()
SETTINGS = {
    "segmenter": SEGMENTER,
    "adversary": ADVERSARY,
    "encode": encodings.basic,
    "optimizer": optimizers.alternate(optimizers.sgd(0.1, 0.9), optimizers.sgd(0.1, 0.9)),
    "augment": {"crop": 28},
    "lam": 0.5,
    # Noise is drawn by the row of the whole batch; a penalty is a sum over devices as losses are.
    "noise": 0.1,
    "r1": 0.5,
    "ema": 0.5,
}


def uneven_batch(seed=0):
    """Eight images: device 1 gets no label at all, the others more or less void."""
    batch = small.batch(np.concatenate([small.SIZES, small.SIZES[::-1]]), seed=seed)
    batch["label"][2:4] = VOID
    batch["label"][6, :, ::2] = VOID
    return batch


def state():
    made = small.state(SEGMENTER, ADVERSARY, SETTINGS["optimizer"])
    return made._replace(average=jax.tree.map(jnp.zeros_like, made.params["segmenter"]))


@pytest.fixture(scope="module")
def mapped():
    return steps.parallel_train_step(**SETTINGS)


@pytest.fixture(scope="module")
def single():
    return jax.jit(functools.partial(steps.train_step, **SETTINGS), static_argnums=3)


@pytest.mark.parametrize("turn", PLAYERS)
def test_four_devices_make_the_step_of_one(mapped, single, turn):
    key, batch = jax.random.key(3), uneven_batch()
    expected, expected_metrics = single(state(), batch, key, turn)
    got, metrics = mapped(steps.replicate(state()), steps.shard(batch), key, turn, np.int32(0))
    assert got.step == expected.step == 1
    for player in ("segmenter", "adversary"):
        # After one step the momentum is the gradient.
        small.assert_close(small.momentum(got, player), small.momentum(expected, player), 1e-3)
        small.assert_close(got.params[player], expected.params[player], 1e-4)
    small.assert_close(got.average, expected.average, 1e-4)
    assert set(metrics) == set(expected_metrics)
    for name, value in expected_metrics.items():
        assert metrics[name].shape == ()
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    for leaf in jax.tree.leaves(got):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == DEVICES
        assert all(np.array_equal(copies[0], other) for other in copies)


def compilations(caplog, function, *args):
    """(result, number of programs compiled meanwhile)."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        result = function(*args)
    return result, sum("Finished XLA compilation" in r.message for r in caplog.records)


def test_a_mapped_step_is_compiled_once(caplog):
    """Its output is placed as its first input was."""
    mapped = steps.parallel_train_step(**SETTINGS | {"augment": None})
    args = steps.shard(uneven_batch()), jax.random.key(0), "standard", np.int32(0)
    (now, _), first = compilations(caplog, mapped, steps.replicate(state()), *args)
    _, second = compilations(caplog, mapped, now, *args)
    assert (first, second) == (1, 0)


def test_replicate_copies():
    """The steps use up the buffers of their state; those that it was made from must stay."""
    original = {"a": np.arange(4.0, dtype=np.float32), "b": jnp.ones((2, 3))}
    placed = steps.replicate(original)
    for name, leaf in placed.items():
        assert len(leaf.addressable_shards) == DEVICES
        np.testing.assert_array_equal(leaf, original[name])
        leaf.delete()
    np.testing.assert_array_equal(original["a"], [0, 1, 2, 3])
    np.testing.assert_array_equal(original["b"], np.ones((2, 3)))


def test_shard_gives_each_device_its_contiguous_rows():
    batch = uneven_batch() | {"id": np.array(list("abcdefgh"))}
    sharded = steps.shard(batch)
    assert set(sharded) == {"image", "label", "size", "mask"}
    for name, value in sharded.items():
        assert value.shape[:2] == (4, 2)
        np.testing.assert_array_equal(value[1], batch[name][2:4])


def test_four_devices_evaluate_as_one_does():
    params = small.segmenter_parameters(SEGMENTER)
    mapped = steps.parallel_eval_step(segmenter=SEGMENTER)
    single = jax.jit(functools.partial(steps.eval_step, segmenter=SEGMENTER))
    first, last = uneven_batch(), uneven_batch(1)
    last["mask"][5:] = 0  # What pads the last batch, here with labels that must not count.
    expected = totals = steps.zero_totals(small.CLASSES)
    totals = steps.replicate(totals)
    for batch in (first, last):
        expected = single(params, expected, batch)
        totals = mapped(params, totals, steps.shard(batch))
    valid = [first["label"], last["label"][:5]]
    assert np.sum(expected["confusion"]) == sum(np.sum(label != VOID) for label in valid)
    # A tie within rounding may fall either way.
    assert np.sum(np.abs(totals["confusion"] - expected["confusion"])) <= 4
    assert totals["cells"] == expected["cells"]
    np.testing.assert_allclose(totals["mce"], expected["mce"], rtol=1e-5)
