"""Images without labels in a step, and matched features, seen at the logits themselves."""

import functools

import equations
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from test_train_step_void import GRADIENTS, Logits

from segadv_jax import VOID, devices, encodings, optimizers
from segadv_jax.augment import Augmentation
from segadv_jax.losses import Objective
from segadv_jax.models import ADVERSARIES
from segadv_jax.scene import Setup
from segadv_jax.train_state import TrainState
from segadv_jax.train_step import train_step

# Quick to compile; its predictions pool four by four cells, as the plain equations have it.
ADVERSARY = ADVERSARIES["fully_convolutional"](features=(4,), stride=4)
LAM, LAM_UNLABELLED, ENTROPY = 0.7, 0.4, 0.3
LABELLED = 2
KNOWN, REST = slice(LABELLED), slice(LABELLED, None)


@functools.cache
def compiled(turn, **settings):
    objective = Objective(lam=LAM, lam_unlabelled=LAM_UNLABELLED, **settings)
    setup = Setup(Logits(), ADVERSARY, encodings.basic, GRADIENTS, objective)

    def play(logits, theta, batch):
        params = {"segmenter": {"logits": logits}, "adversary": theta}
        state = TrainState(jnp.zeros((), jnp.int32), params, ())
        state, metrics = train_step(state, batch, jax.random.key(0), turn, setup=setup)
        gradients = state.opt_state
        return gradients["segmenter"]["logits"], gradients["adversary"], metrics

    return jax.jit(play)


@pytest.fixture(scope="module")
def theta():
    return small.adversary_parameters(ADVERSARY)


@pytest.fixture(scope="module")
def logits():
    shape = (len(small.SIZES), *small.cells(small.CANVAS), small.CLASSES)
    return np.random.RandomState(3).normal(0, 2, shape).astype(np.float32)


def batch():
    """Two images with labels; two without, smaller than the canvas."""
    made = small.batch(void=0.5)
    first, rest = ({name: x[rows] for name, x in made.items()} for rows in (KNOWN, REST))
    return first | {"unlabelled": {"image": rest["image"], "size": rest["size"]}}


def together(made, name):
    return np.concatenate([made[name], made["unlabelled"][name]])


def seen_cells(made):
    """The cells' labels; where an image has none, 0 wherever the image is."""
    unlabelled = np.full((2, *small.CANVAS), VOID, np.uint8)
    for row, (height, width) in enumerate(made["unlabelled"]["size"]):
        unlabelled[row, :height, :width] = 0
    return equations.cell_labels(np.concatenate([made["label"], unlabelled]))


def test_the_cross_entropy_sees_labels_and_the_adversarial_term_both(theta, logits):
    made = batch()
    cells = seen_cells(made)
    image, size = together(made, "image").astype(np.float32), together(made, "size")

    def term(x, rows):
        def judge(label_map):
            return ADVERSARY.apply({"params": theta}, label_map, image[rows], size[rows])

        return equations.adversarial_term(judge, x[rows], cells[rows])

    def loss(x):
        entropy = -jnp.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x), -1)
        parts = (
            equations.mce(x[KNOWN], cells[KNOWN]),
            jnp.sum(jnp.where(cells != VOID, entropy, 0)) / np.sum(cells != VOID),
            term(x, KNOWN),
            term(x, REST),
        )
        weights = (1, ENTROPY, LAM, LAM_UNLABELLED)
        return sum(weight * part for weight, part in zip(weights, parts, strict=True)), parts

    expected, parts = jax.jit(jax.grad(loss, has_aux=True))(logits)
    assert np.all(np.any(expected != 0, (1, 2, 3)))
    got, _, metrics = compiled("both", entropy=ENTROPY)(logits, theta, made)
    small.assert_close(got, expected, 1e-4)
    names = ("mce", "entropy", "adversarial_term", "adversarial_term_unlabelled")
    for name, part in zip(names, parts, strict=True):
        np.testing.assert_allclose(metrics[name], part, rtol=1e-4, err_msg=name)


def test_the_adversary_learns_from_labelled_images_alone(theta, logits):
    made = batch()
    alone = {name: value for name, value in made.items() if name != "unlabelled"}
    _, expected, metrics = compiled("both")(logits[KNOWN], theta, alone)
    _, got, more = compiled("both")(logits, theta, made)
    small.assert_close(got, expected, 1e-4)
    for name in ("accuracy", "accuracy_real", "accuracy_synthetic", "bce_real", "bce_synthetic"):
        np.testing.assert_allclose(more[name], metrics[name], rtol=1e-5, err_msg=name)
    # Its own turn needs no others.
    none, gradient, _ = compiled("adversary")(logits[KNOWN], theta, alone)
    assert np.all(none == 0)
    small.assert_close(gradient, expected, 1e-4)


def test_nothing_beyond_the_true_size_is_seen(theta, logits):
    made = batch()
    beyond = seen_cells(made) == VOID
    beyond[KNOWN] = False
    assert beyond.any()
    garbage = np.where(beyond[..., None], 50, logits).astype(np.float32)
    image = made["unlabelled"]["image"].copy()
    for row, (height, width) in enumerate(made["unlabelled"]["size"]):
        image[row, height:], image[row, :, width:] = 200, 100
    other = made | {"unlabelled": made["unlabelled"] | {"image": image}}
    play = compiled("both", entropy=ENTROPY)
    expected, got = play(logits, theta, made), play(garbage, theta, other)
    assert small.equal(expected, got)
    assert np.all(np.asarray(got[0])[beyond] == 0)


