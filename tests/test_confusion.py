"""Measures against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from segadv_jax import VOID
from segadv_jax.metrics.confusion import confusion_matrix, measures, shares

CLASSES = 5


def maps(seed=0, classes=range(CLASSES), predicted=range(CLASSES)):
    """(prediction i32[2,30,20], label u8[2,30,20]): half right, a fifth void."""
    random = np.random.RandomState(seed)
    label = random.choice(np.array(classes, np.uint8), (2, 30, 20))
    prediction = random.choice(np.array(predicted, np.int32), label.shape)
    right = np.isin(label, predicted) & (random.uniform(size=label.shape) < 0.5)
    prediction[right] = label[right]
    label[random.uniform(size=label.shape) < 0.2] = VOID
    return prediction, label


def flat(prediction, label):
    """(truth, prediction) of the labelled pixels, as scikit-learn takes them."""
    return label[label != VOID], prediction[label != VOID]


def test_confusion_is_counted_by_true_and_predicted_class():
    prediction, label = maps()
    confusion = confusion_matrix(prediction, label, CLASSES)
    expected = metrics.confusion_matrix(*flat(prediction, label), labels=range(CLASSES))
    assert confusion.dtype == np.int32
    np.testing.assert_array_equal(confusion, expected)
    assert not np.array_equal(confusion, np.transpose(confusion))


def test_void_counts_nowhere():
    prediction, label = maps()
    other = np.where(label == VOID, (prediction + 1) % CLASSES, prediction)
    np.testing.assert_array_equal(
        confusion_matrix(prediction, label, CLASSES), confusion_matrix(other, label, CLASSES)
    )
    assert np.sum(confusion_matrix(prediction, label, CLASSES)) == np.sum(label != VOID)
    assert not np.any(confusion_matrix(prediction, np.full_like(label, VOID), CLASSES))


@pytest.mark.parametrize(
    ("classes", "predicted"),
    [
        (range(5), range(5)),
        ((0, 1, 3), range(5)),  # 2 and 4 are predicted and never true.
        ((0, 1, 3), (0, 1, 3)),  # 2 and 4 occur nowhere.
        (range(5), (1, 2)),  # 0, 3 and 4 are never predicted.
    ],
)
def test_measures_are_those_of_scikit_learn(classes, predicted):
    prediction, label = maps(1, classes, predicted)
    result = measures(confusion_matrix(prediction, label, CLASSES))
    truth, guess = flat(prediction, label)
    occurs = np.union1d(truth, guess)
    recall = metrics.recall_score(truth, guess, labels=np.unique(truth), average="macro")
    iou = metrics.jaccard_score(truth, guess, labels=occurs, average=None)
    assert result["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert result["class_accuracy"] == pytest.approx(recall)
    assert result["mean_iou"] == pytest.approx(iou.mean())
    np.testing.assert_allclose(result["iou"][occurs], iou)
    absent = np.setdiff1d(range(CLASSES), occurs)
    assert np.all(np.isnan(result["iou"][absent])) and len(result["iou"]) == CLASSES


def test_a_perfect_prediction_scores_one():
    _, label = maps()
    result = measures(confusion_matrix(np.where(label == VOID, 0, label), label, CLASSES))
    assert result["pixel_accuracy"] == result["class_accuracy"] == result["mean_iou"] == 1


def test_without_labels_nothing_is_known():
    result = measures(np.zeros((3, 3), np.int32))
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou"):
        assert np.isnan(result[name])
    assert np.all(np.isnan(result["iou"]))


def test_shares_are_those_of_the_labelled_pixels():
    prediction, label = maps(2, (0, 1, 3))
    got = shares(confusion_matrix(prediction, label, CLASSES))
    for name, classes in zip(("true", "predicted"), flat(prediction, label), strict=True):
        expected = np.bincount(classes, minlength=CLASSES) / len(classes)
        np.testing.assert_allclose(got[f"histogram_{name}"], expected)
    assert np.all(np.isnan(shares(np.zeros((3, 3), np.int32))["histogram_true"]))


def test_large_counts_do_not_overflow():
    confusion = np.full((2, 2), 2**31 - 1, np.int32)
    assert measures(confusion)["pixel_accuracy"] == pytest.approx(0.5)
    assert measures(confusion)["mean_iou"] == pytest.approx(1 / 3)
