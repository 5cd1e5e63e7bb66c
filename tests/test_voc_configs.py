"""The configurations of PASCAL VOC 2012: what they say, and that each of them trains."""

import functools
import io
import itertools
import resource
import tarfile
import time

import jax
import numpy as np
import pytest
import small
from PIL import Image

from configs import (
    hyperparameters,
    voc_baseline,
    voc_largefov,
    voc_largefov_light,
    voc_smallfov,
    voc_smallfov_light,
)
from segadv_jax import experiment, prediction
from segadv_jax.configuration import load
from segadv_jax.data.arrays import Arrays
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.train_step import train_step

FILES = {
    "largefov": voc_largefov,
    "smallfov": voc_smallfov,
    "largefov_light": voc_largefov_light,
    "smallfov_light": voc_smallfov_light,
}
PAIRS = list(itertools.product(FILES, ("basic", "product", "scaling")))
CLASSES = 21


def configuration(name):
    """The configuration of "baseline" or of "largefov:product", one of 13."""
    file, _, encoding = name.partition(":")
    return FILES[file].get_config(encoding) if encoding else voc_baseline.get_config()


def test_table_is_that_of_the_supplement():
    """mIoU, mBF, sigma, slr, alr and lambda row by row, as printed."""
    printed = """
        72.02 47.19 21.67 1e-4 0.5 1   72.04 47.70 22.42 1e-6 0.1 1   71.99 47.85 22.25 1e-5 0.1 1
        71.95 47.58 22.20 1e-5 0.2 1   71.87 46.42 21.88 1e-4 0.1 0.1 71.89 47.14 21.80 1e-4 0.5 1
        71.95 46.97 21.96 1e-4 0.5 0.1 71.97 47.73 22.32 1e-6 0.1 1   72.01 47.43 22.17 1e-4 0.1 0.1
        71.88 47.22 21.99 1e-5 0.1 1   71.91 47.38 22.39 1e-5 0.2 1   71.96 46.89 21.71 1e-4 0.5 1
    """
    table = np.array(printed.split(), float).reshape(12, 6)
    np.testing.assert_array_equal([hyperparameters.SELECTED[pair] for pair in PAIRS], table)
    assert hyperparameters.BASELINE[:4] == (71.79, 47.36, 22.21, 1e-6)


@pytest.mark.parametrize(("adversary", "encoding"), PAIRS)
def test_configurations_hold_what_the_paper_selected(adversary, encoding):
    config = configuration(f"{adversary}:{encoding}")
    selected = hyperparameters.SELECTED[adversary, encoding]
    assert (config.adversary.name, config.encoding) == (adversary, encoding)
    assert config.optimizer.segmenter.learning_rate == selected.slr
    assert config.optimizer.adversary.learning_rate == selected.alr
    # Lambda stands between means: 16 label cells to a prediction.
    assert (config.loss.reduction, config.loss.lam) == ("mean", selected.lam / 16)
    assert (config.alternation.schedule, config.alternation.period) == ("slow", 500)
    setup = experiment.build(config, CLASSES).setup
    assert setup.segmenter.context == "large" and setup.segmenter.margin == 186
    assert setup.adversary.stride == 8


def test_product_is_the_encoding_unless_another_is_named():
    for name, file in FILES.items():
        assert file.get_config().to_dict() == configuration(f"{name}:product").to_dict()
        with pytest.raises(ValueError, match=f"voc_{name}:onehot: the encoding is 'basic', '"):
            load(f"voc_{name}:onehot")


def test_baseline_has_no_adversary():
    config = voc_baseline.get_config()
    assert config.alternation.schedule == "standard"
    assert config.optimizer.segmenter.learning_rate == 1e-6
    assert experiment.build(config, CLASSES).setup.adversary is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.crop": 324}, "config.train.crop is 324: set it to a multiple of 8"),
        ({"train.crop": 264, "adversary.padding": "valid"}, "264, but without padding .* 272 pix"),
        ({"segmenter.context": "full"}, "config.segmenter: context is 'full'; known: large"),
        ({"adversary.width": 0.0}, "config.adversary: width is 0.0: set it above 0"),
        ({"segmenter.name": "multiscale"}, "'multiscale', which has no context, dropout, .*begin"),
        (
            {"adversary.name": "two_branch"},
            "'two_branch', which has no padding, width: .*stanford",
        ),
    ],
)
def test_wrong_values_are_reported_with_their_fields(fields, message):
    config = voc_largefov.get_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(InputError, match=message):
        experiment.build(config, CLASSES)


def play(config, num_classes, arrays, canvas, turns, crop):
    """Plays turns on real batches: (the last two states, metrics of each step)."""
    setup = experiment.build(config, num_classes).setup
    state = initialize(setup, 0, (crop, crop), num_classes)
    step = jax.jit(functools.partial(train_step, setup=setup), static_argnums=3)
    batches = arrays.train_batches(
        batch_size=config.train.batch_size, canvas=canvas, seed=config.seed
    )
    states, metrics = [state], []
    for number, turn in enumerate(turns):
        batch = {name: value for name, value in next(batches).items() if name != "id"}
        key = jax.random.fold_in(jax.random.key(config.seed), number)
        state, result = step(states[-1], batch, key, turn, number)
        states = [states[-1], state]
        metrics.append({name: float(value) for name, value in result.items()})
    return states, metrics


