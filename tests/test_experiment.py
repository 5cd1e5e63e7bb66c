"""Factories report a wrong value by the name of its field."""

import jax
import ml_collections
import numpy as np
import pytest
import small

from configs import synthetic as synthetic_config
from segadv_jax import experiment
from segadv_jax.augment import Augmentation
from segadv_jax.errors import InputError
from segadv_jax.losses import Objective
from segadv_jax.models.contracts import AdversaryModule
from segadv_jax.prediction import Views

CLASSES = 8


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("segmenter.name", "unet", "config.segmenter.name is 'unet'; known: multiscale"),
        ("segmenter.activation", "gelu", "config.segmenter: activation is 'gelu'; known: tanh"),
        ("adversary.name", "patch", "config.adversary.name is 'patch'; known: two_branch"),
        (
            "encoding",
            "onehot",
            "config.encoding is 'onehot'; known: basic, basic_rgb, product, scaling",
        ),
        ("loss.reduction", "median", "config.loss: reduction is 'median'; known: mean, sum"),
        ("alternation.schedule", "sometimes", "config.alternation: schedule 'sometimes'"),
        ("alternation.period", 0, "config.alternation: period is 0: set it to 1 or more"),
        ("alternation.pretrain", -1, "config.alternation: pretrain is -1: set it to 0 or more"),
        ("segmenter.widths", (4, 4), r"config.segmenter: widths is \(4, 4\): set 3 whole numbers"),
        ("adversary.image_features", (4,), "config.adversary: image_features is"),
        ("optimizer.segmenter.momentum", 1.0, "config.optimizer.segmenter.momentum is 1.0: set"),
        ("seed", -1, "config.seed is -1: set it from 0 to below 4294967296"),
        ("optimizer.adversary.decay", "linear", "config.optimizer.adversary: decay is 'linear'"),
        ("train.updates", 0, "config.train.updates is 0: set it to 1 or more"),
        ("train.log_every", 0, "config.train.log_every is 0: set it to 1 or more"),
        ("evaluate.every", -1, "config.evaluate.every is -1: set it to 1 or more"),
        ("loss.lam", float("nan"), "config.loss: lam is nan: set it to 0 or more"),
        ("loss.start", -1, "config.loss.start is -1: set it to 0 or more"),
        ("loss.game", "wgan", "config.loss: game is 'wgan'; known: bce, hinge, least_squares"),
        ("loss.smoothing", 0.5, "config.loss: smoothing is 0.5: set it from 0 to below 0.5"),
        ("loss.noise", float("inf"), "config.loss: noise is inf: set it to a finite number"),
        ("loss.start", 600, "config.loss.start is 600, but config.train.updates 600: the term"),
        ("seed", 2**32, "config.seed is 4294967296: set it from 0 to below 4294967296"),
        ("segmenter.shrink", 16, "config.train.crop is 80, but a label cell takes 64 pixels"),
        ("loss.r1", -0.5, "config.loss: r1 is -0.5: set it to 0 or more"),
        ("evaluate.scales", ("a",), r"config.evaluate.scales is \('a',\): set 1 to 32 numbers"),
        ("train.ema", 1.0, "config.train.ema is 1.0: set it from 0 to below 1"),
        ("train.patience", -1, "config.train.patience is -1: set it to 0 or more"),
        ("segmenter.shrink", 0, "config.segmenter: shrink is 0: set it from 1 to 64"),
        ("data.fraction", 0.0, "config.data.fraction is 0.0: set it above 0 and up to 1"),
        ("train.scale", (1.1, 0.9), r"config.train: scale is \(1.1, 0.9\): set it to"),
        ("train.rotation", -1.0, "config.train: rotation is -1.0: set it from 0 to 180"),
        ("train.crop", -1, "config.train.crop is -1: set it from 0 to 65536"),
        ("train.profile", -1, "config.train.profile is -1: set it to 0 or more"),
        ("loss.balance", 1.5, "config.loss.balance is 1.5: set it from 0 to 1"),
        ("loss.balance", float("nan"), "config.loss.balance is nan: set it from 0 to 1"),
        ("loss.largest_weight", 0.9, "config.loss.largest_weight is 0.9: set it to 1 or more"),
        ("loss.largest_weight", float("inf"), "config.loss.largest_weight is inf: set it to a fin"),
        ("train.unlabelled_batch_size", 3, "unlabelled_batch_size is 3, but config.data"),
        ("evaluate.checkpoint", "best", "config.evaluate.checkpoint is 'best'; known: selected, "),
        ("loss.label_smoothing", 1.0, "config.loss: label_smoothing is 1.0: set it from 0"),
        ("loss.boundary_radius", 0, "config.loss: boundary_radius is 0: set it from 1 to 64"),
        ("evaluate.select", "mce", "config.evaluate.select is 'mce'; known: mean_iou, class_acc"),
        ("adversary.leak", 1.0, "config.adversary: leak is 1.0: set it from 0 to below 1"),
        ("adversary.image_branch", "edges", "config.adversary: image_branch is 'edges'; known: pi"),
        ("optimizer.segmenter.name", "lars", "config.optimizer.segmenter: name is 'lars'; known: "),
        ("optimizer.adversary.betas", (0.5, 1.0), "config.optimizer.adversary: betas is"),
        ("optimizer.segmenter.backbone_factor", -1.0, "optimizer.segmenter: backbone_factor is -1"),
        ("optimizer.segmenter.backbone_factor", 0.1, "but this segmenter has no pretrained part"),
        ("evaluate.prior_shift", 2.5, "config.evaluate.prior_shift is 2.5: set it from -2 to 2"),
        ("evaluate.temperature", 0.0, "config.evaluate.temperature is 0.0: set it from 0.01 to"),
        ("evaluate.prior_shift", float("nan"), "config.evaluate.prior_shift is nan: set it from"),
        ("evaluate.scales", (), r"config.evaluate.scales is \(\): set 1 to 32 numbers, each ab"),
    ],
)
def test_a_wrong_value_is_reported_with_its_field(field, value, message):
    config = synthetic_config.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        experiment.check_numbers(config)
        experiment.build(config, CLASSES)


