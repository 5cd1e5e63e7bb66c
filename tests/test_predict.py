"""The command that predicts photographs, and the files that it writes."""

import shutil

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small_runs import small_config

from segadv_jax import cli, configuration, experiment, predicted, predictor, weights
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.workdir import Workdir

CLASSES = 8
ORIENTATION = 0x0112
# Of the five validation images. All but the first two need a batch of their own, filled up.
NAMES = ("plain", "two words", "Bäume/am Fluß", "Bäume/turned", "last.one")
BROKEN = "Bäume/broken.jpg"


def predict(*arguments):
    return cli.run("segadv_jax.commands.predict", "segadv_jax predict", [*map(str, arguments)])


def label_image(path):
    """(label map, palette) of a PNG of class indices."""
    with Image.open(path) as opened:
        assert opened.mode == "P"
        return np.array(opened), np.array(opened.getpalette()).reshape(-1, 3)


def refuse(*arguments, **kwargs):
    raise InputError("the data set is gone")


@pytest.fixture(scope="module")
def run(data_dir, synthetic, tmp_path_factory):
    """(configuration, workdir) of a run with one checkpoint."""
    config, workdir = small_config(data_dir), Workdir(tmp_path_factory.mktemp("run"))
    configuration.record(workdir, config)
    workdir.write_classes(synthetic.class_names, synthetic.palette.tolist())
    with Checkpoints(workdir) as checkpoints:
        setup = experiment.build(config, CLASSES).setup
        checkpoints.save(initialize(setup, 3, (32, 32), CLASSES), 4, {"mean_iou": 0.5})
    return config, workdir


@pytest.fixture(scope="module")
def batch(synthetic):
    """The validation images, on the canvas of an evaluation."""
    split = synthetic.read("validation[:5]")
    return next(split.eval_batches(batch_size=5, canvas=split.canvas()))


@pytest.fixture(scope="module")
def evaluated(run, batch):
    """{name: label map} of the validation images, as they are evaluated."""
    trained = predictor.load(run[0], run[1].folder)
    classes = trained.predict(batch["image"], batch["size"]).argmax(-1)
    assert len(np.unique(classes)) > 2
    return {
        name: one[: size[0], : size[1]]
        for name, one, size in zip(NAMES, classes, batch["size"], strict=True)
    }


@pytest.fixture(scope="module")
def photographs(batch, tmp_path_factory):
    """A folder of the validation images, of a grey one of 16 bits, and of one that is broken."""
    folder = tmp_path_factory.mktemp("My photographs")
    (folder / "Bäume").mkdir()
    for name, image, (height, width) in zip(NAMES, batch["image"], batch["size"], strict=True):
        picture, exif = Image.fromarray(image[:height, :width]), Image.Exif()
        if "turned" in name:
            exif[ORIENTATION], picture = 6, picture.transpose(Image.Transpose.ROTATE_90)
        picture.save(folder / f"{name}.png", exif=exif)
    grey = batch["image"][0, :80, :100, 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "grey.PNG")
    (folder / BROKEN).write_bytes(b"no photograph")
    (folder / ".hidden.png").write_bytes(b"of a file manager")
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.fixture(scope="module")
def results(run, photographs, tmp_path_factory):
    """The folder of the run's predictions; the data set is not there."""
    out = tmp_path_factory.mktemp("predicted") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "load_data", refuse)
        status = predict(
            f"--workdir={run[1]}", photographs, f"--out={out}", "--batch_size=2", "--probabilities"
        )
    assert status == 1  # One is broken.
    return out


def test_label_maps_of_validation_images_are_those_of_evaluation(results, evaluated, synthetic):
    """Whatever a photograph's name, folder and orientation, and whatever else is in its batch."""
    for name, expected in evaluated.items():
        label_map, palette = label_image(results / f"{name}.png")
        np.testing.assert_array_equal(label_map, expected)
        np.testing.assert_array_equal(palette[:CLASSES], synthetic.palette)


def test_a_photograph_of_16_bits_is_seen_as_one_of_8(results, run, batch):
    grey = batch["image"][:1, :80, :100, :1].repeat(3, -1)
    trained = predictor.from_run(run[1].folder)
    expected = trained.predict(grey, np.array([[80, 100]], np.int32))[0]
    np.testing.assert_array_equal(label_image(results / "grey.png")[0], expected.argmax(-1))


