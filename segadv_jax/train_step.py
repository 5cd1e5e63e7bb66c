"""One training step: Section 3.1 of the paper as a pure function, top to bottom.

Both losses come out of one forward pass. `jax.vjp` cuts the chain image -> logits -> encoded map
-> adversary at its joints, and each player's gradient is assembled from the cotangents of its own
loss alone, so that neither leaks into the other. Which of them are computed is decided by the
static `turn`: XLA drops the backward passes that nobody asks for.

The metrics of a step are f32[] over the whole batch. Always: `mce`, weighted by class if the
objective has class weights, and `accuracy`, of label cells.
In the segmenter's turns: `grad_norm_mce`, the norm of the cross-entropy's gradient at the logits.
With an adversary: `accuracy_synthetic`; in the segmenter's turns also `lam`, `adversarial_term` and
`grad_norm_adversarial`, times lambda, as it enters Eq. 3; in the adversary's turns `accuracy_real`,
the two terms of its loss, named by the game `bce_real` and `bce_synthetic`, and its penalty `r1`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer, Key

from segadv_jax import losses, prediction
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.augment import Augmentation, augment
from segadv_jax.devices import Shards
from segadv_jax.encodings import zero_void
from segadv_jax.losses import Objective
from segadv_jax.models import Adversary, Segmenter
from segadv_jax.models.contracts import Seen
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.shapes import AnyArray, Batch, CellLabels, CellMaps, Images, Sizes
from segadv_jax.train_state import TrainState

Metrics = dict[str, Float[Array, ""]]

# Folded into a batch's key for what is drawn beside the augmentation, which folds in the rows.
_NOISE, _DROPOUT = 2**32 - 1, 2**32 - 2


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a step takes beside its state and its batch; static."""

    segmenter: Segmenter
    adversary: Adversary | None  # None in the standard arm.
    encode: Callable  # One of `encodings.ENCODINGS`.
    optimizer: optax.GradientTransformationExtraArgs  # Of `optimizers.alternate`.
    objective: Objective = Objective()
    augmentation: Augmentation | None = None  # None shows the training images as they are.
    ema: float = 0.0  # Decay of the average of the segmenter's parameters, if the state keeps one.


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
        batch: {"image": u8[n,H,W,3], "label": u8[n,H,W], "size": i32[n,2]}, this device's rows.
        key: of this batch; its row r, counted over all devices, is augmented with fold_in(key, r).
        turn: "standard", "segmenter", "adversary" or "both"; static.
        updates: the segmenter's updates before this step.
        setup: networks, encoding, losses, optimizer; static.
        axis_name: of the mapped axis; None on a single device.

    Returns:
        (state after the turn, metrics as above).
    """
    players, shards, objective = PLAYERS[turn], Shards(axis_name), setup.objective
    scene, segment = _prepare(state, batch, key, setup, shards)
    logits, pull_segment = jax.vjp(segment, state.params[SEGMENTER])

    def mean_mce(logits):
        total, count = losses.mce(logits, scene.cell_label, objective.class_weights)
        return objective.reduce(total, shards.sum(count))

    mce, d_logits = jax.value_and_grad(mean_mce)(logits)
    accuracy = shards.fraction(losses.correct_cells(logits, scene.cell_label))
    metrics = {"mce": shards.sum(mce), "accuracy": accuracy}
    if SEGMENTER in players:
        metrics["grad_norm_mce"] = shards.norm(d_logits)

    grads = jax.tree.map(jnp.zeros_like, state.params)
    if turn != "standard":
        game = _show_both_maps(setup, state.params[ADVERSARY], scene, logits)
        right = losses.correct_predictions(game.on_synthetic, False, game.weights)
        metrics["accuracy_synthetic"] = shards.fraction(right)
        if SEGMENTER in players:
            d_logits, more = _segmenters_side(game, d_logits, updates, objective, shards)
            metrics |= more
        if ADVERSARY in players:
            grads[ADVERSARY], more = _adversarys_side(game, objective, shards)
            metrics |= more
    if SEGMENTER in players:
        (grads[SEGMENTER],) = pull_segment(d_logits)

    grads |= shards.sum({player: grads[player] for player in players})  # The rest are zeros.
    return _update(state, grads, turn, updates, setup), metrics


class Scene(NamedTuple):
    """A prepared batch, as both players look at it."""

    image: Images  # Without the segmenter's margin.
    size: Sizes
    cell_label: CellLabels
    noise_keys: Key[Array, " n"]  # One per row.
    seen: Seen  # What the adversary is shown as the image.


def _prepare(state, batch, key, setup, shards):
    """Augments a batch: (Scene, the segmenter on it as a function of its trained parameters)."""
    image, label, size = batch["image"], batch["label"], batch["size"]
    segmenter, rows = setup.segmenter, len(label)
    if setup.augmentation is None:
        image = prediction.with_margin(image, size, segmenter)
    else:
        one = functools.partial(augment, augmentation=setup.augmentation, margin=segmenter.margin)
        image, label, size = jax.vmap(one)(shards.row_keys(key, rows), image, label, size)
    dropout_keys = shards.row_keys(jax.random.fold_in(key, _DROPOUT), rows)

    def segment(params):
        return segmenter.apply({"params": params | state.frozen}, image, size, dropout_keys)

    cell_label = downsample_labels(label, segmenter.stride, segmenter.offset)
    noise_keys = shards.row_keys(jax.random.fold_in(key, _NOISE), rows)
    window = seen = prediction.without_margin(image, segmenter.margin)
    if setup.adversary is not None and setup.adversary.sees == "features":
        # Constants to both players. XLA computes them once, for the segmenter and for this.
        variables = {"params": state.params[SEGMENTER] | state.frozen}
        seen = segmenter.apply(variables, image, size, method="features")
    return Scene(window, size, cell_label, noise_keys, seen), segment


class Game(NamedTuple):
    """The adversary before the two maps, with the joints at which gradients are pulled back."""

    theta: Any  # The adversary's parameters.
    real: CellMaps  # The encoded ground truth.
    embedded: Any  # What the adversary takes from the image.
    on_synthetic: losses.Verdicts  # On the segmenter's map.
    weights: losses.Weights  # Of the adversary's predictions.
    cell_label: CellLabels
    judge: Callable  # (theta, label map, embedded) -> verdicts.
    embed: Callable  # theta -> embedded.
    pull_encode: Callable  # Gradient at the synthetic map -> at the logits.
    pull_embed: Callable  # Gradient at what was embedded -> at theta.
    pull_judge: Callable  # Gradient at `on_synthetic` -> at theta, the map, what was embedded.


def _show_both_maps(setup, theta, scene, logits):
    """Encodes both maps (Section 3.2) and takes the adversary's verdict on the synthetic one."""
    adversary, noise = setup.adversary, setup.objective.noise
    image, size, cell_label, keys, seen = scene
    judged = adversary.apply({}, cell_label, size, method="block_labels")
    weights = losses.prediction_weights(judged, adversary.block)
    colours = setup.segmenter.apply({}, image, size, method="colours")
    real, _ = setup.encode(jax.nn.softmax(logits), cell_label, colours)

    def encode_synthetic(x):
        return setup.encode(jax.nn.softmax(x), cell_label, colours)[1]

    def embed(params):
        return adversary.apply({"params": params}, seen, size, method="embed_image")

    def judge(params, label_map, embedded):
        return adversary.apply({"params": params}, label_map, embedded, size, method="judge")

    synthetic, pull_encode = jax.vjp(encode_synthetic, logits)
    if noise:
        disturb = functools.partial(_add_noise, deviation=noise, label=cell_label)
        real, synthetic = disturb(real, keys, 0), disturb(synthetic, keys, 1)
    embedded, pull_embed = jax.vjp(embed, theta)
    on_synthetic, pull_judge = jax.vjp(judge, theta, synthetic, embedded)
    return Game(
        *(theta, real, embedded, on_synthetic, weights, cell_label, judge, embed),
        *(pull_encode, pull_embed, pull_judge),
    )


