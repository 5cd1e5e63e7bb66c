"""The Colab demo: stored without results, set up from its checkout or a clone, and run."""

import base64
import importlib.util
import io
import itertools
import json
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from small_runs import ONE_DEVICE, ROOT, SMALL

from segadv_jax import cli, configuration

NOTEBOOK = ROOT / "colab" / "segadv_jax_demo.ipynb"
# The demo with the networks and the data of other small runs. Its length and batches are its own.
ITS_OWN = {"train.updates", "train.batch_size", "train.log_every"}
ITS_OWN |= {"evaluate.every", "evaluate.batch_size"}
FIELDS = {name: value for name, value in SMALL.items() if name not in ITS_OWN}
SMALLER = f"""
for config in arms.values():
    config.segmenter.unlock()
    config.segmenter.levels = 1
    config.update_from_flattened_dict({FIELDS})
    config.data.data_dir = "DATA_DIR"
light = arms["standard"]  # Neither its data nor its weights are needed.
"""
FIGURES = ("scenes", "encodings", "verdicts", "predictions", "curves", "predict")


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def setup_source():
    return next(cell.source for cell in read().cells if cell.id == "setup")


def printed(cell):
    streams = [output for output in cell.outputs if output.output_type == "stream"]
    return "".join(output.text for output in streams if output.name == "stdout")


def pictures(cell):
    """The PNG pictures that a cell shows: list of u8[h,w,3]."""
    data = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [np.array(Image.open(io.BytesIO(base64.b64decode(d))).convert("RGB")) for d in data if d]


def test_stored_without_results():
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    for cell in code:
        assert cell.outputs == [] and cell.execution_count is None, cell.id


def test_without_a_checkout_it_asks_for_the_repository(tmp_path):
    # Isolated and without site-packages: an installed package is not found.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", setup_source()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "set REPOSITORY, in this cell" in done.stderr.splitlines()[-1]


def test_with_a_repository_it_clones_and_installs(tmp_path, monkeypatch):
    commands = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    exec(setup_source().replace('REPOSITORY = ""', 'REPOSITORY = "some address"'), {})
    clone, install = commands
    assert clone[:2] == ["git", "clone"] and clone[-2] == "some address"
    assert install[1:4] == ["-m", "pip", "install"]
    assert install[-1].startswith(str(clone[-1]))
    assert sys.path[0] == str(clone[-1])


def test_runs_from_top_to_bottom(tmp_path, data_dir, monkeypatch):
    # Three devices: no usual batch size is a multiple of that.
    flags = f"{ONE_DEVICE} --xla_force_host_platform_device_count=3"
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # Where the notebook makes its folder.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # The arms share much.
    notebook = read()
    settings = next(cell for cell in notebook.cells if cell.id == "settings")
    assert "UPDATES = 600 " in settings.source
    settings.source = settings.source.replace("UPDATES = 600 ", "UPDATES = 2 ")
    settings.source += SMALLER.replace("DATA_DIR", str(data_dir))
    NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}

    assert all(cell.execution_count for cell in cells.values())
    assert not [o for cell in cells.values() for o in cell.outputs if o.output_type == "error"]
    assert f"using {ROOT}" in printed(cells["setup"])
    assert "3 device(s), 9 images" in printed(cells["settings"])
    for name in FIGURES:
        shown = pictures(cells[name])
        assert len(shown) == (2 if name == "curves" else 1), name
        for picture in shown:
            assert min(picture.shape[:2]) > 120 and picture.shape[1] <= 1600, name
            assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50, name

    # The table repeats what the evaluation wrote.
    (folder,) = tmp_path.glob("segadv_*")
    table = printed(cells["table"])
    assert "One seed proves nothing" in table
    assert "class accuracy  pixel accuracy  mean IoU" in table
    for arm in ("standard", "adversarial"):
        (row,) = [line.split() for line in table.splitlines() if line.startswith(arm)]
        result = json.loads((folder / arm / "eval" / "test.json").read_text(encoding="utf-8"))
        measures = [result[name] for name in ("class_accuracy", "pixel_accuracy", "mean_iou")]
        assert [float(value) for value in row[1:]] == pytest.approx(
            [100 * measure for measure in measures], abs=0.06
        )
    # A label map of the photograph's own size.
    with Image.open(folder / "photographs" / "held_out.png") as photograph:
        with Image.open(folder / "predicted" / "held_out.png") as labels:
            assert labels.mode == "P" and labels.size == photograph.size
    assert sorted(os.listdir(NOTEBOOK.parent)) == [NOTEBOOK.name]  # It leaves nothing behind.


def test_a_sentence_stands_before_each_cell_and_its_commands_exist():
    cells = read().cells
    for before, cell in itertools.pairwise(cells):
        assert "markdown" in (before.cell_type, cell.cell_type), cell.id
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    commands = re.findall(r"^ {4}segadv_jax (\w+)(.*)$", text, re.MULTILINE)
    assert {"check", "train", "predict"} <= {name for name, _ in commands}
    for name, arguments in commands:
        assert name in cli.COMMANDS
        for config in re.findall(r"--config=(\S+)", arguments):
            configuration.load(config)
