"""Data sets by name: registration, options, splits, and the folder of prepared data."""

import sys
import types

import numpy as np
import pytest

from segadv_jax import data
from segadv_jax.data import arrays
from segadv_jax.errors import InputError


@pytest.fixture
def drawings():
    """A data set of two images in memory."""
    image, label = np.zeros((8, 9, 3), np.uint8), np.ones((8, 9), np.uint8)
    splits = {name: arrays.Arrays([name], [image], [label]) for name in ("train", "test")}
    return arrays.data_set("drawings", splits, ("ground", "sky"), image[0, :2])


def test_a_data_set_is_registered_with_one_line_and_says_which_options_it_takes(
    drawings, monkeypatch
):
    """A module with a function `prepare` is all that a data set needs; here, without TensorFlow."""
    asked = []

    def prepare(*, archives="", data_dir="", fence=0):
        asked.append((archives, data_dir, fence))
        return drawings

    module = types.ModuleType("drawings")
    module.prepare = prepare
    monkeypatch.setitem(sys.modules, "drawings", module)
    monkeypatch.setitem(data.DATA_SETS, "drawings", "drawings")
    assert data.load("drawings", archives="a", fence=2, allow_partial=False) is drawings
    assert data.load("drawings", data_dir="b", allow_partial=None) is drawings
    assert asked == [("a", "", 2), ("", "b", 0)]
    message = "--config.data.allow_partial is not an option of the data set drawings; leave it out"
    with pytest.raises(InputError, match=message):
        data.load("drawings", allow_partial=True)


def test_an_unknown_split_is_refused_with_the_field(drawings):
    drawings.check_split("train+test", "data.train")
    message = r"config.data.train: the data set drawings has no split 'tst'; known: train, test"
    with pytest.raises(InputError, match=message):
        drawings.check_split("train+tst", "data.train")


def test_a_data_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        InputError, match="--config.data.data_dir=.*file/below is not a folder that can"
    ):
        data.load("synthetic", data_dir=str(tmp_path / "file" / "below"))


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'imagenet'.*synthetic, stanford_background"):
        data.load("imagenet")
