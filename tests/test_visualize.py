"""Pictures of predictions: what is shown, how wide they get, and what the legends name."""

import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segadv_jax import drawing, visualize
from segadv_jax.data import stanford_background, synthetic
from segadv_jax.drawing import FONT, GAP, WIDTH, Entry
from segadv_jax.visualize import ROWS, VOID_COLOUR

ROOT = Path(__file__).resolve().parent.parent
PALETTE = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 200], [0, 150, 0]], np.uint8)
NAMES = ("sky", "a tree", "foreground", "never seen")
SIZES = np.array([[250, 300], [245, 260]], np.int32)
CANVAS = (256, 304)
LINE = drawing.line_height(FONT)


def batch():
    """Two examples whose padding holds values that must never be seen."""
    n, (height, width) = len(SIZES), CANVAS
    images = np.full((n, height, width, 3), 77, np.uint8)
    labels = np.full((n, height, width), 1, np.uint8)
    labels[:, :5, :7] = 255
    predictions = np.full((n, height, width), 2, np.int32)
    for i, (h, w) in enumerate(SIZES):
        images[i, h:], images[i, :, w:] = 1, 1
        labels[i, h:], labels[i, :, w:] = 0, 0
    return images, labels, predictions


def grid(labels=None, predictions=None):
    images, given, predicted = batch()
    labels = given if labels is None else labels
    predictions = predicted if predictions is None else predictions
    return visualize.prediction_grid(images, labels, predictions, SIZES, PALETTE, NAMES)


def count(picture, colour):
    return int((picture == np.array(colour)).all(-1).sum())


def below(picture, rows):
    """What lies below so many rows of cells: the legend."""
    return picture[LINE + sum(SIZES[:rows, 0]) + (rows - 1) * GAP :]


def test_prediction_grid_shows_the_values_of_each_column():
    """Each cropped to its true size, side by side under the names of the columns."""
    picture, top = grid(), LINE
    assert picture.dtype == np.uint8 and picture.shape[1] == 3 * 300 + 2 * GAP
    for h, w in SIZES:
        for column, value in enumerate([(77,) * 3, PALETTE[1], PALETTE[2]]):
            left = column * (300 + GAP)
            cell = picture[top : top + h, left : left + w]
            assert (cell[6:, 8:] == value).all()
            assert (picture[top : top + h, left + w : left + 300] == 255).all()
        assert (picture[top : top + 5, 300 + GAP :][:, :7] == VOID_COLOUR).all()
        top += h + GAP
    assert not count(picture[LINE : top - GAP], (1, 1, 1)), "the images' padding is shown"
    assert not count(picture[LINE : top - GAP], PALETTE[0]), "the labels' padding is shown"
    for column in range(3):
        head = picture[:LINE, column * (300 + GAP) :][:, :300]
        assert (head < 100).all(-1).any(), f"no text above column {column}"


def test_a_label_map_that_is_shrunk_keeps_its_colours():
    """A photograph's are mixed, where mixed colours would be those of no class or of another."""
    random = np.random.RandomState(0)
    sizes, shape = np.array([[200, 900]]), (1, 200, 900)
    labels, predictions = random.randint(0, 4, shape), random.randint(0, 4, shape)
    images = random.randint(0, 256, (*shape, 3)).astype(np.uint8)
    picture = visualize.prediction_grid(images, labels, predictions, sizes, PALETTE, NAMES, 600)
    column = (600 - 2 * GAP) // 3
    cells = picture[LINE + 2 : LINE + 40]
    assert len(np.unique(cells[:, : column - 2].reshape(-1, 3), axis=0)) > len(PALETTE)
    for number in (1, 2):
        left = number * (column + GAP)
        colours = cells[:, left + 2 : left + column - 2].reshape(-1, 3)
        assert set(map(tuple, colours)) == set(map(tuple, PALETTE))


def test_the_legend_names_what_occurs():
    """And void, if it does; a swatch has a thin black frame."""
    picture = grid()
    legend = below(picture, 2)
    for colour in (PALETTE[1], PALETTE[2], VOID_COLOUR):
        assert count(legend, colour) >= 80
    for absent in (PALETTE[0], PALETTE[3]):
        assert not count(legend, absent)
    without = below(grid(labels=np.ones((2, *CANVAS), np.uint8)), 2)
    assert not count(without, VOID_COLOUR) and count(without, PALETTE[1]) >= 80


def test_what_the_data_set_gives_can_be_left_out():
    images, labels, predictions = batch()
    arms = {"a": predictions, "b": np.minimum(labels, 3)}
    whole = visualize.prediction_grid(images, labels, arms, SIZES, PALETTE, NAMES)
    without = visualize.prediction_grid(None, None, arms, SIZES, PALETTE, NAMES)
    height = LINE + sum(SIZES[:, 0]) + GAP
    np.testing.assert_array_equal(without[:height], whole[:height, 2 * (300 + GAP) :])


