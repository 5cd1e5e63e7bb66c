"""The figures of finished runs: what is drawn, and `tools.figures` by its command line."""

import numpy as np
import pytest
from finished_runs import make_run
from PIL import Image
from small_runs import small_config

from segadv_jax import cli, configuration, drawing, experiment
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.report import figures, game_pictures
from segadv_jax.workdir import Workdir

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)  # Of the first two arms.
NAMES = ("sky", "tree", "Straße")


def draw(*arguments):
    """The command line."""
    return cli.run("tools.figures", "python -m tools.figures", arguments)


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def count(picture, colour):
    return int((picture == colour).all(-1).sum())


def history(scale, columns=("train_mean_iou", "validation_mean_iou"), rows=4):
    """Rows of a history.csv; the first lacks its values."""
    values = [{name: scale * row / 10 for name in columns} for row in range(1, rows)]
    empty = dict.fromkeys(columns)
    return [{"segmenter_updates": 10 * i} | row for i, row in enumerate([empty, *values])]


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """The folder of a run against an adversary, both as the seed draws them."""
    folder, config = tmp_path_factory.mktemp("run"), small_config(data_dir)
    accuracies = {"accuracy_real": 0.6, "accuracy_synthetic": 0.7, "validation_mean_iou": 0.5}
    make_run(folder, config, {}, [{"step": 20, **accuracies}])
    state = initialize(experiment.build(config, 8).setup, 0, (96, 128), 8)
    with Checkpoints(Workdir(folder)) as checkpoints:
        checkpoints.save(state, 20, {"mean_iou": 0.5})
    return folder


@pytest.fixture
def arms(tmp_path):
    """{arm: folder of two seeds}; "ours" is better in the first class and worse in the second."""
    for arm, gains in (("base", (0, 0)), ("ours", (0.2, -0.1))):
        for seed in (0, 1):
            iou = dict(zip(NAMES, (0.5 + gains[0], 0.4 + gains[1], None), strict=True))
            confusion = [[90, 10, 0], [25, 25, 0], [0, 0, 0]]
            config = small_config("", seed=seed)
            rows = [{"step": 5 * i, "validation_mean_iou": i / 9 + seed / 30} for i in range(1, 5)]
            folder = tmp_path / arm / f"seed_{seed}"
            evaluations = {config.data.test: {"iou": iou, "confusion": confusion}}
            make_run(folder, config, evaluations, rows)
    return [f"{arm}={tmp_path / arm}" for arm in ("base", "ours")]


def test_a_line_is_the_mean_of_its_runs(tmp_path):
    """As of a single run with their mean; with a band, which a single run has not."""
    path = tmp_path / "new" / "curves.png"
    pictures = []
    for runs in ([history(2)], [history(1), history(3)]):
        figures.draw_curves(path, {"a": runs, "b": [history(5)]}, ["mean_iou"])
        pictures.append(read(path))
        assert min(count(pictures[-1], BLUE), count(pictures[-1], ORANGE)) > 100
    one, two = ((picture == BLUE).all(-1).any(0) for picture in pictures)
    assert not np.array_equal(*pictures) and one.any() and two.any()
    pale = 255 - 0.2 * (255 - np.array(BLUE))
    bands = [int((np.abs(picture - pale).max(-1) < 2).sum()) for picture in pictures]
    assert bands[1] > 500 > bands[0]


def test_an_arm_keeps_its_colour_where_another_has_no_value(tmp_path):
    arms = {"a": [history(1)], "b": [history(2, ["validation_mce"])]}
    figures.draw_curves(tmp_path / "curves.png", arms, ["mce"])
    picture = read(tmp_path / "curves.png")
    assert count(picture, BLUE) == 0 and count(picture, ORANGE) > 100


def test_a_measure_that_nobody_has_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run has validation_mean_bf in its history.csv"):
        figures.draw_curves(tmp_path / "curves.png", {"a": [history(1)]}, ["mean_bf"])
    with pytest.raises(InputError, match="none of these runs had an adversary"):
        figures.draw_game(tmp_path / "game.png", {"a": [history(1)]})


