import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segadv_jax import visualize
from segadv_jax.visualize import GAP, LINE, SWATCH, VOID_COLOUR

ROOT = Path(__file__).resolve().parent.parent
PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 200]], np.uint8)
NAMES = ("sky", "a tree", "foreground")
SIZES = np.array([[90, 120], [70, 100]], np.int32)
CANVAS = (96, 128)
BLUE, ORANGE = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)  # matplotlib's first two line colours


def batch():
    """Two examples whose padding holds values that must never be seen."""
    n, (height, width) = len(SIZES), CANVAS
    images = np.full((n, height, width, 3), 77, np.uint8)
    labels = np.full((n, height, width), 1, np.uint8)
    labels[:, :5, :7] = 255
    predictions = np.full((n, height, width), 2, np.int32)
    probabilities = np.zeros((n, height, width, 3), np.float32)
    probabilities[..., 2] = 1
    probabilities[..., 1] = 0.5
    for i, (h, w) in enumerate(SIZES):
        images[i, h:], images[i, :, w:] = 1, 1
        labels[i, h:], labels[i, :, w:] = 0, 0
    return images, labels, predictions, probabilities


def corner(row, column, columns, grid, top=LINE):
    """Top left pixel of a cell, worked out from the picture's own width."""
    width = (grid.shape[1] + GAP) // columns
    return top + row * (SIZES[:, 0].max() + GAP), column * width


def test_prediction_grid_shows_the_values_of_each_column():
    grid = visualize.prediction_grid(*batch(), SIZES, PALETTE, NAMES)
    assert grid.dtype == np.uint8
    assert grid.shape == (LINE + 2 * (90 + GAP), 6 * (120 + GAP) - GAP, 3)
    expected = [(77,) * 3, PALETTE[1], PALETTE[2], (0,) * 3, (128,) * 3, (255,) * 3]
    for row, (h, w) in enumerate(SIZES):
        for column, value in enumerate(expected):
            top, left = corner(row, column, 6, grid)
            np.testing.assert_array_equal(grid[top + 6, left + 8], value)
            np.testing.assert_array_equal(grid[top + h - 1, left + w - 1], value)


def test_void_has_its_own_colour():
    grid = visualize.prediction_grid(*batch(), SIZES, PALETTE, NAMES)
    top, left = corner(0, 1, 6, grid)
    assert (grid[top : top + 5, left : left + 7] == VOID_COLOUR).all()
    np.testing.assert_array_equal(grid[top + 5, left], PALETTE[1])
    np.testing.assert_array_equal(grid[top, left + 7], PALETTE[1])


def test_rows_are_cropped_to_the_true_size_and_padded_with_white():
    grid = visualize.prediction_grid(*batch(), SIZES, PALETTE, NAMES)
    for column in range(6):
        top, left = corner(1, column, 6, grid)
        assert (grid[top + 70 :, left : left + 120] == 255).all()
        assert (grid[top:, left + 100 : left + 120] == 255).all()
    assert not (grid[LINE:] == 1).all(-1).any(), "the images' padding is shown"
    assert not (grid[LINE:] == PALETTE[0]).all(-1).any(), "the labels' padding is shown"


def test_header_names_columns_and_shows_the_colour_of_each_class():
    grid = visualize.prediction_grid(*batch(), SIZES, PALETTE, NAMES)
    for column in range(6):
        left = corner(0, column, 6, grid)[1]
        head = grid[:LINE, left : left + 120]
        text = head[:, SWATCH + GAP :] if column >= 3 else head
        assert (text < 100).all(-1).any(), f"no text above column {column}"
        if column >= 3:
            swatch = head[GAP : GAP + SWATCH, :SWATCH]
            assert (swatch == PALETTE[column - 3]).all()
    assert not np.array_equal(grid[:LINE, :120], grid[:LINE, 124:244]), "the same text twice"


def test_what_the_data_set_gives_can_be_left_out():
    images, labels, predictions, maps = batch()
    whole = visualize.prediction_grid(images, labels, predictions, maps, SIZES, PALETTE, NAMES)
    without = visualize.prediction_grid(None, None, predictions, maps, SIZES, PALETTE, NAMES)
    left = corner(0, 2, 6, whole)[1]
    np.testing.assert_array_equal(without, whole[:, left:])
    arms = {"a": predictions, "b": labels}
    whole = visualize.comparison_grid(images, labels, arms, SIZES, PALETTE, NAMES)
    without = visualize.comparison_grid(None, None, arms, SIZES, PALETTE, NAMES)
    left = corner(0, 2, 4, whole)[1]
    np.testing.assert_array_equal(without[-100:], whole[-100:, left:])  # Below the legend.


def test_columns_are_wide_enough_for_their_names():
    small = np.zeros((1, 4, 4), np.uint8)
    names = ("a", "b", "a very long name of a class")
    grids = [
        visualize.prediction_grid(
            np.zeros((1, 4, 4, 3), np.uint8),
            small,
            small,
            np.zeros((1, 4, 4, 3)),
            [[4, 4]],
            PALETTE,
            names[:2] + (last,),
        )
        for last in (names[2], names[2] + " and more")
    ]
    width = (grids[0].shape[1] + GAP) // 6 - GAP
    assert width > 100
    assert (grids[0][:LINE, 5 * (width + GAP) + width - GAP :] == 255).all(), "the name is cut"
    assert grids[1].shape[1] > grids[0].shape[1]


def test_colour_refuses_an_index_outside_the_palette():
    with pytest.raises(ValueError, match="class index 3 is neither void"):
        visualize.colour(np.array([[0, 3]]), PALETTE)
    with pytest.raises(ValueError, match="class index -1 is neither void"):
        visualize.colour(np.array([[-1, 0]]), PALETTE)


