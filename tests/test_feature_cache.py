"""What a frozen part computes, kept in a folder: the same runs, and no file of something else."""

import contextlib
import errno

import jax
import numpy as np
import pytest
import small
from frozen_segmenter import MAPS, SIZES, Frozen, data_set, images
from small_runs import small_config

from segadv_jax import experiment, feature_cache
from segadv_jax.augment import Augmentation, augment, is_flipped
from segadv_jax.data.builders import png
from segadv_jax.data.pipeline import Encoded
from segadv_jax.errors import InputError
from segadv_jax.models import SEGMENTERS, EfficientNetLite, MultiScale
from segadv_jax.preparation import prepare
from segadv_jax.train_state import split_frozen
from segadv_jax.workdir import Workdir

FLIPS = Augmentation(flip=True, rotation=0.0, scale=(1.0, 1.0))
SMALL = Frozen(3)
CANVAS = (32, 48)
BATCH = {"batch_size": 4, "canvas": CANVAS, "seed": 3}


def frozen_of(segmenter, seed=0):
    """Random frozen parameters of a segmenter."""
    image, size = small.images([CANVAS], CANVAS)
    return split_frozen(small.parameters(segmenter, image, size, seed=seed), segmenter.frozen)[1]


def keep(folder, split=None, segmenter=SMALL, seed=0, batch_size=4):
    split = images() if split is None else split
    return feature_cache.keep(folder, split, segmenter, frozen_of(segmenter, seed), batch_size)


