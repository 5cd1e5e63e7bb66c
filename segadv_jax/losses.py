"""The losses of Section 3.1, as sums beside the counts that they are to be divided by.

Eq. 1 sums over cells and images. Here each loss comes as `(sum, count)`, so that shards are merged
before anything is divided: a mean of the shards' means is wrong as soon as void is uneven. With
`reduction="mean"` each is divided by its own count, over all devices; `"sum"` is Eq. 1 to the
letter. The adversary makes `block**2` = 16 times fewer predictions than there are label cells, so
lambda = 2 between the sums of Eq. 1 is lambda = 2/16 between means.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer

from segadv_jax import VOID, controls, limits
from segadv_jax.controls import SumAndCount
from segadv_jax.shapes import AnyArray, CellLabels, CellMaps

REDUCTIONS = ("mean", "sum")
GAMES = ("bce", "hinge", "least_squares")
WEIGHTS = ("lam", "lam_unlabelled", "r1", "noise", "boundary", "entropy", "pseudo_labels")
# What the objective's numbers can be.
NUMBERS = dict.fromkeys(WEIGHTS, limits.NOT_NEGATIVE) | {
    "start": limits.COUNT_OR_NONE,
    "ramp": limits.COUNT_OR_NONE,
    # With half of the labels turned round, ground truth would count as synthetic.
    "smoothing": limits.Range(0, 0.5, below=True),
    "label_smoothing": limits.SHARE,
    "pseudo_threshold": limits.SHARE,
    "boundary_radius": limits.Range(1, 64, whole=True),
}

Verdicts = Float[AnyArray, "n p q 1"]
Weights = Float[AnyArray, "n p q"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What both players are trained for: Eqs. 1 to 3 and the ways to keep the game alive.

    Attributes:
        lam: lambda of Eq. 1, between losses reduced by `reduction`.
        reduction: "mean" or "sum", see above.
        saturating: keep the second term of Eq. 3 instead of its non-saturating replacement.
        start: updates of the segmenter before the adversarial term begins. The adversary learns
            from the beginning.
        ramp: further updates over which lambda then rises linearly.
        game: the adversary's loss, see `adversary_loss`.
        smoothing: real maps count as ground truth to 1 - smoothing only (one-sided label smoothing,
            Salimans et al., Improved techniques for training GANs, NIPS 2016, Section 3.4).
        noise: standard deviation of Gaussian noise on both encoded maps (instance noise, Sonderby
            et al., Amortised MAP inference for image super-resolution, ICLR 2017, Section 3.2).
        r1: gamma of the R1 penalty on the adversary, gamma / 2 times the squared norm of its
            gradient at the real map (Mescheder et al., Which training methods for GANs do actually
            converge?, ICML 2018, Eq. 9), here of the sum of a map's logits and reduced as they are.
        feature_matching: the adversarial term is the distance of the two maps' mean features
            instead of the adversary's verdict (Mittal, Tatarchenko and Brox, Semi-supervised
            semantic segmentation with high- and low-level consistency, TPAMI 2019, Eq. 5).
        lam_unlabelled: lambda on images without labels (Hung et al., Adversarial learning for
            semi-supervised semantic segmentation, BMVC 2018, Section 3.3), which starts and rises
            as lambda does.
        class_weights: of `mce` and pseudo-labels, one for each class, of `class_balance.weights`;
            () for none.
        boundary: weight of the cells beside another class, see `controls`; 1: as all others.
        boundary_radius: how many cells from another class that is.
        label_smoothing: of `mce`.
        entropy: weight of the entropy of all predictions, labelled or not.
        pseudo_labels: weight of the cross-entropy to the segmenter's own certain predictions on
            images without labels. It starts and rises as lambda does, and so does the entropy's.
        pseudo_threshold: the least probability of a certain one.
    """

    lam: float = 0.0
    reduction: str = "mean"
    saturating: bool = False
    start: int = 0
    ramp: int = 0
    game: str = "bce"
    smoothing: float = 0.0
    noise: float = 0.0
    r1: float = 0.0
    feature_matching: bool = False
    lam_unlabelled: float = 0.0
    class_weights: tuple[float, ...] = ()
    boundary: float = 1.0
    boundary_radius: int = 1
    label_smoothing: float = 0.0
    entropy: float = 0.0
    pseudo_labels: float = 0.0
    pseudo_threshold: float = 0.9

    def __post_init__(self):
        for field, allowed in NUMBERS.items():
            limits.check(field, getattr(self, field), allowed)
        limits.check_known("reduction", self.reduction, REDUCTIONS)
        limits.check_known("game", self.game, GAMES)
        if self.saturating and self.game != "bce":
            raise ValueError(
                f"saturating belongs to the game 'bce', not to {self.game!r}: set it to False, or "
                "the game to 'bce'"
            )
        if self.smoothing and self.game == "hinge":
            raise ValueError("smoothing has no meaning in the game 'hinge': set it to 0")
        if self.saturating and self.feature_matching:
            raise ValueError(
                "saturating belongs to verdicts, not to feature_matching: set one of them to False"
            )

    def reduce(self, total: Float[Array, ""], count: Float[Array, ""]) -> Float[Array, ""]:
        """A loss of its sum and its count, see above; of a shard's sum, the shard's part of it."""
        return total if self.reduction == "sum" else total / jnp.maximum(count, 1)

    def rise(self, updates: Integer[AnyArray, ""] | int) -> Float[Array, ""]:
        """The factor on lambda at the segmenter's update number `updates`, counted from 0."""
        since = jnp.asarray(updates, jnp.float32) - self.start
        return jnp.where(since < 0, 0.0, jnp.clip((since + 1) / max(self.ramp, 1), 0.0, 1.0))

    def own_terms(
        self,
        logits: CellMaps,
        label: CellLabels,
        labelled: int,
        updates: Integer[AnyArray, ""] | int,
    ) -> dict[str, tuple[Any, SumAndCount]]:
        """What the segmenter minimises beside the adversarial term: {name: (weight, loss)}.

        Args:
            logits: of all images.
            label: of the first `labelled` images; of the others, 255 is where they are not to be
                seen.
            labelled: the number of those with labels.
            updates: of the segmenter, from 0.
        """
        true, known = label[:labelled], logits[:labelled]
        on_cells = None
        if self.boundary != 1:
            on_cells = controls.boundary_weights(true, self.boundary, self.boundary_radius)
        own = mce(known, true, self.class_weights, self.label_smoothing, on_cells)
        terms: dict[str, tuple[Any, SumAndCount]] = {"mce": (1.0, own)}
        if self.entropy:
            weight = self.entropy * self.rise(updates)
            terms["entropy"] = weight, controls.entropy(logits, label)
        if self.pseudo_labels and labelled < len(label):
            weight, threshold = self.pseudo_labels * self.rise(updates), self.pseudo_threshold
            unknown = logits[labelled:], label[labelled:]
            pseudo = controls.pseudo_mce(*unknown, threshold, self.class_weights)
            terms["pseudo_mce"] = weight, pseudo
        return terms

    def adversary_loss(self, logits: Verdicts, is_real: bool, weights: Weights) -> SumAndCount:
        """One of the two terms of the adversary's loss, on real or on synthetic maps (Eq. 2).

        In every game a logit above 0 says "ground truth".
        """
        target = (1 - self.smoothing) if is_real else 0.0
        losses = {"bce": bce, "hinge": hinge, "least_squares": least_squares}[self.game]
        return _weighted(losses(logits, target), weights)

    def adversarial_term(self, logits: Verdicts, weights: Weights) -> SumAndCount:
        """What lambda multiplies in the segmenter's loss, from the adversary's logits on its maps.

        By default `bce(a(x, s(x)), 1)`, the non-saturating replacement that the paper uses; with
        `saturating` the term `-bce(a(x, s(x)), 0)` of Eq. 3 itself. In the game "hinge" it is the
        negative logit, in "least_squares" half of its square: a fooled adversary's logit is 0 (the
        references are those of `hinge` and `least_squares`).
        """
        if self.game == "hinge":
            return _weighted(-logits, weights)
        if self.game == "least_squares":
            return _weighted(optax.l2_loss(logits), weights)
        losses = -bce(logits, 0.0) if self.saturating else bce(logits, 1.0)
        return _weighted(losses, weights)


