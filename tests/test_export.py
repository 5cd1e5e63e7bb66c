"""Exported networks, loaded by the examples of docs/export.md where this package is absent."""

import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from PIL import Image
from small import segmenter_parameters
from small_runs import ROOT, small_config
from test_imports import BLOCKER

from segadv_jax import cli, experiment, predictor
from segadv_jax.errors import InputError
from segadv_jax.export import onnx, static
from segadv_jax.prediction import Views

NAMES = ("sky", "grass", "cow")
SHAPE = (24, 36)
BLOCKED = ("segadv_jax", "flax", "tensorflow")
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("jax2onnx", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs jax2onnx and onnxruntime")


def export(*arguments):
    command = "segadv_jax.commands.export"
    return cli.run(command, "segadv_jax export", [*map(str, arguments)])


def examples():
    """The Python programs of the page, by the format that they load."""
    page = Path(ROOT, "docs", "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^## (\w+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", page, re.M | re.S)
    return {name.lower(): program for name, program in blocks}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """(predictor, path of its weights): a tiny network that looks at several views."""
    config = small_config("", "standard")
    config.evaluate.update({"flip": True, "scales": (0.5,), "tile": 0})
    segmenter = experiment.build_segmenter(config, len(NAMES))
    params = jax.tree.map(np.array, segmenter_parameters(segmenter))
    # So that each class wins somewhere.
    params["classifier"]["kernel"] *= 10
    params["classifier"]["bias"] = np.array([8.6, 4.3, 0], np.float32)
    palette, views = (
        np.arange(9, dtype=np.uint8).reshape(3, 3),
        Views(True, (0.5,), (0, 0.5, 0)),
    )
    trained = predictor.Predictor(NAMES, palette, segmenter, params, 7, views, config)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    predictor.save_weights(trained, path)
    return trained, path


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """A folder with a photograph, all formats, and what the examples printed and wrote there."""
    folder = tmp_path_factory.mktemp("export")
    noise = np.random.RandomState(0).randint(0, 256, (6, 9, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((50, 40)).save(folder / "photograph.jpg")
    formats = ["stablehlo", "safetensors", *["onnx"] * HAS_ONNX]
    size = [f"--height={SHAPE[0]}", f"--width={SHAPE[1]}"]
    options = [f"--weights={weights[1]}", f"--out={folder / 'exported'}", *size]
    assert export(*options, f"--formats={','.join(formats)}") == 0
    programs = [BLOCKER.format(blocked=BLOCKED, modules=())]
    programs += [examples()[name] for name in formats]
    done = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(programs)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def expected(trained, folder):
    """(The photograph as the programs take it, its probabilities by this package)."""
    photograph = np.asarray(Image.open(folder / "photograph.jpg").resize(SHAPE[::-1]))[None]
    return photograph, trained.predict(photograph, np.array([SHAPE]))


@pytest.mark.parametrize("name", ["stablehlo", pytest.param("onnx", marks=needs_onnx)])
def test_a_program_predicts_the_same_without_this_package(name, weights, exported):
    label_map = np.asarray(Image.open(exported / f"{name}.png"))
    want = expected(weights[0], exported)[1][0].argmax(-1)
    assert len(np.unique(want)) == len(NAMES)
    assert np.mean(label_map == want) > 0.995  # Rounding may decide where two classes are equal.


def test_a_program_is_for_every_platform_and_any_number_of_photographs(weights, exported):
    path = exported / "exported" / "model.stablehlo"
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    photograph, want = expected(weights[0], exported)
    got = program.call(photograph.repeat(3, 0))
    np.testing.assert_allclose(got, want.repeat(3, 0), atol=1e-5)


def test_weights_say_what_they_are(weights, exported):
    printed = (exported / "printed.txt").read_text()
    assert "network: multiscale of step 7" in printed and "classes: sky, grass, cow" in printed
    assert re.search(r"^classifier/kernel \(8, 3\)$", printed, re.M)
    again = predictor.from_weights(exported / "exported" / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, again.params, weights[0].params)


def test_the_description_names_classes_and_size(exported):
    about = json.loads((exported / "exported" / "model.json").read_text())
    assert about["classes"] == [*NAMES] and about["palette"][1] == [3, 4, 5]
    assert about["input"]["shape"] == ["n", *SHAPE, 3]
    assert about["output"]["shape"] == ["n", *SHAPE, 3] and about["step"] == 7
    files = {path.name for path in (exported / "exported").iterdir()}
    assert files == {"model.json", *about["files"].values()}


def test_examples_have_ten_lines():
    assert examples().keys() == {"stablehlo", "onnx", "safetensors"}
    for program in examples().values():
        lines = [line for line in program.splitlines() if not line.startswith(("import", "from"))]
        assert len(lines) <= 10


def test_a_simplified_function_is_the_same_function():
    def function(x):
        known = jnp.cumsum(jnp.arange(4.0))
        y = lax.platform_dependent(x, cpu=lambda x: -x, default=lambda x: x * known[:, None])
        y = jnp.pad(y, [(1, 0), (2, 3)], constant_values=5.0)
        y = lax.pad(y, 0.0, [(-1, 2, 0), (0, -1, 0)])
        y = jax.vmap(lambda row, i: row[i])(y[None], jnp.array([[5, 0, 0, 3]]))[0]
        return y[:, jnp.array([3, 1, 1])]

    x = np.random.RandomState(0).normal(size=(4, 6)).astype(np.float32)
    padded = np.pad(x * [[0], [1], [3], [6]], [(0, 2), (2, 2)], constant_values=5)
    padded[4:] = 0
    simple = static.simplified(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    np.testing.assert_allclose(simple(x), padded[[5, 0, 0, 3]][:, [3, 1, 1]], rtol=1e-6)
    traced = jax.make_jaxpr(simple)(x)
    names = {equation.primitive.name for equation in traced.jaxpr.eqns}
    assert not names & {"cond", "platform_index", "pad", "cumsum", "jit"}


def test_what_cannot_be_converted_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", types.ModuleType("jax2onnx"))
    message = r"cannot be written as ONNX \(NotImplementedError: a gather .*; leave onnx out"
    with pytest.raises(InputError, match=message):
        onnx.to_onnx(lambda photograph: photograph[np.arange(9), np.arange(9)], SHAPE)


def test_where_a_format_fails_the_folder_stays_empty(weights, tmp_path, monkeypatch):
    def fail(*_):
        raise InputError("cannot be written; leave onnx out of --formats")

    def nothing(*_):
        return b""

    monkeypatch.setattr(onnx, "check_installed", lambda: None)
    module = importlib.import_module("segadv_jax.commands.export")
    monkeypatch.setitem(module._CONVERTERS, "stablehlo", (nothing, lambda *_: None))
    options = [f"--weights={weights[1]}", "--height=24", "--width=36", f"--out={tmp_path / 'out'}"]
    for where in ((fail, None), (nothing, fail)):  # As it is converted, or run.
        monkeypatch.setitem(module._CONVERTERS, "onnx", where)
        with pytest.raises(InputError, match="leave onnx out"):
            export(*options, "--formats=stablehlo,safetensors,onnx")
        assert not list((tmp_path / "out").iterdir())


def test_a_model_that_cannot_be_run_is_said(monkeypatch):
    found = types.ModuleType("onnxruntime")
    found.InferenceSession = lambda *_, **__: 1 / 0
    monkeypatch.setitem(sys.modules, "onnxruntime", found)
    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(InputError, match=r"cannot run this network \(ZeroDivisionError: .*leave"):
        onnx.run_onnx(b"", np.zeros((1, *SHAPE, 3), np.uint8))


def test_a_wrong_difference_fails(weights, tmp_path, monkeypatch, capsys):
    def wrong(*_):
        return np.full((2, *SHAPE, 3), np.nan, np.float32)

    monkeypatch.setattr(onnx, "check_installed", lambda: None)
    module = importlib.import_module("segadv_jax.commands.export")
    monkeypatch.setitem(module._CONVERTERS, "onnx", (lambda *_: b"", wrong))
    options = [f"--weights={weights[1]}", "--height=24", "--width=36", "--formats=onnx"]
    assert export(*options, f"--out={tmp_path / 'out'}") == 1
    assert "do not use that file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--formats=tflite"], "'tflite' is no format; known: stablehlo, onnx, safetensors"),
        (["--height=24"], "--height and --width belong together"),
        ([], "photographs of any size: give --height and --width"),
        (["--height=0", "--width=24"], "--height=0: set it from 16 to 8192 pixels"),
        (["--height=24", "--width=x"], "argument --width: invalid int value"),
        (["--checkpoint=latest"], "--checkpoint=latest is of a run, but"),
    ],
)
def test_what_is_wrong_is_said(options, message, weights, tmp_path):
    with pytest.raises(InputError, match=re.escape(message)):
        export(f"--weights={weights[1]}", f"--out={tmp_path / 'out'}", *options)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_said(weights, tmp_path, monkeypatch):
    options = [f"--weights={weights[1]}", "--height=24", "--width=36"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not empty; name another folder"):
        export(*options, f"--out={tmp_path}")
    with pytest.raises(InputError, match="is not a folder that can be written"):
        export(*options, f"--out={tmp_path / 'file'}")
    out = f"--out={tmp_path / 'out'}"
    with pytest.raises(InputError, match="none.safetensors"):
        export(f"--weights={tmp_path / 'none.safetensors'}", out)
    with pytest.raises(InputError, match="name the run, --workdir=W, or weights"):
        export(out)
    with pytest.raises(InputError, match="name a run"):
        export(f"--workdir={tmp_path}", out)
    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="onnx needs jax2onnx: pip install"):
        export(*options, out, "--formats=onnx")


def test_without_a_size_it_is_that_of_the_run():
    module = importlib.import_module("segadv_jax.commands.export")
    options = type("Options", (), {"height": None, "width": None})
    assert module._shape(options, 512) == (384, 512)