def test_the_two_accuracies_are_drawn(tmp_path):
    """Each in a chart of its own: on real maps at the left."""
    for column, side in (("accuracy_real", 0), ("accuracy_synthetic", 1)):
        figures.draw_game(tmp_path / "game.png", {"a": [history(1, [column])]})
        halves = np.array_split(read(tmp_path / "game.png"), 2, axis=1)
        lines = [count(half[:-60], BLUE) for half in halves]
        assert lines[side] > lines[1 - side]


def test_the_darkest_cell_is_the_commonest(tmp_path):
    """Of a row: they are shares of the true class, whatever its size."""
    counts = np.array([[1, 9], [1000, 0]])
    figures.draw_confusion(tmp_path / "a.png", counts, ["one", "two"])
    first = read(tmp_path / "a.png")
    figures.draw_confusion(tmp_path / "b.png", counts * [[100], [1]], ["one", "two"])
    np.testing.assert_array_equal(read(tmp_path / "b.png"), first)
    figures.draw_confusion(tmp_path / "c.png", counts.T, ["one", "two"])
    assert not np.array_equal(read(tmp_path / "c.png"), first)


def test_gains_are_above_losses(arms, tmp_path, capsys):
    """By the command line; a class without a value is left out."""
    draw("difference", f"--out={tmp_path}", *arms)
    picture = read(capsys.readouterr().out.strip())
    rows = [np.nonzero((picture == colour).all(-1))[0].mean() for colour in (BLUE, ORANGE)]
    assert rows[0] < rows[1]
    sides = [np.nonzero((picture == colour).all(-1))[1].mean() for colour in (BLUE, ORANGE)]
    assert sides[0] > sides[1]
    with pytest.raises(InputError, match="lacks bf of test.*: measure it with `segadv_jax evalua"):
        draw("difference", f"--out={tmp_path}", "--measure=bf", *arms)
    with pytest.raises(InputError, match="takes two arms, not 1"):
        draw("difference", f"--out={tmp_path}", arms[0])


def test_arms_are_paired_by_their_seeds(arms, tmp_path):
    first, second = (arm.partition("=")[2] for arm in arms)
    with pytest.raises(InputError, match="have the same seed"):
        draw("difference", f"--out={tmp_path}", f"a={first}/seed_0,{first}/seed_0", arms[1])
    three = make_run(tmp_path / "seed_2", small_config("", seed=2), {"test": {}})
    with pytest.raises(InputError, match="lacks "):
        draw("difference", f"--out={tmp_path}", f"a={three}", arms[1])
    # Single runs are compared whatever their seeds.
    draw("difference", f"--out={tmp_path}", f"a={first}/seed_0", f"b={second}/seed_1")


def test_curves_and_confusion_are_drawn_of_folders_of_runs(arms, tmp_path, capsys):
    draw("curves", f"--out={tmp_path}", "--measures=mean_iou", *arms)
    draw("confusion", f"--out={tmp_path}", *arms)
    written = [line.rpartition("/")[2] for line in capsys.readouterr().out.split()]
    assert written == ["curves.png", "confusion_base.png", "confusion_ours.png"]
    assert min(count(read(tmp_path / "curves.png"), colour) for colour in (BLUE, ORANGE)) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "give NAME=RUN"),
        (["a=RUN", "a=RUN"], "two of that name"),
        (["a b=RUN", "a_b=RUN"], "a_b=.*two of that name, or of its file"),
        (["a=nowhere"], "no run is in nowhere"),
        (["a=RUN", "--images=one"], "--images=one: give numbers"),
        (["a=RUN", "--images=99"], "there is no image 99, only 0 to 6"),
        (["a=RUN", "--config.seed=1"], "a run's configuration is its own"),
    ],
)
def test_a_wrong_argument_is_one_line(run, tmp_path, arguments, message):
    given = [argument.replace("RUN", str(run)) for argument in arguments]
    with pytest.raises(InputError, match=message):
        draw("segmentations", f"--out={tmp_path}", *given)


