"""A training step with the real networks: whose gradient is whose, who moves and who waits."""

import dataclasses
import functools
from typing import Any

import equations
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from segadv_jax import encodings, optimizers
from segadv_jax.alternation import PLAYERS, Alternation
from segadv_jax.augment import Augmentation, augment
from segadv_jax.losses import Objective
from segadv_jax.scene import Setup
from segadv_jax.train_step import train_step

TURNS = tuple(PLAYERS)
SEGMENTER, ADVERSARY = small.segmenter(levels=2), small.adversary()
OPTIMIZER = optimizers.alternate(
    optimizers.player("sgd", optimizers.schedule(0.1, "poly", 1000), 0.9),
    optimizers.player("sgd", optimizers.schedule(0.02, "poly", 1000), 0.9),
)
PATCHES = Augmentation(crop=32)
SETUP = Setup(SEGMENTER, ADVERSARY, encodings.basic, OPTIMIZER, augmentation=PATCHES)


@dataclasses.dataclass(frozen=True)
class Traced(Objective):
    """Whose lambda is traced and so cannot be checked: one program for every value of it."""

    lam: Any = 0.0

    def __post_init__(self):
        pass


@pytest.fixture(scope="module")
def play():
    """(state, batch, key, turn, lam) -> (state, metrics), compiled once per turn."""

    @functools.partial(jax.jit, static_argnums=3)
    def play(state, batch, key, turn, lam):
        game = dataclasses.replace(SETUP, objective=Traced(lam=lam))
        return train_step(state, batch, key, turn, setup=game)

    return play


@pytest.fixture
def state():
    return small.state(SEGMENTER, ADVERSARY, OPTIMIZER)


@pytest.fixture(scope="module")
def own():
    """Losses by the equations, and each player's own gradient, the other player being constant."""
    batch, params = small.batch(), small.state(SEGMENTER, ADVERSARY, OPTIMIZER).params
    # Row r is augmented with fold_in(key, r).
    keys = jnp.stack([jax.random.fold_in(jax.random.key(5), row) for row in range(4)])
    example = jax.jit(jax.vmap(functools.partial(augment, augmentation=PATCHES)))
    image, label, size = example(keys, batch["image"], batch["label"], batch["size"])
    cells = equations.cell_labels(np.asarray(label))

    def losses(theta_s, theta_a):
        def judge(label_map):
            return ADVERSARY.apply({"params": theta_a}, label_map, image, size)

        logits = SEGMENTER.apply({"params": theta_s}, image, size)
        return {
            "mce": equations.mce(logits, cells),
            "adversarial_term": equations.adversarial_term(judge, logits, cells),
            "adversary_loss": equations.adversary_loss(judge, logits, cells),
        }

    def called_real(theta_a):
        """The share of the real maps' blocks that the adversary takes for real."""
        real, _ = equations.maps(jnp.zeros((*cells.shape, small.CLASSES)), cells)
        verdicts = ADVERSARY.apply({"params": theta_a}, real, image, size)[..., 0]
        weights = equations.block_weights(cells)
        return np.sum((verdicts > 0) * weights) / np.sum(weights)

    thetas = params["segmenter"], params["adversary"]
    gradients = jax.jit(jax.jacrev(losses, (0, 1)))(*thetas)
    return {
        "losses": jax.jit(losses)(*thetas),
        "mce": gradients["mce"][0],
        "adversarial_term": gradients["adversarial_term"][0],
        "adversary_loss": gradients["adversary_loss"][1],
        "accuracy_real": called_real(params["adversary"]),
    }


