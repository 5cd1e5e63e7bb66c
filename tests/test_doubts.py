"""What usually goes wrong is said before training, and nothing else is."""

import numpy as np
import pytest
from small_runs import small_config

from segadv_jax import preparation
from segadv_jax.data import statistics
from segadv_jax.data.arrays import Arrays
from segadv_jax.report.doubts import of_config, of_data

NAMES = ("sky", "tree", "boat")


def gathered(counts, number=10, seed=0, **changes):
    """The statistics of images with so many pixels of each class; of void are the rest of 2000."""
    random = np.random.RandomState(seed)
    label = np.repeat([0, 1, 2, 255], [*counts, 2000 - sum(counts)]).astype(np.uint8)
    labels = [label.reshape(40, 50)] * number
    images = [random.randint(0, 256, (40, 50, 3)).astype(np.uint8) for _ in labels]
    ids = [f"{seed}_{i}" for i in range(number)]
    return statistics.gather(Arrays(ids, images, labels))._replace(**changes)


FINE = gathered((1000, 500, 400)), gathered((1000, 500, 400), seed=1)


def doubts(training=FINE[0], validation=FINE[1], **more):
    return list(of_data(NAMES, {"training": training, "validation": validation, **more}))


def test_nothing_is_said_of_what_looks_right():
    assert doubts() == []
    assert doubts(test=gathered((900, 600, 400), seed=2)) == []


@pytest.mark.parametrize(
    ("parts", "doubt"),
    [
        ({"training": gathered((1500, 500, 0))}, "no training image shows boat"),
        (
            {"training": gathered((1998, 1, 1))},
            "under 0.1 % of the training pixels: tree (0.050 %), boat (0.050 %)",
        ),
        (
            {"validation": gathered((1500, 0, 500), seed=1)},
            "the validation images do not show tree, which training images do",
        ),
        (
            {"test": gathered((1500, 500, 0), seed=2)},
            "the test images do not show boat, which training images do",
        ),
        ({"validation": gathered((1000, 500, 400), 3, 1)}, "only 3 images to validate with"),
        (
            {"training": gathered((300, 300, 300))},
            "55 % of the pixels of the training images are void",
        ),
        (
            {"test": gathered((1000, 500, 400), seed=0)},
            "10 of the training images are test images as well, or nearly so: 0_0, 0_1",
        ),
        (
            {"test": gathered((1000, 500, 400), seed=0, ids=list("abcdefghij"))},
            "10 of the training images are test images as well, or nearly so: 0_0 = a, 0_1 = b, "
            "0_2 = c, 0_3 = d, 0_4 = e and 5 more",
        ),
    ],
)
def test_what_is_wrong_with_the_data_is_said(parts, doubt):
    (said,) = doubts(**parts)
    assert said.startswith(doubt)


def test_images_without_a_label_are_named():
    pixels = FINE[0].pixels.copy()
    pixels[[2, 5]] = 0
    pixels[[2, 5], 255] = 2000
    (said,) = doubts(FINE[0]._replace(pixels=pixels))
    assert said == "nothing but void in 2 of the training images: 0_2, 0_5"


def test_grey_levels_are_doubted():
    label = np.repeat([0, 38, 75, 113], 500).astype(np.uint8).reshape(40, 50)
    noise = np.random.RandomState(3).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    odd = statistics.gather(Arrays(["a"], [noise], [label]))
    names = [str(number) for number in range(114)]
    said = list(of_data(names, {"training": odd, "validation": FINE[1]}))
    assert any(
        line.startswith("the labels look like colours or grey levels: of 114") for line in said
    )


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        ({}, ""),
        ({"optimizer.segmenter.learning_rate": 0.0}, "config.optimizer.segmenter.learning_rate is"),
        ({"optimizer.adversary.learning_rate": 0.0}, "config.optimizer.adversary.learning_rate is"),
        ({"loss.lam": 0.0}, "config.loss.lam is 0: the segmenter takes no notice"),
        (
            {"alternation.schedule": "standard"},
            "nothing uses config.loss.lam: there is no adversary; for one set config.alternation",
        ),
        (
            {"alternation.schedule": "standard", "loss.lam": 0.0, "loss.r1": 1.0}
            | {"loss.lam_unlabelled": 0.1, "encoding": "product"},
            "nothing uses config.encoding, config.loss.lam_unlabelled, config.loss.r1: there is",
        ),
        ({"alternation.schedule": "standard", "loss.lam": 0.0}, ""),
        ({"alternation.schedule": "slow"}, "the adversary is never trained"),
        ({"alternation.schedule": "slow", "alternation.pretrain": 3}, ""),
        ({"loss.start": 5, "loss.ramp": 7}, ""),  # The last of 12 updates has all of it.
        ({"loss.start": 5, "loss.ramp": 8}, "config.loss.start and ramp, 13 together"),
        ({"evaluate.every": 13}, "config.evaluate.every is 13: the only validation"),
        ({"train.updates": 5}, "only 20 of 22 training images will be seen"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_said(data_dir, fields, doubt):
    config = small_config(data_dir, **fields)
    said = list(of_config(config, preparation.assemble(config)))
    assert [line[: len(doubt)] for line in said] == [doubt] * bool(doubt)