@pytest.mark.parametrize(("side", "arms"), [(40, 1), (300, 9), (1000, 2)])
def test_grids_have_a_width_for_the_screen(side, arms):
    """Small images are enlarged, large ones shrunk, and only some rows are shown."""
    sizes = [(side, side)] * (ROWS + 3)
    labels = np.zeros((ROWS + 3, side, side), np.uint8)
    predictions = {f"arm {i} with a long name": labels for i in range(arms)}
    images = np.full((*labels.shape, 3), 60, np.uint8)
    picture = visualize.prediction_grid(images, labels, predictions, sizes, PALETTE, NAMES)
    assert 300 <= picture.shape[1] <= WIDTH
    shown = min(480, (WIDTH + GAP) // (arms + 2) - GAP)
    assert picture.shape[0] <= ROWS * (shown + GAP) + 4 * LINE
    assert count(picture, (60,) * 3) >= ROWS * (0.5 * shown) ** 2


@pytest.mark.parametrize("side", [40, 300])
def test_probabilities_of_many_classes_are_wrapped_into_lines(side):
    maps = np.full((3, side, side, 21), 1 / 21, np.float32)
    colours, names = np.full((21, 3), 9, np.uint8), [f"a class's name, {i}" for i in range(21)]
    picture = visualize.probability_grid(maps, [(side, side)] * 3, colours, names)
    assert 300 <= picture.shape[1] <= WIDTH and picture.shape[0] <= 2400


def test_a_probability_has_one_colour_wherever_it_is():
    """Dark to bright, never rescaled, in the columns of one line or wrapped into several."""
    values = np.linspace(0.06, 0.96, 21, dtype=np.float32)
    maps = np.broadcast_to(values, (2, 50, 50, 21)).copy()
    maps[:, 30:, 30:] = 0.5  # Beyond the true size.
    sizes, colours = [(30, 30)] * 2, np.full((21, 3), 7, np.uint8)
    for classes in (3, 21):
        names = [f"class {i}" for i in range(classes)]
        picture = visualize.probability_grid(
            maps[..., :classes], sizes, colours[:classes], names, ["one", "two"]
        )
        areas = [count(picture, visualize.paint(value)) for value in values[:classes]]
        assert min(areas) == max(areas) >= 2 * 30 * 30
    brightness = visualize.paint(values).astype(int) @ [299, 587, 114]
    assert (np.diff(brightness) > 0).all(), "in grey print the order is lost"


def overlaid(height, width, names=NAMES):
    image = np.full((height, width, 3), 100, np.uint8)
    label = np.zeros((height, width), np.uint8)
    label[:, width // 2 :] = 1
    label[-height // 4 :] = 255
    return visualize.overlay(image, label, PALETTE, names)


@pytest.mark.parametrize(("height", "width"), [(80, 100), (1500, 2000)])
def test_an_overlay_shows_photograph_and_classes(height, width):
    """Their mixture, a line in full colour between them, void as it is, a legend of the two."""
    picture = overlaid(height, width)
    middle = width // 2
    assert picture.shape[1] >= width and picture.shape[0] > height
    for column, colour in ((2, PALETTE[0]), (width - 2, PALETTE[1])):
        found = picture[2, column].astype(int)
        low, high = np.minimum(colour, 100), np.maximum(colour, 100)
        assert (low <= found).all() and (found <= high).all()
        assert (found != 100).any() and (found != colour).any()
    reach = 1 if height < 500 else 3
    for side, colour in ((range(middle - reach, middle), 0), (range(middle, middle + reach), 1)):
        assert (picture[2, list(side)] == PALETTE[colour]).all()
    assert (picture[2, middle + reach] != PALETTE[1]).any()
    assert (picture[height - 3, :width] == 100).all()
    legend = picture[height + 1 :]
    for colour in PALETTE[:2]:
        assert count(legend, colour) >= 50
    for absent in (*PALETTE[2:], VOID_COLOUR):
        assert not count(legend, absent)


def test_a_black_class_does_not_darken_the_photograph():
    image, label = np.full((40, 60, 3), 100, np.uint8), np.zeros((40, 60), np.uint8)
    label[10:20] = 1
    picture = visualize.overlay(image, label, np.array([[0, 0, 0], [200, 0, 0]], "u1"), ["a", "b"])
    assert (picture[30:40, :60] == 100).all() and (picture[12:18, :60] != 100).any()


def test_the_letters_of_an_overlay_grow_with_it():
    legends = [overlaid(h, w).shape[0] - h for h, w in ((200, 1000), (2000, 3000))]
    assert legends[1] > 3 * legends[0] >= 3 * 12


@pytest.mark.parametrize("name", ["Straße", "Bäume", "дорога", "δρόμος"])
def test_names_are_drawn_in_their_own_letters(name):
    """No letter is the box that stands for a missing one; an umlaut may be in two parts."""
    drawn = drawing.write([Entry(name)], 300)
    missing = drawing.write([Entry("\uffff" * len(name))], 300)
    assert (drawn < 100).any() and not np.array_equal(drawn, missing)
    for letter in name:
        box = drawing.write([Entry("\uffff")], 40)
        assert not np.array_equal(drawing.write([Entry(letter)], 40), box)
    taken_apart = unicodedata.normalize("NFD", name)
    np.testing.assert_array_equal(drawing.write([Entry(taken_apart)], 300), drawn)


def test_a_legend_is_broken_into_lines_that_fit():
    entries = [Entry(f"class number {i}", (i + 100, 0, 0)) for i in range(21)]
    written = drawing.write(entries, 200)
    assert written.shape[1] == 200 and written.shape[0] >= 11 * LINE
    areas = {count(written, entry.swatch) for entry in entries}
    assert len(areas) == 1 and min(areas) > 50, "a swatch is cut"


def test_a_text_that_is_too_long_is_cut_short():
    """With dots where the rest of it was."""
    written = drawing.write([Entry("aaaaaaaaaaaaaaaaaaaa")], 60)
    assert written.shape == (LINE, 60, 3) and (written[:, -1] == 255).all()
    shorter = [drawing.write([Entry("a" * number + "…")], 60) for number in range(8)]
    assert any(np.array_equal(written, one) for one in shorter)


@pytest.mark.parametrize("palette", [synthetic.PALETTE, stanford_background.PALETTE])
def test_no_class_looks_like_void_or_the_canvas(palette):
    """Nor is one black, which stands for the background in other data sets."""
    for other in (VOID_COLOUR, (255, 255, 255), (0, 0, 0)):
        assert np.abs(palette.astype(int) - other).sum(-1).min() > 95


def test_colour_refuses_an_index_outside_the_palette():
    with pytest.raises(ValueError, match="class index 4 is neither void"):
        visualize.colour(np.array([[0, 4]]), PALETTE)
    with pytest.raises(ValueError, match="class index -1 is neither void"):
        visualize.colour(np.array([[-1, 0]]), PALETTE)


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
    image = random.randint(0, 256, (2, 250, 240, 3)).astype(np.uint8)
    label = random.randint(0, 3, (2, 250, 240)).astype(np.uint8)
    maps = {name: random.dirichlet(np.ones(3), (2, 250, 240)) for name in ("standard", "features")}
    sizes = np.array([[250, 240], [245, 235]])
    picture = visualize.boundary_grid(image, label, maps, sizes)
    assert picture.shape == (LINE + 250 + GAP + 245, 6 * (240 + GAP) - GAP, 3)

    def cell(row, column, size):
        top, left = LINE + row * (250 + GAP), column * (240 + GAP)
        return picture[top : top + size[0], left : left + size[1]]

    np.testing.assert_array_equal(cell(0, 0, sizes[0]), image[0])
    found = visualize.outline(image, maps["features"].argmax(-1))
    np.testing.assert_array_equal(cell(1, 4, sizes[1]), found[1, :245, :235])
    certainty = visualize.paint(maps["features"].max(-1))[1, :245, :235]
    np.testing.assert_array_equal(cell(1, 5, sizes[1]), certainty)


def test_boundaries_are_judged_by_those_of_the_truth():
    """Black within reach of the truth's, whatever the classes, and else red."""
    label = np.zeros((1, 250, 240), np.uint8)
    label[0, :, 120:] = 1
    found = np.zeros((1, 250, 240), int)
    found[0, :, 124:] = 2  # Four pixels beside the truth's boundary,
    found[0, 200:, :50] = 2  # and a region far from it.
    picture = visualize.judge_boundaries(label[0], found[0], 5)
    assert np.all(picture[:, 123] == 0)
    assert np.all(picture[199, :49] == visualize.WRONG_COLOUR)
    red = np.all(visualize.judge_boundaries(label[0], found[0], 3) == visualize.WRONG_COLOUR, -1)
    assert red[:, 123].all()
    nowhere = visualize.judge_boundaries(np.zeros_like(label[0]), found[0], 5)
    assert np.all(nowhere[:, 123] == visualize.WRONG_COLOUR)
    # Neither image nor truth is shown then.
    image = np.full((1, 250, 240, 3), 99, np.uint8)
    maps, sizes = {"standard": np.eye(3)[found]}, np.array([[250, 240]])
    grid = visualize.boundary_grid(image, label, maps, sizes, given=False)
    assert grid.shape == (LINE + 250, 2 * 240 + GAP, 3)
    np.testing.assert_array_equal(grid[LINE:, :240], picture)
