"""Void and the losses' variants in a step, seen at the logits themselves.

The segmenter here is one whose parameters are its logits: its gradient is with respect to them.
"""

import functools

import equations
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from segadv_jax import VOID, encodings
from segadv_jax.alternation import PLAYERS
from segadv_jax.losses import Objective
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step

ADVERSARY = small.adversary()
LAM = 0.7


class Logits(SegmenterModule):
    """A segmenter whose parameters are its logits."""

    num_classes: int = small.CLASSES
    stride = 4

    def apply(self, variables, image, size, keys=None, method=None):
        return None if method == "colours" else variables["params"]["logits"]

    def __call__(self, image, size, keys=None):
        raise NotImplementedError


def keep_gradients(gradients, state, params, *, turn):
    """Stands for an optimizer: keeps the gradients as its state and moves nothing."""
    return jax.tree.map(jnp.zeros_like, gradients), gradients


GRADIENTS = optax.GradientTransformationExtraArgs(lambda params: (), keep_gradients)


@functools.cache
def compiled(turn, **settings):
    objective = Objective(lam=LAM, **settings)
    setup = Setup(Logits(), ADVERSARY, encodings.basic, GRADIENTS, objective)

    def play(params, batch):
        params = params | {"segmenter": {"logits": params["segmenter"]}}
        state = TrainState(jnp.zeros((), jnp.int32), params, ())
        state, metrics = train_step(state, batch, jax.random.key(0), turn, setup=setup)
        gradients = state.opt_state
        return gradients | {"segmenter": gradients["segmenter"]["logits"]}, metrics

    return jax.jit(play)


@pytest.fixture(scope="module")
def params():
    shape = (len(small.SIZES), *small.cells(small.CANVAS), small.CLASSES)
    logits = np.random.RandomState(3).normal(0, 2, shape).astype(np.float32)
    return {"segmenter": logits, "adversary": small.adversary_parameters(ADVERSARY)}


@pytest.mark.parametrize("turn", PLAYERS)
def test_logits_at_void_cells_change_nothing_and_get_no_gradient(params, turn):
    batch = small.batch(void=0.5)
    void = equations.cell_labels(batch["label"]) == VOID
    assert 0.3 < void.mean() < 0.8
    garbage = np.random.RandomState(4).normal(0, 50, params["segmenter"].shape)
    other = np.where(void[..., None], garbage, params["segmenter"]).astype(np.float32)
    play = compiled(turn)
    gradients, metrics = play(params, batch)
    other_gradients, other_metrics = play(params | {"segmenter": other}, batch)
    assert small.equal(metrics, other_metrics)
    assert small.equal(gradients, other_gradients)
    assert np.all(np.asarray(gradients["segmenter"])[void] == 0)
    if "segmenter" in PLAYERS[turn]:
        assert np.all(np.any(np.asarray(gradients["segmenter"])[~void] != 0, -1))


@pytest.mark.parametrize("turn", PLAYERS)
def test_without_labels_there_is_no_loss_and_no_gradient(params, turn):
    batch = small.batch()
    batch["label"] = np.full_like(batch["label"], VOID)
    gradients, metrics = compiled(turn)(params, batch)
    assert {"mce", "accuracy"} <= set(metrics)
    metrics.pop("lam", None)
    for tree in (gradients, metrics):
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("settings", [{}, {"reduction": "sum", "saturating": True}], ids=str)
def test_losses_and_gradients_are_those_of_the_equations(params, settings):
    """By default means and the non-saturating term; or Eqs. 1 to 3 to the letter."""
    reduction = settings.get("reduction", "mean")
    saturating = settings.get("saturating", False)
    batch = small.batch(void=0.5)
    cells = equations.cell_labels(batch["label"])
    image, size = batch["image"].astype(np.float32), batch["size"]

    def judge(theta, label_map):
        return ADVERSARY.apply({"params": theta}, label_map, image, size)

    @jax.jit
    def expect(logits, theta):
        """Losses and gradients; `y` and `s` are the adversary's verdicts."""
        mce, d_mce = jax.value_and_grad(equations.mce)(logits, cells, reduction)
        term, d_term = jax.value_and_grad(
            lambda x: equations.adversarial_term(
                lambda s: judge(theta, s), x, cells, reduction, saturating
            )
        )(logits)
        gradient = jax.grad(
            lambda theta: equations.adversary_loss(
                lambda s: judge(theta, s), logits, cells, reduction
            )
        )(theta)
        y, s = (judge(theta, shown) for shown in equations.maps(logits, cells))
        return mce, d_mce, term, d_term, gradient, y, s

    mce, d_mce, term, d_term, gradient, y, s = expect(params["segmenter"], params["adversary"])
    gradients, metrics = compiled("both", **settings)(params, batch)
    small.assert_close(gradients["segmenter"], d_mce + LAM * d_term, 1e-4)
    small.assert_close(gradients["adversary"], gradient, 1e-3)

    weights, labelled = equations.block_weights(cells), cells != VOID
    right = np.argmax(params["segmenter"], -1) == cells
    expected = {
        "mce": mce,
        "lam": LAM,
        "fault": 0.0,
        "accuracy": np.mean(right[labelled]),
        "adversarial_term": term,
        "grad_norm_mce": np.linalg.norm(d_mce),
        "grad_norm_adversarial": LAM * np.linalg.norm(d_term),
        "bce_real": equations.bce(y, 1, cells, reduction),
        "bce_synthetic": equations.bce(s, 0, cells, reduction),
        "accuracy_real": np.sum(weights * (y[..., 0] > 0)) / weights.sum(),
        "accuracy_synthetic": np.sum(weights * (s[..., 0] <= 0)) / weights.sum(),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_cross_entropy_is_weighted_by_class(params, reduction):
    weights, batch = (0.5, 1.0, 4.0), small.batch(void=0.5)
    cells = equations.cell_labels(batch["label"])
    mce, d_mce = jax.value_and_grad(equations.mce)(
        params["segmenter"], cells, reduction, jnp.array([[[weights]]])
    )
    play = compiled("standard", reduction=reduction, class_weights=weights)
    gradients, metrics = play(params, batch)
    small.assert_close(gradients["segmenter"], d_mce, 1e-4)
    np.testing.assert_allclose(metrics["mce"], mce, rtol=1e-4)
    np.testing.assert_allclose(metrics["grad_norm_mce"], np.linalg.norm(d_mce), rtol=1e-4)


@pytest.mark.parametrize("turn", PLAYERS)
def test_metrics_are_those_of_the_turn(params, turn):
    """What a turn does not compute it does not report."""
    _, metrics = compiled(turn)(params, small.batch())
    expected = {"mce", "accuracy", "fault"}
    if "segmenter" in PLAYERS[turn]:
        expected |= {"grad_norm_mce"}
    if turn != "standard":
        expected |= {"accuracy_synthetic"}
    if turn in ("segmenter", "both"):
        expected |= {"lam", "adversarial_term", "grad_norm_adversarial"}
    if turn in ("adversary", "both"):
        expected |= {"bce_real", "bce_synthetic", "accuracy_real"}
    assert set(metrics) == expected


def test_lambda_means_the_same_whatever_the_amount_of_void(params):
    """Padding an image with void cells leaves the mean losses where they were."""
    batch = small.batch()
    wide = small.on_canvas(batch, (64, 96))
    logits = np.full((4, 16, 24, small.CLASSES), 9, np.float32)
    logits[:, :8, :12] = params["segmenter"]
    _, metrics = compiled("both")(params, batch)
    _, others = compiled("both")(params | {"segmenter": logits}, wide)
    for name, value in metrics.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, err_msg=name)