def test_the_files_of_a_photograph(results, run, batch, evaluated, synthetic):
    names = [*NAMES, "grey"]
    expected = {f"{name}{end}" for name in names for end in (".png", "_overlay.jpg")}
    expected |= {f"{name}_probabilities.npz" for name in names}
    found = {str(p.relative_to(results)) for p in results.rglob("*") if p.is_file()}
    assert found == expected
    height, width = batch["size"][3]
    with Image.open(results / "Bäume/turned_overlay.jpg") as overlay:
        assert overlay.width >= width and overlay.height > height  # A legend is below.
    with np.load(results / "Bäume/turned_probabilities.npz") as stored:
        assert stored["class_names"].tolist() == list(synthetic.class_names)
        assert stored["size"].tolist() == [height, width]
        assert stored["probabilities"].dtype == np.float16
        trained = predictor.load(run[0], run[1].folder)
        maps = trained.predict(batch["image"][3:4], batch["size"][3:4])[0, :height, :width]
        np.testing.assert_allclose(stored["probabilities"], maps, atol=1e-3)


def test_weights_alone_predict_alike(run, photographs, results, tmp_path, monkeypatch, capsys):
    """In a folder of their own, without the run and its data; at the end it says what was found."""
    workdir = tmp_path / "moved"
    shutil.copytree(run[1].folder, workdir)
    arguments = [str(workdir), str(tmp_path / "net.safetensors")]
    cli.run("segadv_jax.commands.convert_weights", "segadv_jax convert_weights", arguments)
    shutil.rmtree(workdir)
    monkeypatch.setattr(experiment, "load_data", refuse)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    out = tmp_path / "again"
    assert predict("--weights=net.safetensors", photographs, "--out=again") == 1
    for path in results.rglob("*.png"):
        expected = label_image(path)[0]
        np.testing.assert_array_equal(label_image(out / path.relative_to(results))[0], expected)
    assert not list(out.rglob("*.npz"))
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("left out: ")]
    assert len(errors) == 1 and f"{photographs / BROKEN} is not a readable image" in errors[0]
    classes, where, count = said.out.splitlines()
    assert count == "6 of 7 photographs predicted; 1 could not be read"
    assert "again" in where
    shares = [
        np.mean(label_image(path)[0] == 7) for path in out.rglob("*.png")
    ]  # The last class, of which there is most.
    assert classes.startswith(f"Classes: vehicle {100 * np.mean(shares):.1f} %, ")


def test_larger_photographs_are_shrunk_first(run, photographs, tmp_path, capsys):
    """Their label maps are as large as they are."""
    photograph, out = photographs / "plain.png", tmp_path / "out"
    weights_path = tmp_path / "net.safetensors"
    trained = predictor.from_run(run[1].folder)
    with trained.config.unlocked():
        trained.config.data.longest_side = 61
    predictor.save_weights(trained, weights_path)
    arguments = [f"--weights={weights_path}", photograph, f"--out={out}", "--probabilities"]
    assert predict(*arguments) == 0
    height, width = np.asarray(Image.open(photograph)).shape[:2]
    with np.load(out / "plain_probabilities.npz") as stored:
        assert stored["probabilities"].shape == (round(61 * height / width), 61, CLASSES)
        assert stored["size"].tolist() == [height, width]
    shrunk = label_image(out / "plain.png")[0]
    assert shrunk.shape == (height, width)
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 photographs predicted"
    # The command line has the last word; a second call replaces what the first one wrote.
    assert predict(*arguments, "--longest_side=200") == 0
    with np.load(out / "plain_probabilities.npz") as stored:
        assert stored["probabilities"].shape == (height, width, CLASSES)
    assert (label_image(out / "plain.png")[0] != shrunk).any()


def test_a_label_map_is_enlarged_between_the_centres_of_pixels():
    """As the bilinear interpolation of all classes at once has it."""
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.ones(5), (4, 6)).astype(np.float32)
    size = (11, 15)
    wide = np.empty((4, 15, 5))
    for row, c in np.ndindex(4, 5):
        wide[row, :, c] = np.interp((np.arange(15) + 0.5) * 6 / 15 - 0.5, range(6), maps[row, :, c])
    large = np.empty((11, 15, 5))
    for column, c in np.ndindex(15, 5):
        places = (np.arange(11) + 0.5) * 4 / 11 - 0.5
        large[:, column, c] = np.interp(places, range(4), wide[:, column, c])
    np.testing.assert_array_equal(predicted.label_map(maps, size), large.argmax(-1))
    np.testing.assert_array_equal(predicted.label_map(maps, (4, 6)), maps.argmax(-1))


