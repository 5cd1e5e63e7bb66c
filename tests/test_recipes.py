"""The recipes of CONTRIBUTING.md, carried out to the letter on a copy of the checkout."""

import json
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


# One after the other in one process, which imports what it needs once.
PROGRAM = """
import json, sys
from segadv_jax import cli
for arguments in json.loads(sys.argv[1]):
    try:
        cli.main(["--config=configs/stripes.py", *arguments])
    except SystemExit as end:
        if end.code:
            raise
"""


def program(checkout, *starts):
    """What the copy says when it is started with each of these arguments, on one device."""
    environment = os.environ | {"XLA_FLAGS": ONE_DEVICE, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(starts)],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_each_recipe_is_at_most_one_new_file_and_one_registration():
    paths = [path for path, _ in recipes()]
    new = [path for path in paths if not (ROOT / path).exists()]
    registrations = [code for path, code in recipes() if (ROOT / path).exists()]
    assert len(new) == 5 and len(registrations) == 4
    for code in registrations:
        assert len(re.findall(r"^[A-Z_]+\[", code, re.MULTILINE)) == 1


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
    given = [f"--workdir={workdir}"]
    said = program(
        checkout,
        given,
        [*given, "--config.train.updates=8"],
        [*given, "--mode=evaluate", "--config.evaluate.split=validation"],
    )
    assert re.search(r"resuming \S+ at step 7 of 15", said)
    assert workdir.end().reason == "updates" and workdir.result()["images"] == 3
    assert [row["segmenter_updates"] for row in workdir.history()] == [2, 4, 6, 8]
    result = workdir.evaluation("validation")
    assert result["images"] == 3 and set(result["iou"]) == {"above", "below"}
    assert 0 <= result["accuracy_real"] <= 1