def test_fields_that_do_not_go_together_are_refused():
    for fields, message in (
        ({"game": "hinge", "smoothing": 0.1}, "config.loss: smoothing has no meaning"),
        ({"game": "least_squares", "saturating": True}, "config.loss: saturating belongs to the"),
    ):
        config = synthetic_config.get_config()
        config.loss.update(fields)
        with pytest.raises(InputError, match=message):
            experiment.build(config, CLASSES)


@pytest.mark.parametrize("schedule", ["standard", "simultaneous", "fast", "slow"])
def test_schedules_decay_over_each_players_own_updates(schedule):
    config = synthetic_config.get_config("standard" if schedule == "standard" else "adversarial")
    config.update_from_flattened_dict(
        {
            "alternation.schedule": schedule,
            "alternation.period": 7,
            "alternation.pretrain": 0 if schedule == "standard" else 3,
            "train.updates": 20,
            "optimizer.adversary.decay": "poly",
        }
    )
    parts = experiment.build(config, CLASSES)
    updates = parts.alternation.updates(parts.alternation.steps(20))
    assert updates["segmenter"] == 20
    assert set(parts.learning_rates) == {p for p, count in updates.items() if count}
    for player, learning_rate in parts.learning_rates.items():
        assert learning_rate(0) == pytest.approx(config.optimizer[player].learning_rate)
        assert learning_rate(updates[player] - 1) > 0
        assert learning_rate(updates[player]) == pytest.approx(0, abs=1e-9)


