"""One training step and one evaluation step: pure functions, and the only ``pmap`` calls.

Both losses come out of one forward pass. ``jax.vjp`` cuts the chain image -> logits -> encoded
map -> adversary at its joints, and each player's gradient is assembled from the cotangents of its
own loss alone, so that neither leaks into the other. Which of them are computed is decided by the
static ``turn``: XLA drops the backward passes that nobody asks for.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segadv_jax import VOID, losses, prediction
from segadv_jax.alternation import ADVERSARY, PLAYERS, SEGMENTER
from segadv_jax.data.augment import augment as augment_example
from segadv_jax.encodings import zero_void
from segadv_jax.metrics.boundary import BORDERS, boundary_f, image_sums
from segadv_jax.metrics.confusion import confusion_matrix
from segadv_jax.models.geometry import downsample_labels
from segadv_jax.train_state import TrainState

AXIS = "batch"
# Folded into a batch's key for what is drawn beside the augmentation, which folds in the rows.
_NOISE, _DROPOUT = 2**32 - 1, 2**32 - 2


def train_step(
    state,
    batch,
    key,
    turn,
    updates=0,
    *,
    segmenter,
    adversary,
    encode,
    optimizer,
    augment=None,
    lam=0.0,
    start=0,
    ramp=0,
    reduction="mean",
    saturating=False,
    game="bce",
    smoothing=0.0,
    noise=0.0,
    r1=0.0,
    ema=0.0,
    axis_name=None,
):
    """Plays one turn (Eqs. 1 to 3).

    Args:
      state: TrainState.
      batch: {"image": u8[n,H,W,3], "label": u8[n,H,W], "size": i32[n,2]}, this device's rows.
      key: of this batch; row r of it, counted over all devices, is augmented with fold_in(key, r),
        and dropout, on in both players' turns, has a key per row as well.
      turn: "standard", "segmenter", "adversary" or "both"; static.
      updates: i32[], the segmenter's updates before this step.
      segmenter: module with ``stride``, ``offset``, ``margin`` and ``colours``.
      adversary: module with ``block`` and ``judged``; not used in a standard turn.
      encode: one of ``encodings.ENCODINGS``.
      optimizer: of ``optimizers.alternate``.
      augment: keyword arguments of ``data.augment.augment``; None trains on the images as they are.
      lam, start, ramp: lambda of Eq. 1, between losses reduced by ``reduction``, as
        ``losses.lam_at`` lets it begin.
      reduction: "mean" or "sum", see ``losses``.
      saturating: keep the term of Eq. 3 instead of its non-saturating replacement.
      game, smoothing: the adversary's loss, see ``losses.adversary_loss``.
      noise: standard deviation of Gaussian noise on both encoded maps (instance noise, Sonderby et
        al., Amortised MAP inference for image super-resolution, ICLR 2017, Section 3.2).
      r1: gamma of the R1 penalty on the adversary, gamma / 2 times the squared norm of its gradient
        at the real map (Mescheder et al., Which training methods for GANs do actually converge?,
        ICML 2018, Eq. 9), here of the sum of a map's logits and reduced as they are.
      ema: decay of the moving average of the segmenter's parameters, if the state keeps one.
      axis_name: of the mapped axis; None on a single device.

    Returns:
      (state, metrics), metrics a dict of f32[] over the whole batch: always ``mce`` and
      ``accuracy`` (of label cells); with an adversary ``accuracy_synthetic``; in the segmenter's
      turns ``grad_norm_mce``, the norm of the cross-entropy's gradient at the logits, and with an
      adversary ``lam``, ``adversarial_term`` and ``grad_norm_adversarial``, the latter times
      lambda, as it enters Eq. 3; in the adversary's turns ``accuracy_real``, with a penalty ``r1``,
      and, named by the game, ``bce_real`` and ``bce_synthetic``.
    """
    players = PLAYERS[turn]

    def over_devices(value):
        return value if axis_name is None else lax.psum(value, axis_name)

    def reduce(total_and_count):
        """This device's part of a reduced loss: the parts of all devices add up to the loss."""
        total, count = total_and_count
        return total if reduction == "sum" else total / jnp.maximum(over_devices(count), 1)

    def fraction(number_and_count):
        number, count = over_devices(number_and_count)
        return number / jnp.maximum(count, 1)

    def norm(cotangent):
        return jnp.sqrt(over_devices(jnp.sum(jnp.square(cotangent))))

    image, label, size = _prepare(batch, key, augment, segmenter, axis_name)
    dropout_keys = _row_keys(jax.random.fold_in(key, _DROPOUT), len(label), axis_name)
    cell_label = downsample_labels(label, segmenter.stride, segmenter.offset)
    grads = jax.tree.map(jnp.zeros_like, state.params)
    metrics = {}

    def segment(params):
        return segmenter.apply({"params": params}, image, size, dropout_keys)

    logits, pull_segment = jax.vjp(segment, state.params[SEGMENTER])
    mce, d_logits = jax.value_and_grad(lambda x: reduce(losses.mce(x, cell_label)))(logits)
    metrics["mce"] = over_devices(mce)
    metrics["accuracy"] = fraction(losses.correct_cells(logits, cell_label))
    if SEGMENTER in players:
        metrics["grad_norm_mce"] = norm(d_logits)

    if turn != "standard":
        judged = adversary.apply({}, cell_label, size, method="judged")
        weights = losses.prediction_weights(judged, adversary.block)
        window = prediction.without_margin(image, segmenter.margin)
        colours = segmenter.apply({}, window, size, method="colours")
        real, _ = encode(jax.nn.softmax(logits), cell_label, colours)
        judge_loss = functools.partial(losses.adversary_loss, game=game, smoothing=smoothing)

        def show(x):
            return encode(jax.nn.softmax(x), cell_label, colours)[1]

        def see(params):
            return adversary.apply({"params": params}, window, size, method="see")

        def judge(params, label_map, seen):
            return adversary.apply({"params": params}, label_map, seen, size, method="judge")

        theta = state.params[ADVERSARY]
        synthetic, pull_show = jax.vjp(show, logits)
        if noise:
            keys = _row_keys(jax.random.fold_in(key, _NOISE), len(label), axis_name)
            disturb = functools.partial(_add_noise, deviation=noise, label=cell_label)
            real, synthetic = disturb(real, keys, 0), disturb(synthetic, keys, 1)
        seen, pull_see = jax.vjp(see, theta)
        on_synthetic, pull_judge = jax.vjp(judge, theta, synthetic, seen)
        metrics["accuracy_synthetic"] = fraction(
            losses.correct_predictions(on_synthetic, False, weights)
        )

        if SEGMENTER in players:  # Eq. 3, its second term.
            lam = losses.lam_at(updates, lam, start, ramp)
            metrics["lam"] = lam
            term, d_verdict = jax.value_and_grad(
                lambda z: reduce(losses.adversarial_term(z, weights, saturating, game))
            )(on_synthetic)
            _, d_map, _ = pull_judge(d_verdict)
            (d_term,) = pull_show(d_map)
            metrics["adversarial_term"] = over_devices(term)
            if start:  # Nothing that the adversary does may reach the segmenter before: 0 * NaN.
                d_term = jnp.where(lam > 0, d_term, 0)
            metrics["grad_norm_adversarial"] = lam * norm(d_term)
            d_logits = d_logits + lam * d_term

        if ADVERSARY in players:  # Eq. 2. The real map is a constant to the adversary's parameters.
            on_real, pull_real = jax.vjp(lambda *args: judge(args[0], real, args[1]), theta, seen)
            loss_real, d_real = jax.value_and_grad(lambda z: reduce(judge_loss(z, True, weights)))(
                on_real
            )
            loss_synthetic, d_synthetic = jax.value_and_grad(
                lambda z: reduce(judge_loss(z, False, weights))
            )(on_synthetic)
            by_real, d_seen_by_real = pull_real(d_real)
            by_synthetic, _, d_seen_by_synthetic = pull_judge(d_synthetic)
            (by_image,) = pull_see(jax.tree.map(jnp.add, d_seen_by_real, d_seen_by_synthetic))
            grads[ADVERSARY] = jax.tree.map(lambda *g: sum(g), by_real, by_synthetic, by_image)
            metrics[f"{game}_real"] = over_devices(loss_real)
            metrics[f"{game}_synthetic"] = over_devices(loss_synthetic)
            metrics["accuracy_real"] = fraction(losses.correct_predictions(on_real, True, weights))

            if r1:

                def penalty(params):
                    seen = see(params)
                    slope = jax.grad(lambda y: jnp.sum(judge(params, y, seen)[..., 0] * weights))(
                        real
                    )
                    steepness = jnp.sum(jnp.square(zero_void(slope, cell_label)))
                    return r1 / 2 * reduce((steepness, jnp.sum(weights)))

                value, by_penalty = jax.value_and_grad(penalty)(theta)
                metrics["r1"] = over_devices(value)
                grads[ADVERSARY] = jax.tree.map(jnp.add, grads[ADVERSARY], by_penalty)

    if SEGMENTER in players:
        (grads[SEGMENTER],) = pull_segment(d_logits)

    grads |= over_devices({player: grads[player] for player in players})  # The rest are zeros.
    changes, opt_state = optimizer.update(grads, state.opt_state, state.params, turn=turn)
    params = optax.apply_updates(state.params, changes)
    average = state.average
    if average is not None and SEGMENTER in players:
        # The first updates have little to be averaged with.
        decay = jnp.minimum(ema, (1 + updates) / (10 + updates))
        average = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new, average, params[SEGMENTER]
        )
    return TrainState(state.step + 1, params, opt_state, average), metrics


