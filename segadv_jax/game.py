"""The adversary before both maps, and each player's side of the game: Eqs. 2 and 3.

`jax.vjp` cuts the chain logits -> encoded map -> adversary at its joints, and each player's
gradient is assembled from the cotangents of its own loss alone, so that neither leaks into the
other.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from segadv_jax import losses
from segadv_jax.devices import Shards
from segadv_jax.encodings import zero_void
from segadv_jax.losses import Objective
from segadv_jax.scene import Counts, Scene, Setup, weights_of
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps

Metrics = dict[str, Float[Array, ""]]


class Sums(NamedTuple):
    """Metrics of some rows of a batch, which add up over its parts and over the devices."""

    terms: Metrics = {}  # Their parts of the losses of the whole batch.
    fractions: dict[str, losses.SumAndCount] = {}
    squared_norms: Metrics = {}

    def __or__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        """Both."""
        return Sums(
            self.terms | other.terms,
            self.fractions | other.fractions,
            self.squared_norms | other.squared_norms,
        )

    def metrics(self) -> Metrics:
        """The metrics, of sums over the whole batch."""
        parts = self.fractions.items()
        metrics = self.terms | {name: part / jnp.maximum(n, 1) for name, (part, n) in parts}
        return metrics | {name: jnp.sqrt(square) for name, square in self.squared_norms.items()}


class Game(NamedTuple):
    """The adversary before the two maps, with the joints at which gradients are pulled back."""

    theta: Any  # The adversary's parameters.
    real: CellMaps  # The encoded ground truth, of the images that have one.
    synthetic: CellMaps  # The segmenter's encoded map.
    embedded: Any  # What the adversary takes from the image.
    on_synthetic: losses.Verdicts  # On the segmenter's map.
    weights: losses.Weights  # Of the adversary's predictions.
    cell_label: CellLabels
    labelled: int  # As in Scene,
    counts: Counts  # and these.
    apply: Callable  # (method of the adversary, theta, label map, embedded) -> what it returns.
    embed: Callable  # theta -> embedded.
    pull_encode: Callable  # Gradient at the synthetic map -> at the logits.
    pull_embed: Callable  # Gradient at what was embedded -> at theta.
    pull_judge: Callable  # Gradient at `on_synthetic` -> at theta, the map, what was embedded.

    @property
    def rows(self) -> dict[str, slice]:
        """The rows with labels, and those without if there are any, by suffix of their names."""
        rows = {"": slice(self.labelled)}
        if self.labelled < len(self.synthetic):
            rows["_unlabelled"] = slice(self.labelled, None)
        return rows


def show_both_maps(setup: Setup, theta: Any, scene: Scene, logits: CellMaps) -> Game:
    """Encodes both maps (Section 3.2) and takes the adversary's verdict on the synthetic one."""
    adversary, noise = setup.adversary, setup.objective.noise
    assert adversary is not None
    image, size, cell_label, keys, seen, labelled, counts = scene
    weights = weights_of(adversary, cell_label, size)
    colours = setup.segmenter.apply({}, image, size, method="colours")
    real, _ = setup.encode(jax.nn.softmax(logits), cell_label, colours)

    def encode_synthetic(x):
        return setup.encode(jax.nn.softmax(x), cell_label, colours)[1]

    def embed(params):
        return adversary.apply({"params": params}, seen, size, method="embed_image")

    def apply(method, params, label_map, embedded):
        """Of as many images as there are label maps, from the first on."""
        number = len(label_map)
        embedded = jax.tree.map(lambda x: x[:number], embedded)
        return adversary.apply(
            {"params": params}, label_map, embedded, size[:number], method=method
        )

    synthetic, pull_encode = jax.vjp(encode_synthetic, logits)
    if noise:
        disturb = functools.partial(_add_noise, deviation=noise, label=cell_label)
        real, synthetic = disturb(real, keys, 0), disturb(synthetic, keys, 1)
    embedded, pull_embed = jax.vjp(embed, theta)
    judge = functools.partial(apply, "judge")
    on_synthetic, pull_judge = jax.vjp(judge, theta, synthetic, embedded)
    return Game(
        *(theta, real[:labelled], synthetic, embedded, on_synthetic, weights, cell_label),
        *(labelled, counts, apply, embed, pull_encode, pull_embed, pull_judge),
    )


def _add_noise(label_map, keys, number, *, deviation, label):
    """Gaussian noise on the labelled cells of an encoded map; `number` tells two maps apart."""

    def draw(key):
        return jax.random.normal(jax.random.fold_in(key, number), label_map.shape[1:])

    return label_map + zero_void(deviation * jax.vmap(draw)(keys), label)