def test_players_are_trained_as_the_configuration_says():
    """Adam's first step is the learning rate in the direction of the gradient's sign."""
    config = synthetic_config.get_config()
    config.segmenter = ml_collections.ConfigDict({"name": "efficientnet_lite0"})
    config.optimizer.segmenter.update({"name": "adamw", "backbone_factor": 0.1, "clip": 1.0})
    config.optimizer.segmenter.update({"weight_decay": 2.0, "decay": "constant"})
    config.optimizer.adversary.update({"momentum": 0.0, "decay": "constant"})
    optimizer = experiment.build(config, CLASSES).setup.optimizer
    parts = {"backbone": np.ones(2, np.float32), "decoder": np.ones(2, np.float32)}
    params = {"segmenter": parts, "adversary": {"backbone": parts["backbone"]}}
    gradients = jax.tree.map(lambda x: np.float32([3, -4]), params)
    changes, _ = optimizer.update(gradients, optimizer.init(params), params, turn="both")
    rates = [config.optimizer[player].learning_rate for player in ("segmenter", "adversary")]
    step = -rates[0] * (np.sign([3, -4]) + 2.0)
    small.assert_close(changes["segmenter"], {"backbone": 0.1 * step, "decoder": step})
    small.assert_close(changes["adversary"]["backbone"], -rates[1] * np.float32([3, -4]))


def test_a_step_is_told_what_the_configuration_says():
    config = synthetic_config.get_config()
    config.loss.update({"lam": 0.3, "game": "least_squares", "smoothing": 0.1, "start": 5})
    config.train.update({"ema": 0.9, "crop": 64, "rotation": 3.0, "scale": (1.0, 1.2)})
    setup = experiment.build(config, CLASSES).setup
    expected = Objective(lam=0.3, game="least_squares", smoothing=0.1, start=5)
    assert setup.objective == expected and setup.ema == 0.9
    assert setup.augmentation == Augmentation(64, True, 3.0, (1.0, 1.2))
    config.train.augment = False  # Patches as they are.
    setup = experiment.build(config, CLASSES).setup
    assert setup.augmentation == Augmentation(64, False, 0.0, (1.0, 1.0))
    config.train.crop = 0
    assert experiment.build(config, CLASSES).setup.augmentation is None


def test_an_evaluation_is_shown_what_the_configuration_says():
    config = synthetic_config.get_config()
    assert experiment.views_of(config) == Views()
    config.evaluate.update({"flip": True, "scales": (0.5, 1.0)})
    assert experiment.views_of(config) == Views(True, (0.5, 1.0))
    assert experiment.in_tiles(small.segmenter(), 0) == small.segmenter()


def test_pseudo_labels_that_smoothed_labels_would_never_make_are_refused():
    """With 0.2 of 3 classes labels are certain to 1 - 0.2 + 0.2 / 3 = 0.867."""
    config = synthetic_config.get_config("standard")
    config.loss.update({"pseudo_labels": 1.0, "label_smoothing": 0.2, "pseudo_threshold": 0.87})
    with pytest.raises(InputError, match=r"threshold is 0.87, but .* 0.2 .* than 0.867: set"):
        check_worth(config)
    config.loss.pseudo_threshold = 0.86
    check_worth(config)


def test_features_that_a_sum_would_drown_are_not_matched():
    config = synthetic_config.get_config("adversarial")
    config.loss.update({"feature_matching": True, "reduction": "sum"})
    with pytest.raises(InputError, match="compares means, .* set config.loss.reduction to 'mean'"):
        check_worth(config)


def check_worth(config):
    experiment.check_worth(experiment.build(config, 3).setup.objective, 3)


def test_features_are_matched_by_an_adversary_that_has_some():
    config = synthetic_config.get_config("standard")
    config.loss.feature_matching = True
    with pytest.raises(InputError, match="feature_matching needs an adversary, but config.alterna"):
        experiment.check_numbers(config)
    config = synthetic_config.get_config("adversarial")
    config.loss.feature_matching = True
    experiment.check_numbers(config)
    assert experiment.build(config, 3).setup.objective.feature_matching

    class Blind(AdversaryModule):
        stride: int
        block = 4

        def judge(self, label_map, embedded, size):
            return label_map

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiment.ADVERSARIES, "blind", Blind)
        config.adversary = ml_collections.ConfigDict({"name": "blind"})
        with pytest.raises(InputError, match="the adversary blind offers no features to be match"):
            experiment.build(config, 3)
