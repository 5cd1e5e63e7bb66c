"""The loop, end to end: what a run writes, and that a stopped run goes on bit for bit."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import synthetic as synthetic_config
from segadv_jax import evaluate, experiment, history
from segadv_jax.data import pipeline
from segadv_jax.errors import InputError
from segadv_jax.train import train

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "segmenter.widths": (4, 4, 4),
    "segmenter.hidden": 8,
    "adversary.label_features": 4,
    "adversary.image_features": (2, 4),
    "adversary.fused_features": (4, 4, 4),
    "data.train": "train[:22]",
    "data.validation": "validation[:5]",
    "data.test": "test[:7]",
    "train.batch_size": 4,
    "train.crop": 32,
    "train.log_every": 1,
    "train.updates": 12,
    "evaluate.every": 4,
    "evaluate.batch_size": 4,
    "evaluate.train_images": 6,
    "evaluate.pictures": 2,
}


def small_config(data_dir, arm="adversarial", **overrides):
    config = synthetic_config.get_config(arm)
    config.update_from_flattened_dict(SMALL | {"data.data_dir": str(data_dir)} | overrides)
    return config


@pytest.fixture(scope="module")
def data_dir(synthetic):
    return Path(synthetic.builder.data_dir).parents[1]


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run of the fast schedule, and the splits that it read while training."""
    workdir = tmp_path_factory.mktemp("run")
    config = small_config(data_dir, **{"alternation.schedule": "fast"})
    splits, read_split = [], pipeline.read_split

    def spy(builder, split):
        splits.append(split)
        return read_split(builder, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "read_split", spy)
        train(config, str(workdir))
    return config, workdir, splits


def test_training_does_not_read_the_test_split(run):
    assert sorted(run[2]) == ["train[:22]", "validation[:5]"]


def test_history_has_a_row_for_each_validation_by_segmenter_updates(run):
    rows = history.read(run[1] / "history.csv")
    assert [row["segmenter_updates"] for row in rows] == [4, 8, 12]
    assert [row["step"] for row in rows] == [7, 15, 23]  # The adversary's turns come on top.
    assert [row["epoch"] for row in rows] == [4 / 5, 8 / 5, 12 / 5]  # 22 images, 5 batches of 4.
    for row in rows:
        assert set(row) == set(history.COLUMNS)
        assert 0 < row["validation_mean_iou"] < 1 and 0 < row["train_pixel_accuracy"] < 1