def _add_noise(label_map, keys, number, *, deviation, label):
    """Gaussian noise on the labelled cells of an encoded map; `number` tells two maps apart."""

    def draw(key):
        return jax.random.normal(jax.random.fold_in(key, number), label_map.shape[1:])

    return label_map + zero_void(deviation * jax.vmap(draw)(keys), label)


def _segmenters_side(game, d_logits, updates, objective, shards):
    """The second term of Eq. 3: (the gradient at the logits with it, metrics)."""

    def mean_term(verdicts):
        total, count = objective.adversarial_term(verdicts, game.weights)
        return objective.reduce(total, shards.sum(count))

    lam = objective.lam_at(updates)
    term, d_verdicts = jax.value_and_grad(mean_term)(game.on_synthetic)
    _, d_map, _ = game.pull_judge(d_verdicts)
    (d_term,) = game.pull_encode(d_map)
    if objective.start:  # Nothing that the adversary does may reach the segmenter before: 0 * NaN.
        d_term = jnp.where(lam > 0, d_term, 0)
    norm = lam * shards.norm(d_term)
    metrics = {"lam": lam, "adversarial_term": shards.sum(term), "grad_norm_adversarial": norm}
    return d_logits + lam * d_term, metrics


def _adversarys_side(game, objective, shards):
    """Eq. 2: (the gradient at the adversary's parameters, metrics)."""

    def mean_loss(verdicts, is_real):
        total, count = objective.adversary_loss(verdicts, is_real, game.weights)
        return objective.reduce(total, shards.sum(count))

    def judge_real(theta, embedded):  # The real map is a constant to the parameters.
        return game.judge(theta, game.real, embedded)

    on_real, pull_real = jax.vjp(judge_real, game.theta, game.embedded)
    loss_real, d_real = jax.value_and_grad(mean_loss)(on_real, True)
    loss_synthetic, d_synthetic = jax.value_and_grad(mean_loss)(game.on_synthetic, False)
    by_real, d_embedded_by_real = pull_real(d_real)
    by_synthetic, _, d_embedded_by_synthetic = game.pull_judge(d_synthetic)
    d_embedded = jax.tree.map(jnp.add, d_embedded_by_real, d_embedded_by_synthetic)
    (by_image,) = game.pull_embed(d_embedded)
    grads = jax.tree.map(lambda *parts: sum(parts), by_real, by_synthetic, by_image)
    right = losses.correct_predictions(on_real, True, game.weights)
    metrics = {
        f"{objective.game}_real": shards.sum(loss_real),
        f"{objective.game}_synthetic": shards.sum(loss_synthetic),
        "accuracy_real": shards.fraction(right),
    }
    if objective.r1:
        penalty, by_penalty = jax.value_and_grad(_r1_penalty)(game.theta, game, objective, shards)
        metrics["r1"] = shards.sum(penalty)
        grads = jax.tree.map(jnp.add, grads, by_penalty)
    return grads, metrics


def _r1_penalty(theta, game, objective, shards):
    """The R1 penalty, see `Objective`."""
    embedded = game.embed(theta)

    def total(label_map):
        return jnp.sum(game.judge(theta, label_map, embedded)[..., 0] * game.weights)

    slope = zero_void(jax.grad(total)(game.real), game.cell_label)
    steepness, count = jnp.sum(jnp.square(slope)), shards.sum(jnp.sum(game.weights))
    return objective.r1 / 2 * objective.reduce(steepness, count)


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