def eval_step(
    params, totals, batch, *, segmenter, boundary=None, flip=False, scales=(1.0,), axis_name=None
):
    """Adds one batch to the totals of an evaluation, at the images' native resolution.

    Args:
      params: the segmenter's.
      totals: of ``zero_totals``.
      batch: {"image": u8[n,H,W,3], "label": u8[n,H,W], "size": i32[n,2], "mask": f32[n]}; rows
        whose mask is 0 count nowhere.
      segmenter: module with ``stride`` and ``offset``.
      boundary: {"smallest", "radius"} of ``metrics.boundary`` and {"first": the first class that
        counts}, to measure BF as well; None does not.
      flip, scales: the views over which predictions are averaged, see ``prediction.predict``;
        cross-entropy and certainty are those of the image as it is.
      axis_name: of the mapped axis; None on a single device.

    Returns:
      The new totals, over all devices.
    """
    label = jnp.where(batch["mask"][:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    image, size = batch["image"], batch["size"]
    logits = prediction.segment(params, image, size, segmenter)
    if flip or tuple(scales) != (1.0,):
        probabilities = prediction.predict(params, image, size, segmenter, flip, scales)
    else:
        probabilities = prediction.native(logits, image, size, segmenter)
    predicted, num_classes = jnp.argmax(probabilities, -1), logits.shape[-1]
    cell_label = downsample_labels(label, segmenter.stride, segmenter.offset)
    logits = logits[:, : cell_label.shape[1], : cell_label.shape[2]]  # Tiles have more.
    mce, cells = losses.mce(logits, cell_label)
    part = {
        "confusion": confusion_matrix(predicted, label, num_classes),
        "mce": mce,
        "certainty": losses.certainty(logits, cell_label),
        "cells": cells,
    }
    if boundary is not None:
        fields = {"num_classes": num_classes} | dict(boundary)
        first = fields.pop("first")
        for border in BORDERS:
            f = boundary_f(predicted, label, size, border=border, **fields)
            part |= {f"bf_{border}_{key}": value for key, value in image_sums(f, first).items()}
    if axis_name is not None:
        part = lax.psum(part, axis_name)
    return jax.tree.map(jnp.add, totals, part)


def judge_step(params, totals, batch, *, segmenter, adversary, encode, axis_name=None):
    """Adds how often the adversary is right on one batch: on whole images, without augmentation.

    Args:
      params: {"segmenter", "adversary"}.
      totals: {"real", "synthetic", "predictions": f32[]}.
      batch, segmenter, axis_name: as in ``eval_step``.
      adversary, encode: as in ``train_step``.

    Returns:
      The new totals, over all devices.
    """
    label = jnp.where(batch["mask"][:, None, None] > 0, batch["label"], jnp.uint8(VOID))
    size = batch["size"]
    image = batch["image"].astype(jnp.float32)
    cell_label = downsample_labels(label, segmenter.stride, segmenter.offset)
    logits = prediction.segment(params[SEGMENTER], batch["image"], size, segmenter)
    colours = segmenter.apply({}, image, size, method="colours")
    logits = logits[:, : cell_label.shape[1], : cell_label.shape[2]]  # Tiles have more.
    maps = encode(jax.nn.softmax(logits), cell_label, colours)
    judged = adversary.apply({}, cell_label, size, method="judged")
    weights = losses.prediction_weights(judged, adversary.block)
    part = {"predictions": jnp.sum(weights)}
    for name, label_map in zip(("real", "synthetic"), maps, strict=True):
        verdict = adversary.apply({"params": params[ADVERSARY]}, label_map, image, size)
        part[name], _ = losses.correct_predictions(verdict, name == "real", weights)
    if axis_name is not None:
        part = lax.psum(part, axis_name)
    return jax.tree.map(jnp.add, totals, part)


def zero_totals(num_classes, boundary=False):
    """Totals of an evaluation before its first batch: ``confusion`` of pixels, others of cells.

    With ``boundary`` also the sums of BF over images, for both readings of the image's border.
    """
    totals = {"confusion": jnp.zeros((num_classes, num_classes), jnp.int32)}
    totals |= {name: jnp.zeros(()) for name in ("mce", "certainty", "cells")}
    if boundary:
        sums = jax.eval_shape(image_sums, jnp.zeros((1, num_classes)))
        for border in BORDERS:
            totals |= {f"bf_{border}_{k}": jnp.zeros(v.shape) for k, v in sums.items()}
    return totals


def parallel_train_step(**static):
    """``train_step`` over all devices.

    Arguments: the replicated state, a batch with a leading device axis, the key, the turn and the
    segmenter's updates. The state is donated and comes back replicated, without a device axis.
    """
    return jax.pmap(
        functools.partial(train_step, axis_name=AXIS, **static),
        axis_name=AXIS,
        in_axes=(None, 0, None, None, None),
        out_axes=(None, None),
        static_broadcasted_argnums=3,
        donate_argnums=0,
    )


def parallel_eval_step(step=eval_step, **static):
    """``eval_step``, or ``judge_step``, over all devices.

    Arguments: the replicated params and totals, and a batch with a leading device axis.
    """
    return jax.pmap(
        functools.partial(step, axis_name=AXIS, **static),
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
        donate_argnums=1,
    )


def replicate(tree):
    """A copy of ``tree`` on each device of this host, placed as the mapped steps return it.

    Placed otherwise, the first step's output would differ from its input and the step be compiled
    twice. It is a copy because the steps donate their state: the original would be deleted.
    """
    sharding = NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())

    def copy(x):
        return jax.make_array_from_callback(x.shape, sharding, np.array(x).__getitem__)

    return jax.tree.map(copy, tree)


def shard(batch):
    """A host's batch {name: [n,...]} with a leading device axis, as the mapped steps take it."""
    devices = jax.local_device_count()
    return {
        name: value.reshape(devices, -1, *value.shape[1:])
        for name, value in batch.items()
        if name != "id"  # Names are for people; a device holds numbers.
    }


def _prepare(batch, key, augment, segmenter, axis_name):
    """The batch as the networks see it: (image f32[n,h,w,3], label u8[n,h,w], size i32[n,2]).

    The image has the segmenter's margin around what the label and the size are of.
    """
    if augment is None:
        image = prediction.with_margin(batch["image"], batch["size"], segmenter)
        return image, batch["label"], batch["size"]
    keys = _row_keys(key, len(batch["image"]), axis_name)
    augment = functools.partial(augment_example, margin=segmenter.margin, **augment)
    return jax.vmap(augment)(keys, batch["image"], batch["label"], batch["size"])


def _row_keys(key, rows, axis_name):
    """fold_in(key, r) for each of this device's rows, which are counted over all devices."""
    rows = jnp.arange(rows)
    if axis_name is not None:
        rows = rows + lax.axis_index(axis_name) * rows.size
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def _add_noise(label_map, keys, number, *, deviation, label):
    """Gaussian noise on the labelled cells of an encoded map; ``number`` tells two maps apart."""

    def draw(key):
        return jax.random.normal(jax.random.fold_in(key, number), label_map.shape[1:])

    return label_map + zero_void(deviation * jax.vmap(draw)(keys), label)