def test_certain_predictions_are_labels_where_there_are_none(logits):
    made = batch()
    cells = seen_cells(made)
    objective = Objective(pseudo_labels=2.0, pseudo_threshold=0.8)
    setup = Setup(Logits(), None, encodings.basic, GRADIENTS, objective)

    @jax.jit
    def play(logits):
        state = TrainState(jnp.zeros((), jnp.int32), {"segmenter": {"logits": logits}}, ())
        state, _ = train_step(state, made, jax.random.key(0), "standard", setup=setup)
        return state.opt_state["segmenter"]["logits"]

    s = np.asarray(jax.nn.softmax(logits))
    there = cells[REST] != VOID
    certain = there & (s[REST].max(-1) >= 0.8)
    slope = s[REST] - np.eye(small.CLASSES)[s[REST].argmax(-1)]
    expected = 2.0 * np.where(certain[..., None], slope, 0) / there.sum()
    assert 0 < certain.sum() < there.sum()
    small.assert_close(np.asarray(play(logits))[REST], expected.astype(np.float32), 1e-4)


def test_matched_features_are_the_distance_of_means(theta, logits):
    """Of the synthetic maps, with and without labels, to that of the real ones."""
    made = batch()
    cells = seen_cells(made)
    weights, size = equations.block_weights(cells), together(made, "size")

    def mean(label_map, rows):
        described = ADVERSARY.apply(
            {"params": theta}, label_map, None, size[rows], method="describe"
        )
        return jnp.mean(described[weights[rows] > 0], 0)

    def distances(x):
        y, s = equations.maps(x, cells)
        wanted = mean(jax.lax.stop_gradient(y[KNOWN]), KNOWN)
        parts = [jnp.mean(jnp.abs(mean(s[rows], rows) - wanted)) for rows in (KNOWN, REST)]
        mce = equations.mce(x[KNOWN], cells[KNOWN])
        return mce + LAM * parts[0] + LAM_UNLABELLED * parts[1], parts

    expected, parts = jax.grad(distances, has_aux=True)(logits)
    got, gradient, metrics = compiled("both", feature_matching=True)(logits, theta, made)
    small.assert_close(got, expected, 1e-3)
    np.testing.assert_allclose(metrics["adversarial_term"], parts[0], rtol=1e-4)
    np.testing.assert_allclose(metrics["adversarial_term_unlabelled"], parts[1], rtol=1e-4)
    _, own, _ = compiled("both")(logits, theta, made)
    small.assert_close(gradient, own, 1e-4)  # The adversary's own loss is what it was.


def test_features_are_matched_with_none_where_nothing_is_labelled(theta, logits):
    made = batch()
    void = made | {"label": np.full_like(made["label"], VOID)}
    got, _, metrics = compiled("both", feature_matching=True)(logits, theta, void)
    assert np.all(got == 0)
    assert metrics["adversarial_term"] == metrics["adversarial_term_unlabelled"] == 0


OPTIMIZER = optimizers.alternate(
    optimizers.player("sgd", 0.1, 0.9), optimizers.player("sgd", 0.1, 0.9)
)


def test_four_devices_match_the_means_of_all_features():
    """Each has its share of both kinds; `test_accumulate` has what else they share."""
    segmenter, adversary = small.segmenter(levels=1), ADVERSARY
    objective = Objective(
        lam=LAM,
        lam_unlabelled=LAM_UNLABELLED,
        feature_matching=True,
        entropy=ENTROPY,
        pseudo_labels=0.5,
        pseudo_threshold=0.4,
        noise=0.1,
    )
    setup = Setup(
        segmenter, adversary, encodings.basic, OPTIMIZER, objective, Augmentation(crop=28)
    )
    step = functools.partial(train_step, setup=setup)
    labelled, unlabelled = (small.batch(np.tile(small.SIZES, (2, 1)), seed=seed) for seed in (0, 1))
    made = labelled | {"unlabelled": {name: unlabelled[name] for name in ("image", "size")}}
    state, key = small.state(segmenter, adversary, OPTIMIZER), jax.random.key(3)
    expected, expected_metrics = jax.jit(step, static_argnums=3)(state, made, key, "both")
    args = devices.shard(made), key, "both", np.int32(0)
    got, metrics = devices.map_train_step(step)(devices.replicate(state), *args)
    for player in ("segmenter", "adversary"):
        small.assert_close(small.momentum(got, player), small.momentum(expected, player), 1e-3)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, err_msg=name)


def test_labelled_images_are_shown_as_without_the_others():
    """Flips and crops of a row do not depend on what comes with it: arms are pairs."""
    segmenter = small.segmenter(levels=1)
    setup = Setup(segmenter, None, encodings.basic, OPTIMIZER, Objective(), Augmentation(crop=28))
    params = {"segmenter": small.segmenter_parameters(segmenter), "adversary": {}}
    state = TrainState(jnp.zeros((), jnp.int32), params, OPTIMIZER.init(params))
    made = batch()
    alone = {name: value for name, value in made.items() if name != "unlabelled"}
    step = jax.jit(functools.partial(train_step, setup=setup), static_argnums=3)
    losses = [step(state, each, jax.random.key(5), "standard")[1]["mce"] for each in (made, alone)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    other = step(state, alone, jax.random.key(6), "standard")[1]["mce"]
    assert abs(other - losses[0]) > 1e-4
