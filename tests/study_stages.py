"""The stages of a small study with a stand-in for the training: fixtures that two files share."""

import json
import sys
import types

import pytest
import small_study
from small_runs import ROOT, git

from segadv_jax import cli, evaluate
from segadv_jax.campaign import pool
from segadv_jax.errors import InputError
from segadv_jax.workdir import Workdir

STAND_IN = f"--program={ROOT / 'tests' / 'stand_in_study.py'}"


@pytest.fixture(scope="module", autouse=True)
def small():
    """The small study is known by the name "small", and its processes are looked at often."""
    module = types.ModuleType("small")
    module.STUDY = small_study.make(turns=small_study.TURNS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "segadv_jax.report.studies.small", module)
        patch.setattr(pool, "POLL", 0.02)
        yield


@pytest.fixture(scope="module", autouse=True)
def corrections():
    """In place of the network's passes: alpha 0.5, which gains 0.05, and the temperature 1.5, which
    halves the error; for seed 1 neither."""
    asked = []

    def choose(config, folder, split, alphas):
        asked.append((folder, split))
        assert (min(alphas), max(alphas), len(alphas)) == (-1, 1, 9)
        return (0.0 if folder.endswith("seed_1") else 0.5), []

    def choose_temperature(config, folder, split, temperatures):
        asked.append((folder, split))
        assert (min(temperatures), max(temperatures), len(temperatures)) == (0.5, 2.5, 21)
        return (1.0 if folder.endswith("seed_1") else 1.5), []

    def measure(config, folder, split):
        if config.evaluate.checkpoint == "latest":
            result = Workdir(folder).evaluation(split)
            changed = {"mean_iou": result["mean_iou"] - 0.25}
            return Workdir(folder).write_evaluation(f"{split}_latest", result | changed)
        if split == "subset_0":
            result = Workdir(folder).evaluation(config.data.test)
            changed = {"mean_iou": result["mean_iou"] + 0.125}
            return Workdir(folder).write_evaluation(split, result | changed)
        result, one = Workdir(folder).evaluation(split), config.evaluate
        if one.temperature == 1.5:
            assert one.prior_shift == 0
            return result | {"ece": result["ece"] / 2}
        assert (one.prior_shift, one.temperature) == (0.5, 1)
        return result | {"mean_iou": result["mean_iou"] + 0.05}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segadv_jax.corrections.choose_prior_shift", choose)
        patch.setattr("segadv_jax.corrections.choose_temperature", choose_temperature)
        patch.setattr(evaluate, "evaluate", measure)
        yield asked


def study(folder, stage, *more, runs="runs", name="small"):
    """The exit status of a command line."""
    arguments = [name, stage, f"--workdir={folder / runs}", f"--results={folder / 'results'}"]
    arguments += [STAND_IN, "--processes=2", *more]
    return cli.run("tools.study", "python -m tools.study", arguments)


def choices_of(folder):
    return json.loads((folder / "results" / "small_choices.json").read_text())


def arguments_of(folder, run):
    return json.loads((folder / "runs" / run / "arguments.json").read_text())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with the stage tune behind it, which was called for a part first."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "results").mkdir()
    git(folder, "init", "-q")
    assert study(folder, "tune", "--blocks=natural", "--arms=standard,both") == 1
    assert choices_of(folder)["blocks"].keys() == {"natural"}
    assert choices_of(folder)["blocks"]["natural"].keys() == {"standard"}
    assert study(folder, "tune") == 0
    return folder


@pytest.fixture(scope="module")
def trained(tuned):
    """The same folder with the choices committed and the stage train done."""
    with pytest.raises(InputError, match="small_choices.json is not committed"):
        study(tuned, "train")
    assert not (tuned / "runs" / "natural").exists()
    git(tuned, "add", ".")
    git(tuned, "commit", "-q", "-m", "choices")
    assert study(tuned, "train", "--seeds=0", "--blocks=natural") == 0
    assert {path.name for path in (tuned / "runs").glob("natural/*/*")} == {"seed_0"}
    assert study(tuned, "train") == 0
    return tuned
