"""Synthetic scenes: deterministic, valid, obeying their rules, and ambiguous locally."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier

from segadv_jax.data import scenes, synthetic

GROUNDS = (scenes.WATER, scenes.ROAD, scenes.GRASS)


@pytest.fixture(scope="module")
def examples():
    return [synthetic.example("train", index) for index in range(200)]


def test_prepared_examples_are_the_drawn_ones(synthetic_splits):
    for name, split in synthetic_splits.items():
        assert split.ids == [f"{name}_{i:04d}" for i in range(synthetic.SPLITS[name])]
        for index in (0, 1, len(split.ids) - 1):
            image, label = synthetic.example(name, index)
            np.testing.assert_array_equal(Image.open(io.BytesIO(split.images[index])), image)
            np.testing.assert_array_equal(Image.open(io.BytesIO(split.labels[index])), label)
            assert tuple(split.sizes[index]) == label.shape
            assert split.images[index].startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def synthetic_splits(request):
    data_set = request.getfixturevalue("synthetic")
    return {name: data_set.read(name) for name in synthetic.SPLITS}


def test_a_batch_of_the_data_set_is_what_was_drawn(synthetic_splits):
    split = synthetic_splits["validation"]
    batch = next(split.eval_batches(batch_size=3, canvas=split.canvas()))
    assert batch["image"].shape == (3, 96, 128, 3)
    for i in range(3):
        image, label = synthetic.example("validation", i)
        height, width = label.shape
        np.testing.assert_array_equal(batch["image"][i, :height, :width], image)
        np.testing.assert_array_equal(batch["label"][i, :height, :width], label)


def test_examples_differ_between_indices_and_splits():
    images = [synthetic.example(*which)[0] for which in [("train", 0), ("train", 1), ("test", 0)]]
    assert len({image.tobytes() for image in images}) == 3
    np.testing.assert_array_equal(synthetic.example("train", 0)[0], images[0])


def test_sizes_and_labels_are_valid_and_void_is_rare(examples):
    heights, widths = zip(*(label.shape for _, label in examples), strict=True)
    assert (min(heights), max(heights)) == (80, 96) and (min(widths), max(widths)) == (104, 128)
    counts = sum(np.bincount(label.ravel(), minlength=256) for _, label in examples)
    assert np.all(counts[8:255] == 0)
    shares = counts / counts.sum()
    assert 0.005 < shares[255] < 0.03
    assert np.all(shares[:8] > 0.01)


def test_every_scene_has_one_ground_and_what_belongs_on_it(examples):
    seen = []
    for _, label in examples:
        present = set(np.unique(label).tolist())
        (ground,) = present.intersection(GROUNDS)
        seen.append(ground)
        assert {scenes.SKY} <= present
        assert (scenes.WINDOW not in present) or (scenes.BUILDING in present)
        if ground == scenes.WATER:
            assert scenes.TREE in present and scenes.BUILDING not in present
        if ground == scenes.ROAD:
            assert scenes.BUILDING in present
        if ground == scenes.GRASS:
            assert scenes.VEHICLE not in present
        rows = np.nonzero(label == ground)[0]
        assert np.nonzero(label == scenes.SKY)[0].max() < rows.min()
    assert min(seen.count(ground) for ground in GROUNDS) > 40


def test_windows_touch_nothing_but_buildings_and_what_stands_in_front(examples):
    allowed = [scenes.WINDOW, scenes.BUILDING, scenes.TREE, scenes.VEHICLE, scenes.VOID]
    for _, label in examples:
        window = label == scenes.WINDOW
        for shifted, mask in [(label[1:], window[:-1]), (label[:-1], window[1:])]:
            assert np.isin(shifted[mask], allowed).all()
        for shifted, mask in [(label[:, 1:], window[:, :-1]), (label[:, :-1], window[:, 1:])]:
            assert np.isin(shifted[mask], allowed).all()


def patches(examples, random, per_image, side=7):
    """Colours of small patches, their mean and spread, and the class in the middle."""
    features, classes = [], []
    for image, label in examples:
        height, width = label.shape
        ys, xs = (random.randint(0, limit - side, per_image) for limit in (height, width))
        for y, x in zip(ys, xs, strict=True):
            patch = image[y : y + side, x : x + side].reshape(-1, 3) / 64
            features.append(np.concatenate([patch.ravel(), patch.mean(0), patch.std(0)]))
            classes.append(label[y + side // 2, x + side // 2])
    features, classes = np.array(features), np.array(classes)
    return features[classes != 255], classes[classes != 255]


@pytest.mark.parametrize("model", [LinearDiscriminantAnalysis(), KNeighborsClassifier(30)])
def test_local_patches_do_not_tell_the_classes_apart(examples, model):
    random = np.random.RandomState(0)
    train, test = patches(examples[:150], random, 60), patches(examples[150:], random, 60)
    accuracy = model.fit(*train).score(*test)
    # The most frequent class is the floor: colours do say something, but not much.
    assert np.bincount(test[1]).max() / len(test[1]) < accuracy < 0.55


def test_names_and_colours_fit_the_classes():
    assert len(scenes.CLASS_NAMES) == 8
    assert synthetic.PALETTE.shape == (8, 3) and synthetic.PALETTE.dtype == np.uint8
    colours = synthetic.PALETTE.astype(int)
    distance = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(8)
    assert distance.min() > 80