def segmenters_side(
    game: Game,
    d_logits: CellMaps,
    updates: Integer[AnyArray, ""] | int,
    objective: Objective,
    shards: Shards,
) -> tuple[CellMaps, Sums]:
    """The second term of Eq. 3: (the gradient at the logits with it, metrics)."""
    rise = objective.rise(updates)
    lams = {name: rise * getattr(objective, f"lam{name}") for name in game.rows}
    if objective.feature_matching:
        terms, d_map = _match_features(game, lams, shards)
    else:
        terms, d_map = _fool(game, lams, objective)
    (d_term,) = game.pull_encode(d_map)
    if objective.start:  # Nothing that the adversary does may reach the segmenter before: 0 * NaN.
        d_term = jnp.where(rise > 0, d_term, 0)
    sums = Sums({f"adversarial_term{name}": term for name, term in terms.items()})
    square = {"grad_norm_adversarial": jnp.sum(jnp.square(d_term))}
    return d_logits + d_term, sums | Sums(squared_norms=square)


def _fool(game, lams, objective):
    """What the adversary's verdicts cost: ({name: term}, gradient of their sum at the map)."""

    def weighted_sum(verdicts):
        terms = {}
        for name, rows in game.rows.items():
            total, _ = objective.adversarial_term(verdicts[rows], game.weights[rows])
            terms[name] = objective.reduce(total, game.counts[f"verdicts{name}"])
        return sum(lams[name] * term for name, term in terms.items()), terms

    d_verdicts, terms = jax.grad(weighted_sum, has_aux=True)(game.on_synthetic)
    _, d_map, _ = game.pull_judge(d_verdicts)
    return terms, d_map


def _match_features(game, lams, shards):
    """How far the mean features of the two maps are apart: ({name: term}, gradient at the map)."""

    def describe(label_map):
        return game.apply("describe", game.theta, label_map, game.embedded)

    def mean(features, rows):
        weights = game.weights[rows][..., None]
        total, count = shards.sum((jnp.sum(features * weights, (0, 1, 2)), jnp.sum(weights)))
        return total / jnp.maximum(count, 1), count

    wanted, number = mean(describe(game.real), slice(game.labelled))
    known = number > 0  # Otherwise there is no mean that predictions should have.
    on_synthetic, pull = jax.vjp(describe, game.synthetic)
    terms, d_features = {}, []
    for name, rows in game.rows.items():
        found, count = mean(on_synthetic[rows], rows)
        terms[name] = known * jnp.mean(jnp.abs(found - wanted))
        # Written out: each device has but a part of the means.
        slope = known * lams[name] * jnp.sign(found - wanted) / len(wanted)
        slope /= jnp.maximum(count, 1)
        d_features.append(game.weights[rows][..., None] * slope.reshape(1, 1, 1, -1))
    (d_map,) = pull(jnp.concatenate(d_features))
    devices = shards.sum(1.0)  # Each knows the whole term, and they are added up.
    return {name: term / devices for name, term in terms.items()}, d_map


def adversarys_side(game: Game, objective: Objective) -> tuple[Any, Sums]:
    """Eq. 2: (the gradient at the adversary's parameters, metrics). It learns from labels only."""
    weights = game.weights[: game.labelled]

    def mean_loss(verdicts, is_real):
        total, _ = objective.adversary_loss(verdicts[: game.labelled], is_real, weights)
        return objective.reduce(total, game.counts["verdicts"])

    def judge_real(theta, embedded):  # The real map is a constant to the parameters.
        return game.apply("judge", theta, game.real, embedded)

    on_real, pull_real = jax.vjp(judge_real, game.theta, game.embedded)
    loss_real, d_real = jax.value_and_grad(mean_loss)(on_real, True)
    loss_synthetic, d_synthetic = jax.value_and_grad(mean_loss)(game.on_synthetic, False)
    by_real, d_embedded_by_real = pull_real(d_real)
    by_synthetic, _, d_embedded_by_synthetic = game.pull_judge(d_synthetic)
    d_embedded = jax.tree.map(jnp.add, d_embedded_by_real, d_embedded_by_synthetic)
    (by_image,) = game.pull_embed(d_embedded)
    grads = jax.tree.map(lambda *parts: sum(parts), by_real, by_synthetic, by_image)
    right = losses.correct_predictions(on_real, True, weights)
    terms = {f"{objective.game}_real": loss_real, f"{objective.game}_synthetic": loss_synthetic}
    if objective.r1:
        terms["r1"], by_penalty = jax.value_and_grad(_r1_penalty)(game.theta, game, objective)
        grads = jax.tree.map(jnp.add, grads, by_penalty)
    return grads, Sums(terms, {"accuracy_real": right})


def _r1_penalty(theta, game, objective):
    """The R1 penalty, see `Objective`."""
    embedded, weights = game.embed(theta), game.weights[: game.labelled]

    def total(label_map):
        return jnp.sum(game.apply("judge", theta, label_map, embedded)[..., 0] * weights)

    slope = zero_void(jax.grad(total)(game.real), game.cell_label[: game.labelled])
    return objective.r1 / 2 * objective.reduce(jnp.sum(jnp.square(slope)), game.counts["verdicts"])
