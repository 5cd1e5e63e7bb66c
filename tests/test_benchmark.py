"""The benchmark: runs without TensorFlow, counts right, and the PyTorch program does the same."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from small_runs import ONE_DEVICE, ROOT
from test_imports import BLOCKER

from segadv_jax import cli
from segadv_jax.alternation import PLAYERS
from segadv_jax.benchmark import boundaries, contenders, measure
from segadv_jax.benchmark.cases import NETWORKS, noise
from segadv_jax.errors import InputError
from segadv_jax.metrics.boundary import Tolerance, boundary_f
from segadv_jax.models import EfficientNetLite
from tools import benchmark

# No data set, configuration or weights are read, and so these are not needed.
NOT_NEEDED = ("tensorflow", "tensorflow_datasets", "clu", "ml_collections", "h5py")
NOT_NEEDED += ("safetensors", "matplotlib", "torch")
WIDTH = 1 / 16


def run(*arguments):
    return cli.run("tools.benchmark", "python -m tools.benchmark", arguments)


def small(network, dtype="float32"):
    return NETWORKS[network](WIDTH, dtype)


def images(case):
    """A batch whose maps have odd sizes somewhere."""
    return noise(4, 48, 80, case.segmenter.num_classes)


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
        ("--width=0", "above 0"),
        ("--width=wide", "above 0"),
        ("--dtype=float16", "invalid choice"),
        ("--peer=theano", "invalid choice"),
        ("--config.loss.lam=1", "--config.loss.lam=1: the benchmark has no configuration"),
        ("--batch_size=6", "--batch_size=6: .* 4"),
    ],
)
def test_what_cannot_be_measured_is_refused(argument, says):
    with pytest.raises(InputError, match=says):
        run(argument)


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "report.json"
    for name, path, says in (
        ("json", tmp_path, "is a folder"),
        ("json", below, "writ"),
        ("profile", below, "writ"),
    ):
        with pytest.raises(InputError, match=f"--{name}.*{says}"):
            run(f"--{name}={path}", "--batch_size=4")


@pytest.mark.parametrize(
    ("platform", "devices", "says"),
    [("tpu", 1, "JAX_PLATFORMS=cpu"), ("gpu", 2, "CUDA_VISIBLE_DEVICES=0")],
)
def test_pytorch_is_compared_on_the_same_device_only(monkeypatch, platform, devices, says):
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    with pytest.raises(InputError, match=says):
        run("--peer=torch", "--batch_size=4")


def test_programs_whose_results_differ_are_not_compared():
    ours = {"mce": 2.0, "accuracy": 1.0}
    contenders.check_same("both", ours, {"mce": 2.00015})
    contenders.check_same("both", ours, {"mce": 2.02}, contenders.ROUNDED)
    for wrong in (2.001, float("nan")):
        with pytest.raises(InputError, match=r"both: mce is 2.0.* the two programs do not do"):
            contenders.check_same("both", ours, {"mce": wrong})
    maps = np.full((1, 2, 2, 3), 0.3)
    contenders.check_same("predict", {"probabilities": maps}, {"probabilities": maps + 5e-5})
    wrong = maps.copy()
    wrong[0, 1, 0, 2] = 0.31
    with pytest.raises(InputError, match="probabilities is 0.300000 here and 0.310000"):
        contenders.check_same("predict", {"probabilities": maps}, {"probabilities": wrong})


def test_a_pytorch_program_that_fails_is_reported():
    with pytest.raises(InputError, match="--peer=torch: its process ended"):
        contenders.Peer(small("multiscale"), {"standard": {}}, {}, compiled=False)


def test_the_table_has_a_dash_for_what_is_not_known():
    fast = {"median": 12.0, "min": 10.0, "max": 16.0}
    rows = {
        "both": {
            **{"images_per_second": fast, "compile_seconds": 9.5, "gflop": 40.0},
            **{"temporary_mib": 20.0, "of_standard": 1.5, "share": 0.25},
        },
        "latency": {"images_per_second": fast, "gflop": None},
        "slow": {"images_per_second": {"median": 13.0}, "gflop": 26.0},
    }
    figures = {"rows": rows, "peak_mib": {"ours": 512.3, "eager": 99.0}}
    figures |= {"peers": {"eager": {"both": fast}}, "ratios": {"eager": {"both": fast}}}
    result = {"networks": {"multiscale": figures}, "product_rate": 2e12}
    result |= {"bf": {"ordinary": {"images_per_second": fast, "scipy": fast, "ratio": fast}}}
    result |= {"pipeline": {"arrays": fast, "tf.data": fast}}
    titles, both, latency, slow, *more = benchmark.render(result).splitlines()
    assert titles.split()[0] == "multiscale" and "torch eager" in titles
    given = "both 12.00 10.00 16.00 9.5 40.0 20.0 1.50 25 12.00 12.00 10.00 16.00"
    assert both.split() == given.split()
    assert latency.split() == ["latency", "12.00", "10.00", "16.00", *"-" * 9]
    assert slow.split() == ["slow,", "average", "13.00", *"---", "26.0", *"-" * 7]
    assert more == [
        "latency of one image in ms: ours 83.3 (62.5 to 100.0)",
        "operations of the slow schedule's average step: 0.65 of both's",
        "peak memory in MiB: ours 512, eager 99",
        "",
        "products of matrices alone: 2 TFLOP/s on each device",
        "BF, ordinary maps: 12.0 images/s, SciPy 12.0, ratio 12.00 (10.00 to 16.00)",
        "input pipeline alone, arrays: 12 images/s",
        "input pipeline alone, tf.data: 12 images/s",
    ]


def test_it_runs_without_what_reads_data_and_weights(tmp_path):
    code = BLOCKER.format(blocked=NOT_NEEDED, modules=())
    code += "from segadv_jax import cli\ncli.run('tools.benchmark', '', sys.argv[1:])\n"
    report, trace = tmp_path / "report.json", tmp_path / "trace"
    arguments = ["--only=standard,evaluate,latency,bf,pipeline", "--rounds=2", "--steps=1"]
    arguments += ["--train_size=16x32", "--evaluate_size=32x16", f"--width={WIDTH}"]
    arguments += [f"--json={report}", f"--profile={trace}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ONE_DEVICE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "TensorFlow is not installed" in done.stderr
    figures = json.loads(report.read_text())
    assert figures["options"]["rounds"] == 2 and "overrides" not in figures["options"]
    assert figures["product_rate"] > 0
    rows = figures["networks"]["multiscale"]["rows"]
    assert rows.keys() == {"standard", "evaluate", "latency"}
    for row in rows.values():
        speed = row["images_per_second"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]
        assert row["compile_seconds"] > 0 and row["gflop"] > 0 and row["temporary_mib"] > 0
        rate = row["gflop"] * 1e9 * speed["median"] / figures["product_rate"]
        images = 1 if row is rows["latency"] else 4
        assert row["share"] == pytest.approx(rate / images, rel=1e-6)
    assert figures["pipeline"].keys() == {"arrays"}
    assert figures["bf"].keys() == {"ordinary", "crowded"}
    assert figures["networks"]["multiscale"]["peak_mib"]["ours"] > 100
    assert list(trace.glob("multiscale/plugins/profile/*/*.xplane.pb"))
    for word in ("standard", "evaluate", "latency of one image", "input pipeline alone", "SciPy"):
        assert word in done.stdout


def test_an_evaluation_adds_up_from_step_to_step(monkeypatch):
    """As a pass over a split does, which makes its zeros once; the mean is that of one step."""
    case, made = small("multiscale"), []
    ours = contenders.Ours(case, {"evaluate": images(case)})
    ours.compile("evaluate")
    zeros = contenders.zero_totals
    monkeypatch.setattr(contenders, "zero_totals", lambda *args: made.append(args) or zeros(*args))
    found = [ours.run("evaluate", count)[1]["mce"] for count in (1, 3)]
    assert len(made) == 2 and found[0] == pytest.approx(found[1], rel=1e-6) and found[0] > 0


def test_operations_are_counted_without_running_anything(tmp_path):
    """Of both players on Dilated-8; the average of the slow schedule is that of its turns."""
    report = tmp_path / "count.json"
    run(
        *("--count", "--networks=dilated8_largefov", "--only=segmenter,adversary,bf"),
        *("--train_size=16x16", "--batch_size=4", f"--width={WIDTH}", f"--json={report}"),
    )
    figures = json.loads(report.read_text())
    rows = figures["networks"]["dilated8_largefov"]["rows"]
    assert rows.keys() == {"segmenter", "adversary", "slow"} and not figures["bf"]
    turns = [rows[kind]["gflop"] for kind in ("segmenter", "adversary")]
    assert rows["slow"] == {"gflop": pytest.approx(sum(turns) / 2)}
    assert 0 < turns[1] < turns[0] / 2  # No way back through the segmenter.


@pytest.mark.parametrize("kind", boundaries.MAPS)
def test_scipy_measures_bf_as_we_do(kind):
    predicted, label = boundaries.MAPS[kind](np.random.RandomState(1), 160, 240)
    theta, size = 3, np.array([[160, 240]], np.int32)
    got = boundaries.with_scipy(predicted, label, boundaries.CLASSES, theta)
    tolerance = Tolerance.of(size, theta)
    maps = predicted[None].astype(np.int32), label[None], size
    ours = boundary_f(*maps, num_classes=boundaries.CLASSES, tolerance=tolerance)[0]
    np.testing.assert_allclose(got, ours, atol=1e-6)
    classes = np.unique(label[label != 255])
    assert 0.1 < np.nanmean(got[classes]) < 0.99
    assert len(classes) <= 3 if kind == "ordinary" else len(classes) > 15


def test_bf_that_is_not_scipys_is_not_timed(monkeypatch):
    wrong = boundaries.with_scipy
    monkeypatch.setattr(boundaries, "with_scipy", lambda *args: wrong(*args) + 0.01)
    with pytest.raises(InputError, match="bf, ordinary maps: F is not what SciPy finds"):
        boundaries.seconds((32, 48), 1, 1)


@pytest.mark.parametrize("network", NETWORKS)
def test_what_a_network_trains(network):
    """The light segmenter's backbone where it is tuned only; no parameter begins with zeros."""
    case = small(network)
    ours = contenders.Ours(case, {"standard": images(case)})
    state = ours.arguments("standard")[0]
    frozen = {"backbone"} if network == "efficientnet_lite0" else set()
    assert state.frozen.keys() == frozen
    assert state.params["segmenter"].keys() == ours.params["segmenter"].keys() - frozen
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(ours.params))


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_in_pytorch_are_the_same(network):
    """Class probabilities of images, what the adversary sees of them, and its verdicts."""
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra bench only")
    from segadv_jax.benchmark import torch_peer

    case = small(network)
    batch = images(case)
    ours = contenders.Ours(case, {"predict": batch})
    theirs = torch_peer.Training(case, {"predict": batch}, ours.params, compiled=False)
    ours.compile("predict")
    contenders.check_same("predict", ours.run("predict", 1)[1], theirs.run("predict", 1)[1])

    random, adversary = np.random.RandomState(0), ours.params["adversary"]
    first = adversary["label"] if "label" in adversary else adversary["conv1"]
    stride = case.segmenter.stride
    label_map = random.normal(size=(4, 48 // stride, 80 // stride, first["kernel"].shape[2]))
    seen = batch["image"]
    if case.adversary.sees == "features":
        seen = random.normal(size=(4, 6, 10, 40))
    label_map, seen = label_map.astype(np.float32), seen.astype(np.float32)
    expected = jax.jit(case.adversary.apply)({"params": adversary}, label_map, seen, batch["size"])
    params = torch_peer.as_tensors(ours.params, "cpu")
    _, embed_image, judge = torch_peer.functions(case, params)
    maps = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in (label_map, seen)]
    got = judge(params["adversary"], maps[0], embed_image(params["adversary"], maps[1]))
    np.testing.assert_allclose(got.detach(), np.asarray(expected)[..., 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "turns"),
    [
        ("multiscale", [*PLAYERS]),
        ("efficientnet_lite0", ["both"]),
        ("efficientnet_lite0_tuned", ["standard"]),
        ("dilated8_largefov", ["both"]),
    ],
)
def test_training_and_evaluation_in_pytorch_are_the_same(network, turns):
    """Losses over some steps, and the confusion matrix."""
    pytest.importorskip("torch", reason="PyTorch is in the extra bench only")
    from segadv_jax.benchmark.torch_peer import Training

    case = small(network)
    evaluated = [] if isinstance(case.segmenter, EfficientNetLite) else ["evaluate"]
    batches = dict.fromkeys((*turns, *evaluated), images(case))
    ours = contenders.Ours(case, batches)
    theirs = Training(case, batches, ours.params, compiled=False)
    for kind in batches:
        ours.compile(kind)
    for kind in [*turns, *turns, *evaluated]:
        contenders.check_same(kind, ours.run(kind, 1)[1], theirs.run(kind, 1)[1])
    if evaluated:
        confusion = theirs.step("evaluate")["confusion"].numpy()
        got = np.asarray(ours.compiled["evaluate"](*ours.arguments("evaluate"))["confusion"])
        assert got.sum() == confusion.sum() == np.sum(batches["evaluate"]["label"] != 255)
        assert np.abs(got - confusion).sum() <= 20  # Of 15,360 pixels: ties between classes.


def test_bfloat16_in_pytorch_is_about_the_same():
    pytest.importorskip("torch", reason="PyTorch is in the extra bench only")
    from segadv_jax.benchmark.torch_peer import Training

    case = small("dilated8_largefov", "bfloat16")
    batches = {"predict": images(case)}
    ours = contenders.Ours(case, batches)
    theirs = Training(case, batches, ours.params, compiled=False)
    ours.compile("predict")
    both = ours.run("predict", 1)[1], theirs.run("predict", 1)[1]
    contenders.check_same("predict", *both, contenders.ROUNDED)
    with pytest.raises(InputError):
        contenders.check_same("predict", *both)
