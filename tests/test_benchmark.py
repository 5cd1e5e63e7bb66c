"""The benchmark: runs without TensorFlow, counts right, and the PyTorch program does the same."""

import functools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from small_runs import ROOT
from test_imports import BLOCKER

from segadv_jax import cli
from segadv_jax.alternation import PLAYERS
from segadv_jax.benchmark import contenders, measure
from segadv_jax.errors import InputError
from segadv_jax.models import MultiScale
from segadv_jax.train_state import evaluated
from tools import benchmark

# No data set, configuration or weights are read, and so these are not needed.
NOT_NEEDED = ("tensorflow", "tensorflow_datasets", "clu", "ml_collections", "h5py")
NOT_NEEDED += ("safetensors", "matplotlib", "torch")
IMAGES = contenders.noise(4, 48, 80)


def run(*arguments):
    return cli.run("tools.benchmark", "python -m tools.benchmark", arguments)


def test_rates_and_ratios_are_medians_with_their_spread():
    assert measure.rate([1.0, 2.0, 4.0], 4, 3) == {"median": 6, "min": 3, "max": 12}
    assert measure.spread([1.5]) == {"median": 1.5, "min": 1.5, "max": 1.5}


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--networks=vgg", "known: multiscale"),
        ("--only=both,fast", "'fast'; known: standard"),
        ("--train_size=160", "give HEIGHTxWIDTH"),
        ("--train_size=100x160", "multiples of 16"),
        ("--rounds=0", "1 or more"),
        ("--peer=theano", "invalid choice"),
        ("--config.loss.lam=1", "--config.loss.lam=1: the benchmark has no configuration"),
        ("--batch_size=6", "--batch_size=6: .* 4"),
    ],
)
def test_what_cannot_be_measured_is_refused(argument, says):
    with pytest.raises(InputError, match=says):
        run(argument)


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").touch()
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "file" / "report.json", "writ")):
        with pytest.raises(InputError, match=f"--json.*{says}"):
            run(f"--json={path}", "--batch_size=4")


def test_programs_whose_losses_differ_are_not_compared():
    contenders.check_same("both", {"mce": 2.0, "accuracy": 1.0}, {"mce": 2.00015})
    for wrong in (2.001, float("nan")):
        with pytest.raises(InputError, match=r"both: mce is 2.0.* the two programs do not do"):
            contenders.check_same("both", {"mce": 2.0}, {"mce": wrong})


def test_a_pytorch_program_that_fails_is_reported():
    with pytest.raises(InputError, match="--peer=torch: its process ended"):
        contenders.Peer(contenders.NETWORKS["multiscale"], {}, {}, compiled=False)


def test_the_table_has_a_dash_for_what_is_not_known():
    fast = {"median": 12.0, "min": 10.0, "max": 14.0}
    rows = {
        "both": {
            **{"images_per_second": fast, "compile_seconds": 9.5},
            **{"gflop": None, "temporary_mib": 20.0},
        },
        "slow": {"images_per_second": {"median": 13.0}},
    }
    figures = {"rows": rows, "peak_mib": {"ours": 512.3, "eager": 99.0}}
    figures |= {"peers": {"eager": {"both": fast}}, "ratios": {"eager": {"both": fast}}}
    result = {"networks": {"multiscale": figures}, "pipeline": {"arrays": fast, "tf.data": fast}}
    titles, both, slow, memory, empty, *pipelines = benchmark.render(result).splitlines()
    assert titles.split()[0] == "multiscale" and "torch eager" in titles
    assert both.split() == "both 12.00 10.00 14.00 9.5 - 20.0 12.00 12.00 10.00 14.00".split()
    assert slow.split() == ["slow", "13.00", *"-" * 9]
    assert memory == "peak memory in MiB: ours 512, eager 99" and empty == ""
    assert [line.split(",")[1] for line in pipelines] == [
        f" {name}: 12 images/s" for name in ("arrays", "tf.data")
    ]


def test_it_runs_without_what_reads_data_and_weights(tmp_path):
    code = BLOCKER.format(blocked=NOT_NEEDED, modules=())
    code += "from segadv_jax import cli\ncli.run('tools.benchmark', '', sys.argv[1:])\n"
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
    assert figures["options"]["rounds"] == 2 and "overrides" not in figures["options"]
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


@pytest.mark.parametrize(
    ("network", "part", "is_trained"),
    [
        ("efficientnet_lite0", "backbone", False),
        ("efficientnet_lite0", "decoder", True),
        ("efficientnet_lite0_tuned", "backbone", True),
    ],
)
def test_what_the_light_network_trains(ours_of, network, part, is_trained):
    ours = ours_of(network)
    state = ours.arguments("standard")[0]
    before, after = ours.params["segmenter"][part], evaluated(state)[part]
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), before, after)
    assert not any(jax.tree.leaves(same)) if is_trained else all(jax.tree.leaves(same))


@pytest.fixture(scope="module")
def ours_of():
    """By the name of a network: this package's program after a step of training it."""

    @functools.cache
    def train(network):
        ours = contenders.Ours(contenders.NETWORKS[network], {"standard": IMAGES})
        ours.compile("standard")
        assert np.isfinite(ours.run("standard", 1)[1]["mce"])
        return ours

    return train


@pytest.mark.parametrize("network", contenders.NETWORKS)
def test_the_pytorch_program_does_the_same(network):
    """Losses over some steps of every turn, and the confusion matrix, at odd sizes of the maps."""
    pytest.importorskip("torch", reason="PyTorch is in the extra bench only")
    from segadv_jax.benchmark.torch_peer import Training

    segmenter, turns = contenders.NETWORKS[network], [*PLAYERS]
    if isinstance(segmenter, MultiScale):
        segmenter = segmenter.clone(widths=(4, 6, 8), hidden=16)
    else:  # Each takes long to compile, and only the segmenter is another.
        turns = ["both"]
    batches = dict.fromkeys((*turns, "evaluate"), IMAGES)
    ours = contenders.Ours(segmenter, batches)
    theirs = Training(segmenter, batches, ours.params, compiled=False)
    for kind in batches:
        ours.compile(kind)
    for kind in [*turns, *turns, "evaluate"]:
        contenders.check_same(kind, ours.run(kind, 1)[1], theirs.run(kind, 1)[1])
    confusion, _ = theirs.evaluate()
    got = np.asarray(ours.compiled["evaluate"](*ours.arguments("evaluate"))["confusion"])
    assert got.sum() == confusion.sum() == np.sum(IMAGES["label"] != 255)
    assert np.abs(got - confusion).sum() <= 20  # Of 15,360 pixels: ties between classes.
