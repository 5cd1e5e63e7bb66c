"""Workdirs that are URLs, gs://bucket/run, on a store that is a folder here.

Two things do not go through Python's gfile, which the store stands in for, and are sent to the
folder itself: the arrays of checkpoints, which TensorStore writes, and TensorBoard's events.
"""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from bucket import in_folder, local
from clu import metric_writers
from PIL import Image

from segadv_jax import checkpoints, cli, files, visualize
from segadv_jax.data.archives import data_folder
from segadv_jax.errors import InputError
from segadv_jax.initialize import check_init
from segadv_jax.workdir import UPDATES, End, Workdir

MEASURES = {"class_accuracy": 0.5, "pixel_accuracy": 0.75, "mean_iou": 0.25}


@pytest.fixture
def bucket(tmp_path):
    """The folder that gs:// is."""
    with in_folder(tmp_path):
        yield tmp_path


def test_files_are_written_whole_and_read_back(bucket):
    files.write_json("gs://b/new/a.json", {"a": [1, None]})
    assert files.read_json("gs://b/new/a.json", "restore it", ("a",)) == {"a": [1, None]}
    assert (bucket / "b" / "new" / "a.json").read_text().endswith("}\n")
    files.write_csv("gs://b/a.csv", ("a", "b"), [{"a": 1, "b": None}])
    files.append_csv("gs://b/a.csv", ("a", "b"), {"a": "two\nlines", "b": 2})
    rows = [{"a": "1", "b": ""}, {"a": "two\nlines", "b": "2"}]
    assert files.read_csv("gs://b/a.csv", "mend it", ("a", "b")) == rows
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    visualize.save_png(picture, files.to_path("gs://b/pictures/a.png"))
    np.testing.assert_array_equal(Image.open(bucket / "b" / "pictures" / "a.png"), picture)
    with files.local_copy("gs://b/a.csv") as path:
        assert Path(path).name == "a.csv"
        assert Path(path).read_bytes() == (bucket / "b" / "a.csv").read_bytes()
    assert not Path(path).exists()


def test_a_writer_that_fails_leaves_the_old_object(bucket):
    files.write_json("gs://b/a.json", {"a": 1})
    with pytest.raises(RuntimeError), files.replacing("gs://b/a.json") as file:
        file.write("half")
        raise RuntimeError
    assert files.read_json("gs://b/a.json", "restore it") == {"a": 1}
    assert [path.name for path in (bucket / "b").iterdir()] == ["a.json"]


def test_what_is_absent_or_damaged_is_told_apart(bucket):
    with pytest.raises(FileNotFoundError):
        files.read_json("gs://b/none.json", "restore it")
    (bucket / "b").mkdir()
    (bucket / "b" / "a.json").write_text("{")
    with pytest.raises(InputError, match="^gs://b/a.json is damaged .Expecting.*; restore it$"):
        files.read_json("gs://b/a.json", "restore it")


