"""Images without labels: which they are, what is refused, and whose batches they are in."""

import contextlib

import jax
import numpy as np
import pytest
from frozen_segmenter import MAPS, SIZES, Frozen, data_set, images
from PIL import Image
from small_runs import small_config

from segadv_jax import experiment, streams
from segadv_jax.data import order, photographs, unlabelled
from segadv_jax.data.builders import png
from segadv_jax.data.pipeline import Encoded
from segadv_jax.errors import InputError
from segadv_jax.models import SEGMENTERS
from segadv_jax.preparation import check, prepare
from segadv_jax.workdir import Workdir

HELD_OUT = {"data.validation": "validation", "data.test": "test"}
CHOSEN = np.array([1, 4, 7])


def read(which, chosen=CHOSEN, **splits):
    return unlabelled.read(data_set(**splits), which, "train", chosen, HELD_OUT)


def test_the_rest_is_what_the_fraction_leaves_out():
    assert read("rest").ids == [f"0_{i}" for i in (0, 2, 3, 5, 6, 8)]
    everything = np.arange(len(SIZES))
    with pytest.raises(InputError, match="config.data.unlabelled is 'rest', but all images are us"):
        read("rest", everything)
    without = images(SIZES[:2], 5, labels=False)
    assert read("rest", everything, unlabelled=without).ids == without.ids
    assert read("rest", unlabelled=without).ids[4:] == ["0_6", "0_8", "5_0", "5_1"]


def test_splits_are_taken_by_name():
    more = images(SIZES[:3], 6)
    assert read("more+train", more=more).ids == more.ids + images().ids


@pytest.mark.parametrize(("field", "seed"), [("validation", 1), ("test", 2)])
def test_images_that_are_held_out_are_refused(field, seed):
    with pytest.raises(
        InputError, match=f"config.data.{field}, .* has 1 of its images: {seed}_0: name"
    ):
        read("more", more=images(SIZES[:1], seed))


def test_a_name_that_is_nothing_is_refused_with_what_there_is(tmp_path):
    message = "config.data.unlabelled is '{}', which is neither .*: train, validation, test"
    for wrong in ("trian", str(tmp_path / "gone")):
        with pytest.raises(InputError, match=message.format(wrong)):
            read(wrong)


def test_a_folder_of_photographs(tmp_path):
    """Each at the size that its EXIF data makes it, in the order of their names."""
    pixels = np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # To be turned by 90 degrees.
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(pixels).save(tmp_path / "a.PNG", exif=turned)
    Image.fromarray(pixels[:9, :, 0]).save(tmp_path / "grey.bmp")
    (tmp_path / "notes.txt").write_text("not an image")
    split = read(str(tmp_path))
    assert split.ids == ["a.PNG", "b.png", "grey.bmp"]
    assert split.sizes.tolist() == [[30, 20], [20, 30], [9, 30]]
    shown = [next(split.take([row]).eval_batches(batch_size=1, canvas=(30, 30))) for row in (0, 1)]
    np.testing.assert_array_equal(shown[0]["image"][0, :, :20], np.rot90(pixels, -1))
    np.testing.assert_array_equal(shown[1]["image"][0, :20], pixels)
    assert all((batch["label"] == 255).all() for batch in shown)


