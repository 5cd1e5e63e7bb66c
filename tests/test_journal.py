"""What training says while it runs: means of what is finished, and which loss went wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from tqdm import tqdm

from segadv_jax.journal import Journal, check_finite, describe

TRAIN = ConfigDict({"log_every": 2, "batch_size": 4})


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
def profiled():
    return []


@pytest.fixture
def add(writer, profiled):
    """Takes in a step, (after, mce, further metrics): two steps are logged at a time."""
    rates = {"segmenter": lambda updates: 0.1 * updates, "adversary": lambda updates: 7.0}
    journal = Journal(writer, tqdm(disable=True), TRAIN, rates, profiled.append)

    def add(after, mce, at_end=False, **metrics):
        updates = {"segmenter": after, "adversary": 0}
        position = {"step": after, "segmenter_updates": after, "epoch": after / 5}
        metrics = {name: jnp.float32(x) for name, x in ({"mce": mce} | metrics).items()}
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


def test_a_loss_that_is_not_finite_ends_it(add):
    add(1, np.nan)
    with pytest.raises(FloatingPointError, match="the cross-entropy is nan after 2 updates"):
        add(2, 1.0)


def test_a_validation_is_written_without_what_was_not_measured(writer):
    journal, picture = Journal(writer, tqdm(disable=True), TRAIN, {}), np.zeros((3, 5, 3), np.uint8)
    journal.add_validation({"validation_mce": 0.5, "validation_mean_iou": None}, picture, 7)
    assert writer.scalars == [(7, {"validation_mce": 0.5})]
    ((step, images),) = writer.images
    assert step == 7 and images["predictions"].shape == (1, 3, 5, 3)


@pytest.mark.parametrize(
    ("scalars", "message"),
    [
        ({"mce": np.nan, "bce_real": 1.0}, "the cross-entropy is nan .*optimizer.segmenter.learn"),
        ({"bce_real": np.inf, "mce": 1.0}, "bce_real is inf .*config.optimizer.adversary.learning"),
        # Without the segmenter's own loss the adversary's mean nothing.
        ({"bce_real": np.inf, "mce": np.inf}, "the cross-entropy is inf .*optimizer.segmenter.le"),
    ],
)
def test_the_player_to_blame_is_named_with_its_remedy(scalars, message):
    with pytest.raises(FloatingPointError, match=f"{message}.* or set its clip"):
        check_finite(jax.tree.map(jnp.float32, [{"mce": 1.0}, scalars]), 3)


def test_a_mean_is_over_the_steps_that_report_the_metric():
    steps = [{"mce": jnp.float32(1)}, {"mce": jnp.float32(2), "bce_real": jnp.float32(5)}]
    assert check_finite(steps, 3) == {"mce": 1.5, "bce_real": 5.0}


def test_the_health_of_the_game_is_said_in_a_few_words():
    assert describe({"mce": 1.234, "accuracy": 0.5, "lam": 0.1}) == "mce 1.23, cells 0.50"
    scalars = {"accuracy_synthetic": 0.25, "mce": 1.0, "accuracy_real": 0.75}
    expected = "mce 1.00, adversary right on real 0.75, on synthetic 0.25"
    assert describe(scalars) == expected