def test_a_run_writes_pictures_and_the_health_of_the_game(run):
    picture = np.asarray(Image.open(run[1] / "predictions" / "0000012.png"))
    assert picture.ndim == 3 and picture.std() > 10
    events = EventAccumulator(str(run[1]), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert tags >= {
        "mce",
        "adversarial_term",
        "bce_real",
        "bce_synthetic",
        "accuracy_real",
        "accuracy_synthetic",
        "grad_norm_mce",
        "grad_norm_adversarial",
        "learning_rate_segmenter",
        "learning_rate_adversary",
        "validation_mean_iou",
        "predictions",
    }


def test_evaluation_takes_the_checkpoint_that_the_validation_selected(run):
    config, workdir, _ = run
    rows = history.read(workdir / "history.csv")
    best = max(rows, key=lambda row: row["validation_mean_iou"])
    result = evaluate.evaluate(config, str(workdir), "validation[:5]")
    assert result["step"] == best["step"] and result["images"] == 5
    for measure in history.MEASURES:
        assert result[measure] == pytest.approx(best[f"validation_{measure}"], rel=1e-6)
    assert (workdir / "eval" / "validation[:5].json").is_file()


def test_a_finished_run_is_left_as_it_is(run):
    config, workdir, _ = run
    before = (workdir / "history.csv").read_bytes()
    train(config, str(workdir))
    assert (workdir / "history.csv").read_bytes() == before


def test_another_architecture_in_the_workdir_is_refused(run, data_dir):
    wider = small_config(data_dir, **{"alternation.schedule": "fast", "segmenter.hidden": 9})
    with pytest.raises(InputError, match="another architecture.*config.segmenter.hidden"):
        train(wider, str(run[1]))
    with pytest.raises(InputError, match="another architecture.*config.segmenter.hidden"):
        evaluate.evaluate(wider, str(run[1]))


def test_both_arms_start_from_the_same_segmenter(data_dir):
    arms = []
    for arm in ("standard", "adversarial"):
        parts = experiment.build(small_config(data_dir, arm), 8)
        arms.append(experiment.initialize(parts, 3, (32, 32), 8).params)
    standard, adversarial = arms
    assert standard["adversary"] == {} and adversarial["adversary"] != {}
    jax.tree.map(np.testing.assert_array_equal, standard["segmenter"], adversarial["segmenter"])


def test_a_batch_that_the_devices_cannot_share_is_refused(data_dir, tmp_path):
    config = small_config(data_dir, **{"train.batch_size": 6})
    with pytest.raises(InputError, match=r"config.train.batch_size is 6.*multiple of 4"):
        train(config, str(tmp_path))


def test_a_diverging_run_stops_with_an_explanation(data_dir, tmp_path):
    fast = {"optimizer.segmenter.learning_rate": float("inf"), "train.updates": 3}
    config = small_config(data_dir, "standard", **fast)
    with pytest.raises(FloatingPointError, match="config.optimizer.segmenter.learning_rate"):
        train(config, str(tmp_path))


# Sends a real SIGTERM to its own process at the n-th batch, so that the place is exact, and
# otherwise runs main.py as its command line says.
STOPPED = """
import os, runpy, signal, sys
from segadv_jax import steps
shard, calls = steps.shard, []
def counted(batch):
    calls.append(0)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGTERM)
    return shard(batch)
steps.shard = counted
sys.argv[0] = "main.py"
runpy.run_path("main.py", run_name="__main__")
"""


def start_process(arguments):
    """Python on its own: one device, and compiled as for people, not as for tests."""
    ours = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(arguments):
    """Runs Python to its end: (exit status, what it wrote to stderr)."""
    process = start_process(arguments)
    _, errors = process.communicate(timeout=400)
    return process.returncode, errors


def test_a_stopped_run_ends_as_one_never_stopped_bit_for_bit(data_dir, tmp_path):
    settings = SMALL | {"data.data_dir": data_dir, "alternation.schedule": "slow"}
    settings |= {"alternation.period": 3, "evaluate.every": 5, "optimizer.adversary.decay": "poly"}
    flags = ["--config=configs/synthetic.py:adversarial"]
    flags += [f"--config.{name}={value}" for name, value in settings.items()]

    assert finish(["main.py", *flags, f"--workdir={tmp_path / 'whole'}"])[0] == 0
    # Rounds of three: the eleventh step is the adversary's fifth turn, in the second of its rounds;
    # by then the segmenter has had 6 updates, one into its second epoch of 5. The fifth update was
    # validated on the way, which takes 4 batches.
    command = [*flags, f"--workdir={tmp_path / 'stopped'}"]
    status, errors = finish(["-c", STOPPED.format(call=11 + 4), *command])
    assert status == 128 + signal.SIGTERM, errors
    assert "stopped at step 11" in errors
    assert not (tmp_path / "stopped" / "eval" / "test[:7].json").exists()
    status, errors = finish(["main.py", *command])
    assert status == 0, errors
    assert "going on from step 11 of 21" in errors

    for name in ("history.csv", "eval/test[:7].json"):
        files = [(tmp_path / run / name).read_bytes() for run in ("whole", "stopped")]
        assert files[0] == files[1]
    for item in ("segmenter", "training"):  # Parameters, both momenta, all counts.
        states = []
        for name in ("whole", "stopped"):
            path = tmp_path / name / "checkpoints" / "21" / item
            with ocp.StandardCheckpointer() as checkpointer:
                states.append(checkpointer.restore(path))
        assert len(jax.tree.leaves(states[0])) > 5
        jax.tree.map(np.testing.assert_array_equal, *states)


TWO_HOSTS = """
import runpy, sys
import jax
jax.distributed.initialize("127.0.0.1:" + sys.argv[1], 2, int(sys.argv[2]))
sys.argv[:] = ["main.py", *sys.argv[3:]]
runpy.run_path("main.py", run_name="__main__")
"""


def test_two_hosts_train_as_one(data_dir, tmp_path):
    settings = SMALL | {"data.data_dir": data_dir, "train.updates": 4, "evaluate.every": 2}
    flags = ["--config=configs/synthetic.py:adversarial"]
    flags += [f"--config.{name}={value}" for name, value in settings.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    two = [f"--workdir={tmp_path / 'two'}", *flags]
    hosts = [start_process(["-c", TWO_HOSTS, port, str(rank), *two]) for rank in (0, 1)]
    one = start_process(["main.py", f"--workdir={tmp_path / 'one'}", *flags])
    for process in (one, *hosts):
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
    rows = [history.read(tmp_path / name / "history.csv") for name in ("one", "two")]
    assert len(rows[0]) == 2
    for single, shared in zip(*rows, strict=True):
        assert single == pytest.approx(shared, rel=1e-3)
    results = [
        json.loads((tmp_path / n / "eval/test[:7].json").read_text()) for n in ("one", "two")
    ]
    assert results[0]["images"] == results[1]["images"] == 7
    assert results[0]["mce"] == pytest.approx(results[1]["mce"], rel=1e-3)
