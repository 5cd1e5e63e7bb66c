"""The evaluation server's archive: names, sizes, palette and classes."""

import io
import json
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest
import test_voc_sbd
from PIL import Image

from configs import synthetic as synthetic_config
from configs import voc_baseline
from segadv_jax import experiment, prediction, weights
from segadv_jax.data import pipeline, voc_sbd
from segadv_jax.errors import InputError
from tools import export_voc_test

CLASSES = 21


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(config, workdir) of published weights, so to speak, on small archives."""
    folder = tmp_path_factory.mktemp("export")
    config = voc_baseline.get_config()
    config.data.archives = str(test_voc_sbd.write(folder / "archives"))
    config.data.data_dir, config.data.allow_partial = str(folder / "data"), True
    config.segmenter.update({"width": 1 / 32, "context": "none", "padding": "same"})
    config.evaluate.update({"tile": 0, "flip": True})
    parts = experiment.build(config, CLASSES)
    params = experiment.initialize(parts, 0, (32, 32), CLASSES).params["segmenter"]
    # So that several classes win.
    params["final"]["kernel"] *= 100
    config.init = str(folder / "weights.safetensors")
    weights.save(config.init, params)
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps(config.to_dict()))
    return config, str(folder / "run"), params


def test_archive_holds_the_predictions_as_palette_images(run, tmp_path):
    config, workdir, params = run
    export_voc_test.main([f"--workdir={workdir}", f"--out={tmp_path}", "--split=val"])
    data_set = experiment.load_data(config)
    split = pipeline.read_split(data_set.builder, "val")
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
        expected = prediction.predict(params, jnp.asarray(pixels[None]), size, segmenter, True)
        classes = np.array(exported)
        assert classes.shape == pixels.shape[:2]
        # JPEG decoders may differ by a step.
        assert np.mean(classes == np.argmax(expected[0], -1)) > 0.98
        found |= set(np.unique(classes))
    assert len(found) > 1
    with pytest.raises(InputError, match="is not empty; name another folder"):
        export_voc_test.main([f"--workdir={workdir}", f"--out={tmp_path}", "--split=val"])


def test_the_test_split_has_its_name(run):
    assert export_voc_test.FOLDER.format("test") == ("results/VOC2012/Segmentation/comp6_test_cls")
    config, workdir, _ = run
    with pytest.raises(InputError, match="has no split 'test'"):
        export_voc_test.export(config, workdir, "test", workdir + "/out")


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(InputError, match="no config.json is there; name a run"):
        export_voc_test.main([f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is damaged"):
        export_voc_test.main([f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"])
    (tmp_path / "config.json").write_text(json.dumps(synthetic_config.get_config().to_dict()))
    with pytest.raises(InputError, match="is a run on synthetic: the server evaluates"):
        export_voc_test.main([f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"])
