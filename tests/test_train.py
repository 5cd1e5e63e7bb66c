"""The loop, end to end: what a run reads, writes and refuses."""

import functools
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_runs import small_config, told
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segadv_jax import devices, evaluate, experiment
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import pipeline
from segadv_jax.errors import InputError
from segadv_jax.eval_step import eval_step, zero_totals
from segadv_jax.initialize import initialize
from segadv_jax.soundness import UnsoundError
from segadv_jax.train import train
from segadv_jax.workdir import CURVES, HISTORY_COLUMNS, PATIENCE, STRUCTURE, UPDATES, End, Workdir


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run of the fast schedule, the splits that it read, and what it said."""
    workdir = tmp_path_factory.mktemp("run")
    config = small_config(data_dir, **{"alternation.schedule": "fast", "train.profile": 2})
    splits, read_split = [], pipeline.read_split

    def spy(builder, split):
        splits.append(split)
        return read_split(builder, split)

    with pytest.MonkeyPatch.context() as patch, told() as said:
        patch.setattr(pipeline, "read_split", spy)
        train(config, str(workdir))
    return config, Workdir(workdir), splits, said


def test_a_run_says_what_a_person_wants_to_know(run):
    """And nothing else: a line for each validation, no figures in between."""
    _, workdir, _, said = run
    rows = workdir.history()
    validated = [f"{100 * row['validation_mean_iou']:.1f}" for row in rows]
    for text, line in zip(
        [
            r"synthetic: 22 images to train on, 5 to validate; 8 classes: sky, building, .*",
            r"segmenter multiscale: [\d,]+ parameters",
            r"adversary two_branch: [\d,]+ parameters",
            rf"12 updates of 4 images, a validation every 4; results go to {workdir}",
            rf"2 steps from the tenth on are profiled: {workdir}/plugins/profile",
            r"compiling the segmenter's training step \.\.\.",
            r"compiled in \d+ s",
            r"compiling the adversary's training step \.\.\.",
            r"compiled in \d+ s, \d+ s in all",
            r"compiling the validation \.\.\.",
            *(
                rf"update {4 * number} of 12, validation mean IoU {value}, best .*"
                r"; adversary right on \d+ / \d+ %"
                for number, value in enumerate(validated, 1)
            ),
            r"training ended after 12 updates: all are done; the best validation was at update \d+",
        ],
        said,
        strict=True,
    ):
        assert re.fullmatch(text, line)


def test_training_does_not_read_the_test_split(run):
    assert sorted(run[2]) == ["train[:22]", "validation[:5]"]


def test_history_has_a_row_for_each_validation_by_segmenter_updates(run):
    rows = run[1].history()
    assert [row["segmenter_updates"] for row in rows] == [4, 8, 12]
    assert [row["step"] for row in rows] == [7, 15, 23]  # The adversary's turns come on top.
    assert [row["epoch"] for row in rows] == [4 / 5, 8 / 5, 12 / 5]  # 22 images, 5 batches of 4.
    for row in rows:
        # It is the segmenter's turn, in which nobody asks the adversary about real maps.
        left_out = {"accuracy_real", "adversary_loss"} | {
            f"validation_{measure}" for measure in STRUCTURE
        }
        assert set(row) == set(HISTORY_COLUMNS) - left_out
        assert 0 < row["validation_mean_iou"] < 1 and 0 < row["train_pixel_accuracy"] < 1


def test_a_run_writes_pictures_and_the_health_of_the_game(run):
    picture = np.asarray(Image.open(run[1].folder / "predictions" / "0000012.png"))
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


def test_some_steps_are_profiled(run):
    (profile,) = run[1].folder.glob("plugins/profile/*/*.xplane.pb")
    assert b"train_step" in profile.read_bytes()


def test_the_networks_are_described(run):
    text = run[1].parameters_path.read_text()
    assert text.index("segmenter\n") < text.index("adversary\n") and text.count("Total: ") == 2


def test_evaluation_takes_the_checkpoint_that_the_validation_selected(run):
    config, workdir, *_ = run
    rows = workdir.history()
    best = max(rows, key=lambda row: row["validation_mean_iou"])
    result = evaluate.evaluate(config, str(workdir), "validation[:5]")
    assert result["step"] == best["step"] and result["images"] == 5
    for measure in CURVES:
        assert result[measure] == pytest.approx(best[f"validation_{measure}"], rel=1e-6)
    assert workdir.evaluation("validation[:5]") == result
    assert workdir.end() == End(UPDATES, 23, best["step"])
    done = workdir.result("validation[:5]")
    assert done["validation_mean_iou"] == best["validation_mean_iou"]
    assert workdir.result() is None  # On the test split it is not evaluated.


def test_a_finished_run_is_left_as_it_is(run):
    config, workdir, *_ = run
    before, end = workdir.history_path.read_bytes(), workdir.end()
    with told() as said:
        train(config, str(workdir))
    already = "training has ended already after 12 updates; to go on, raise config.train.updates"
    assert said[-1] == already and not [line for line in said if line.startswith("resuming")]
    assert workdir.history_path.read_bytes() == before and workdir.end() == end


def test_a_run_given_more_updates_is_unfinished_until_it_ends_again(run, tmp_path, monkeypatch):
    config, finished, *_ = run
    workdir = Workdir(tmp_path / "longer")
    shutil.copytree(finished.folder, workdir.folder)
    split = config.data.validation
    evaluate.evaluate(config, str(workdir), split)
    assert workdir.end().step == 23 and workdir.result(split) is not None
    longer = config.copy_and_resolve_references()
    longer.train.updates = 13
    shard, meanwhile = devices.shard, []

    def watching(batch):
        meanwhile.append((workdir.end(), workdir.result(split)))
        return shard(batch)

    monkeypatch.setattr(devices, "shard", watching)
    train(longer, str(workdir))
    assert set(meanwhile) == {(None, None)}
    end, rows = workdir.end(), workdir.history()
    assert (end.reason, end.step) == (UPDATES, 25) and rows[-1]["segmenter_updates"] == 13
    best = max(reversed(rows), key=lambda row: row["validation_mean_iou"])
    assert end.selected_step == best["step"]
    evaluate.evaluate(longer, str(workdir), split)
    assert workdir.result(split)["segmenter_updates"] == best["segmenter_updates"]


def test_another_architecture_in_the_workdir_is_refused(run, data_dir):
    wider = small_config(data_dir, **{"alternation.schedule": "fast", "segmenter.hidden": 9})
    with pytest.raises(InputError, match="another architecture.*config.segmenter.hidden"):
        train(wider, str(run[1]))
    with pytest.raises(InputError, match="another architecture.*config.segmenter.hidden"):
        evaluate.evaluate(wider, str(run[1]))


def test_damaged_files_are_named(run, tmp_path):
    config, workdir, *_ = run
    for name, damage in {"config.json": '{"seed": 0, "da', "history.csv": "foo,bar\n1,2\n"}.items():
        copy = tmp_path / name.partition(".")[0]
        shutil.copytree(workdir.folder, copy)
        (copy / name).write_text(damage)
        with pytest.raises(InputError, match=f"{name} is damaged"):
            train(config, str(copy))
        assert (copy / name).read_text() == damage  # It is the user's to mend.
    copy = tmp_path / "checkpoint"
    shutil.copytree(workdir.folder, copy)
    for file in (copy / "checkpoints").glob("*/segmenter/_METADATA"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(InputError, match="checkpoints/23 cannot be read"):
        train(config, str(copy))


def test_a_workdir_that_cannot_be_one_is_refused(data_dir, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--workdir=.*file is not a folder"):
        train(small_config(data_dir), str(tmp_path / "file"))


def test_a_refused_configuration_leaves_the_workdir_free(data_dir, tmp_path):
    with pytest.raises(InputError, match="config.segmenter: activation"):
        train(small_config(data_dir, **{"segmenter.activation": "gelu"}), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_the_devices_cannot_share_is_refused(data_dir, tmp_path):
    config = small_config(data_dir, **{"train.batch_size": 6})
    with pytest.raises(InputError, match=r"config.train.batch_size is 6.*multiple of 4"):
        train(config, str(tmp_path))
    config.train.batch_size, config.train.accumulate = 8, 3
    with pytest.raises(InputError, match="4 devices in 3 parts each; .*a multiple of 12, or"):
        train(config, str(tmp_path))


def test_a_diverging_adversary_is_named_and_leaves_no_checkpoint(data_dir, tmp_path):
    """Nor does it reach the segmenter before its term begins."""
    wild = {"loss.start": 8, "optimizer.adversary.learning_rate": 1e30, "train.updates": 12}
    config = small_config(data_dir, **wild | {"train.log_every": 100})
    with pytest.raises(UnsoundError, match="lower config.optimizer.adversary.learning_rate"):
        train(config, str(tmp_path))
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_a_run_that_explodes_ends_at_once_though_all_is_finite(data_dir, tmp_path):
    fast = {"optimizer.segmenter.learning_rate": 1e8, "train.updates": 8}
    config = small_config(data_dir, "standard", **fast)
    message = r"the cross-entropy has grown to .* at step 2 .*config.optimizer.segmenter.learning_"
    with pytest.raises(UnsoundError, match=message):
        train(config, str(tmp_path))


def test_patience_parts_averages_and_a_profile(data_dir, tmp_path, monkeypatch):
    """One run of all: half of the images, an average that is measured, an end before time.

    The profile of more steps than there are is written nevertheless.
    """
    summarize, scores = evaluate.summarize, iter(np.repeat([0.3, 0.4, 0.2, 0.1], 2))

    def scored(totals, class_names):  # Of the validation and of the training images.
        return summarize(totals, class_names) | {"mean_iou": float(next(scores))}

    monkeypatch.setattr(evaluate, "summarize", scored)
    fields = {"train.patience": 2, "train.updates": 40, "train.ema": 0.9, "data.fraction": 0.5}
    fields |= {"train.profile": 50}
    config = small_config(data_dir, "standard", **fields)
    train(config, str(tmp_path))
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1
    workdir = Workdir(tmp_path)
    rows = workdir.history()
    # The second validation is the best, two more are waited.
    assert [row["segmenter_updates"] for row in rows] == [4, 8, 12, 16]
    assert workdir.end() == End(PATIENCE, 16, 8)
    assert rows[0]["epoch"] == 4 / 2  # 11 images, 2 batches.
    before = workdir.history_path.read_bytes()
    train(config, str(tmp_path))  # It stays ended.
    assert workdir.history_path.read_bytes() == before and workdir.end() == End(PATIENCE, 16, 8)
    monkeypatch.setattr(evaluate, "summarize", summarize)
    result = evaluate.evaluate(config, str(tmp_path), "validation[:5]")
    assert result["mce"] == pytest.approx(rows[1]["validation_mce"], rel=1e-5)
    evaluate.evaluate(config, str(tmp_path), "test[:7]")
    assert workdir.result()["segmenter_updates"] == 8

    # What was measured is the average, not the segmenter itself; both come back.
    data_set = experiment.load_data(config)
    setup = experiment.build(config, 8).setup
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(initialize(setup, 0, (32, 32), 8), 8)
    split = data_set.read("validation[:5]")
    step = devices.map_eval_step(functools.partial(eval_step, segmenter=setup.segmenter))
    measured = []
    for params in (state.average, state.params["segmenter"]):
        totals = evaluate.accumulate(step, devices.replicate(params), split, zero_totals(8), 4)
        measured.append(evaluate.summarize(totals, data_set.class_names)["mce"])
    assert measured[0] == pytest.approx(result["mce"], rel=1e-5)
    assert measured[1] != pytest.approx(result["mce"], rel=1e-5)
    with pytest.raises(InputError, match="config.train.ema"):
        train(small_config(data_dir, "standard", **fields | {"train.ema": 0.0}), str(tmp_path))


def test_a_folder_in_which_another_process_trains_is_refused(run, data_dir, tmp_path):
    holds = "import sys; from segadv_jax.workdir import Workdir\n"
    holds += "with Workdir(sys.argv[1]).held(): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holds, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process is training there: wait for it"):
            train(run[0], str(tmp_path))
        other.stdin.close()
    with Workdir(tmp_path).held():  # It ended, and the system let go.
        assert [path.name for path in tmp_path.iterdir()] == ["training.lock"]


def test_images_that_were_trained_on_are_named(run, synthetic, tmp_path):
    """As when a folder has more images, and is divided otherwise."""
    config, first, _, _ = run
    assert first.trained_on() == {*synthetic.read("train[:22]").ids}
    workdir = Workdir(shutil.copytree(first.folder, tmp_path / "run"))
    moved = [synthetic.read(f"{split}[:1]").ids[0] for split in ("validation", "test")]
    workdir.write_trained_on(["gone", *moved])
    assert first.validated_on() == {*synthetic.read("validation[:5]").ids}
    workdir.write_validated_on([*sorted(first.validated_on())[1:], "gone", "too"])
    with told() as said:
        train(config, str(workdir))
        evaluate.evaluate(config, str(workdir), "test[:2]")
        evaluate.evaluate(config, str(workdir), config.data.train)
    assert "22 of the training images are new since the run began" in said
    assert any("others than when the run began (1 new, 2 gone)" in line for line in said)
    flattering = [line for line in said if line.endswith("figures on them flatter")]
    assert len(flattering) == 2
    of = "has names of images that the run was trained on (1: "
    assert f"validation[:5] {of}{moved[0]})" in flattering[0]
    assert f"test[:2] {of}{moved[1]})" in flattering[1]
    assert workdir.trained_on() == first.trained_on() | {"gone", *moved}
