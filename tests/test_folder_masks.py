"""Label files of a folder: indices, palettes, colours, what stands for void, what is refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segadv_jax.data import folder_masks
from segadv_jax.data.folder_masks import Classes, Refused, parse_void, read_classes, read_label
from segadv_jax.errors import InputError

USUAL = Classes()
COLOURS = {"sky": (70, 130, 180), "road": (128, 64, 128), "tree": (0, 0, 0)}


def label_of(tmp_path, picture, classes=USUAL, name="a.png", **options):
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture))
    picture.save(tmp_path / name, **options)
    return read_label(tmp_path / name, f"labels/{name}", classes).tolist()


def grey(*values, kind=np.uint8):
    return np.array([values], kind)


def written(tmp_path, text, void=255):
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    return read_classes(tmp_path, void)


@pytest.mark.parametrize(
    ("void", "values", "label"),
    [
        ("", [0, 1, 2, 255], [0, 1, 2, 255]),
        ("11", [0, 11, 10, 255], [0, 255, 10, 255]),
        ("3", [0, 3, 4, 9], [0, 255, 3, 8]),  # Those above move down.
        ("0", [0, 1, 2, 255], [255, 0, 1, 255]),
        ("none", [0, 1, 2, 254], [0, 1, 2, 254]),
        ("none", [0, 255, 255, 0], [0, 1, 1, 0]),
        ("-1", [255, 255, 255, 255], [1, 1, 1, 1]),
    ],
)
def test_void_has_the_value_that_is_named(void, values, label, tmp_path):
    assert label_of(tmp_path, grey(*values), Classes(parse_void(void))) == [label]


@pytest.mark.parametrize("void", ["256", "x", "1.5", "-2"])
def test_a_void_that_is_no_value_is_refused(void):
    with pytest.raises(InputError, match=f"--config.data.void={void}: set it to a value from 0 to"):
        parse_void(void)


def test_255_beside_others_is_refused_where_there_is_no_void(tmp_path):
    with pytest.raises(Refused, match="labels/a.png") as error:
        label_of(tmp_path, grey(0, 1, 255), Classes(None))
    assert "--config.data.void=none makes the second of two" in error.value.kind


def test_indices_are_read_whatever_holds_them(tmp_path):
    """Of a palette its indices; of 16 and 32 bits the values; of a colour image that is grey."""
    values = grey(0, 2, 255)
    palette = Image.frombytes("P", (3, 1), bytes(values))
    palette.putpalette([9, 8, 7] * 256)
    for number, (picture, suffix) in enumerate(
        [
            (palette, "png"),
            (values.astype(np.uint16), "png"),
            (values.astype(np.uint16), "tif"),
            (values.astype(np.int32), "tif"),
            (values[..., None].repeat(3, -1), "bmp"),
            (values[..., None].repeat(4, -1), "png"),
            (Image.merge("LA", [Image.fromarray(values)] * 2), "png"),
        ]
    ):
        assert label_of(tmp_path, picture, name=f"{number}.{suffix}") == [[0, 2, 255]], number
    assert label_of(tmp_path, grey(0, 1, kind=bool)) == [[0, 1]]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (grey(0, 256, kind=np.uint16), "labels/a.tif has 256; classes are 0 to 254"),
        (grey(0, -1, kind=np.int32), "labels/a.tif has -1; classes are 0 to 254"),
        (grey(0, 1, kind=np.float32), "labels/a.tif has mode F; save class indices as grey"),
    ],
)
def test_values_that_are_no_classes_are_refused(picture, message, tmp_path):
    with pytest.raises(Refused, match=message) as error:
        label_of(tmp_path, picture, name="a.tif")
    assert error.value.kind == folder_masks.BAD_VALUES


@pytest.mark.parametrize("name", ["a.jpg", "renamed.png"])
def test_jpeg_is_refused_with_the_reason(name, tmp_path):
    with pytest.raises(Refused, match=f"labels/{name}") as error:
        label_of(tmp_path, grey(0, 1), name=name, format="JPEG")
    assert "JPEG, which blurs the class indices at every edge" in error.value.kind


def test_classes_that_no_name_is_for_are_refused(tmp_path):
    names = Classes(0, ("sky", "road"))
    assert label_of(tmp_path, grey(0, 1, 2), names) == [[255, 0, 1]]
    with pytest.raises(Refused, match="names only 2 classes: name the others there; if 3 m"):
        label_of(tmp_path, grey(0, 1, 3), names)
    from_1 = Classes(names=("sky", "road"))
    with pytest.raises(Refused, match=r"if 2 means void, .*=2; if they count from 1, set .*void=0"):
        label_of(tmp_path, grey(1, 2), from_1)


def test_indices_in_several_channels_of_16_bits_are_refused(tmp_path):
    """Pillow would read the high byte alone, which is 0 for all of them."""
    rows = b"".join(b"\0" + struct.pack(">6H", *[value] * 3, *[value + 1] * 3) for value in (0, 2))
    chunks = (b"IHDR", struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))
    with open(tmp_path / "a.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in (*chunks, (b"IEND", b"")):
            check = struct.pack(">I", zlib.crc32(kind + content))
            file.write(struct.pack(">I", len(content)) + kind + content + check)
    with pytest.raises(Refused, match="labels/a.png has several channels of 16 bits; save one"):
        read_label(tmp_path / "a.png", "labels/a.png", USUAL)


@pytest.mark.parametrize(
    "text",
    [
        "sky 70 130 180\nroad 128 64 128\ntree 0 0 0\nvoid 224 224 192\n",
        "\ufeffsky #4682B4\r\nroad, #804080\r\nvoid: #e0e0c0\r\ntree\t#000000\r\n",
        "sky,70,130,180\nroad;128, 64, 128\ntree 0,0,0\nVoid 224 224 192",
    ],
)
def test_colours_become_the_classes_of_their_lines(text, tmp_path):
    classes = written(tmp_path, text)
    assert classes.names == ("sky", "road", "tree")
    assert classes.colours.tolist() == [*map(list, COLOURS.values())]
    pixels = np.array([[*COLOURS.values(), (224, 224, 192)]], np.uint8)
    assert label_of(tmp_path, pixels, classes) == [[0, 1, 2, 255]]
    # The palette of an image counts, not its indices.
    palette = Image.frombytes("P", (3, 1), bytes([2, 0, 1]))
    palette.putpalette([*COLOURS["road"], *COLOURS["tree"], *COLOURS["sky"]])
    assert label_of(tmp_path, palette, classes) == [[0, 1, 2]]
    # Grey values are indices all the same.
    assert label_of(tmp_path, grey(0, 2, 255), classes) == [[0, 2, 255]]


def test_black_and_white_can_be_two_colours(tmp_path):
    classes = written(tmp_path, "background 0 0 0\nobject 255 255 255\n")
    for picture in (grey(0, 255), grey(0, 255)[..., None].repeat(3, -1)):
        assert label_of(tmp_path, picture, classes) == [[0, 1]]


def test_colours_without_a_class_are_named(tmp_path):
    classes = written(tmp_path, "sky 70 130 180\nroad 128 64 128\n")
    pixels = np.array([[(70, 130, 180), (1, 2, 3), (255, 0, 16)]], np.uint8)
    with pytest.raises(Refused, match="a.png has #010203, #ff0010$") as error:
        label_of(tmp_path, pixels, classes)
    assert "colours that classes.txt does not name" in error.value.kind


def test_masks_in_colour_need_colours(tmp_path):
    pixels = np.array([[(70, 130, 180), (1, 2, 3)]], np.uint8)
    with pytest.raises(Refused, match="labels/a.png has #010203, #4682b4$") as error:
        label_of(tmp_path, pixels, Classes(names=("sky", "road")))
    assert "as in 'sky 70 130 180' or 'sky #4682b4'" in error.value.kind
    shades = np.arange(300).reshape(1, 100, 3).astype(np.uint8)
    with pytest.raises(Refused, match="100 colours: edges were smoothed; save masks without"):
        label_of(tmp_path, shades)


def test_names_may_have_spaces_umlauts_and_numbers(tmp_path):
    classes = written(tmp_path, "Straße nass\nBäume\nroute 66\n")
    assert classes.names == ("Straße nass", "Bäume", "route 66") and classes.colours is None
    assert written(tmp_path, "Straße nass 1 2 3\nroute 66 4 5 6").names == (
        "Straße nass",
        "route 66",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky 70 130 180\nroad\n", "'road' has no colour; give all classes one, or none"),
        ("sky 70 130 300\nroad 1 2 3\n", "'sky 70 130 300' has no colour of values from 0 to 255"),
        ("sky 1 2 3\nroad #010203\n", "'road #010203' has the colour of another class"),
        ("sky\nsky\n", "names a class twice"),
        ("sky\n", "names 1 classes: give 2 to 254"),
        ("sky\nroad\nVoid\n", "'Void', class 2: leave that line out and set --config.data.void=2"),
    ],
)
def test_a_wrong_list_of_classes_is_refused(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        written(tmp_path, text)
