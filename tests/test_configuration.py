"""Configurations are loaded by path or name, recorded, completed and compared."""

import json
import re
from pathlib import Path

import pytest

from configs import stanford, synthetic, voc_largefov
from segadv_jax import cli, configuration, experiment
from segadv_jax.errors import InputError
from segadv_jax.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]
SCALES = "--config.evaluate.scales"
# Fields that runs of some time ago could not have.
LATER = ("loss.balance", "loss.largest_weight", "evaluate.select")
LATER += ("optimizer.segmenter.name", "optimizer.adversary.name", "optimizer.adversary.betas")
LATER += ("optimizer.segmenter.backbone_factor", "adversary.leak", "adversary.image_branch")
LATER += ("init", "segmenter.shrink", "adversary.spectral_norm", "train.ema", "train.profile")


def recorded_before(workdir, config, fields=LATER):
    """Records the configuration as before these fields existed."""
    older = json.loads(json.dumps(config.to_dict()))
    for field in fields:
        *groups, name = field.split(".")
        place = older
        for group in groups:
            place = place[group]
        del place[name]
    workdir.record_config(older)


@pytest.mark.parametrize("name", ["stanford", str(ROOT / "configs" / "stanford.py")])
def test_a_configuration_is_loaded_by_path_or_by_name(name):
    for variant in ("standard_half", "printed"):
        loaded = configuration.load(f"{name}:{variant}")
        assert loaded.to_dict() == stanford.get_config(variant).to_dict()
    assert configuration.load(name).to_dict() == stanford.get_config().to_dict()


def test_a_path_is_taken_from_where_one_is(tmp_path, monkeypatch):
    """Also one that does not end in .py; a name that the package has not is a path."""
    monkeypatch.chdir(tmp_path)
    text = """
from segadv_jax.configs import synthetic
def get_config(size):
    config = synthetic.get_config()
    config.train.crop = int(size)
    return config
"""
    for path in ("mine", "mine.txt"):
        (tmp_path / path).write_text(text)
        assert configuration.load(f"{path}:24").train.crop == 24


def test_a_field_without_a_value_is_refused():
    with pytest.raises(InputError, match="--config.train.updates: give it a value, as in"):
        configuration.load("synthetic", ["--config.train.updates"])


def test_any_field_can_be_set():
    overrides = ["--config.train.batch_size=16", "--noconfig.train.flip", "--config.loss.lam=2"]
    overrides += ["--config.train.scale=(0.8,1.25)", "--config.encoding=product"]
    config = configuration.load("synthetic", overrides)
    assert config.train.batch_size == 16 and config.train.flip is False
    assert config.loss.lam == 2.0 and isinstance(config.loss.lam, float)
    assert config.train.scale == (0.8, 1.25) and config.encoding == "product"
    # The last of several counts.
    twice = ["--config.seed=1", "--config.seed=2", "--config.train.flip=false"]
    config = configuration.load("synthetic", twice)
    assert config.seed == 2 and config.train.flip is False


