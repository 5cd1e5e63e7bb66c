"""Evaluations with corrected logits: for another prior of the classes, or at a temperature."""

import json
import re

import numpy as np
import pytest
from small_runs import small_config

from segadv_jax import cli, configuration, corrections, evaluate, experiment, predictor
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import order
from segadv_jax.errors import InputError
from segadv_jax.initialize import initialize
from segadv_jax.workdir import Workdir

CLASSES, SPLIT, ALPHAS = 8, "test[:7]", (-1.0, 0.0, 0.5)
TEMPERATURES = (0.5, 1.0, 2.0)
FIELDS = {"data.fraction": 0.4, "seed": 3}


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """(configuration, workdir) of a run with an adversary and one checkpoint."""
    config = small_config(data_dir, "adversarial", **FIELDS)
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    configuration.record(workdir, config)
    setup = experiment.build(config, CLASSES).setup
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(initialize(setup, 0, (32, 32), CLASSES), 4, {"mean_iou": 0.5})
    return config, workdir


@pytest.fixture(scope="module")
def shares(synthetic):
    """Of the training images in use: those that the fraction draws by the seed."""
    images = synthetic.read("train[:22]").take(order.part(22, 0.4, 3))
    counts = np.zeros(256, int)
    for batch in images.eval_batches(batch_size=1, canvas=images.canvas()):
        cells = batch["label"][:, 2::4, 2::4]  # The pixels nearest to the cells, at 4 i + 1.5.
        counts += np.bincount(cells.ravel(), minlength=256)
    counts = counts[:CLASSES]
    assert counts.min() == 0  # A class that does not occur has the share of one cell.
    return np.maximum(counts, 1) / counts.sum()


def test_predictions_are_shifted_by_the_shares_of_the_training_images(run, shares):
    config, workdir = run
    with config.unlocked():
        config.evaluate.prior_shift = 0.5
    loaded = predictor.load(config, str(workdir))
    np.testing.assert_allclose(loaded.views.shift, 0.5 * np.log(shares), rtol=1e-6)
    assert predictor.load(config, str(workdir), views=False).views.shift == ()
    config.evaluate.prior_shift = 0.0
    assert predictor.load(config, str(workdir)).views.shift == ()


def evaluations(run, field, values):
    """{value of a field of config.evaluate: what an evaluation with it returns}."""
    config, workdir = run
    before, results = config.evaluate[field], {}
    for value in values:
        config.evaluate[field] = value
        results[value] = evaluate.evaluate(config, str(workdir), SPLIT)
    config.evaluate[field] = before
    return results


@pytest.fixture(scope="module")
def evaluated(run):
    """By alpha."""
    return evaluations(run, "prior_shift", ALPHAS)


def test_a_shifted_evaluation_is_a_file_of_its_own(run, evaluated):
    """The adversary, though, judges the maps that it knows."""
    _, workdir = run
    for alpha, name in zip(ALPHAS, (f"{SPLIT}_prior_-1", SPLIT, f"{SPLIT}_prior_0.5"), strict=True):
        assert json.loads(workdir.evaluation_path(name).read_text()) == evaluated[alpha]
        assert evaluated[alpha].get("prior_shift", 0.0) == alpha
        assert evaluated[alpha]["accuracy_synthetic"] == evaluated[0.0]["accuracy_synthetic"]
    for measure in ("mce", "certainty", "nll", "ece", "pixel_accuracy"):
        assert len({result[measure] for result in evaluated.values()}) == 3


def test_shares_of_other_images_than_the_runs_are_warned_of(run, caplog):
    config, workdir = run
    for seed, warned in ((config.seed, False), (config.seed + 1, True)):
        other = config.copy_and_resolve_references()
        other.seed, other.evaluate.prior_shift = seed, 0.5
        predictor.load(other, str(workdir))
        text = "takes the classes' shares of other images .* it had another config.seed"
        assert bool(re.search(text, caplog.text)) == warned


def test_frequent_classes_gain_with_alpha_above_0_and_lose_below(evaluated, shares):
    frequent = np.argmax(shares)
    got = [list(evaluated[alpha]["histogram_predicted"].values())[frequent] for alpha in ALPHAS]
    assert got[0] < got[1] < got[2]


