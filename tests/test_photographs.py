"""Photographs of all kinds, as what is shown of them: RGB of 8 bits."""

import numpy as np
import pytest
from PIL import Image

from segadv_jax.data import builders, photographs, pipeline
from segadv_jax.errors import InputError


def read(path):
    """What is read of an image, as TensorFlow decodes it."""
    image, (height, width) = photographs.read_image(path, path.name)
    label = photographs.void((height, width))
    split = pipeline.Encoded(
        [path.name], [image], [builders.png(label)], np.array([label.shape], np.int32)
    )
    return next(split.eval_batches(batch_size=1, canvas=(height, width)))["image"][0]


def gray(values):
    return values[..., None].repeat(3, -1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_values_of_16_bits_are_scaled(suffix, tmp_path):
    """65535 is white; in a PNG one value may stand for what is transparent, which is black."""
    grey = np.array([[0, 257, 25700], [65535, 128, 129]], np.uint16)
    shown = np.array([[0, 1, 100], [255, 0, 1]])
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}"), gray(shown))
    if suffix == "png":
        Image.fromarray(grey).save(tmp_path / "b.png", transparency=25700)
        shown[0, 2] = 0
        np.testing.assert_array_equal(read(tmp_path / "b.png"), gray(shown))


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_values_whose_range_is_not_known_are_refused(kind, mode, tmp_path):
    Image.fromarray(np.zeros((2, 3), kind)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"^a.tif is .*its mode is {mode}, .*: save it with 8 or"):
        read(tmp_path / "a.tif")


def test_what_is_transparent_is_black(tmp_path):
    """In an alpha channel, as a colour of an RGB image, and in a palette."""
    pixels = np.array([[[200, 100, 50], [10, 20, 30]]], np.uint8)
    alpha = np.array([[[0], [255]]], np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], -1)).save(tmp_path / "alpha.png")
    Image.fromarray(pixels).save(tmp_path / "colour.png", transparency=(200, 100, 50))
    indexed = Image.fromarray(np.array([[1, 0]], np.uint8), "P")
    indexed.putpalette([10, 20, 30, 200, 100, 50])
    indexed.save(tmp_path / "palette.png", transparency=1)
    for name in ("alpha", "colour", "palette"):
        shown = read(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(shown, [[[0, 0, 0], [10, 20, 30]]], err_msg=name)
