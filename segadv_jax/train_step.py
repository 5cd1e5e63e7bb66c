"""One training step: Section 3.1 of the paper as a pure function, top to bottom.

Both losses come out of one forward pass. `jax.vjp` cuts the chain image -> logits -> encoded map
-> adversary at its joints, and each player's gradient is assembled from the cotangents of its own
loss alone, so that neither leaks into the other. Which of them are computed is decided by the
static `turn`: XLA drops the backward passes that nobody asks for.

A batch can have images without labels beside the labelled ones (Hung et al., BMVC 2018): only the
adversarial term and the terms of `controls` see them.

The metrics of a step are f32[] over the whole batch. Always: `mce`, weighted as the objective says,
and `accuracy`, of label cells; `entropy` and `pseudo_mce` if they are minimised; `fault`, what is
wrong with the step, see `soundness.py`.
In the segmenter's turns: `grad_norm_mce`, the norm at the logits of the gradient of all of these.
With an adversary: `accuracy_synthetic`; in the segmenter's turns also `lam`, `adversarial_term`, on
images without labels `adversarial_term_unlabelled`, and `grad_norm_adversarial`, times lambda, as
it enters Eq. 3; in the adversary's turns `accuracy_real`, the two terms of its loss, named by the
game `bce_real` and `bce_synthetic`, and its penalty `r1`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Integer, Key

from segadv_jax import losses, soundness
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.devices import Shards
from segadv_jax.game import Metrics, Sums, adversarys_side, segmenters_side, show_both_maps
from segadv_jax.scene import Scene, Setup, count, look, prepare, split
from segadv_jax.shapes import AnyArray, Batch
from segadv_jax.train_state import TrainState


def train_step(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    turn: str,
    updates: Integer[AnyArray, ""] | int = 0,
    *,
    setup: Setup,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Plays one turn (Eqs. 1 to 3).

    Args:
        state: before the turn.
        batch: {"image": u8[n,H,W,3], "label": u8[n,H,W], "size": i32[n,2]}, this device's rows. Of
            a segmenter with a frozen part perhaps "embedded": f32[n,2,h,w,F], what that part makes
            of each image as it is and mirrored, so that it need not be computed. Perhaps
            "unlabelled": {"image", "size"} and "embedded" of images without labels.
        key: of this batch; its row r, counted over all devices, is augmented with fold_in(key, r).
        turn: "standard", "segmenter", "adversary" or "both"; static.
        updates: the segmenter's updates before this step.
        setup: networks, encoding, losses, optimizer; static.
        axis_name: of the mapped axis; None on a single device.

    Returns:
        (state after the turn, metrics as above).
    """
    shards, labelled, objective = Shards(axis_name), len(batch["label"]), setup.objective
    rows = prepare(batch, key, setup, shards)
    counts = shards.sum(count(rows, labelled, setup))

    def play(rows):
        """What some rows, of which each part has as many, add to gradients and metrics."""
        shown = look(state, rows, labelled // setup.accumulate, counts, setup)
        return _play(state, *shown, turn, updates, setup=setup, shards=shards)

    if setup.accumulate == 1:
        grads, sums = play(rows)
    else:
        grads, sums = _add_up(play, split(rows, labelled, setup.accumulate))
    grads, sums = shards.sum((grads, sums))
    grads = jax.tree.map(jnp.zeros_like, state.params) | grads
    metrics = sums.metrics()
    if "adversarial_term" in metrics:
        metrics["lam"] = objective.rise(updates) * objective.lam
    after = _update(state, grads, turn, updates, setup)
    cells = 1.0 if objective.reduction == "mean" else jnp.max(jnp.stack([*counts.values()]))
    metrics[soundness.FAULT] = soundness.find_fault(metrics, grads, after.params, turn, cells)
    return after, metrics


def _play(
    state: TrainState,
    scene: Scene,
    segment: Callable,
    turn: str,
    updates: Integer[AnyArray, ""] | int,
    *,
    setup: Setup,
    shards: Shards,
) -> tuple[dict[str, Any], Sums]:
    """(the gradients of the turn's players, metrics) of some rows of a batch, to be added up."""
    players, objective, known = PLAYERS[turn], setup.objective, slice(scene.labelled)
    logits, pull_segment = jax.vjp(segment, state.params[SEGMENTER])

    def own_loss(logits):
        terms = objective.own_terms(logits, scene.cell_label, scene.labelled, updates)
        reduced = {
            name: objective.reduce(total, scene.counts[name])
            for name, (_, (total, _)) in terms.items()
        }
        return sum(weight * reduced[name] for name, (weight, _) in terms.items()), reduced

    d_logits, own = jax.grad(own_loss, has_aux=True)(logits)
    right = losses.correct_cells(logits[known], scene.cell_label[known])
    sums = Sums(own, {"accuracy": right})
    if SEGMENTER in players:
        sums |= Sums(squared_norms={"grad_norm_mce": jnp.sum(jnp.square(d_logits))})

    grads = {}
    if turn != "standard":
        game = show_both_maps(setup, state.params[ADVERSARY], scene, logits)
        right = losses.correct_predictions(game.on_synthetic[known], False, game.weights[known])
        sums |= Sums(fractions={"accuracy_synthetic": right})
        if SEGMENTER in players:
            d_logits, more = segmenters_side(game, d_logits, updates, objective, shards)
            sums |= more
        if ADVERSARY in players:
            grads[ADVERSARY], more = adversarys_side(game, objective)
            sums |= more
    if SEGMENTER in players:
        (grads[SEGMENTER],) = pull_segment(d_logits)
    return grads, sums


def _add_up(play, parts):
    """The sum of what the parts, one after the other, give."""

    def add(total, part):
        return jax.tree.map(jnp.add, total, play(part)), None

    one = jax.eval_shape(play, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one)
    return jax.lax.scan(add, zeros, parts)[0]


def _update(state, grads, turn, updates, setup):
    """The state after the optimizers of the players whose turn it is have moved."""
    changes, opt_state = setup.optimizer.update(grads, state.opt_state, state.params, turn=turn)
    params = optax.apply_updates(state.params, changes)
    average = state.average
    if average is not None and SEGMENTER in PLAYERS[turn]:
        # The first updates have little to be averaged with.
        decay = jnp.minimum(setup.ema, (1 + updates) / (10 + updates))
        # decay * average + (1 - decay) * params
        average = optax.incremental_update(average, params[SEGMENTER], decay)
    return TrainState(state.step + 1, params, opt_state, average, state.frozen)
