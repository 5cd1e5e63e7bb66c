"""The wheel, installed away from the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={name: x for name, x in os.environ.items() if name != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but the package, as pip installs it, without its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    # From a copy: a build leaves files beside the sources.
    sources = tmp_path_factory.mktemp("sources") / "segadv_jax"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("needs a git checkout, to know which files are the project's")
    for name in filter(None, tracked.stdout.split("\0")):
        source, target = ROOT / name, sources / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_file():
            target.write_bytes(source.read_bytes())
    done = python(*pip, *offline, "--target", str(folder / "lib"), str(sources), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def command(installed, *arguments):
    program = installed / "lib" / "bin" / "segadv_jax"
    return python(str(program), *arguments, cwd=installed, PYTHONPATH=str(installed / "lib"))


def test_modules_configurations_and_split_lists_travel_in_the_wheel(installed):
    package = installed / "lib" / "segadv_jax"

    def modules(folder):
        return {path.relative_to(folder) for path in folder.rglob("*.py")}

    configs = {Path("configs") / name for name in modules(ROOT / "configs")}  # Behind a link.
    assert modules(package) == modules(ROOT / "segadv_jax") | configs
    assert len(list((package / "data" / "stanford_background_splits").glob("*.txt"))) == 9


def test_the_command_says_what_it_can_do(installed):
    done = command(installed, "--help")
    assert done.returncode == 0 and "campaign" in done.stdout, done.stderr


def test_a_configuration_is_found_by_name(installed):
    # Far enough to know that the configuration was read.
    done = command(
        installed, "train", "--config=stanford:standard", "--workdir=w", "--config.seed=-1"
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = "error: config.seed is -1: set it from 0 to below 4294967296"
    assert done.stderr.splitlines()[-1] == said
