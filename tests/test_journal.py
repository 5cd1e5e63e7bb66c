"""What training says while it runs: means of what is finished, and which loss went wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from ml_collections import ConfigDict

from segadv_jax.journal import RECENT, VALIDATION, Journal, means
from segadv_jax.progress import UpdatesBar
from segadv_jax.soundness import UnsoundError

TRAIN = ConfigDict({"log_every": 2, "batch_size": 4, "updates": 90})
PICTURE = np.zeros((3, 5, 3), np.uint8)


class Writer:
    """Keeps what would go to TensorBoard."""

    def __init__(self):
        self.scalars, self.images = [], []

    def write_scalars(self, step, scalars):
        self.scalars.append((step, dict(scalars)))

    def write_images(self, step, images):
        self.images.append((step, dict(images)))


@pytest.fixture
def writer():
    return Writer()


@pytest.fixture
def said(monkeypatch):
    """What people are told."""
    lines = []
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    return lines


@pytest.fixture
def profiled():
    return []


@pytest.fixture
def add(writer, profiled):
    """Takes in a step, (after, mce, further metrics): two steps are logged at a time."""
    rates = {"segmenter": lambda updates: 0.1 * updates, "adversary": lambda updates: 7.0}
    journal = Journal(writer, UpdatesBar(0, 90), TRAIN, rates, profiled.append)

    def add(after, mce, at_end=False, **metrics):
        updates = {"segmenter": after, "adversary": 0}
        position = {"step": after, "segmenter_updates": after, "epoch": after / 5}
        metrics = {"mce": mce, "fault": 0.0} | metrics
        metrics = {name: jnp.float32(x) for name, x in metrics.items()}
        journal.add(metrics, updates, position, at_end)

    return add


def test_means_are_those_of_the_steps_before_the_one_just_dispatched(add, writer, profiled):
    """The device must not wait for Python; the last of them are said at the end."""
    for after, mce in enumerate((1.0, 2.0, 4.0, 8.0, 16.0), 1):
        add(after, mce, at_end=after == 5)
    assert [step for step, _ in writer.scalars] == [2, 4, 5]
    assert [scalars["mce"] for _, scalars in writer.scalars] == [1.0, (2 + 4) / 2, (8 + 16) / 2]
    _, last = writer.scalars[-1]
    assert last["learning_rate_segmenter"] == 0.5 and last["learning_rate_adversary"] == 7
    assert (last["step"], last["segmenter_updates"], last["epoch"]) == (5, 5, 1.0)
    assert last["images_per_second"] > 0
    assert profiled == [1, 2, 3, 4, 5]


def test_what_a_pause_takes_is_not_counted(writer, monkeypatch):
    """A validation within the window, whose steps are of before and after it."""
    now = [100.0]
    monkeypatch.setattr("segadv_jax.journal.time.monotonic", lambda: now[0])
    journal = Journal(writer, UpdatesBar(0, 90), TRAIN, {})
    for after in range(1, 5):
        now[0] += 2.0
        metrics = jax.tree.map(jnp.float32, {"mce": 3.0, "fault": 0.0})
        position = {"step": after, "segmenter_updates": after, "epoch": 0.0}
        journal.add(metrics, {"segmenter": after}, position, at_end=after == 4)
        if after == 3:
            with journal.pause():
                now[0] += 60.0
    _, last = writer.scalars[-1]  # Of steps 2 to 4.
    assert last["images_per_second"] == pytest.approx(TRAIN.batch_size * 3 / 4.0)


def test_what_compiling_takes_is_not_counted(writer, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("segadv_jax.journal.time.monotonic", lambda: now[0])
    journal = Journal(writer, UpdatesBar(0, 90), TRAIN, {})
    for after in (1, 2):
        with journal.compiling("standard"):
            now[0] += 60.0 if after == 1 else 0.0
        now[0] += 2.0
        metrics = jax.tree.map(jnp.float32, {"mce": 3.0, "fault": 0.0})
        position = {"step": after, "segmenter_updates": after, "epoch": 0.0}
        journal.add(metrics, {"segmenter": after}, position, at_end=after == 2)
    assert writer.scalars[0][1]["images_per_second"] == pytest.approx(TRAIN.batch_size * 2 / 4.0)


def test_a_step_that_is_not_sound_ends_it_once_the_next_is_dispatched(add):
    add(1, np.nan, fault=1.0)
    with pytest.raises(UnsoundError, match="the cross-entropy is nan at step 1 "):
        add(2, 1.0)


def test_a_step_that_was_left_out_has_no_metrics(writer):
    journal = Journal(writer, UpdatesBar(0, 90), TRAIN, {})
    metrics = jax.tree.map(jnp.float32, {"mce": 3.0, "fault": 0.0})
    for step, of_step in enumerate((metrics, {}, metrics, {}), 1):
        position = {"step": step, "segmenter_updates": step, "epoch": 0.0}
        journal.add(of_step, {"segmenter": step}, position, at_end=step == 4)
    assert [scalars["mce"] for _, scalars in writer.scalars] == [3.0]
    assert "fault" not in writer.scalars[0][1]


def test_a_validation_is_written_without_what_was_not_measured(writer):
    journal = Journal(writer, UpdatesBar(0, 90), TRAIN, {})
    journal.add_validation({"validation_mce": 0.5, "validation_mean_iou": None}, PICTURE, 7)
    assert writer.scalars == [(7, {"validation_mce": 0.5})]
    ((step, images),) = writer.images
    assert step == 7 and images["predictions"].shape == (1, 3, 5, 3)


def test_a_mean_is_over_the_steps_that_report_the_metric():
    steps = [{"mce": jnp.float32(1)}, {"mce": jnp.float32(2), "bce_real": jnp.float32(5)}]
    assert means(steps) == {"mce": 1.5, "bce_real": 5.0}


def journal_of(writer, **fields):
    return Journal(writer, UpdatesBar(0, 90), TRAIN, {}, **fields)


def test_a_validation_is_said_in_a_line_with_the_best_so_far(writer, said):
    journal = journal_of(writer)
    for updates, value in ((10, 0.25), (20, 0.5), (30, 0.4), (40, None), (50, 0.5)):
        journal.add_validation({"validation_mean_iou": value}, PICTURE, updates)
    assert said == [
        "update 10 of 90, validation mean IoU 25.0, best so far",
        "update 20 of 90, validation mean IoU 50.0, best so far",
        "update 30 of 90, validation mean IoU 40.0, best 50.0 at update 20",
        "update 40 of 90, validation mean IoU -, best 50.0 at update 20",
        "update 50 of 90, validation mean IoU 50.0, best so far",  # As the checkpoints have it.
    ]


def test_the_measure_that_selects_is_said_and_a_resumed_run_knows_its_best(writer, said):
    rows = [{"segmenter_updates": 5.0, "validation_class_accuracy": 0.75}, {"segmenter_updates": 8}]
    journal = journal_of(writer, select="class_accuracy", history=rows)
    measures = {"validation_mean_iou": 0.9, "validation_class_accuracy": 0.5}
    journal.add_validation(measures, PICTURE, 10)
    assert said == ["update 10 of 90, validation class accuracy 50.0, best 75.0 at update 5"]


def test_how_often_the_adversary_is_right_is_said_once_both_are_known(writer, said):
    """In the mean of the last steps that know each; players may take turns."""
    journal, measures = journal_of(writer), {"validation_mean_iou": 0.5}

    def add(after, **accuracies):
        metrics = {name: jnp.float32(x) for name, x in accuracies.items()} | {
            "mce": jnp.float32(1),
            "fault": jnp.float32(0),
        }
        position = {"step": after, "segmenter_updates": 7, "epoch": 1.0}
        journal.add(metrics, {"segmenter": 7, "adversary": 7}, position, False)

    add(1, accuracy_synthetic=0.0)
    journal.add_validation(measures, PICTURE, 7)
    assert "adversary" not in said[-1]
    for step in range(RECENT):
        add(2 + step, accuracy_synthetic=step % 2)
    add(1000, accuracy_real=0.914)
    journal.add_validation(measures, PICTURE, 8)
    assert said[-1].endswith("best so far; adversary right on 91 / 50 %")


def test_what_is_compiled_is_said_before_it_takes_long(writer, said):
    journal = journal_of(writer)
    for turn in ("segmenter", "adversary", "segmenter", VALIDATION, VALIDATION):
        with journal.compiling(turn):
            said.append(turn)
    said = [line.partition(" in ")[0] for line in said]
    begun = (
        "compiling the segmenter's training step ...",
        "compiling the adversary's training step ...",
    )
    assert said == [
        *(begun[0], "segmenter", "compiled"),
        *(begun[1], "adversary", "compiled"),
        "segmenter",
        *("compiling the validation ...", VALIDATION, VALIDATION),
    ]