def test_segmentations_of_each_arm_are_drawn(run, tmp_path, capsys):
    draw("segmentations", f"--out={tmp_path}", "--images=0,3", f"a={run}", f"b={run}")
    pictures = [read(path) for path in capsys.readouterr().out.split()]
    assert len(pictures) == 2
    assert all(500 < picture.shape[1] <= drawing.WIDTH for picture in pictures)
    draw("segmentations", f"--out={tmp_path}", "--images=0", "--width=600", f"a={run}")
    assert read(tmp_path / "segmentations.png").shape[1] <= 600


def test_what_the_adversary_sees_and_says_is_drawn(run, tmp_path, capsys):
    draw("encodings", f"--out={tmp_path}", "--images=1", f"a={run}")
    draw("adversary", f"--out={tmp_path}", "--images=1,2", f"a={run}")
    paths = capsys.readouterr().out.split()
    names = [path.rpartition("/")[2] for path in paths]
    assert names == ["encodings.png", "adversary_accuracy.png", "adversary.png"]
    for path in paths:
        picture = read(path)
        assert 500 < picture.shape[1] <= drawing.WIDTH and picture.std() > 20


def test_an_adversary_is_shown_what_training_shows_it(run):
    """One-hot truth and probabilities at the label cells, times the colours, or softened."""
    (one,) = game_pictures.look(run, [1]).looks
    real, synthetic = one.encoded["basic"]
    cells = tuple(-(-side // 4) for side in one.label.shape)
    assert real.shape == synthetic.shape == (*cells, 8)
    labelled = one.label[2::4, 2::4] < 255  # The pixel of a cell, whose middle is at 1.5.
    np.testing.assert_array_equal(real[: len(labelled), : labelled.shape[1]].sum(-1), labelled)
    there = real.sum(-1) > 0
    np.testing.assert_allclose(synthetic.sum(-1)[there], 1, rtol=1e-5)
    scaled, _ = one.encoded["scaling"]
    assert (scaled[real > 0] >= 0.9 - 1e-6).all()
    products, _ = one.encoded["product"]
    assert products.shape == (*cells, 24)
    assert (products.reshape(*cells, 8, 3)[real == 0] == 0).all()
    config = configuration.recorded(Workdir(run))
    setup = experiment.build(config, 8).setup
    with Checkpoints(Workdir(run), to_read=True) as checkpoints:
        theta = checkpoints.restore_player("adversary", 20)
    image, size = np.float32(one.image[None]), np.array([one.label.shape])
    for verdict, shown in zip(one.verdicts, (real, synthetic), strict=True):
        assert verdict.shape == one.label.shape
        logits = setup.adversary.apply({"params": theta}, shown[None], image=image, size=size)
        np.testing.assert_allclose(verdict[0, 0], 1 / (1 + np.exp(-logits[0, 0, 0, 0])), rtol=1e-4)
        block = verdict[:16, :16]
        assert (block == block[0, 0]).all() and 0 < block[0, 0] < 1


def test_a_verdict_is_blue_for_truth_and_red_for_a_prediction():
    image = np.full((1, 4, 3), 100, np.uint8)
    verdict = np.array([[1, 0, 0.5, np.nan]], np.float32)
    ((truth, made, undecided, unjudged),) = game_pictures.over(image, verdict).astype(int)
    assert truth[2] > truth[0] + 20 and made[0] > made[2] + 20
    assert np.ptp(undecided) < 5 and undecided.min() > 150 and (unjudged == 100).all()


def test_a_verdict_lies_over_its_block():
    """Without padding blocks begin within the map; cells need not begin at the image's border."""
    verdict = np.arange(6, dtype=np.float32).reshape(2, 3)
    placed = game_pictures.place(verdict, 2, (80, 90), stride=4, offset=1.5, block=4)
    assert np.isnan(placed[:8]).all() and np.isnan(placed[:, :8]).all()
    np.testing.assert_array_equal(placed[8:40, 8:56], verdict.repeat(16, 0).repeat(16, 1))
    assert np.isnan(placed[40:]).all() and np.isnan(placed[:, 56:]).all()
    placed = game_pictures.place(verdict, 0, (20, 40), stride=4, offset=0.0, block=4)
    # Cell 0 lies in pixel 0, and pixel 14 is as near to cell 3 as to cell 4, of the next block.
    assert (placed[:14, :14] == 0).all() and placed[14, 0] == 3 and (placed[0, 14:30] == 1).all()