def mce(
    logits: CellMaps,
    label: CellLabels,
    class_weights: tuple[float, ...] = (),
    smoothing: float = 0.0,
    cell_weights: Weights | None = None,
) -> SumAndCount:
    """Multi-class cross-entropy of Eq. 1, `-sum_i sum_c y_ic ln s_ic` over labelled cells.

    With `class_weights` a cell's part is times the weight of its class. The count stays that of the
    cells, as the mean weight of the training images' cells is 1. With `cell_weights` each cell
    counts as much as its weight, in the sum and in the count. With `smoothing` the truth is
    `1 - smoothing` of its class and the rest of all classes alike (Szegedy et al., Rethinking the
    Inception architecture for computer vision, CVPR 2016, Section 7).
    """
    labelled = label != VOID
    safe = jnp.where(labelled, label, 0).astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, safe)
    if smoothing:
        of_all = -jnp.mean(jax.nn.log_softmax(logits), -1)
        losses = (1 - smoothing) * losses + smoothing * of_all
    if class_weights:
        losses *= jnp.take(jnp.asarray(class_weights, jnp.float32), safe)
    counts = labelled.astype(jnp.float32) if cell_weights is None else cell_weights * labelled
    return jnp.sum(jnp.where(labelled, losses * counts, 0)), jnp.sum(counts)