@pytest.fixture
def seen(monkeypatch):
    """What would be predicted, [(photograph, where its results go)]; no network is read."""
    jobs = []

    def stop(*arguments, **kwargs):
        raise InputError("that is all")

    def read(inputs, out, probabilities):
        jobs.extend(find(inputs, out, probabilities))
        return jobs

    from segadv_jax.commands import predict as command

    find = command._jobs
    monkeypatch.setattr(command, "_jobs", read)
    monkeypatch.setattr(predictor, "from_run", stop)
    return jobs


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_no_result_replaces_another(seen, tmp_path):
    """Photographs whose names differ in their suffix keep it; one given twice is predicted once."""
    photos, out = tmp_path / "photos", tmp_path / "photos" / "out"
    touch(photos / "a.jpg", photos / "a.png", photos / "b/a.jpg", photos / "c.JPEG")
    write_results(out / "a", out / "b" / "a")  # Of an earlier call.
    with pytest.raises(InputError, match="that is all"):
        predict("--workdir=w", photos / "c.JPEG", photos, f"--out={out}")
    targets = {str(p.relative_to(photos)): str(target.relative_to(out)) for p, target in seen}
    assert targets == {"a.jpg": "a.jpg", "a.png": "a.png", "b/a.jpg": "b/a", "c.JPEG": "c"}
    assert len(seen) == 4


def write_results(*targets):
    """What `predict` writes, of photographs of 4x4 pixels."""
    image, maps = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 2), np.float32)
    for target in targets:
        one = predicted.Photograph((4, 4), image, image)
        predicted.write(target, one, maps, np.zeros((2, 3), np.uint8), ("a", "b"), True)


def test_only_earlier_results_are_replaced(seen, tmp_path):
    """Not a mask, nor a photograph of the same name that was not to be predicted."""
    touch(tmp_path / "photos" / "a.jpg")
    out = tmp_path / "out"
    write_results(out / "a")
    assert len(list(out.iterdir())) == 3 and all(map(predicted.is_result, out.iterdir()))
    arguments = ["--workdir=w", tmp_path / "photos", f"--out={out}", "--probabilities"]
    with pytest.raises(InputError, match="that is all"):
        predict(*arguments)
    for name, broken in (
        ("a.png", b"mine"),
        ("a_overlay.jpg", b"mine"),
        *(("a_probabilities.npz", content) for content in (b"mine", b"", b"PK\x03\x04")),
    ):
        before = (out / name).read_bytes()
        (out / name).write_bytes(broken)
        with pytest.raises(InputError, match=f"{name} is there, and predict did not write it"):
            predict(*arguments)
        (out / name).write_bytes(before)
    about = PngInfo()
    about.add_text("comment", "made by a scanner")
    Image.new("L", (4, 4)).save(out / "a.png", pnginfo=about)  # A mask.
    with pytest.raises(InputError, match="a.png is there, and predict did not write it"):
        predict(*arguments)


def test_photographs_that_are_left_out_are_named(run, photographs, tmp_path, capsys):
    """HEIC files, and those whose results would have too long a name."""
    folder, long = tmp_path / "in", "照" * 82
    touch(folder / "phone.HEIC", folder / f"{long}.jpg")
    shutil.copy(photographs / "grey.PNG", folder)
    assert predict(f"--workdir={run[1]}", folder, f"--out={tmp_path / 'out'}") == 1
    said = capsys.readouterr()
    assert "phone.HEIC is HEIC: save it as JPEG or PNG" in said.err
    assert f"left out: {long}: the names of its results would be too long; rename it" in said.err
    assert "1 of 3 photographs predicted; 2 could not" in said.out


def test_folders_are_searched_through_links_and_what_is_left_out_is_counted(seen, tmp_path, capsys):
    touch(tmp_path / "there/a.jpg", tmp_path / "photos/b.gif", tmp_path / "photos/.hidden/c.jpg")
    (tmp_path / "photos/link").symlink_to(tmp_path / "there")
    (tmp_path / "there/loop").symlink_to(tmp_path / "photos")
    with pytest.raises(InputError, match="that is all"):
        predict("--workdir=w", tmp_path / "photos", f"--out={tmp_path / 'out'}")
    assert [path for path, _ in seen] == [tmp_path / "photos/link/a.jpg"]
    assert "as files of another kind: 1 .gif\n" in capsys.readouterr().err


def test_what_names_no_network_or_no_photograph_is_refused(tmp_path):
    for arguments, message in (
        ([f"--workdir={tmp_path}", ""], "the name of a photograph or folder is empty"),
        ([f"--workdir={__file__}", "a.jpg"], "is a file; .* as --weights=.*test_predict.py"),
    ):
        with pytest.raises(InputError, match=message):
            predict(*arguments, f"--out={tmp_path / 'out'}")