@pytest.mark.parametrize(
    ("given", "scales"),
    [
        ([f"{SCALES}=1.0", f"{SCALES}=0.5"], (0.5,)),
        ([f"{SCALES}=(0.5, 1.0)", f"{SCALES}=(2.0,)"], (2.0,)),
        ([SCALES, "1.0", f"{SCALES}=(0.5, 1.0)", SCALES, "1.5"], (1.5,)),
    ],
)
def test_several_numbers_given_twice_are_the_last(given, scales, tmp_path):
    """Of a command line and of an evaluation alike: they do not add up."""
    fields = cli._split_fields(given)[1]
    assert configuration.load("synthetic", fields).evaluate.scales == scales
    Workdir(tmp_path).record_config(configuration.load("synthetic").to_dict())
    found = configuration.of_evaluation(Workdir(tmp_path), fields)
    assert found.evaluate.scales == scales


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "nowhere.py",
            [],
            "--config=nowhere.py: there is no file nowhere.py; give the path of one, or the name of"
            " one that comes with the package: ablations, folder, stanford, stanford_light,",
        ),
        ("stanford:half", [], "--config=stanford:half: the arm is"),
        ("synthetic:a:b", [], "--config=synthetic:a:b: the arm is"),
        (
            "synthetic",
            ["--config.train.batchsize=8"],
            "--config.train.batchsize: the configuration has no such field; did you mean"
            r" batch_size\?",
        ),
        ("synthetic", ["--config.xyz=8"], "--config.xyz: the configuration has no such field"),
        (
            "synthetic",
            ["--config.train.scale[7]=1.0"],
            r"--config.train.scale\[7\]: an item is not set by itself; give all that the field",
        ),
        (
            "synthetic",
            ["--config.evaluate.scales[0]=abc"],
            r"--config.evaluate.scales\[0\]: an item",
        ),
        ("synthetic", ["--noconfig.train.flop"], "--config.train.flop: the configuration has no"),
        (
            "synthetic",
            ["--config.seed=0", "--config.train.batch_size=many"],
            "--config.train.batch",
        ),
        ("synthetic", ["--config.loss.lam=much"], "--config.loss.lam=much: .*number"),
        ("synthetic", ["--config.train.batch_size=8.5"], "--config.train.batch_size=8.5: "),
        (
            "synthetic",
            ["--config.train=8"],
            "--config.train is a group of fields: set one of them, as --config.train.",
        ),
        (
            "synthetic",
            ["--config.data.archives.x=1"],
            "--config.data.archives.x: the configuration has no such field",
        ),
        ("synthetic", ["8"], "8: a field is set as in --config.train.batch_size=8"),
        ("synthetic", ["--batch_size=8"], "--batch_size"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said_in_one_line(name, overrides, message):
    with pytest.raises(InputError, match=f"^{message}") as raised:
        configuration.load(name, overrides)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "invalid syntax"),
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name'"),
        ("config = 3\n", "has no attribute 'get_config'"),
        ("def get_config():\n    raise RuntimeError('no\\n  luck')\n", "no luck"),
        ("def get_config():\n    raise KeyError\n", "KeyError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=f"--config={path}: .*{message}") as raised:
        configuration.load(str(path))
    assert "\n" not in str(raised.value)


def test_config_is_recorded_and_compared(tmp_path):
    workdir, config = Workdir(tmp_path), synthetic.get_config()
    assert configuration.record(workdir, config) == []
    recorded = json.loads((tmp_path / "config.json").read_text())
    assert recorded == json.loads(json.dumps(config.to_dict()))
    assert recorded["segmenter"]["widths"] == [8, 32, 64]
    assert configuration.record(workdir, config) == []
    config.train.updates, config.evaluate.flip = 9, True
    assert configuration.record(workdir, config) == ["evaluate.flip", "train.updates"]
    assert json.loads((tmp_path / "config.json").read_text()) == recorded  # That of its start.
    for field, value, message in (
        ("segmenter.hidden", 3, "config.segmenter.hidden is 256, this one's 3"),
        ("encoding", "product", "config.encoding is 'basic', this one's 'product'"),
        ("train.ema", 0.5, "config.train.ema is 0.0, this one's 0.5"),
        ("alternation.period", 7, "config.alternation.period is 500, this one's 7"),
        ("data.name", "voc_sbd", "config.data.name is 'synthetic', this one's 'voc_sbd'"),
        (
            "optimizer.adversary.momentum",
            0.5,
            "config.optimizer.adversary.momentum is 0.9, this one's 0.5",
        ),
        (
            "optimizer.segmenter.name",
            "adam",
            "config.optimizer.segmenter.name is 'sgd', this one's 'adam'",
        ),
    ):
        other = synthetic.get_config()
        other.update_from_flattened_dict({field: value})
        with pytest.raises(InputError, match=f"schedule or optimizer: its {message}"):
            configuration.record(workdir, other)


def test_a_run_recorded_before_a_field_existed_meant_its_default(tmp_path):
    workdir, config = Workdir(tmp_path), synthetic.get_config()
    recorded_before(workdir, config)
    assert configuration.record(workdir, config) == []
    config.train.profile, config.init = 3, "weights.safetensors"
    assert configuration.record(workdir, config) == ["init", "train.profile"]
    for field, value, message in (
        ("segmenter.shrink", 2, "config.segmenter.shrink is 1, this one's 2"),
        ("adversary.spectral_norm", True, "adversary.spectral_norm is False, this one's True"),
        ("train.ema", 0.5, "config.train.ema is 0.0, this one's 0.5"),
        ("adversary.image_branch", "features", "image_branch is 'pixels', this one's 'features'"),
        ("optimizer.adversary.name", "adam", "adversary.name is 'sgd', this one's 'adam'"),
    ):
        other = synthetic.get_config()
        other.update_from_flattened_dict({field: value})
        with pytest.raises(InputError, match=message):
            configuration.record(workdir, other)


def test_a_network_has_its_own_fields_only(tmp_path):
    """The defaults of configs/common.py are another network's, whose fields this one has not."""
    workdir, config = Workdir(tmp_path), voc_largefov.get_config()
    later = ("segmenter.dtype", "segmenter.remat", "adversary.dtype", "adversary.width")
    recorded_before(workdir, config, later)
    assert configuration.record(workdir, config) == []
    completed = configuration.recorded(workdir)
    assert completed.segmenter.dtype == completed.adversary.dtype == "float32"
    assert completed.adversary.width == 1.0 and not completed.segmenter.remat
    assert "widths" not in completed.segmenter and "label_features" not in completed.adversary
    config.adversary.width = 0.5
    with pytest.raises(InputError, match="config.adversary.width is 1.0, this one's 0.5"):
        configuration.record(workdir, config)


def test_a_run_may_go_on_in_another_arithmetic(tmp_path):
    """Its parameters are the same."""
    workdir, config = Workdir(tmp_path), voc_largefov.get_config()
    configuration.record(workdir, config)
    config.segmenter.dtype = config.adversary.dtype = "bfloat16"
    config.segmenter.remat = True
    changed = configuration.record(workdir, config)
    assert changed == ["adversary.dtype", "segmenter.dtype", "segmenter.remat"]


def test_a_recorded_configuration_makes_the_run_again(tmp_path):
    """JSON has lists only; the parts take tuples. Fields that are newer are there."""
    workdir, config = Workdir(tmp_path), synthetic.get_config()
    recorded_before(workdir, config)
    recorded = configuration.recorded(workdir)
    assert {k: v for k, v in recorded.items() if k not in ("segmenter", "adversary")} == {
        k: v for k, v in config.items() if k not in ("segmenter", "adversary")
    }
    setups = [experiment.build(each, 8).setup for each in (config, recorded)]
    for part in ("segmenter", "adversary", "objective", "augmentation", "ema"):
        assert getattr(setups[0], part) == getattr(setups[1], part)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match=f"--workdir={tmp_path}: no config.json is there; name a"):
        configuration.recorded(Workdir(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is damaged .*; delete it to have it written"):
        configuration.recorded(Workdir(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(): pass", "its get_config.. returns no configuration with the field "),
        ("def get_config(): raise SystemExit(3)", "mine.py: 3"),
        (
            "from segadv_jax.configs import common\ndef get_config():\n"
            "    config = common.get_config()\n    del config.train.crop\n    return config",
            "returns no configuration with the field train.crop: begin with",
        ),
    ],
)
def test_what_a_file_returns_must_be_a_whole_configuration(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=message):
        configuration.load(str(tmp_path / "mine.py"))


def test_an_evaluation_may_set_what_is_measured_and_where_the_data_lies(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.record_config(
        configuration.load("synthetic:adversarial", ["--config.loss.lam=0.5"]).to_dict()
    )
    fields = {"evaluate.bf": True, "evaluate.scales": (1.0, 1.5), "data.data_dir": "D"}
    config = configuration.of_evaluation(
        workdir, [f"--config.{name}={value}" for name, value in fields.items()]
    )
    expected = configuration.recorded(workdir)
    expected.update_from_flattened_dict(fields)
    assert config.to_dict() == expected.to_dict() and config.loss.lam == 0.5
    assert (
        configuration.of_evaluation(
            workdir, ["--noconfig.evaluate.bf_background"]
        ).evaluate.bf_background
        is False
    )


@pytest.mark.parametrize(
    "field", ["seed=3", "data.name=voc_sbd", "data.test=train", "segmenter.hidden=3", "loss.lam=1"]
)
def test_an_evaluation_may_set_nothing_else(tmp_path, field):
    workdir = Workdir(tmp_path)
    workdir.record_config(configuration.load("synthetic:adversarial").to_dict())
    name = field.partition("=")[0]
    message = rf"--config.{field}: config.{name} says how the run was trained.*config\.evaluate, "
    with pytest.raises(InputError, match=message):
        configuration.of_evaluation(workdir, ["--config.evaluate.bf", f"--config.{field}"])
    with pytest.raises(InputError, match="--config.evaluate.bif: the configuration has no such"):
        configuration.of_evaluation(workdir, ["--config.evaluate.bif=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.updates=many", "the field takes a whole number, as 8"),
        ("--config.train.updates=1.5", "the field takes a whole number, as 8"),
        ("--config.loss.lam=much", "the field takes a number, as 0.5"),
        ("--config.train.flip=sometimes", "the field takes True or False"),
        ("--noconfig.train.flip=true", "the field takes True or False"),
    ],
)
def test_a_value_of_another_kind_is_refused(override, message):
    with pytest.raises(InputError, match=re.escape(f"{override}: {message}")):
        configuration.set_field(configuration.load("folder"), override)