def test_the_best_of_several_shifts(run, evaluated):
    """Each is measured as by itself; nothing is written."""
    config, workdir = run
    before = {path: path.read_bytes() for path in workdir.folder.rglob("*.json")}
    best, results = corrections.choose_prior_shift(config, str(workdir), SPLIT, ALPHAS)
    assert {path: path.read_bytes() for path in workdir.folder.rglob("*.json")} == before
    assert [result["prior_shift"] for result in results] == list(ALPHAS)
    for alpha, result in zip(ALPHAS, results, strict=True):
        for measure in ("mean_iou", "mce", "nll", "ece", "step", "images"):
            assert result[measure] == pytest.approx(evaluated[alpha][measure], rel=1e-3)
    assert best == max(ALPHAS, key=lambda alpha: evaluated[alpha]["mean_iou"])


@pytest.fixture(scope="module")
def tempered(run):
    """By temperature."""
    return evaluations(run, "temperature", TEMPERATURES)


def test_a_temperature_changes_how_certain_predictions_are(run, tempered):
    """Not what the adversary judges, nor what is the most likely class of a label cell."""
    _, workdir = run
    for temperature, name in ((0.5, f"{SPLIT}_temperature_0.5"), (1.0, SPLIT)):
        written = json.loads(workdir.evaluation_path(name).read_text())
        assert written == tempered[temperature]
        assert written.get("temperature", 1.0) == temperature
    results = list(tempered.values())
    certainty = [result["certainty"] for result in results]
    assert certainty == sorted(certainty, reverse=True) and len(set(certainty)) == 3
    assert len({result["accuracy_synthetic"] for result in results}) == 1
    accuracy = [result["pixel_accuracy"] for result in results]
    assert max(accuracy) - min(accuracy) < 0.02  # Between cells probabilities are interpolated.


def test_the_best_of_several_temperatures(run, tempered):
    """By the likelihood of the labels, and on top of a shift."""
    config, workdir = run
    best, results = corrections.choose_temperature(config, str(workdir), SPLIT, TEMPERATURES)
    assert best == min(TEMPERATURES, key=lambda value: tempered[value]["nll"])
    for temperature, result in zip(TEMPERATURES, results, strict=True):
        assert result["temperature"] == temperature
        for measure in ("mean_iou", "mce", "nll", "ece", "step", "images"):
            assert result[measure] == pytest.approx(tempered[temperature][measure], rel=1e-3)
    config.evaluate.update({"prior_shift": 0.5, "temperature": 2.0})
    both = evaluate.evaluate(config, str(workdir), SPLIT)
    assert workdir.evaluation_path(f"{SPLIT}_prior_0.5_temperature_2").exists()
    config.evaluate.update({"prior_shift": 0.5, "temperature": 1.0})
    _, (_, shifted) = corrections.choose_temperature(config, str(workdir), SPLIT, (1.0, 2.0))
    config.evaluate.prior_shift = 0.0
    assert shifted["nll"] == pytest.approx(both["nll"], rel=1e-3)


def correct(workdir, *arguments):
    where = f"--workdir={workdir}"
    return cli.run("segadv_jax.commands.correct", "segadv_jax correct", [where, *arguments])


def test_the_command_chooses_a_shift_and_with_it_a_temperature(run, capsys):
    """To change nothing is tried, too; the last line has all fields of an evaluation like it."""
    config, workdir = run
    before = {path: path.read_bytes() for path in workdir.folder.rglob("*.json")}
    tried = ["--prior_shifts=-1,0.5", "--temperatures=0.5,2", "--config.evaluate.scales=(1, 0.5)"]
    assert correct(workdir, *tried) is None
    assert {path: path.read_bytes() for path in workdir.folder.rglob("*.json")} == before
    said = capsys.readouterr().out
    config = config.copy_and_resolve_references()
    config.evaluate.scales = (1.0, 0.5)
    where = config, str(workdir), config.data.validation
    shift, results = corrections.choose_prior_shift(*where, (0, -1, 0.5))
    config.evaluate.prior_shift = shift
    temperature, tempered = corrections.choose_temperature(*where, TEMPERATURES)
    config.evaluate.prior_shift = 0.0
    rows = [line.split() for line in said.splitlines() if re.match(r"-?[\d.]+ .* \d", line)]
    rows = [row for row in rows if "may" not in row]
    lines = zip(rows, sorted(results, key=lambda one: one["prior_shift"]) + tempered, strict=True)
    for (value, *_, miou, _, ece, nll), result in lines:
        assert float(value) == result.get("prior_shift", result.get("temperature"))
        shown = [float(miou) / 100, float(ece) / 100, float(nll)]
        assert shown == pytest.approx([result[n] for n in ("mean_iou", "ece", "nll")], abs=1e-4)
    assert [row[0] for row in rows if "chosen" in row] == [f"{shift:g}", f"{temperature:g}"]
    found = {"prior_shift": (shift, 0), "temperature": (temperature, 1)}
    fields = [f"--config.evaluate.{x}={v:g}" for x, (v, plain) in found.items() if v != plain]
    # It is to be pasted into a shell.
    fields = " ".join(["'--config.evaluate.scales=(1, 0.5)'", *fields])
    images = f"{results[0]['images']} images of {config.data.validation}"
    assert said.endswith(f"\nBest on the {images}: {fields}\n")
    for field, (value, plain) in found.items():  # At the end of a list it says so.
        assert (f"of --{field}s; a " in said) == (value != plain)


