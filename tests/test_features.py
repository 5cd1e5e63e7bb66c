"""An adversary that is shown the segmenter's own features, which are constants to both players."""

import functools

import equations
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import encodings, initialize, optimizers
from segadv_jax.alternation import PLAYERS
from segadv_jax.errors import InputError
from segadv_jax.eval_step import adversary_step
from segadv_jax.losses import Objective
from segadv_jax.models.contracts import SegmenterModule
from segadv_jax.models.layers import zero_outside
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step

LAM = 2.0
FEATURES = 5


class Patches(SegmenterModule):
    """A trunk over patches of 4x4 pixels, whose features it offers, and a head."""

    num_classes: int
    stride = 4

    def setup(self):
        self.trunk, self.head = nn.Conv(FEATURES, (4, 4), (4, 4)), nn.Dense(self.num_classes)

    def features(self, image, size):
        return self.trunk(zero_outside(image / 127.5 - 1, size))

    def __call__(self, image, size, keys=None):
        del keys
        return self.head(nn.tanh(self.features(image, size)))


SEGMENTER, ADVERSARY = Patches(small.CLASSES), small.adversary(image_branch="features", leak=0.2)
SETUP = Setup(
    SEGMENTER,
    ADVERSARY,
    encodings.basic,
    optimizers.alternate(optimizers.player("sgd", 0.1, 0.9), optimizers.player("sgd", 0.1, 0.9)),
    Objective(lam=LAM),
)


def features(theta_s, batch):
    variables = {"params": theta_s}
    return SEGMENTER.apply(variables, jnp.float32(batch["image"]), batch["size"], method="features")


@pytest.fixture(scope="module")
def state():
    image, size = small.images(small.SIZES[:1], small.CANVAS)
    cells = (1, *small.cells(small.CANVAS))
    label_map, shown = (np.zeros((*cells, maps), np.float32) for maps in (small.CLASSES, FEATURES))
    params = {
        "segmenter": small.parameters(SEGMENTER, image, size),
        "adversary": small.parameters(ADVERSARY, label_map, shown, size, seed=1),
    }
    return TrainState(jnp.int32(0), params, SETUP.optimizer.init(params))


@pytest.fixture(scope="module")
def play():
    return jax.jit(functools.partial(train_step, setup=SETUP), static_argnames="turn")


@pytest.fixture(scope="module")
def own(state):
    """(Each player's gradient of its own loss, at constant features; the segmenter's else)."""
    batch = small.batch()
    image, cells = jnp.float32(batch["image"]), equations.cell_labels(batch["label"])

    def loss(theta_s, theta_a, shown, player):
        def judge(label_map):
            return ADVERSARY.apply({"params": theta_a}, label_map, shown, batch["size"])

        logits = SEGMENTER.apply({"params": theta_s}, image, batch["size"])
        if player == "adversary":
            return equations.adversary_loss(judge, logits, cells)
        term = equations.adversarial_term(judge, logits, cells)
        return equations.mce(logits, cells) + LAM * term

    def wrong(theta_s, theta_a):
        return loss(theta_s, theta_a, features(theta_s, batch), "segmenter")

    @jax.jit
    def gradients(*thetas):
        shown = features(thetas[0], batch)
        own = {
            "segmenter": jax.grad(loss, 0)(*thetas, shown, "segmenter"),
            "adversary": jax.grad(loss, 1)(*thetas, shown, "adversary"),
        }
        return own, jax.grad(wrong)(*thetas)

    return gradients(state.params["segmenter"], state.params["adversary"])


@pytest.mark.parametrize("turn", ["segmenter", "adversary"])
def test_each_gradient_is_that_of_the_players_own_loss_at_constant_features(play, state, own, turn):
    gradients, _ = own
    after, _ = play(state, small.batch(), jax.random.key(0), turn)
    for player, gradient in gradients.items():
        assert all(np.max(np.abs(leaf)) > 1e-4 for leaf in jax.tree.leaves(gradient))
        moves = player in PLAYERS[turn]
        gradient = gradient if moves else jax.tree.map(jnp.zeros_like, gradient)
        small.assert_close(small.momentum(after, player), gradient, 1e-3)
        assert small.equal(state.params[player], after.params[player]) != moves


def test_a_gradient_through_the_features_would_be_another(own):
    """Or the test above would not show that there is none."""
    gradients, wrong = own
    trunks = jax.tree.leaves(gradients["segmenter"]["trunk"]), jax.tree.leaves(wrong["trunk"])
    for ours, other in zip(*trunks, strict=True):
        assert np.max(np.abs(ours - other)) > 0.01 * np.max(np.abs(ours))


def test_the_adversary_is_judged_on_what_it_is_shown(state):
    """Its accuracies in evaluation are those of its verdicts beside the features."""
    batch, params = small.batch(), state.params
    step = functools.partial(
        adversary_step, segmenter=SEGMENTER, adversary=ADVERSARY, encode=encodings.basic
    )
    zeros = {name: jnp.zeros(()) for name in ("real", "synthetic", "predictions")}
    image = jnp.float32(batch["image"])
    logits = SEGMENTER.apply({"params": params["segmenter"]}, image, batch["size"])
    totals = jax.jit(step)(params, zeros, batch | {"logits": logits})
    cells = equations.cell_labels(batch["label"])
    weights = equations.block_weights(cells)
    shown = features(params["segmenter"], batch)
    assert totals["predictions"] == np.sum(weights)
    judge = jax.jit(functools.partial(ADVERSARY.apply, {"params": params["adversary"]}))
    for name, label_map in zip(("real", "synthetic"), equations.maps(logits, cells), strict=True):
        verdicts = judge(label_map, shown, batch["size"])
        right = (verdicts[..., 0] > 0) == (name == "real")
        assert totals[name] == np.sum(weights * right)
    assert 0 < totals["real"] + totals["synthetic"] < 2 * totals["predictions"]


def test_the_first_parameters_fit_what_is_shown():
    state = initialize.initialize(SETUP, 0, small.CANVAS, small.CLASSES)
    kernel = state.params["adversary"]["image1"]["kernel"]
    assert kernel.shape == (1, 1, FEATURES, ADVERSARY.label_features)


def test_a_segmenter_without_features_is_refused():
    setup = Setup(small.segmenter(levels=1), ADVERSARY, encodings.basic, SETUP.optimizer)
    with pytest.raises(InputError, match="image_branch is .*this segmenter offers no features"):
        initialize.initialize(setup, 0, small.CANVAS, small.CLASSES)