def test_a_run_is_recorded(bucket):
    workdir = Workdir("gs://b/run")
    assert workdir.recorded_config() is None and workdir.history() == [] and workdir.end() is None
    workdir.make()
    workdir.record_config({"data": {"test": "test"}, "train": {"updates": 6}})
    workdir.cut_history(0)
    for step in (4, 8):
        workdir.add_validation({"step": step, "segmenter_updates": step / 2})
    workdir.cut_history(4)
    assert workdir.history() == [{"step": 4, "segmenter_updates": 2}]
    assert not workdir.has_checkpoints()
    (bucket / "b" / "run" / "checkpoints" / "4").mkdir(parents=True)
    assert workdir.has_checkpoints()
    workdir.write_evaluation("test", MEASURES | {"step": 4})
    workdir.mark_ended(End(UPDATES, 4, 4))
    assert workdir.result()["mean_iou"] == MEASURES["mean_iou"]
    workdir.mark_unfinished()
    workdir.mark_unfinished()
    assert workdir.end() is None
    assert str(workdir) == "gs://b/run" and str(workdir.picture_path(3)).startswith("gs://b/run/")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            tf.errors.PermissionDeniedError(None, None, "no access\nto b"),
            "gs://b/run.* cannot be reached .no access to b.; check the name, the network",
        ),
        (
            ImportError("No module named tensorflow"),
            "needs a library that is not installed .No mod",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    for name in ("exists", "isdir", "makedirs", "GFile"):
        monkeypatch.setattr(tf.io.gfile, name, fail)
    workdir = Workdir("gs://b/run")
    for use in (workdir.make, workdir.has_checkpoints, workdir.recorded_config, workdir.history):
        with pytest.raises(InputError, match=reason) as raised:
            use()
        assert "\n" not in str(raised.value)


def test_only_known_schemes_are_urls():
    with pytest.raises(InputError, match="gcs://b/run: nothing here reads gcs://; known: gs://"):
        Workdir("gcs://b/run")
    assert not files.is_remote("gs:/b") and not files.is_remote("folder/a=b")


def test_prepared_data_stays_on_this_machine():
    with pytest.raises(
        InputError, match="--config.data.data_dir=gs://b/d must be a folder of this"
    ):
        data_folder("gs://b/d")


def test_weights_may_lie_there(bucket):
    with pytest.raises(InputError, match="config.init is 'gs://b/w.safetensors': there is no file"):
        check_init("gs://b/w.safetensors")
    (bucket / "b").mkdir()
    (bucket / "b" / "w.safetensors").write_bytes(b"all of it")
    check_init("gs://b/w.safetensors")
    check_init("vgg:gs://b/w.safetensors")


def test_a_campaign_locks_folders_and_stays_on_this_machine(bucket):
    arguments = ["--workdir=gs://b/campaign", "--seeds=0", "--arm=a=--config=synthetic"]
    with pytest.raises(InputError, match="gs://b/campaign: the folders of runs are locked"):
        cli.run("segadv_jax.commands.campaign", "campaign", arguments)


@pytest.fixture
def beside_gfile(bucket, monkeypatch):
    """What does not go through gfile is sent to the folder."""
    write, absolute = metric_writers.create_default_writer, files.absolute

    def create_default_writer(folder, **others):
        return write(local(folder, bucket), **others)

    def to_folder(path):
        return absolute(local(path, bucket))

    monkeypatch.setattr(metric_writers, "create_default_writer", create_default_writer)
    monkeypatch.setattr(checkpoints.files, "absolute", to_folder)
    return bucket


def test_a_run_is_trained_resumed_evaluated_and_reported_there(beside_gfile, data_dir, capsys):
    given = ["--config=tests/small_synthetic.py:standard", f"--config.data.data_dir={data_dir}"]
    given += ["--workdir=gs://b/run", "--config.evaluate.every=2"]
    for updates in (2, 4):
        arguments = [*given, f"--config.train.updates={updates}"]
        cli.run("segadv_jax.commands.train", "train", arguments)
    where = ["--workdir=gs://b/run", f"--config.data.data_dir={data_dir}"]
    cli.run(
        "segadv_jax.commands.evaluate",
        "evaluate",
        [*where, "--config.evaluate.split=test[:7]", "--config.evaluate.flip"],
    )
    page = beside_gfile / "page.html"
    cli.run("segadv_jax.commands.report", "report", [f"--out={page}", "mine=gs://b/run"])
    run = Workdir("gs://b/run")
    assert [row["segmenter_updates"] for row in run.history()] == [2, 4]
    assert run.end().step == 4 and run.result()["images"] == 7
    assert run.evaluation("test[:7]_flip")["images"] == 7
    names = {path.name for path in (beside_gfile / "b" / "run").iterdir()}
    assert {"config.json", "parameters.txt", "environment.json", "predictions"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "mine" in page.read_text()
    assert not list(Path().glob("gs:*"))  # As a path of this machine it would be a folder.
