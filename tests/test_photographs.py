"""Photographs of all kinds, as what is shown of them: RGB of 8 bits."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from segadv_jax.data import builders, photographs, pipeline
from segadv_jax.data.cpu_tensorflow import tf
from segadv_jax.errors import InputError


def read(path):
    """What is read of an image, as TensorFlow decodes it."""
    photograph = photographs.read_photograph(path, path.name)
    label = photographs.void(photograph.size)
    split = pipeline.Encoded(
        [path.name], [photograph.image], [builders.png(label)], np.array([label.shape], np.int32)
    )
    return next(split.eval_batches(batch_size=1, canvas=photograph.size))["image"][0]


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


def write_png_16(path, values):
    """A PNG file of 16 bits per channel, u16[h,w,3], which Pillow reads but does not write."""
    tf.io.write_file(str(path), tf.io.encode_png(values))


def test_colours_of_16_bits_are_scaled(tmp_path):
    """65535 is white; Pillow cuts them to their higher bytes, which may be one less."""
    values = np.array([[[0, 257, 25700], [65535, 128, 65535]]], np.uint16)
    write_png_16(tmp_path / "a.png", values)
    photograph = photographs.read_photograph(tmp_path / "a.png", "a.png")
    assert photograph.bits == 16
    shown = read(tmp_path / "a.png").astype(int)
    assert np.abs(shown - np.round(values / 257)).max() <= 1 and shown.max() == 255
    Image.fromarray(shown.astype(np.uint8)).save(tmp_path / "b.png")
    assert photographs.read_photograph(tmp_path / "b.png", "b.png").bits == 8


@pytest.mark.parametrize(
    ("size", "longest_side", "expected"),
    [
        ((300, 400), 0, (300, 400)),
        ((300, 400), 400, (300, 400)),
        ((300, 400), 200, (150, 200)),
        ((400, 300), 512, (400, 300)),  # Nothing is enlarged.
        ((3000, 10), 100, (100, 1)),
    ],
)
def test_only_larger_images_are_shrunk(size, longest_side, expected):
    assert photographs.shrunk_size(size, longest_side) == expected


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_shrinking_averages_and_turns(suffix, tmp_path):
    """Stripes of one pixel become grey; the size is that of the image the right way up."""
    stripes = np.zeros((120, 240, 3), np.uint8)
    stripes[:, ::2] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stripes).save(path, exif=exif, quality=95)
    photograph = photographs.read_photograph(path, "a", longest_side=40)
    assert (photograph.size, photograph.upright, photograph.stored) == (
        (40, 20),
        (240, 120),
        (120, 240),
    )
    shown = photographs.decode(photograph.image)
    assert shown.shape == (40, 20, 3) and np.abs(shown.astype(int) - 100).max() < 12
    assert photograph.image[:2] == (b"\xff\xd8" if suffix == "jpg" else b"\x89P")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_and_their_maps_are_turned(orientation, suffix, tmp_path):
    """As Pillow turns a PNG file; TIFF files it turns while it loads them."""
    pixels, exif = np.arange(6, dtype=np.uint8).reshape(2, 3), Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", f"a.{suffix}"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    path = tmp_path / f"a.{suffix}"
    photograph = photographs.read_photograph(path, "a")
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.array(ImageOps.exif_transpose(opened))
    shown = photographs.decode(photograph.image)
    np.testing.assert_array_equal(shown, gray(expected))
    np.testing.assert_array_equal(photographs.turn(pixels, photograph.orientation), expected)
    assert photograph.upright == photograph.size == expected.shape
    assert photograph.stored == pixels.shape


def test_the_first_image_of_a_file_with_several_is_passed_on(tmp_path):
    """As some phones write them, under the name of a JPEG."""
    pixels = np.random.RandomState(0).randint(0, 256, (16, 24, 3)).astype(np.uint8)
    first, second = (Image.fromarray(x) for x in (pixels, 255 - pixels))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    first.save(tmp_path / "b.jpg")
    assert photographs.read_photograph(tmp_path / "a.jpg", "a").image[:2] == b"\xff\xd8"
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), read(tmp_path / "b.jpg"))