def test_comparison_grid_has_a_legend_and_one_column_an_arm():
    images, labels, predictions, _ = batch()
    arms = {"standard": predictions, "adversarial": predictions - 1}
    grid = visualize.comparison_grid(images, labels, arms, SIZES, PALETTE, NAMES)
    height = 2 * (90 + GAP)
    assert grid.shape == (2 * LINE + height, 4 * (120 + GAP) - GAP, 3)
    legend = grid[:LINE]
    for value in [*PALETTE, VOID_COLOUR]:
        assert (legend == value).all(-1).sum() == SWATCH * SWATCH
    for column, value in enumerate([(77,) * 3, PALETTE[1], PALETTE[2], PALETTE[1]]):
        top, left = corner(0, column, 4, grid, top=2 * LINE)
        np.testing.assert_array_equal(grid[top + 6, left + 8], value)


def test_legend_is_broken_into_lines_that_fit():
    label = np.zeros((1, 30, 30), np.uint8)
    names = [f"class number {i}" for i in range(21)]
    palette = np.arange(63, dtype=np.uint8).reshape(21, 3) + 100
    grid = visualize.comparison_grid(
        np.zeros((1, 30, 30, 3), np.uint8), label, {"arm": label}, [[30, 30]], palette, names
    )
    lines = grid.shape[0] - LINE - 30 - GAP
    assert lines % LINE == 0 and lines >= 11 * LINE
    for value in palette:
        assert (grid[:lines] == value).all(-1).sum() == SWATCH * SWATCH, "a swatch is cut"


def history(scale):
    """Rows as `csv.DictReader` gives them: text, and no score where none was measured."""
    rows = [
        {"segmenter_updates": str(i), "mce": str(scale / (i + 1)), "miou": ""} for i in range(9)
    ]
    rows[8]["miou"] = "0.5"
    return rows


def test_curves_differ_with_the_data(tmp_path):
    arms = {"standard": history(1), "adversarial": history(2)}
    path = tmp_path / "new" / "curves.png"
    visualize.curves(arms, path, ["mce", "miou"])
    first = np.asarray(Image.open(path).convert("RGB"))
    assert first.shape == (600, 800, 3)
    for line in (BLUE, ORANGE):
        assert (first[:300] == line).all(-1).sum() > 50, "an arm's line is missing"
    visualize.curves({**arms, "adversarial": history(3)}, path, ["mce", "miou"])
    assert not np.array_equal(first, np.asarray(Image.open(path).convert("RGB")))


def test_curves_keeps_an_arms_colour_where_another_has_no_value(tmp_path):
    arms = {"standard": history(1), "adversarial": [{**r, "bce": "1"} for r in history(2)]}
    visualize.curves(arms, tmp_path / "curves.png", ["bce"])
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert not (picture == BLUE).all(-1).any()
    assert (picture == ORANGE).all(-1).sum() > 50


def test_curves_refuses_a_column_that_nobody_has(tmp_path):
    with pytest.raises(ValueError, match="no value of 'bf' against 'segmenter_updates'"):
        visualize.curves({"standard": history(1)}, tmp_path / "curves.png", ["bf"])


def test_save_png_keeps_every_pixel(tmp_path):
    for shape in ((5, 7, 3), (5, 7)):
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        visualize.save_png(array, tmp_path / "new" / "picture.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new/picture.png")), array)


def test_save_png_refuses_floats(tmp_path):
    with pytest.raises(ValueError, match="dtype uint8 is needed, not float64"):
        visualize.save_png(np.zeros((2, 2)), tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_matplotlib_waits_until_it_is_needed():
    code = "import sys, segadv_jax.visualize; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_boundaries_are_drawn_where_classes_meet():
    label = np.zeros((1, 4, 6), np.uint8)
    label[0, :, 3:] = 1
    label[0, 2:, 3:] = 2
    image = np.full((1, 4, 6, 3), 200, np.uint8)
    drawn = visualize.outline(image, label, (255, 0, 0))
    expected = np.zeros((4, 6), bool)
    expected[:, 2] = True  # Beside the column where the class changes,
    expected[1, 3:] = True  # and above the row.
    assert np.all(drawn[0][expected] == (255, 0, 0))
    assert np.all(drawn[0][~expected] == 100)


def test_boundaries_and_certainty_of_each_arm_are_side_by_side():
    random = np.random.RandomState(0)
    image = random.randint(0, 256, (2, 40, 60, 3)).astype(np.uint8)
    label = random.randint(0, 3, (2, 40, 60)).astype(np.uint8)
    maps = {name: random.dirichlet(np.ones(3), (2, 40, 60)) for name in ("standard", "features")}
    sizes = np.array([[40, 60], [30, 50]])
    grid = visualize.boundary_grid(image, label, maps, sizes)
    width = (grid.shape[1] + visualize.GAP) // 6 - visualize.GAP
    assert grid.shape[0] == visualize.LINE + 2 * (40 + visualize.GAP)

    def cell(row, column, size):
        top = visualize.LINE + row * (40 + visualize.GAP)
        left = column * (width + visualize.GAP)
        return grid[top : top + size[0], left : left + size[1]]

    np.testing.assert_array_equal(cell(0, 0, sizes[0]), image[0])
    found = visualize.outline(image, maps["features"].argmax(-1))
    np.testing.assert_array_equal(cell(1, 4, sizes[1]), found[1, :30, :50])
    certainty = np.round(255 * maps["features"].max(-1))[1, :30, :50]
    np.testing.assert_array_equal(cell(1, 5, sizes[1])[..., 0], certainty)
