"""The evaluation server's archive: names, sizes, palette and classes."""

import functools
import io
import tarfile

import jax
import numpy as np
import pytest
import test_voc_sbd
from PIL import Image

from segadv_jax import cli, experiment, prediction, weights
from segadv_jax.commands.export_voc import FOLDER
from segadv_jax.configs import synthetic, voc_baseline
from segadv_jax.data import voc_sbd
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.report import pictures
from segadv_jax.workdir import Workdir

CLASSES = 21


def export(workdir, out, *more):
    arguments = [f"--workdir={workdir}", f"--out={out}", *more]
    cli.run("segadv_jax.commands.export_voc", "segadv_jax export_voc", arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(config, workdir) of published weights, so to speak, on small archives."""
    folder = tmp_path_factory.mktemp("export")
    config = voc_baseline.get_config()
    config.data.archives = str(test_voc_sbd.write(folder / "archives"))
    config.data.data_dir, config.data.allow_partial = str(folder / "data"), True
    config.segmenter.update({"width": 1 / 32, "context": "none", "padding": "same"})
    config.evaluate.update({"tile": 0, "flip": True})
    setup = experiment.build(config, CLASSES).setup
    params = initialize(setup, 0, (32, 32), CLASSES).params["segmenter"]
    # So that several classes win.
    params["final"]["kernel"] *= 100
    config.init = str(folder / "weights.safetensors")
    weights.save(config.init, params)
    Workdir(folder / "run").record_config(config.to_dict())
    return config, str(folder / "run"), params


def test_archive_holds_the_predictions_as_palette_images(run, tmp_path):
    config, workdir, params = run
    other = tmp_path / FOLDER.format("test") / "of_another_call.png"
    other.parent.mkdir(parents=True)
    other.touch()
    export(workdir, tmp_path, "--split=val")
    split = experiment.load_data(config).read("val")
    segmenter = experiment.build_segmenter(config, CLASSES)
    folder = "results/VOC2012/Segmentation/comp6_val_cls"
    with tarfile.open(tmp_path / "results.tgz") as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    assert set(files) == {f"{folder}/{name}.png" for name in split.ids}
    found = set()
    for name, image in zip(split.ids, split.images, strict=True):
        exported = Image.open(io.BytesIO(files[f"{folder}/{name}.png"]))
        assert exported.mode == "P"
        palette = np.array(exported.getpalette()).reshape(-1, 3)[:CLASSES]
        np.testing.assert_array_equal(palette, voc_sbd.PALETTE)
        pixels = np.array(Image.open(io.BytesIO(image)))
        size = np.array([pixels.shape[:2]], np.int32)
        views = prediction.Views(flip=True)
        predict = functools.partial(prediction.predict, segmenter=segmenter, views=views)
        expected = jax.jit(predict)(params, pixels[None], size)
        classes = np.array(exported)
        assert classes.shape == pixels.shape[:2]
        # JPEG decoders may differ by a step.
        assert np.mean(classes == np.argmax(expected[0], -1)) > 0.98
        found |= set(np.unique(classes))
    assert len(found) > 1
    with pytest.raises(InputError, match="is not empty; name another folder"):
        export(workdir, tmp_path, "--split=val")
    with pytest.raises(InputError, match="config.evaluate.scales"):  # Fields are heard.
        export(workdir, tmp_path / "other", "--split=val", "--config.evaluate.scales=(0.0,)")


def test_the_test_split_has_its_name(run, tmp_path):
    assert FOLDER.format("test") == "results/VOC2012/Segmentation/comp6_test_cls"
    with pytest.raises(InputError, match="has no split 'test'"):
        export(run[1], tmp_path)
    assert not list(tmp_path.iterdir())


def test_pictures_show_images_without_flips(run):
    config, workdir, params = run
    data_set, batch, probabilities = pictures.predict({"a": (config, workdir)}, rows=[0])
    assert config.evaluate.flip and list(batch["id"]) == data_set.read("val").ids[:1]
    segmenter = experiment.build_segmenter(config, CLASSES)
    plain, flipped = (
        prediction.predict(params, batch["image"], batch["size"], segmenter, prediction.Views(flip))
        for flip in (False, True)
    )
    np.testing.assert_allclose(probabilities["a"], plain, atol=1e-5)
    assert np.abs(plain - flipped).max() > 1e-3


def test_what_cannot_be_exported_is_refused(tmp_path):
    workdir = Workdir(tmp_path)
    with pytest.raises(InputError, match="no config.json is there; name a run"):
        export(tmp_path, tmp_path / "out")
    workdir.config_path.write_text("{")
    with pytest.raises(InputError, match="config.json is damaged"):
        export(tmp_path, tmp_path / "out")
    workdir.record_config(synthetic.get_config().to_dict())
    with pytest.raises(InputError, match="is a run on synthetic: the server evaluates"):
        export(tmp_path, tmp_path / "out")