@pytest.mark.parametrize(("field", "seed"), [("validation", 1), ("test", 2)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_photographs_that_are_held_out_are_refused(field, seed, suffix, tmp_path):
    """By what they show, under any name and in any format, and by their names."""
    held_out, other = images(SIZES[:2], seed), images(SIZES[:1], 7)
    Image.fromarray(other.images[0]).save(tmp_path / "another.png")
    assert read(str(tmp_path)).ids == ["another.png"]
    Image.fromarray(held_out.images[1]).save(tmp_path / f"copy{suffix}")
    Image.fromarray(other.images[0]).save(tmp_path / f"{seed}_0{suffix}")
    message = f"config.data.{field}, '{field}', has 2 of its images: {seed}_0{suffix}, whose name "
    message += f"is there; copy{suffix}, which shows what {seed}_1 shows: take copies out"
    with pytest.raises(InputError, match=message):
        read(str(tmp_path))


def test_photographs_are_compared_with_encoded_images(tmp_path):
    held_out = images(SIZES[:2], 1)
    parts = ([png(x) for x in each] for each in (held_out.images, held_out.labels))
    encoded = Encoded(["one", "two"], *parts, held_out.sizes)
    Image.fromarray(held_out.images[1]).save(tmp_path / "copy.bmp")
    splits = {"validation": encoded, "test": images(SIZES[:2], 2)}
    of_both = data_set()._replace(read_split=splits.get)
    with pytest.raises(InputError, match="has 1 of its images: copy.bmp, which shows what two"):
        unlabelled.read(of_both, str(tmp_path), "train", CHOSEN, HELD_OUT)
    # A name is that of the file, in whatever folder of the data set it lies.
    (tmp_path / "copy.bmp").rename(tmp_path / "two.bmp")
    other = images(SIZES[:2], 7)
    parts = ([png(x) for x in each] for each in (other.images, other.labels))
    splits["validation"] = Encoded(["one", "beach/two"], *parts, other.sizes)
    with pytest.raises(InputError, match="two.bmp, whose name is there as beach/two"):
        unlabelled.read(of_both, str(tmp_path), "train", CHOSEN, HELD_OUT)


def test_photographs_are_shrunk_as_those_of_the_data_set(tmp_path, caplog):
    """Otherwise one that is held out could not be recognised."""
    large = np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "copy.jpg")
    (tmp_path / "phone.HEIC").write_bytes(b"...")
    which = str(tmp_path), "train", CHOSEN
    assert unlabelled.read(data_set(), *which, HELD_OUT, 30).sizes.tolist() == [[20, 30]]
    assert "phone.HEIC is left out" in caplog.text
    shrunk = photographs.read_photograph(tmp_path / "copy.jpg", "copy", 30).image
    label, sizes = png(photographs.void((20, 30))), np.array([[20, 30]], np.int32)
    held_out = Encoded(["one"], [shrunk], [label], sizes)
    splits = {"validation": held_out, "test": images(SIZES[:2], 2)}
    of_both = data_set()._replace(read_split=splits.get)
    with pytest.raises(InputError, match="has 1 of its images: copy.jpg, which shows what one"):
        unlabelled.read(of_both, *which, HELD_OUT, 30)


@pytest.mark.parametrize("field", ["train", "validation", "test"])
def test_splits_without_labels_are_refused_where_labels_are_needed(field):
    """Before anything is read; also beside others."""
    without = data_set(more=images(SIZES, 6, labels=False))._replace(without_labels=("more",))
    refused = without._replace(read_split=lambda split: pytest.fail(f"{split} is read"))
    message = "config.data.{} is '{}', but the images of more have no labels: choose of train, va"
    for split in ("more", f"{field}+more"):
        with pytest.raises(InputError, match=message.format(field, split.replace("+", r"\+"))):
            streams.read(config_of(**{f"data.{field}": split}), refused)
    assert streams.read(config_of(**USED | {"data.unlabelled": "more"}), without).unlabelled


def test_what_is_wrong_with_photographs_is_reported_together(tmp_path):
    with pytest.raises(InputError, match=r"it holds no images \(.jpg"):
        read(str(tmp_path))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "whole.png")
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).write_bytes(b"none")
    with pytest.raises(InputError, match="one.jpg is not a readable image .*; two.jpg is not a r"):
        read(str(tmp_path))


FIELDS = {
    "data.train": "train",
    "data.validation": "validation",
    "data.test": "test",
    "data.fraction": 0.5,
    "train.crop": 0,
    "train.rotation": 0.0,
    "train.scale": (1.0, 1.0),
}
USED = {"data.unlabelled": "rest", "loss.lam_unlabelled": 0.1}


def config_of(arm="adversarial", **fields):
    config = small_config("", arm, **FIELDS | fields)
    config.segmenter = {"name": "frozen", "shift": 0.0}
    return config


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    """The small segmenter, and images of odd sizes in memory."""
    monkeypatch.setitem(SEGMENTERS, "frozen", Frozen)
    monkeypatch.setattr(experiment, "load_data", lambda config: data_set())


def taken(config, count=5, given=0):
    """{player: batches}, the first `count` after it was given so many."""
    found = streams.read(config, data_set())
    module = Frozen(3)
    params = module.init(jax.random.key(0), np.zeros((1, 32, 48, 3)), np.array([[32, 48]]))
    frozen = {"backbone": params["params"]["backbone"]}
    counts = {"segmenter": given, "adversary": given}
    made = streams.make(config, found, module, frozen, counts)
    return {player: [next(own) for _ in range(count)] for player, own in made.items()}


def test_labelled_batches_are_the_same_with_and_without_others():
    """And so arms are paired; the adversary's own turns have no images without labels."""
    alone, beside = taken(config_of()), taken(config_of(**USED))
    for batch in beside["segmenter"]:
        assert set(batch.pop("unlabelled")) == {"image", "size"}
    jax.tree.map(np.testing.assert_array_equal, beside, alone)