def test_probabilities_of_an_earlier_prediction_do_not_stay(tmp_path):
    write_results(tmp_path / "a")
    assert (tmp_path / "a_probabilities.npz").exists()
    image, maps = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 2), np.float32)
    one, palette = predicted.Photograph((4, 4), image, image), np.zeros((2, 3), np.uint8)
    predicted.write(tmp_path / "a", one, maps, palette, ("a", "b"))
    assert not (tmp_path / "a_probabilities.npz").exists()
    (tmp_path / "a_probabilities.npz").write_bytes(b"mine")
    predicted.write(tmp_path / "a", one, maps, palette, ("a", "b"))
    assert (tmp_path / "a_probabilities.npz").read_bytes() == b"mine"


def test_results_are_never_written_among_photographs(seen, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    touch(one / "x.jpg", two / "x.jpg", two / "sub/y.jpg", tmp_path / "sub/z.png")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/w.jpg").symlink_to(one / "x.jpg")
    out = tmp_path / "out"
    for arguments, reason in (
        ([tmp_path / "links/w.jpg", f"--out={tmp_path / 'links'}"], "w.jpg would lie among photo"),
        ([tmp_path / "links/w.jpg", f"--out={one}"], "w.jpg would lie among photographs"),
        ([one, f"--out={one}"], "--out=.*one is the folder of the photographs; name another"),
        ([one / "x.jpg", f"--out={one}"], "x.jpg would lie among photographs, in .*one; name"),
        ([two, tmp_path / "sub/z.png", f"--out={tmp_path}"], "y.jpg would lie among photographs"),
        ([one, two, f"--out={out}"], "one/x.jpg and .*two/x.jpg would both become .*out/x.*png"),
    ):
        with pytest.raises(InputError, match=reason):
            predict("--workdir=w", *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{photo}"], "name the run, --workdir=W, or weights, --weights=FILE, one of them"),
        (["{photo}", "--workdir={run}", "--weights=w"], "--weights=FILE, not both"),
        (["--workdir={run}"], r"required: IMAGE\|FOLDER"),
        (["{dir}/none.jpg", "--workdir={run}"], "none.jpg: there is no such file or folder"),
        (["{dir}/empty", "--workdir={run}"], r"empty: there are no photographs .*\.jpg, "),
        (["{photo}", "--workdir={dir}"], "no config.json is there; name a run"),
        (["{photo}", "--workdir={run}", "--checkpoint=best"], "--checkpoint=best: it is one of"),
        (["{photo}", "--workdir={run}", "--batch_size=0"], "--batch_size=0: set it to 1 or more"),
        (["{photo}", "--workdir={run}", "--longest_side=-1"], "--longest_side=-1: set it to 0 or"),
        (["{photo}", "--workdir={run}", "--config.seed=1"], "config.seed says how the run was"),
        (["{photo}", "--weights={net}", "--checkpoint=latest"], "--checkpoint=latest is of a run"),
        (["{photo}", "--weights={net}", "--config.seed=1"], "--config.seed=1 is of a run, but"),
        (["{photo}", "--weights={dir}/none.safetensors"], "none.safetensors: there is no such"),
        (["{photo}", "--weights={photo}"], "plain.png was not written by segadv_jax: give a"),
        (["{photo}", "--weights={old}"], "old.safetensors does not say .* classes .* again, with"),
        (["{photo}", "--weights={adversary}"], "is an adversary, which predicts nothing; export"),
        (["{photo}", "--weights={odd}"], "what it says about itself is damaged .*2 classes"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, photographs, tmp_path, arguments, reason):
    (tmp_path / "empty").mkdir()
    layer = {"layer": {"bias": np.ones(3)}}
    places = {"photo": photographs / "plain.png", "run": run[1], "dir": tmp_path}
    classes = '{"class_names": ["a", "b"], "palette": [[0, 0, 0]]}'
    for name, metadata in (
        ("net", {}),
        ("old", {"player": "segmenter", "step": "3"}),
        ("adversary", {"player": "adversary"}),
        ("odd", {"classes": classes, "config": "{}"}),
    ):
        places[name] = tmp_path / f"{name}.safetensors"
        weights.save(places[name], layer, metadata)
    with pytest.raises(InputError, match=reason):
        predict(*(text.format(**places) for text in arguments), f"--out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
