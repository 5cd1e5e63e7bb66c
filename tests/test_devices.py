"""The mapped steps on four virtual devices against the same functions on one."""

import dataclasses
import functools
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import VOID, devices, encodings, optimizers
from segadv_jax.augment import Augmentation
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.game import Sums
from segadv_jax.losses import Objective
from segadv_jax.scene import Setup
from segadv_jax.train_step import train_step

DEVICES = 4
# A single level: quick to compile, and all levels go through the same lines of a step.
SEGMENTER, ADVERSARY = small.segmenter(levels=1), small.adversary()
SETUP = Setup(
    SEGMENTER,
    ADVERSARY,
    encodings.basic,
    optimizers.alternate(optimizers.player("sgd", 0.1, 0.9), optimizers.player("sgd", 0.1, 0.9)),
    # Noise is drawn by the row of the whole batch; a penalty is a sum over devices as losses are.
    # The weights of a device's own labels do not average to 1.
    Objective(lam=0.5, noise=0.1, r1=0.5, class_weights=(0.2, 1.0, 3.0)),
    Augmentation(crop=28),
    ema=0.5,
)
STEP = functools.partial(train_step, setup=SETUP)


def uneven_batch(seed=0):
    """Eight images: device 1 gets no label at all, the others more or less void."""
    batch = small.batch(np.concatenate([small.SIZES, small.SIZES[::-1]]), seed=seed)
    batch["label"][2:4] = VOID
    batch["label"][6, :, ::2] = VOID
    return batch


def state():
    made = small.state(SEGMENTER, ADVERSARY, SETUP.optimizer)
    return made._replace(average=jax.tree.map(jnp.zeros_like, made.params["segmenter"]))


@pytest.fixture(scope="module")
def mapped():
    return devices.map_train_step(STEP)


@pytest.fixture(scope="module")
def single():
    return jax.jit(STEP, static_argnums=3)


# What either player does in its own turn is a part of "both".
@pytest.mark.parametrize("turn", ["standard", "both"])
def test_four_devices_make_the_step_of_one(mapped, single, turn):
    key, batch = jax.random.key(3), uneven_batch()
    expected, expected_metrics = single(state(), batch, key, turn)
    given, updates = devices.replicate((state(), np.int32(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # As of buffers that could not be donated.
        got, metrics = mapped(given, devices.shard(batch), key, turn, updates)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
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
    whole_images = dataclasses.replace(SETUP, augmentation=None)
    mapped = devices.map_train_step(functools.partial(train_step, setup=whole_images))
    args = devices.shard(uneven_batch()), jax.random.key(0), "standard", np.int32(0)
    (now, _), first = compilations(caplog, mapped, devices.replicate(state()), *args)
    _, second = compilations(caplog, mapped, now, *args)
    assert (first, second) == (1, 0)


def test_replicate_copies():
    """The steps use up the buffers of their state; those that it was made from must stay."""
    original = {"a": np.arange(4.0, dtype=np.float32), "b": jnp.ones((2, 3))}
    placed = devices.replicate(original)
    for name, leaf in placed.items():
        assert len(leaf.addressable_shards) == DEVICES
        np.testing.assert_array_equal(leaf, original[name])
        leaf.delete()
    np.testing.assert_array_equal(original["a"], [0, 1, 2, 3])
    np.testing.assert_array_equal(original["b"], np.ones((2, 3)))


def test_shard_gives_each_device_its_contiguous_rows():
    batch = uneven_batch() | {"id": np.array(list("abcdefgh"))}
    sharded = devices.shard(batch)
    assert set(sharded) == {"image", "label", "size", "mask"}
    for name, value in sharded.items():
        assert value.shape[:2] == (4, 2)
        np.testing.assert_array_equal(value[1], batch[name][2:4])


def test_a_batch_within_a_batch_is_shared_as_well():
    """It has a number of rows of its own."""
    batch = uneven_batch()
    inner = {name: batch[name][:4] for name in ("image", "size")} | {"id": np.array(list("abcd"))}
    got = devices.shard(batch | {"unlabelled": inner})["unlabelled"]
    assert set(got) == {"image", "size"}
    for name, value in got.items():
        np.testing.assert_array_equal(value, batch[name][:4, None])


def over_devices(function, *args):
    """What each device makes of its row of `args`: f32[4,...]."""
    return np.asarray(jax.pmap(function, axis_name=devices.AXIS)(*args))


def test_rows_have_keys_of_their_own_whatever_the_number_of_devices():
    key = jax.random.key(7)

    def keys(shards):
        return jax.random.key_data(shards.row_keys(key, 2))

    got = over_devices(lambda _: keys(devices.Shards(devices.AXIS)), np.zeros(DEVICES))
    expected = [jax.random.key_data(jax.random.fold_in(key, row)) for row in range(2 * DEVICES)]
    np.testing.assert_array_equal(got.reshape(8, -1), expected)
    np.testing.assert_array_equal(keys(devices.Shards(None)), expected[:2])


def test_sums_are_those_of_the_whole_batch():
    shards, alone = devices.Shards(devices.AXIS), devices.Shards(None)
    vectors = np.random.RandomState(0).normal(size=(DEVICES, 3)).astype(np.float32)
    got = over_devices(shards.sum, vectors)
    np.testing.assert_allclose(got, np.stack([vectors.sum(0)] * DEVICES), rtol=1e-5)
    np.testing.assert_array_equal(alone.sum(vectors), vectors)


def test_metrics_are_those_of_the_whole_batch():
    """A mean of the devices' means would be another: their counts differ, one of them is 0."""
    parts = {
        "right": np.float32([1, 0, 5, 2]),
        "count": np.float32([2, 0, 5, 9]),
        "square": np.float32([1, 4, 2, 9]),
    }

    def measure(each):
        sums = Sums({}, {"accuracy": (each["right"], each["count"])}, {"norm": each["square"]})
        found = devices.Shards(devices.AXIS).sum(sums).metrics()
        return jnp.stack([found["accuracy"], found["norm"]])

    np.testing.assert_allclose(over_devices(measure, parts), [[8 / 16, 4]] * DEVICES)
    nothing = jnp.zeros(())
    assert Sums(fractions={"accuracy": (nothing, nothing)}).metrics() == {"accuracy": 0}


def test_four_devices_evaluate_as_one_does():
    params = small.segmenter_parameters(SEGMENTER)
    step = functools.partial(eval_step, segmenter=SEGMENTER)
    mapped, single = devices.map_eval_step(step), jax.jit(step)
    first, last = uneven_batch(), uneven_batch(1)
    last["mask"][5:] = 0  # What pads the last batch, here with labels that must not count.
    expected = totals = zero_totals(small.CLASSES)
    totals = devices.replicate(totals)
    for batch in (first, last):
        expected = single(params, expected, batch)
        totals = mapped(params, totals, devices.shard(batch))
    valid = [first["label"], last["label"][:5]]
    assert np.sum(expected["confusion"]) == sum(np.sum(label != VOID) for label in valid)
    # A tie within rounding may fall either way.
    assert np.sum(np.abs(totals["confusion"] - expected["confusion"])) <= 4
    assert totals["cells"] == expected["cells"]
    np.testing.assert_allclose(totals["mce"], expected["mce"], rtol=1e-5)
