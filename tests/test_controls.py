"""The simple terms beside which an adversary is measured, against plain NumPy."""

import jax
import numpy as np
import pytest

from segadv_jax import VOID, controls
from segadv_jax.losses import Objective, mce

CLASSES = 4


@pytest.fixture(scope="module")
def maps():
    """(logits f32[2,7,9,C], labels u8[2,7,9] with void, probabilities)."""
    random = np.random.RandomState(0)
    logits = random.normal(0, 2, (2, 7, 9, CLASSES)).astype(np.float32)
    label = random.randint(0, CLASSES, (2, 7, 9)).astype(np.uint8)
    label[random.uniform(size=label.shape) < 0.3] = VOID
    s = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return logits, label, s


def test_the_entropy_is_that_of_the_cells_that_are_not_void(maps):
    logits, label, s = maps
    total, count = controls.entropy(logits, label)
    each = -(s * np.log(s)).sum(-1)
    np.testing.assert_allclose(total, each[label != VOID].sum(), rtol=1e-5)
    assert count == (label != VOID).sum()


def test_equal_probabilities_have_the_entropy_of_the_number_of_classes():
    total, count = controls.entropy(np.zeros((1, 2, 2, CLASSES), np.float32), _no_void(1, 2, 2))
    np.testing.assert_allclose(total / count, np.log(CLASSES), rtol=1e-6)


def test_certain_predictions_have_no_entropy_and_a_finite_gradient():
    logits = np.zeros((1, 1, 2, CLASSES), np.float32)
    logits[..., 0] = 500
    value, gradient = jax.value_and_grad(lambda x: controls.entropy(x, _no_void(1, 1, 2))[0])(
        logits
    )
    assert value == 0
    assert np.all(np.isfinite(gradient))


def test_only_certain_cells_are_believed_and_all_are_counted(maps):
    logits, label, s = maps
    total, count = controls.pseudo_mce(logits, label, 0.7)
    highest = s.max(-1)
    believed = (highest >= 0.7) & (label != VOID)
    assert 0 < believed.sum() < (label != VOID).sum()
    np.testing.assert_allclose(total, -np.log(highest[believed]).sum(), rtol=1e-5)
    assert count == (label != VOID).sum()


def test_believing_raises_the_most_probable_class_of_certain_cells_alone(maps):
    logits, label, s = maps
    gradient = np.asarray(jax.grad(lambda x: controls.pseudo_mce(x, label, 0.7)[0])(logits))
    believed = (s.max(-1) >= 0.7) & (label != VOID)
    assert np.all(gradient[~believed] == 0)
    expected = s - np.eye(CLASSES)[s.argmax(-1)]
    np.testing.assert_allclose(gradient[believed], expected[believed], atol=1e-6)


@pytest.mark.parametrize("radius", [1, 2])
def test_the_cells_beside_another_class_weigh_more(maps, radius):
    _, label, _ = maps
    coarse = label.copy()
    coarse[0] = np.where(np.arange(9) < 4, 1, 2)
    coarse[0, :, 7] = VOID  # Beyond it is class 2 again: no boundary.
    got = controls.boundary_weights(coarse, 3.0, radius)
    expected = np.ones(coarse.shape)
    for n, row, column in np.argwhere(coarse != VOID):
        rows = slice(max(0, row - radius), row + radius + 1)
        near = coarse[n, rows, max(0, column - radius) : column + radius + 1]
        if np.any((near != VOID) & (near != coarse[n, row, column])):
            expected[n, row, column] = 3
    assert np.all(expected[0, :, 4 - radius : 4 + radius] == 3)
    assert np.all(expected[0, :, 8] == 1)
    np.testing.assert_array_equal(got, expected)