def test_what_the_run_corrects_by_itself_is_set_anew(run, monkeypatch, capsys):
    """One value leaves a choice out. A field is named if the run has it otherwise."""
    config, workdir = run
    recorded = config.copy_and_resolve_references()
    recorded.evaluate.update({"prior_shift": 0.5, "temperature": 3.0})
    monkeypatch.setattr(configuration, "recorded", lambda _: recorded)
    monkeypatch.setattr(configuration, "record", lambda *_: [])
    correct(workdir, "--prior_shifts=0", "--temperatures=2,3")
    said = capsys.readouterr().out
    where = config, str(workdir), config.data.validation
    best, _ = corrections.choose_temperature(*where, (1.0, 2.0, 3.0))
    fields = ["--config.evaluate.prior_shift=0"]
    fields += [f"--config.evaluate.temperature={best:g}"] if best != 3 else []
    assert said.endswith(f": {' '.join(fields)}\n") and "evaluate.prior_shift " not in said


def convert(*arguments):
    program = "segadv_jax.commands.convert_weights", "segadv_jax convert_weights"
    return cli.run(*program, [*map(str, arguments)])


def test_weights_are_written_with_their_corrections(run, tmp_path):
    fields = ["--config.evaluate.temperature=2", "--config.evaluate.prior_shift=0.5"]
    target = tmp_path / "mine.safetensors"
    convert(run[1], target, *fields)
    assert predictor.from_weights(target).views.temperature == 2
    assert any(predictor.from_weights(target).views.shift)
    for field, reason in (
        ("checkpoint=last", "config.evaluate.checkpoint"),
        ("temperature=0", "config.evaluate.temperature is 0.0: set it from 0.01"),
    ):
        with pytest.raises(InputError, match=reason):
            convert(run[1], target, f"--config.evaluate.{field}")


def test_what_is_exported_is_corrected(run, tmp_path):
    fields = ["--config.evaluate.temperature=2", "--config.evaluate.prior_shift=0.5"]
    where = [f"--workdir={run[1]}", f"--out={tmp_path / 'out'}", "--height=32", "--width=32"]
    argv = [*where, "--formats=safetensors", *fields]
    assert cli.run("segadv_jax.commands.export", "segadv_jax export", argv) == 0
    written = predictor.from_weights(tmp_path / "out" / "model.safetensors")
    assert written.views == predictor.from_run(run[1].folder, overrides=fields).views
    assert written.views.temperature == 2 and any(written.views.shift)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--prior_shifts=-3,1"], "--prior_shifts=-3,1: give numbers, each from -2 to 2, as --pri"),
        (["--temperatures=1,x"], "--temperatures=1,x: give numbers, each from 0.01 to 100, as --t"),
        (["--temperatures="], "--temperatures=: give numbers, each from 0.01 to 100"),
        (["--temperatures=1", "--prior_shifts=0"], "one value of each .*: give several of one of"),
        (["--config.evaluate.temperature=2"], "give what is to be tried as --temperatures="),
        (["--config.evaluate.split=test"], "the images are those of config.data.validation"),
        (["--config.seed=1"], "config.seed says how the run was trained"),
    ],
)
def test_what_cannot_be_chosen(run, arguments, reason):
    with pytest.raises(InputError, match=reason):
        correct(run[1], *arguments)


def test_what_is_measured_otherwise_than_the_run_says_has_a_file_of_its_own(run):
    config, workdir = run[0].copy_and_resolve_references(), run[1]
    config.evaluate.bf = True
    own = evaluate.evaluate(config, str(workdir), SPLIT)
    config.evaluate.bf_background = False
    other = evaluate.evaluate(config, str(workdir), SPLIT)
    assert other["mean_bf"] != own["mean_bf"]
    assert workdir.evaluation(SPLIT) == own
    assert workdir.evaluation(f"{SPLIT}_bf_background_False") == other
    # What a run ends with is its result, however its configuration was changed on the way.
    config.data.test = SPLIT
    evaluate.evaluate_run(config, str(workdir))
    assert workdir.evaluation(SPLIT) == other