def test_images_without_labels_are_those_left_out_in_an_order_of_their_own():
    given = images()
    labelled = order.part(len(SIZES), 0.5, 0)
    rest = np.setdiff1d(np.arange(len(SIZES)), labelled)
    rows = order.train_rows(len(rest), 4, 0, 2, 0)
    for batch, own in zip(taken(config_of(**USED))["segmenter"], rows, strict=False):
        shown = batch["unlabelled"]
        assert len(shown["image"]) == 4
        for image, size, row in zip(shown["image"], shown["size"], rest[own], strict=True):
            assert tuple(size) == SIZES[row]
            np.testing.assert_array_equal(image[: size[0], : size[1]], given.images[row])


def test_a_resumed_run_goes_straight_to_its_batch():
    config = config_of(**USED)
    whole, resumed = taken(config, 5)["segmenter"], taken(config, 2, given=3)["segmenter"]
    jax.tree.map(np.testing.assert_array_equal, resumed, whole[3:])


def test_features_are_kept_of_them_too(tmp_path):
    fields = USED | {"train.feature_cache": str(tmp_path), "train.unlabelled_batch_size": 3}
    batch = taken(config_of(**fields), 1)["segmenter"][0]
    assert batch["embedded"].shape == (4, 2, 8, 12, MAPS)
    shown = batch["unlabelled"]
    assert set(shown) == {"image", "size", "embedded"}
    assert shown["embedded"].shape == (3, 2, 8, 12, MAPS)
    assert len(list(tmp_path.glob("*.npy"))) == len(SIZES)


def test_a_larger_photograph_widens_the_canvas(tmp_path):
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "large.png")
    fields = USED | {"data.unlabelled": str(tmp_path), "train.unlabelled_batch_size": 1}
    batch = taken(config_of(**fields), 1)["segmenter"][0]
    assert batch["image"].shape == (4, 64, 48, 3)
    assert batch["unlabelled"]["image"].shape == (1, 64, 48, 3)


@contextlib.contextmanager
def prepared(config, folder):
    with contextlib.ExitStack() as stack:
        workdir = Workdir(folder)
        workdir.make()
        yield prepare(config, workdir, stack)[0]


def test_a_run_has_them_on_all_devices_and_weighs_classes_without_them(tmp_path):
    fields = {"loss.balance": 1.0}
    with prepared(config_of(**fields), tmp_path / "alone") as run:
        weights = run.experiment.setup.objective.class_weights
    fields |= USED | {"data.unlabelled": "train", "train.unlabelled_batch_size": 8}
    with prepared(config_of(**fields), tmp_path / "beside") as run:
        batch, *_ = run.next_inputs(0)
        assert run.experiment.setup.objective.class_weights == weights
    assert batch["image"].shape[:2] == (4, 1) and batch["unlabelled"]["image"].shape[:2] == (4, 2)
    assert batch["unlabelled"]["size"].shape == (4, 2, 2)


def test_more_than_there_are_is_refused():
    fields = USED | {"train.unlabelled_batch_size": 8}
    message = r"config.train.unlabelled_batch_size .* is 8, but there are 5 images without labels"
    with pytest.raises(InputError, match=message):
        streams.read(config_of(**fields), data_set())


@pytest.mark.parametrize(
    ("arm", "fields", "message"),
    [
        ("adversarial", {"data.unlabelled": "rest"}, "but nothing uses these images: set config."),
        ("standard", USED, "these images: config.loss.lam_unlabelled needs an adversary; set conf"),
        ("standard", {"data.unlabelled": "rest"}, "images: set config.loss.entropy or config.los"),
        ("adversarial", {"loss.lam_unlabelled": 0.1}, "config.loss.lam_unlabelled is 0.1, but th"),
        ("standard", {"loss.pseudo_labels": 0.1}, "config.loss.pseudo_labels is 0.1, but there a"),
        ("standard", {"train.unlabelled_batch_size": -1}, "batch_size is -1: set it from 0"),
    ],
)
def test_images_that_nothing_uses_and_terms_without_images_are_refused(arm, fields, message):
    with pytest.raises(InputError, match=message):
        experiment.check_numbers(config_of(arm, **fields))


@pytest.mark.parametrize(
    ("arm", "fields"),
    [
        ("adversarial", USED),
        ("standard", {"data.unlabelled": "rest", "loss.entropy": 0.1}),
        ("standard", {"data.unlabelled": "rest", "loss.pseudo_labels": 0.1}),
        ("standard", {"loss.entropy": 0.1}),
        ("standard", {"loss.lam_unlabelled": 0.1}),
    ],
)
def test_what_is_used_is_not_refused(arm, fields):
    experiment.check_numbers(config_of(arm, **fields))


def test_devices_that_cannot_share_them_are_refused(tmp_path):
    config = config_of(**USED | {"train.unlabelled_batch_size": 6})
    config.segmenter = small_config("").segmenter
    with pytest.raises(InputError, match="unlabelled_batch_size is 6, which .* over 4 devices;"):
        check(config, Workdir(tmp_path))
