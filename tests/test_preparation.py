"""What the loop is made of: batches and keys of each player, and where a run stands."""

import contextlib

import jax
import numpy as np
import pytest
from small_runs import small_config

from segadv_jax import devices
from segadv_jax.preparation import check, prepare
from segadv_jax.workdir import Workdir


@contextlib.contextmanager
def prepared(config, folder):
    """A run at its start."""
    with contextlib.ExitStack() as stack:
        workdir = Workdir(folder)
        check(config, workdir)
        run, _ = prepare(config, workdir, stack)
        yield run


def taken(config, folder):
    """{player: [(a batch's labels, its key), ...]} of a run's first steps, by turn."""
    key_of = jax.jit(devices.keyed(lambda state, batch, key, *_: jax.random.key_data(key)))
    with prepared(config, folder) as run:
        turns, batches = run.experiment.alternation, {"segmenter": [], "adversary": []}
        for step, (batch, parts_of_key, updates) in zip(range(8), run.inputs(), strict=False):
            assert batch["image"].shape[:2] == (4, 1) and "id" not in batch
            assert updates == turns.updates(step)["segmenter"]
            player = "adversary" if turns.turn(step) == "adversary" else "segmenter"
            batches[player].append((batch["label"], key_of(0, 0, parts_of_key, 0, 0)))
    return batches


def test_what_the_segmenter_sees_depends_on_its_update_alone(data_dir, tmp_path):
    """And so arms are paired; the adversary's own turns take other batches and other keys."""
    standard = taken(small_config(data_dir, "standard"), tmp_path / "standard")["segmenter"]
    slow = {"alternation.schedule": "slow", "alternation.period": 2}
    adversarial = taken(small_config(data_dir, **slow), tmp_path / "slow")
    assert len(adversarial["segmenter"]) == len(adversarial["adversary"]) == 4
    for one, other in zip(standard, adversarial["segmenter"], strict=False):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    for mine, theirs in zip(*adversarial.values(), strict=True):
        assert not np.array_equal(mine[0], theirs[0]) and not np.array_equal(mine[1], theirs[1])
    for number, player in enumerate(("segmenter", "adversary"), 2):
        own = jax.random.fold_in(jax.random.key(0), number)
        for batch, (_, key) in enumerate(adversarial[player]):
            expected = jax.random.key_data(jax.random.fold_in(own, batch))
            np.testing.assert_array_equal(key, expected)


@pytest.fixture(scope="module")
def fast(data_dir, tmp_path_factory):
    """A run whose players take turns, on half of the images."""
    fields = {"alternation.schedule": "fast", "data.fraction": 0.5, "train.patience": 2}
    with prepared(small_config(data_dir, **fields), tmp_path_factory.mktemp("fast")) as run:
        yield run


def test_a_run_knows_where_it_stands(fast):
    """All axes count the segmenter's updates, the fourth of which completes the seventh step."""
    assert (fast.start, fast.total, fast.updates_per_epoch) == (0, 23, 2)
    assert [fast.is_validation(after) for after in (6, 7, 8, 9, 15)] == [0, 1, 0, 0, 1]
    assert fast.position(7) == {"step": 7, "segmenter_updates": 4, "epoch": 2.0}


def test_patience_counts_from_the_best_validation(fast, monkeypatch):
    assert not fast.has_waited_in_vain(23)  # Nothing was validated.
    monkeypatch.setattr(fast.checkpoints, "best_step", lambda: 7)
    waited = [fast.has_waited_in_vain(step) for step in (7, 21, 22, 23)]
    assert waited == [False, False, False, True]  # Two validations, 8 updates, after the fourth.
    monkeypatch.setitem(fast.config.train, "patience", 0)
    assert not fast.has_waited_in_vain(23)


def test_nothing_is_in_vain_before_all_terms_have_begun(fast, monkeypatch):
    """The best validation is the first, after 4 updates; the adversarial term begins after 6."""
    monkeypatch.setattr(fast.checkpoints, "best_step", lambda: 7)
    for field, value in (("start", 4), ("ramp", 2)):
        monkeypatch.setitem(fast.config.loss, field, value)
    assert fast.updates(23) == 12 and fast.updates(27) == 14
    assert [fast.has_waited_in_vain(step) for step in (23, 27)] == [False, True]
    monkeypatch.setitem(fast.config.alternation, "schedule", "standard")
    assert fast.has_waited_in_vain(23)  # Without an adversary there is nothing that begins.


def test_a_signal_asks_to_stop(fast):
    assert fast.stop_requested(1) == 0
    fast.caught.append(15)
    assert fast.stop_requested(1) == 15
    fast.caught.clear()
