"""Brightness, contrast and saturation: what each factor does, and which factors are drawn."""

import functools
import math

import jax
import numpy as np
import pytest
import small
from PIL import Image, ImageEnhance
from test_augment import HEIGHT, SIZE, STILL, WIDTH, draws, noise, unchecked

from segadv_jax.augment import Augmentation, augment
from segadv_jax.colour import adjust

LUMA = np.array([0.299, 0.587, 0.114])
PILLOW = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
JITTER = {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5}


def adjusted(image, **factors):
    """torchvision's adjust_brightness, adjust_contrast and adjust_saturation one by one, of f64."""
    image = image.astype(np.float64)
    if "brightness" in factors:
        image = np.clip(factors["brightness"] * image, 0, 255)
    if "contrast" in factors:
        factor = factors["contrast"]
        image = np.clip(factor * image + (1 - factor) * np.mean(image @ LUMA), 0, 255)
    if "saturation" in factors:
        factor = factors["saturation"]
        image = np.clip(factor * image + (1 - factor) * (image @ LUMA)[..., None], 0, 255)
    return image


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
@pytest.mark.parametrize("name", sorted(PILLOW))
def test_an_adjustment_is_that_of_pillow(name, factor):
    image, _ = noise()
    got = np.asarray(adjust(image.astype(np.float32), SIZE, {name: factor}))
    expected = np.asarray(PILLOW[name](Image.fromarray(image)).enhance(factor), np.float32)
    # Pillow's greys and results are whole numbers.
    assert np.max(np.abs(got - expected)) < 0.5 * abs(1 - factor) + 1.01
    np.testing.assert_allclose(got, adjusted(image, **{name: factor}), atol=1e-3)
    assert got.min() >= 0 and got.max() <= 255


def test_brightness_comes_first_and_saturation_last():
    """All of them cut off what leaves 0..255, so that the order matters."""
    image, _ = noise()
    factors = {"saturation": 1.8, "brightness": 1.6, "contrast": 1.5}
    got = np.asarray(adjust(image.astype(np.float32), SIZE, factors))
    np.testing.assert_allclose(got, adjusted(image, **factors), atol=1e-3)


def test_only_the_true_image_counts_in_the_mean():
    image, _ = noise(50, 70)
    margin, (height, width) = 7, (31, 40)
    size, factors = np.array([height, width], np.int32), {"contrast": 0.25}
    part = image[margin : margin + height, margin : margin + width]
    got = np.asarray(adjust(image.astype(np.float32), size, factors, margin))
    expected = 0.25 * image + 0.75 * np.mean(part @ LUMA)  # The margin is adjusted as well.
    np.testing.assert_allclose(got, expected, atol=1e-3)


def halves(first=(100, 80, 90), second=(120, 150, 130)):
    """(f32[H,W,3], u8[H,W]): two colours, the second below; every factor can be read off it."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[HEIGHT // 2 :] = 1
    return np.array([first, second], np.uint8)[label], label


def factors_of(images):
    """{name: f64[draws]}: the factors by which images of `halves` were changed."""
    before = [halves()[0].astype(np.float64)[[0, -1], 0]] * len(images)
    after = images[:, [0, -1], 0].astype(np.float64)
    mean, step, chroma = [], [], []
    for colours in (np.array(before), after):
        grey = colours @ LUMA
        # The mean outlives contrast, the difference in grey saturation.
        mean.append(grey @ [HEIGHT // 2 / HEIGHT, 1 - HEIGHT // 2 / HEIGHT])
        step.append(grey[:, 1] - grey[:, 0])
        chroma.append(colours[:, 0, 0] - colours[:, 0, 1])
    brightness, step, chroma = (after / before for before, after in (mean, step, chroma))
    return {"brightness": brightness, "contrast": step / brightness, "saturation": chroma / step}


@pytest.mark.parametrize("chosen", ["contrast", "all"])
def test_factors_fill_their_ranges(chosen):
    jitter = {name: j for name, j in JITTER.items() if chosen in (name, "all")}
    image, label = halves()
    images, labels, _ = draws(image, label, SIZE, **STILL | {"flip": True} | jitter)
    found = factors_of(images)
    for name, factor in found.items():
        j = jitter.get(name, 0)
        assert 1 - j - 1e-4 <= factor.min() <= 1 - 0.95 * j
        assert 1 + 0.95 * j <= factor.max() <= 1 + j + 1e-4
        assert abs(factor.mean() - 1) <= 0.1 * j + 1e-4
    if chosen == "all":
        assert np.max(np.abs(np.corrcoef(list(found.values())) - np.eye(3))) < 0.2
    np.testing.assert_array_equal(labels, np.broadcast_to(label, labels.shape))


def test_colours_change_nothing_else():
    """Places are drawn as without: the colours' keys come after all others."""
    image, label = noise()
    plain, labels, sizes = draws(image, label, SIZE, count=20, crop=40)
    images, others, other_sizes = draws(image, label, SIZE, count=20, crop=40, brightness=0.2)
    np.testing.assert_array_equal(others, labels)
    np.testing.assert_array_equal(other_sizes, sizes)
    for draw, before in zip(images, plain, strict=True):
        shown = (before > 1) & (draw < 255)
        factor = np.median(draw[shown] / before[shown])
        np.testing.assert_allclose(draw, np.clip(factor * before, 0, 255), atol=2e-2)


def test_neither_canvas_nor_margin_matters():
    (image, label), margin = noise(), 20
    padded = small.on_canvas(
        {"image": image[None], "label": label[None], "size": SIZE[None]}, (80, 100)
    )
    settings = STILL | {"flip": True} | JITTER
    images, _, _ = draws(image, label, SIZE, count=20, **settings)
    others, _, _ = draws(
        padded["image"][0], padded["label"][0], SIZE, count=20, margin=margin, **settings
    )
    inner = others[:, margin : margin + HEIGHT, margin : margin + WIDTH]
    np.testing.assert_allclose(inner, images, atol=1e-3)


def test_a_key_draws_the_same_in_every_batch():
    image, label = noise()
    part = {"crop": 24, "scale": (1.0, 1.0), "area": (0.1, 0.6)}
    one = functools.partial(augment, augmentation=Augmentation(**part, **JITTER))
    keys = jax.vmap(jax.random.key)(np.arange(4))
    together = jax.jit(jax.vmap(one, (0, None, None, None)))(keys, image, label, SIZE)
    alone = jax.jit(one)(jax.random.key(2), image, label, SIZE)
    for batch, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(np.asarray(batch)[2], single, atol=2e-2)
    assert len({np.asarray(draw).tobytes() for draw in together[0]}) == 4


@pytest.mark.parametrize("name", sorted(JITTER))
@pytest.mark.parametrize("value", [1.0, -0.1, math.nan, "0.4", (0.4,), None], ids=str)
def test_wrong_values_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} is .*: set it from 0 to below 1$"):
        unchecked(**{name: value})
