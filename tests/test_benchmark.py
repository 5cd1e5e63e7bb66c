"""The benchmark: runs without TensorFlow, counts right, and the PyTorch program does the same."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from small_runs import ROOT
from test_imports import BLOCKER

from segadv_jax.errors import InputError
from tools import benchmark, contenders


def test_rates_and_ratios_are_medians_with_their_spread():
    assert benchmark.rate([1.0, 2.0, 4.0], 4, 3) == {"median": 6, "min": 3, "max": 12}
    assert benchmark.spread([1.5]) == {"median": 1.5, "min": 1.5, "max": 1.5}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--networks=vgg"], "known: multiscale"),
        (["--only=both,fast"], "'fast'; known: standard"),
        (["--train_size=160"], "give HEIGHTxWIDTH"),
        (["--train_size=100x160"], "multiples of 16"),
        (["--rounds=0"], "1 or more"),
        (["--peer=theano"], "invalid choice"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, says, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse(arguments)
    assert says in capsys.readouterr().err


def test_a_batch_that_the_devices_cannot_share_is_refused():
    with pytest.raises(InputError, match=r"--batch_size=6: .* 4"):
        benchmark.main(["--batch_size=6"])


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "report.json"):
        with pytest.raises(InputError, match="--json=.*cannot|--json=.*not a file"):
            benchmark.main([f"--json={path}", "--batch_size=4"])


def test_losses_that_differ_are_no_equivalent_program():
    contenders.check_same("both", {"mce": 2.0, "accuracy": 1.0}, {"mce": 2.00015})
    for wrong in (2.001, float("nan")):
        with pytest.raises(InputError, match=r"both: mce is 2.0.* the two programs do not do"):
            contenders.check_same("both", {"mce": 2.0}, {"mce": wrong})


def test_it_runs_without_tensorflow(tmp_path):
    code = BLOCKER.format(blocked=("tensorflow", "tensorflow_datasets", "clu"), modules=())
    code += "from tools import benchmark\nbenchmark.main(sys.argv[1:])\n"
    report = tmp_path / "report.json"
    arguments = ["--only=standard,evaluate,pipeline", "--rounds=2", "--steps=1", f"--json={report}"]
    arguments += ["--train_size=16x32", "--evaluate_size=32x16"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "TensorFlow is not installed" in done.stderr
    figures = json.loads(report.read_text())
    rows = figures["networks"]["multiscale"]["rows"]
    assert rows.keys() == {"standard", "evaluate"}
    for row in rows.values():
        speed = row["images_per_second"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]
        assert row["compile_seconds"] > 0 and row["gflop"] > 0 and row["temporary_mib"] > 0
    assert figures["pipeline"].keys() == {"arrays"}
    assert figures["networks"]["multiscale"]["peak_mib"]["ours"] > 100
    for word in ("standard", "evaluate", "input pipeline alone", "peak memory"):
        assert word in done.stdout


@pytest.fixture
def torch_peer():
    pytest.importorskip("torch", reason="PyTorch is in the extra bench only")
    from tools import torch_peer

    return torch_peer


@pytest.mark.parametrize("network", contenders.NETWORKS)
def test_the_pytorch_program_does_the_same(torch_peer, network):
    """Losses over some steps of every turn, and the confusion matrix, at odd sizes of the maps."""
    import torch

    fields = contenders.NETWORKS[network] | {"widths": (4, 6, 8), "hidden": 16}
    batch = contenders.noise(4, 48, 80)
    ours = contenders.Ours(fields, {"train": batch, "evaluate": batch})
    kinds = (*contenders.TURNS, "evaluate")
    for kind in kinds:
        ours.compile(kind)
    adversary = torch_peer.TwoBranch(contenders.CLASSES)
    segmenter = torch_peer.MultiScale(contenders.CLASSES, **fields)
    torch_peer.load(segmenter, ours.params["segmenter"])
    torch_peer.load(adversary, ours.params["adversary"])
    theirs = torch_peer.Training(
        segmenter, adversary, contenders.LAM, contenders.RATES, contenders.MOMENTUM, compiled=False
    )
    image, label = (torch.from_numpy(batch[key]) for key in ("image", "label"))
    for kind in contenders.TURNS * 2:
        contenders.check_same(kind, ours.run(kind, 1)[1], theirs.train(image, label, kind))
    confusion, mce = theirs.evaluate(image, label)
    contenders.check_same("evaluate", ours.run("evaluate", 1)[1], {"mce": mce})
    totals = ours.compiled["evaluate"](*ours._arguments("evaluate"))
    got = np.asarray(jax.device_get(totals["confusion"]))
    assert got.sum() == confusion.sum() == np.sum(batch["label"] != 255)
    assert np.abs(got - confusion).sum() <= 20  # Of 15,360 pixels: ties between classes.