@pytest.mark.parametrize("turn", TURNS)
def test_each_gradient_is_that_of_the_players_own_loss(play, state, own, turn):
    lam = 2.0
    after, metrics = play(state, small.batch(), jax.random.key(5), turn, lam)
    lam = 0 if turn == "standard" else lam
    expected = {
        "segmenter": jax.tree.map(
            lambda mce, term: mce + lam * term, own["mce"], own["adversarial_term"]
        ),
        "adversary": own["adversary_loss"],
    }
    for player, gradient in expected.items():
        gradient = gradient if player in PLAYERS[turn] else jax.tree.map(jnp.zeros_like, gradient)
        small.assert_close(small.momentum(after, player), gradient, 1e-3)
    losses = own["losses"]
    np.testing.assert_allclose(metrics["mce"], losses["mce"], rtol=1e-4)
    if turn in ("segmenter", "both"):
        term = losses["adversarial_term"]
        np.testing.assert_allclose(metrics["adversarial_term"], term, rtol=1e-4)
    if turn in ("adversary", "both"):
        bce = metrics["bce_real"] + metrics["bce_synthetic"]
        np.testing.assert_allclose(bce, losses["adversary_loss"], rtol=1e-4)
        assert metrics["accuracy_real"] == pytest.approx(own["accuracy_real"])


def test_no_gradient_vanishes(own):
    """Or the test above would show nothing."""
    for name in ("mce", "adversarial_term", "adversary_loss"):
        assert all(np.max(np.abs(leaf)) > 1e-4 for leaf in jax.tree.leaves(own[name])), name


@pytest.mark.parametrize("turn", ["standard", "segmenter", "adversary"])
def test_a_waiting_player_stands_still(play, state, turn):
    """Its parameters, its momentum, which is not zero, and its learning rate."""
    before, _ = play(state, small.batch(), jax.random.key(0), "both", 0.5)
    after, _ = play(before, small.batch(seed=1), jax.random.key(1), turn, 0.5)
    assert int(after.step) == int(before.step) + 1
    for player in ("segmenter", "adversary"):
        momenta = small.momentum(before, player), small.momentum(after, player)
        counts = small.updates_counted(before, player), small.updates_counted(after, player)
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(momenta[0]))
        moves = player in PLAYERS[turn]
        assert small.equal(before.params[player], after.params[player]) != moves
        assert small.equal(*momenta) != moves
        assert counts == (1, 1 + moves)


@pytest.mark.parametrize(
    "alternation",
    [
        Alternation("simultaneous"),
        Alternation("fast"),
        Alternation("slow", 2),
        Alternation("slow", 2, pretrain=3),
    ],
    ids=["simultaneous", "fast", "slow", "pretrain"],
)
def test_lambda_zero_is_standard_training(play, alternation):
    """Under every schedule, when update u of the segmenter gets the same batch and the same key."""
    trained = []
    for turns in (Alternation("standard"), alternation):
        now = small.state(SEGMENTER, ADVERSARY, OPTIMIZER)
        for step in range(turns.steps(12)):
            turn, taken = turns.turn(step), turns.batches(step)
            stream = "adversary" if turn == "adversary" else "segmenter"
            seed = taken[stream] + 100 * (stream == "adversary")
            now, _ = play(now, small.batch(seed=seed), jax.random.key(seed), turn, 0.0)
        assert small.updates_counted(now, "segmenter") == 12
        trained.append(now)
    standard, adversarial = trained
    assert not small.equal(standard.params["adversary"], adversarial.params["adversary"])
    small.assert_close(adversarial.params["segmenter"], standard.params["segmenter"], 1e-5)


def test_two_hundred_steps_learn_and_move_one_player_at_a_time(play, state):
    turns = Alternation("slow", 20, pretrain=20)
    batches = [small.batch(seed=seed, square=16) for seed in range(2)]
    history = []
    for step in range(200):
        turn = turns.turn(step)
        before = state
        state, metrics = play(state, batches[step % 2], jax.random.key(step), turn, 0.05)
        for player in ("segmenter", "adversary"):
            moved = not small.equal(before.params[player], state.params[player])
            assert moved == (player in PLAYERS[turn]), f"step {step}, {turn}, {player}"
        history.append(float(metrics["mce"]))
    assert np.mean(history[-10:]) < 0.8 * np.mean(history[:10])
    assert state.step == 200