def files(folder):
    """{name: when it was written} of what is kept."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


@pytest.mark.parametrize("segmenter", [SMALL, EfficientNetLite(3)], ids=["small", "real"])
def test_what_is_kept_is_what_is_computed_of_the_augmented_image(segmenter, tmp_path):
    """At the cells of each image, for images that are mirrored and for those that are not."""
    variables = {"params": frozen_of(segmenter)}
    batch = next(keep(tmp_path, segmenter=segmenter).train_batches(**BATCH))
    keys = jax.random.split(jax.random.key(5), 4)

    @jax.jit
    def show(image, label, size):
        def one(key, image, label, size):
            return augment(key, image, label, size, FLIPS)

        shown, _, _ = jax.vmap(one)(keys, image, label, size)
        flipped = jax.vmap(lambda key: is_flipped(key, FLIPS))(keys)
        return segmenter.apply(variables, shown, size, method="embed"), flipped

    expected, flipped = show(batch["image"], batch["label"], batch["size"])
    assert set(np.asarray(flipped).tolist()) == {True, False}
    assert batch["embedded"].dtype == np.float32
    for row, size in enumerate(batch["size"].tolist()):
        h, w = small.cells(size, segmenter.stride)
        got, want = batch["embedded"][row], np.asarray(expected[row])[:h, :w]
        tolerance = 2e-5 * np.abs(want).max()
        np.testing.assert_allclose(got[int(flipped[row]), :h, :w], want, atol=tolerance)
        assert not np.allclose(got[1 - int(flipped[row]), :h, :w], want, atol=10 * tolerance)
        assert not got[:, h:].any() and not got[:, :, w:].any()


@pytest.mark.parametrize(("process", "processes"), [(0, 1), (0, 2), (1, 2)])
def test_batches_are_those_of_the_split_and_each_row_has_its_own(process, processes, tmp_path):
    split = images()
    which = BATCH | {"start": 1, "stream": 2}
    which |= {"process_index": process, "process_count": processes}
    kept, plain = keep(tmp_path).train_batches(**which), split.train_batches(**which)
    for _ in range(4):  # Two epochs.
        got, want = next(kept), next(plain)
        embedded = got.pop("embedded")
        assert got.keys() == want.keys() and small.equal(got, want)
        assert len(embedded) == len(want["id"]) == 4 // processes
        for row, name in enumerate(want["id"]):
            alone = keep(tmp_path, split.take([split.ids.index(name)]))
            own = next(alone.train_batches(**BATCH | {"batch_size": 1}))["embedded"][0]
            np.testing.assert_array_equal(embedded[row], own)


def test_what_is_there_is_not_computed_again_whatever_part_is_used(tmp_path):
    split = images()
    keep(tmp_path, split.take([0, 2, 5]))
    before = files(tmp_path)
    assert len(before) == 3
    keep(tmp_path, split, batch_size=2)
    assert len(files(tmp_path)) == len(SIZES) and before.items() <= files(tmp_path).items()
    before = files(tmp_path)
    keep(tmp_path, split.take([8, 1]), Frozen(5))  # Other classes, the same frozen part.
    assert files(tmp_path) == before


def test_encoded_images_are_kept_as_well(tmp_path):
    split = images()
    parts = ([png(x) for x in each] for each in (split.images, split.labels))
    encoded = Encoded(split.ids, *parts, split.sizes)
    batches = [next(keep(tmp_path, each).train_batches(**BATCH)) for each in (split, encoded)]
    assert small.equal(*batches)


def test_another_image_or_network_has_a_file_of_its_own(tmp_path):
    """One number that changes in an image, or in the parameters, or in the program."""
    split = images([SIZES[0]])
    keep(tmp_path, split)
    split.images[0] = split.images[0].copy()
    split.images[0][3, 4, 1] ^= 1
    changes = [{}, {"seed": 1}, {"segmenter": Frozen(3, shift=0.5)}]
    for number, change in enumerate(changes, 2):
        keep(tmp_path, split, **change)
        assert len(files(tmp_path)) == number


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_file_is_computed_again(content, tmp_path):
    kept = keep(tmp_path)
    whole = kept.paths[4].read_bytes()
    kept.paths[4].write_bytes(whole[:-1] if content is None else content)
    before = files(tmp_path)
    keep(tmp_path)
    assert kept.paths[4].read_bytes() == whole
    changed = {name for name, written in files(tmp_path).items() if written != before[name]}
    assert changed == {kept.paths[4].name}


def test_what_is_computed_does_not_depend_on_what_is_there(tmp_path, monkeypatch):
    """In its last digits it depends on the canvas: that of all images, whatever is missing."""
    split, canvases = images([(29, 41), (70, 90)]), []
    draw = type(split).eval_batches

    def record(part, *, batch_size, canvas):
        canvases.append(canvas)
        return draw(part, batch_size=batch_size, canvas=canvas)

    monkeypatch.setattr(type(split), "eval_batches", record)
    kept = keep(tmp_path, split)
    kept.paths[0].unlink()
    keep(tmp_path, split)
    assert canvases == [split.canvas()] * 2 and split.take([0]).canvas() != split.canvas()


def test_a_file_that_is_lost_while_training_is_named(tmp_path):
    kept = keep(tmp_path)
    batches = kept.train_batches(**BATCH | {"batch_size": 9})
    next(batches)
    kept.paths[2].unlink()
    with pytest.raises(InputError, match=f"{kept.paths[2].name} is damaged .*; start the run agai"):
        next(batches)


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="config.train.feature_cache=.*file/below is not a fold"):
        keep(tmp_path / "file" / "below")


@pytest.mark.parametrize("reason", [OSError(errno.ENOSPC, "No space left"), OSError("No space l")])
def test_a_full_disk_is_an_input_error_and_leaves_no_half_file(reason, tmp_path, monkeypatch):
    save, written = np.save, []

    def fill(file, maps):
        if len(written) == 3:
            file.write(b"half")
            raise reason
        written.append(file)
        save(file, maps)

    monkeypatch.setattr(np, "save", fill)
    message = f"config.train.feature_cache={tmp_path} cannot be filled .No space l.*: make room"
    with pytest.raises(InputError, match=message):
        keep(tmp_path)
    left = [path.suffix for path in tmp_path.iterdir() if path.name != ".lock"]
    assert left == [".npy"] * 3
    monkeypatch.undo()
    before = files(tmp_path)
    keep(tmp_path)
    assert len(files(tmp_path)) == len(SIZES) and before.items() <= files(tmp_path).items()


def test_what_it_costs_is_said_and_how_far_it_is(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(feature_cache.logging, "info", lambda text, *args: said.append(text % args))
    split = images([(32, 48)] * 41)
    kept = keep(tmp_path, split.take([0]))
    stored = kept.paths[0].stat().st_size - 128  # The header of an array's file.
    said.clear()
    keep(tmp_path, split, batch_size=2)
    assert (
        said[0]
        == f"computing the features of 40 images, {40 * stored / 1e6:.1f} MB, into {tmp_path}"
    )
    assert said[1:] == [f"{done} of 40 images" for done in range(4, 41, 4)]
    keep(tmp_path, split)
    assert len(said) == 11


@pytest.mark.parametrize(
    "drawn",
    [{"crop": 32}, {"rotation": 1.0}, {"scale": (0.9, 1.0)}, {"saturation": 0.1}],
    ids=lambda fields: next(iter(fields)),
)
def test_images_that_are_never_the_same_are_refused(drawn):
    still = {"rotation": 0.0, "scale": (1.0, 1.0)}
    for flip in (True, False):
        feature_cache.check(SMALL, Augmentation(flip=flip, **still))
    feature_cache.check(SMALL, None)
    with pytest.raises(InputError, match="config.train.feature_cache is set, which keeps whole"):
        feature_cache.check(SMALL, Augmentation(**still | drawn))


def test_a_segmenter_with_nothing_to_keep_is_refused():
    class Unable(MultiScale):
        frozen = ("network",)

    message = "config.train.feature_cache is set, but {}.*: leave it empty"
    for segmenter in (small.segmenter(), EfficientNetLite(3, freeze="none")):
        with pytest.raises(InputError, match=message.format("no part of this segmenter is frozen")):
            feature_cache.check(segmenter, None)
    with pytest.raises(InputError, match=message.format("this segmenter has no frozen part")):
        feature_cache.check(Unable(3), None)


@pytest.fixture
def in_memory(monkeypatch):
    """The small segmenter and images of odd sizes, by name."""
    monkeypatch.setitem(SEGMENTERS, "frozen", Frozen)
    monkeypatch.setattr(experiment, "load_data", lambda config: data_set())


FIELDS = {
    "data.train": "train",
    "data.validation": "validation",
    "data.test": "test",
    "train.crop": 0,
    "train.rotation": 0.0,
    "train.scale": (1.0, 1.0),
    "optimizer.segmenter.learning_rate": 0.5,
}


def config_of(folder="", **fields):
    config = small_config("", "adversarial", **FIELDS | fields)
    config.segmenter = {"name": "frozen", "shift": 0.0}
    config.adversary.image_branch = "features"
    config.train.feature_cache = str(folder)
    return config


@contextlib.contextmanager
def prepared(config, folder):
    """(A run at its start, its state); the frozen part is drawn by the seed."""
    with contextlib.ExitStack() as stack:
        workdir = Workdir(folder)
        workdir.make()
        yield prepare(config, workdir, stack)


def losses(config, folder, steps=6):
    """The metrics of a run's first steps, and its state after them."""
    found = []
    with prepared(config, folder) as (run, state):
        for step in range(run.start, steps):
            batch, key, updates = run.next_inputs(step)
            turn = run.experiment.alternation.turn(step)
            state, metrics = run.train_step(state, batch, key, turn, updates)
            found.append({name: float(value) for name, value in metrics.items()})
            if step == 2:
                run.checkpoints.save(state, 3)
                run.checkpoints.wait()
        return found, jax.device_get((state.params, state.frozen)), batch


def test_a_run_with_the_cache_is_the_run_without(in_memory, tmp_path):
    """On four devices, against an adversary that sees the features."""
    want, state, _ = losses(config_of(), tmp_path / "without")
    got, kept_state, batch = losses(config_of(tmp_path / "cache"), tmp_path / "with")
    assert batch["embedded"].shape == (4, 1, 2, 8, 12, MAPS)
    assert len(got) == 6 and want[0]["mce"] - want[-1]["mce"] > 0.01
    for ours, theirs in zip(got, want, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    small.assert_close(kept_state[0], state[0])
    # And resumed at its middle it goes on where it was.
    again, resumed_state, _ = losses(config_of(tmp_path / "cache"), tmp_path / "with")
    assert again == got[3:] and small.equal(resumed_state, kept_state)
