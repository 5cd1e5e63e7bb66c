"""The devices never wait for Python: what the loop puts on them, and when it reads from them."""

import contextlib
import io

import jax
import pytest
from small_runs import small_config

from segadv_jax import progress, train
from segadv_jax.preparation import prepare
from segadv_jax.training_run import TrainingRun

STEPS, VALIDATED = range(6), (3, 5)


def watch_reading(patch, read):
    """Calls `read` with the arrays that are read from now on, explicitly or not."""
    get, kind = jax.device_get, type(jax.device_put(0.0))

    def device_get(tree):
        for leaf in jax.tree.leaves(tree):
            read(leaf)
        return get(tree)

    patch.setattr(jax, "device_get", device_get)

    def reading(original):
        def method(array, *arguments, **fields):
            read(array)
            return original(array, *arguments, **fields)

        return method

    for name in ("__float__", "__bool__", "__array__", "item", "block_until_ready"):
        patch.setattr(kind, name, reading(getattr(kind, name)))


@pytest.fixture(scope="module")
def happened(data_dir, tmp_path_factory):
    """What a run did, in order: ("put", step), ("step", step), ("read", step of the metric).

    No transfer of it is implicit, or it would not have come to its end: in a step of both players,
    two validations, the lines of the journal, and the bar of a terminal.
    """
    fields = {"optimizer.adversary.decay": "cosine", "train.log_every": 2}
    fields |= {"train.updates": len(STEPS), "evaluate.every": 4, "evaluate.train_images": 0}
    found, next_inputs, kept = [], TrainingRun.next_inputs, {}

    def put(run, step):
        found.append(("put", step))
        return next_inputs(run, step)

    def watch(config, workdir, stack, skipped):
        run, state = prepare(config, workdir, stack, skipped)
        play, steps = run.train_step, iter(range(run.total))

        def step(*inputs):
            number = next(steps)
            state, metrics = play(*inputs)
            found.append(("step", number))
            kept.update({id(value): (number, value) for value in metrics.values()})
            return state, metrics

        object.__setattr__(run, "train_step", step)
        stack.enter_context(jax.transfer_guard("disallow"))
        return run, state

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(TrainingRun, "next_inputs", put)
        patch.setattr(train, "prepare", watch)
        patch.setattr(progress, "is_shown", lambda: True)
        watch_reading(patch, lambda x: id(x) in kept and found.append(("read", kept[id(x)][0])))
        train.train(small_config(data_dir, **fields), str(tmp_path_factory.mktemp("ahead")))
    return found


def test_the_next_batch_is_on_its_way_before_a_step_begins(happened):
    """And none is taken that no step takes."""
    steps = [number for what, number in happened if what == "step"]
    assert [number for what, number in happened if what == "put"] == steps == [*STEPS]
    for step in steps[:-1]:
        assert happened.index(("put", step + 1)) < happened.index(("step", step))


def test_a_step_is_read_after_the_next_was_dispatched(happened):
    """But where a validation needs its parameters, or nothing comes after it."""
    read = [number for what, number in happened if what == "read"]
    assert set(read) == set(STEPS)
    for step in set(read) - set(VALIDATED):
        assert happened.index(("read", step)) > happened.index(("step", step + 1))