def correct_cells(logits: CellMaps, label: CellLabels) -> SumAndCount:
    """Labelled cells whose most probable class is the true one, and all labelled ones."""
    labelled = label != VOID
    right = (jnp.argmax(logits, -1) == label) & labelled
    return jnp.sum(right, dtype=jnp.float32), jnp.sum(labelled, dtype=jnp.float32)


def certainty(logits: CellMaps, label: CellLabels) -> Float[Array, ""]:
    """Sum over the labelled cells of the highest class probability."""
    return jnp.sum(jnp.where(label != VOID, jnp.max(jax.nn.softmax(logits), -1), 0))


def prediction_weights(label: CellLabels, block: int) -> Float[Array, "n p q"]:
    """1 for each of the adversary's predictions whose own block has a labelled cell, else 0.

    Blocks without a labelled cell look the same in both maps and would add a constant ln 2,
    diluting lambda with the amount of void and padding. A prediction is pooled from `block` by
    `block` cells: there are ceil(h / block) by ceil(w / block).
    """
    labelled = label != VOID
    window, padding = (1, block, block), [(0, 0), *((0, -s % block) for s in label.shape[1:])]
    pooled = jax.lax.reduce_window(labelled, False, jax.lax.bitwise_or, window, window, padding)
    return pooled.astype(jnp.float32)


def bce(logits: Verdicts, z: float) -> Float[Array, "n p q 1"]:
    """Binary cross-entropy of Eq. 1, `-[z ln a + (1 - z) ln(1 - a)]`, of each prediction.

    The logit is for "this is ground truth", z the truth of that, smoothed perhaps. Written out, as
    Optax's, which multiplies one of the two terms by 0, rounds otherwise.
    """
    if z in (0, 1):  # Without a term that is 0 times something.
        return jax.nn.softplus(-logits if z else logits)
    return z * jax.nn.softplus(-logits) + (1 - z) * jax.nn.softplus(logits)


def hinge(logits: Verdicts, z: float) -> Float[Array, "n p q 1"]:
    """max(0, 1 -+ logit) of each prediction.

    Miyato et al., Spectral normalization for generative adversarial networks, ICLR 2018, Eq. 16.
    """
    return optax.hinge_loss(logits, jnp.full_like(logits, 2 * z - 1))


def least_squares(logits: Verdicts, z: float) -> Float[Array, "n p q 1"]:
    """Half the squared distance of each prediction to 1 for z = 1 and to -1 for z = 0.

    Mao et al., Least squares generative adversarial networks, ICCV 2017, Eq. 8.
    """
    return optax.l2_loss(logits, jnp.full_like(logits, 2 * z - 1))


def correct_predictions(logits: Verdicts, is_real: bool, weights: Weights) -> SumAndCount:
    """How many of the adversary's weighted predictions are right, and how many there are."""
    right = (logits[..., 0] > 0) == is_real
    return jnp.sum(right * weights), jnp.sum(weights)


def _weighted(losses: Verdicts, weights: Weights) -> SumAndCount:
    return jnp.sum(losses[..., 0] * weights), jnp.sum(weights)
