"""The recipes of CONTRIBUTING.md, carried out to the letter on a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import ONE_DEVICE

from segadv_jax.report import study_definition, study_runs
from segadv_jax.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]


def recipes():
    """[(path, code)] of the code in CONTRIBUTING.md: each block begins with the file it is of."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with the new files and the new lines, and nothing else."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("segadv_jax", "configs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True)
    shutil.copy(ROOT / "main.py", folder)
    for path, code in recipes():
        with open(folder / path, "a") as file:
            file.write(f"\n{code}")
    return folder


def program(checkout, *arguments):
    """Runs main.py of the copy, on one device."""
    environment = os.environ | {"XLA_FLAGS": ONE_DEVICE, "PYTHONPATH": str(checkout)}
    arguments = [sys.executable, "main.py", "--config=configs/stripes.py", *arguments]
    done = subprocess.run(
        arguments,
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_each_recipe_is_one_new_file_and_one_registration():
    paths = [path for path, _ in recipes()]
    new = [path for path in paths if not (ROOT / path).exists()]
    registrations = [code for path, code in recipes() if (ROOT / path).exists()]
    assert len(new) == 6 and len(registrations) == 4
    for code in registrations:
        lines = [x for x in code.splitlines() if x and not x.startswith("from ")]
        assert len(lines) == 1 and re.match(r"[A-Z_]+\[", lines[0])


def test_the_study_can_be_carried_out():
    (code,) = [code for path, code in recipes() if "/studies/" in path]
    names: dict = {}
    exec(code, names)
    study = names["STUDY"]
    study_definition.check("edges", study)
    keys = [key for key, _ in study.tuned()]
    assert len(keys) == 2
    study_runs.check_configs(study, keys, study_runs.Place("W", ()))


def test_training_resuming_and_evaluating_with_them(checkout, tmp_path):
    workdir = Workdir(tmp_path / "run")
    program(checkout, f"--workdir={workdir}")
    assert workdir.end().reason == "updates" and workdir.result()["images"] == 3
    said = program(checkout, f"--workdir={workdir}", "--config.train.updates=8")
    assert re.search(r"resuming \S+ at step 7 of 15", said)
    assert [row["segmenter_updates"] for row in workdir.history()] == [2, 4, 6, 8]
    split = "--config.evaluate.split=validation"
    program(checkout, f"--workdir={workdir}", "--mode=evaluate", split)
    result = workdir.evaluation("validation")
    assert result["images"] == 3 and set(result["iou"]) == {"above", "below"}
    assert 0 <= result["accuracy_real"] <= 1