def test_a_cell_counts_as_much_as_its_weight(maps):
    logits, label, s = maps
    weights = np.random.RandomState(1).uniform(1, 3, label.shape).astype(np.float32)
    total, count = mce(logits, label, cell_weights=weights)
    known = label != VOID
    each = -np.log(np.take_along_axis(s, np.where(known, label, 0)[..., None], -1))[..., 0]
    np.testing.assert_allclose(total, (weights * each)[known].sum(), rtol=1e-5)
    np.testing.assert_allclose(count, weights[known].sum(), rtol=1e-6)


def test_smoothed_labels_give_a_part_to_all_classes(maps):
    logits, label, s = maps
    total, count = mce(logits, label, smoothing=0.2)
    known = label != VOID
    truth = 0.8 * np.eye(256)[label][..., :CLASSES] + 0.2 / CLASSES
    np.testing.assert_allclose(total, -(truth * np.log(s)).sum(-1)[known].sum(), rtol=1e-5)
    assert count == known.sum()


def test_an_objective_without_controls_is_the_cross_entropy(maps):
    logits, label, _ = maps
    terms = Objective().own_terms(logits, label, 2, 0)
    assert set(terms) == {"mce"}
    weight, got = terms["mce"]
    assert weight == 1
    np.testing.assert_array_equal(np.array(got), np.array(mce(logits, label)))


def test_each_control_sees_the_images_that_it_is_for(maps):
    """Of two images the first has labels."""
    logits, label, _ = maps
    certain = {"entropy": 0.5, "pseudo_labels": 2.0, "pseudo_threshold": 0.7}
    objective = Objective(**certain, boundary=3.0, boundary_radius=2, label_smoothing=0.2)
    terms = objective.own_terms(logits, label, 1, 0)
    weights = controls.boundary_weights(label[:1], 3.0, 2)
    assert np.any(weights != controls.boundary_weights(label[:1], 3.0, 1))
    expected = {
        "mce": (1.0, mce(logits[:1], label[:1], smoothing=0.2, cell_weights=weights)),
        "entropy": (0.5, controls.entropy(logits, label)),
        "pseudo_mce": (2.0, controls.pseudo_mce(logits[1:], label[1:], 0.7)),
    }
    assert terms.keys() == expected.keys()
    for name, (weight, loss) in expected.items():
        assert terms[name][0] == weight
        np.testing.assert_array_equal(np.array(terms[name][1]), np.array(loss), err_msg=name)


def test_pseudo_labels_have_the_weights_of_their_classes_as_labels_do(maps):
    logits, label, s = maps
    weights = (0.5, 1.0, 2.0, 4.0)
    objective = Objective(pseudo_labels=2.0, pseudo_threshold=0.7, class_weights=weights)
    _, (total, count) = objective.own_terms(logits, label, 1, 0)["pseudo_mce"]
    unknown = s[1:]
    believed = (unknown.max(-1) >= 0.7) & (label[1:] != VOID)
    losses = -np.log(unknown.max(-1)) * np.array(weights)[unknown.argmax(-1)]
    np.testing.assert_allclose(total, losses[believed].sum(), rtol=1e-5)
    assert count == (label[1:] != VOID).sum()


def test_what_depends_on_predictions_begins_with_the_adversarial_term(maps):
    logits, label, _ = maps
    objective = Objective(entropy=0.5, pseudo_labels=2.0, start=10, ramp=4)

    def weights(update):
        terms = objective.own_terms(logits, label, 1, update)
        return [float(terms[name][0]) for name in ("mce", "entropy", "pseudo_mce")]

    assert weights(9) == [1, 0, 0]
    assert weights(11) == [1, 0.25, 1]
    assert weights(100) == [1, 0.5, 2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entropy", -1),
        ("pseudo_labels", float("inf")),
        ("lam_unlabelled", float("nan")),
        ("label_smoothing", 1),
        ("pseudo_threshold", 1.5),
        ("boundary", -2),
        ("boundary_radius", 0),
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        Objective(**{field: value})


def _no_void(*shape):
    return np.zeros(shape, np.uint8)