@pytest.mark.parametrize(
    ("adversary", "encoding"),
    [
        ("largefov", "product"),
        ("smallfov", "scaling"),
        ("largefov_light", "basic"),
        ("smallfov_light", "product"),
    ],
)
def test_each_adversary_and_each_encoding_learns(adversary, encoding):
    """On a small segmenter of the same stride, from a segmenter that stands still."""
    config = configuration(f"{adversary}:{encoding}")
    config.segmenter.unlock()
    config.segmenter = {"name": "multiscale", "widths": (4, 4, 4), "hidden": 8, "shrink": 2}
    config.segmenter.levels = 1  # Quick to compile.
    config.adversary.width = 1 / 8
    config.train.update({"crop": 64, "batch_size": 4, "flip": False})
    config.optimizer.segmenter.learning_rate = 0.05
    config.optimizer.segmenter.weight_decay = 0.0
    made = small.batch([(64, 64)] * 4, (64, 64), square=16)
    arrays = Arrays(list("abcd"), list(made["image"]), list(made["label"]))
    # Both players at every step: a single program to compile.
    _, metrics = play(config, small.CLASSES, arrays, (64, 64), ["both"] * 12, 64)
    assert all(np.isfinite(value) for step in metrics for value in step.values())
    mce = [step["mce"] for step in metrics]
    bce = [step["bce_real"] + step["bce_synthetic"] for step in metrics]
    assert bce[-1] < bce[0] and mce[-1] < mce[0]
    assert all(step["grad_norm_adversarial"] > 0 for step in metrics)


def voc_images(archive, count):
    """The first training images of the archive."""
    root = "VOCdevkit/VOC2012"
    with tarfile.open(archive) as tar:

        def read(name):
            return tar.extractfile(f"{root}/{name}").read()

        ids = read("ImageSets/Segmentation/train.txt").decode().split()[:count]
        images = [Image.open(io.BytesIO(read(f"JPEGImages/{i}.jpg"))) for i in ids]
        labels = [Image.open(io.BytesIO(read(f"SegmentationClass/{i}.png"))) for i in ids]
        images = [np.array(image.convert("RGB")) for image in images]
        return Arrays(ids, images, [np.array(label) for label in labels])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["baseline", *(f"{a}:{e}" for a, e in PAIRS)])
def test_real_configuration_trains_on_real_images(name, voc_archive):
    """At full size, from scratch, but on one smaller crop at a time."""
    config = configuration(name)
    config.train.update({"crop": 128, "batch_size": 1})
    turns = ["standard"] * 2 if name == "baseline" else ["segmenter", "adversary", "segmenter"]
    began = time.monotonic()
    arrays = voc_images(voc_archive, 4)
    (before, after), metrics = play(config, CLASSES, arrays, (512, 512), turns, 128)
    print(f"\n{name}: {time.monotonic() - began:.0f} s")
    for turn, step in zip(turns, metrics, strict=True):
        print(f"  {turn}:", ", ".join(f"{key} {value:.4g}" for key, value in step.items()))
    assert all(np.isfinite(value) for step in metrics for value in step.values())
    for leaf in ("conv1_1", "fc6", "ct_final"):
        pair = (state.params["segmenter"][leaf]["kernel"] for state in (before, after))
        assert not np.array_equal(*pair)


@pytest.mark.slow
def test_full_size_network_trains_and_predicts_a_whole_image(voc_archive):
    """Says how long it takes and how much memory; LargeFOV, both players' turns."""
    config = configuration("largefov:product")
    config.train.update({"crop": 128, "batch_size": 1})
    setup = experiment.build(config, CLASSES).setup
    state = initialize(setup, 0, (128, 128), CLASSES)
    step = functools.partial(train_step, setup=setup)
    step = jax.jit(step, static_argnums=3, donate_argnums=0)
    arrays = voc_images(voc_archive, 8)
    batches = arrays.train_batches(batch_size=1, canvas=(512, 512), seed=0)
    for number, turn in enumerate(["segmenter"] * 4 + ["adversary"] * 4):
        batch = {name: value for name, value in next(batches).items() if name != "id"}
        began = time.monotonic()
        key = jax.random.fold_in(jax.random.key(0), number)
        state, metrics = jax.block_until_ready(step(state, batch, key, turn, number))
        print(f"\n{turn}: {time.monotonic() - began:.1f} s, mce {metrics['mce']:.3f}", end="")
        assert np.isfinite(metrics["mce"])
    segment = jax.jit(functools.partial(prediction.predict, segmenter=setup.segmenter))
    image = arrays.images[0]
    size = np.array([image.shape[:2]], np.int32)
    for _ in range(2):
        began = time.monotonic()
        probabilities = np.asarray(segment(state.params["segmenter"], image[None], size))
        print(f"\nwhole image of {image.shape}: {time.monotonic() - began:.1f} s", end="")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory {peak:.1f} GiB")
    assert probabilities.shape == (1, *image.shape[:2], CLASSES)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)
