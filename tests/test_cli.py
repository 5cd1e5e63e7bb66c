"""The command line: commands, fields of the configuration, and errors of one line."""

import logging
import subprocess
import sys
import types

import pytest
from absl import logging as absl_logging
from processes import end_of
from small_runs import ROOT

from segadv_jax import cli, configuration
from segadv_jax import evaluate as evaluating
from segadv_jax.commands import evaluate as evaluate_command
from segadv_jax.commands import train as train_command
from segadv_jax.errors import InputError
from segadv_jax.report import summary
from segadv_jax.workdir import Workdir

ARGUMENTS = ["--config=synthetic:standard", "--workdir=W"]
RESULT = {"iou": {"sky": 0.5}, "mean_iou": 0.5, "confusion": [[7]]}


@pytest.fixture(autouse=True)
def messages_as_before(monkeypatch):
    """The command line sets up the process's log, which is pytest's here."""
    root, verbosity = logging.getLogger(), absl_logging.get_verbosity()
    monkeypatch.setattr(root, "handlers", [*root.handlers])
    monkeypatch.setattr(root, "level", root.level)
    yield
    absl_logging.set_verbosity(verbosity)


@pytest.fixture
def called(monkeypatch):
    """What the commands were to do: [(function, configuration, workdir, ...)]."""
    calls = []
    for command, name in (
        (train_command, "train"),
        (evaluating, "evaluate"),
        (evaluate_command, "evaluate"),
    ):

        def record(config, *args, name=name, **_):
            calls.append((name, config.to_dict(), *args))
            return RESULT

        monkeypatch.setattr(command, name, record)
    return calls


def status_of(*argv):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    return end.value.code


def test_a_mode_is_a_command(called):
    fields = ["--config.seed=3"]
    for argv in (
        ["evaluate", *ARGUMENTS, *fields],
        ["--mode=evaluate", *ARGUMENTS, *fields],
        [*ARGUMENTS, "--mode", "evaluate", *fields],
        ["--config", "synthetic:standard", "--workdir", "W", *fields, "--mode=evaluate"],
    ):
        assert not status_of(*argv)
    assert called[0][0] == "evaluate" and called[0][1]["seed"] == 3 and called[0][2:] == ("W",)
    assert called == called[:1] * 4


def test_without_a_command_it_trains_and_then_reads_the_test_split(called):
    for argv in (["train", *ARGUMENTS], ARGUMENTS, [*ARGUMENTS, "--mode=train"]):
        assert not status_of(*argv)
    train, evaluate = called[:2]
    assert (train[0], train[2:]) == ("train", ("W",))
    assert (evaluate[0], evaluate[2:]) == ("evaluate", ("W", "test"))
    assert called == [train, evaluate] * 3


def test_what_is_evaluated_otherwise_comes_on_top_of_the_plain_evaluation(called):
    """Without `eval/test.json` a run is not done."""
    for field in ("prior_shift=0.5", "temperature=2.0", "checkpoint=latest", "flip"):
        called.clear()
        assert not status_of("train", *ARGUMENTS, f"--config.evaluate.{field}")
        (_, _, _), (_, plain, *_), (_, other, *_) = called
        default = {"prior_shift": 0, "temperature": 1, "checkpoint": "selected", "flip": False}
        default["scales"] = (1.0,)
        assert {name: plain["evaluate"][name] for name in default} == default
        assert plain != other and plain | {"evaluate": 0} == other | {"evaluate": 0}


def test_the_last_lines_are_the_classes_and_what_is_taken_for_what(called, capsys):
    for command in ("train", "evaluate"):
        assert not status_of(command, *ARGUMENTS)
        assert capsys.readouterr().out == summary.describe(RESULT) + "\n"


def test_an_evaluation_takes_the_runs_own_configuration(called, tmp_path):
    config = configuration.load("synthetic:standard", ["--config.train.batch_size=2"])
    Workdir(tmp_path).record_config(config.to_dict())
    fields = ["--config.evaluate.split=more", "--config.data.archives=A"]
    for start in (["evaluate"], ["--mode=evaluate"]):
        assert not status_of(*start, f"--workdir={tmp_path}", *fields)
    expected = configuration.recorded(Workdir(tmp_path))
    expected.evaluate.split, expected.data.archives = "more", "A"
    assert called == [("evaluate", expected.to_dict(), str(tmp_path))] * 2
    # With a configuration it is that one, as for weights that no run trained.
    assert not status_of("evaluate", f"--workdir={tmp_path}", ARGUMENTS[0], "--config.seed=3")
    assert called[2][1]["seed"] == 3 and called[2][1]["train"]["batch_size"] == 8


def test_an_evaluation_without_a_run_is_refused(called, capsys, tmp_path):
    assert status_of("evaluate", f"--workdir={tmp_path}") == 2
    assert "no config.json is there; name a run" in capsys.readouterr().err and not called


def test_a_field_may_have_its_value_in_the_next_word(called):
    joined = ["--config.seed=5", "--config.train.scale=(1.0,1.5)", "--config.train.flip=false"]
    apart = ["--config.seed", "5", "--config.train.scale", "(1.0,1.5)", "--noconfig.train.flip"]
    for fields in (joined, apart, ["--config.train.flip", "false", *joined[:2]]):
        assert not status_of("evaluate", *fields, *ARGUMENTS)
    assert called[0][1]["seed"] == 5 and called[0][1]["train"]["scale"] == (1.0, 1.5)
    assert called[0][1]["train"]["flip"] is False
    assert called == called[:1] * 3


def test_a_value_in_the_next_word_may_be_negative_but_is_no_option():
    argv = ["--config.evaluate.prior_shift", "-0.25", "--config.seed", "--out=p", "a.jpg"]
    fields = ["--config.evaluate.prior_shift=-0.25", "--config.seed"]
    assert cli._split_fields(argv) == (["--out=p", "a.jpg"], fields)


def test_photographs_may_stand_on_both_sides_of_an_option(monkeypatch):
    given = []
    monkeypatch.setattr("segadv_jax.commands.predict.main", given.append)
    cli.run("segadv_jax.commands.predict", "predict", ["a", "b", "--out=p", "c", "--workdir=W"])
    assert given[0].inputs == ["a", "b", "c"]


def test_the_home_folder_is_meant_within_a_word_too(called, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    fields = ["--config=synthetic", "--workdir=~/runs", "--config.data.data_dir=~"]
    assert not status_of("evaluate", *fields)
    ((_, config, workdir),) = called
    assert (workdir, config["data"]["data_dir"]) == ("/home/me/runs", "/home/me")


def test_what_follows_a_field_that_is_true_or_false_need_not_be_its_value():
    argv = ["--config.evaluate.flip", "a.jpg", "--config.evaluate.bf", "False", "b.jpg"]
    fields = ["--config.evaluate.flip", "--config.evaluate.bf=False"]
    assert cli._split_fields(argv) == (["a.jpg", "b.jpg"], fields)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tarin", *ARGUMENTS], "tarin is no command; known: check, train, evaluate, "),
        (["--mode=predict", *ARGUMENTS], "--mode=predict: it is train, evaluate, check"),
        (["train", *ARGUMENTS, "--batch_size=8"], "unrecognized arguments: --batch_size=8"),
        ([*ARGUMENTS, "--batch_size=8"], "unrecognized arguments: --batch_size=8"),
        (["evaluate", *ARGUMENTS, "more"], "unrecognized arguments: more"),
        (["evaluate"], "the following arguments are required: --workdir"),
        (["check", "--workdir=W"], "the following arguments are required: --config"),
        (["train", "--workdir=W"], "the following arguments are required: --config"),
        (["train", "--config=synthetic"], "the following arguments are required: --workdir"),
        (
            ["train", "--conf=synthetic", "--workdir=W"],
            "the following arguments are required: --co",
        ),
        (
            ["train", "--config=nowhere", "--workdir=W"],
            "--config=nowhere: there is no file nowhere",
        ),
        (["train", *ARGUMENTS, "--config.sead=3"], "--config.sead: the configuration has no such"),
        (["train", *ARGUMENTS, "--config.seed=one"], "--config.seed=one: "),
        (["train", *ARGUMENTS, "--config.seed"], "--config.seed: "),
        (
            ["campaign", "--workdir=W", "--seeds=", "--arm=a"],
            "--seeds=: give numbers from 0 on, as",
        ),
        (["grid_search", *ARGUMENTS, "--seeds=0", "--lam=x"], "--lam=x: give numbers from 0 on"),
        (["convert_weights", "none", "W.safetensors"], "none: there is no such file"),
        (
            ["correct", "--workdir=W", "--prior_shifts", "-0.5,0"],
            "argument --prior_shifts: expected one argument; put an equals sign before ",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(called, capsys, argv, message):
    assert status_of(*argv) == 2
    output, errors = capsys.readouterr()
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1
    assert not output and not called


@pytest.mark.parametrize("error", [InputError, FloatingPointError])
def test_what_a_command_finds_wrong_is_one_line_too(capsys, error):
    def command(argv):
        assert argv == ["a"]
        raise error("over two\n  lines")

    with pytest.raises(SystemExit) as end:
        cli.report_errors(command, ["a"])
    assert end.value.code == 2 and capsys.readouterr().err == "error: over two lines\n"


def test_a_mistake_of_the_program_is_not_hidden():
    def command(argv):
        raise ValueError(argv)

    with pytest.raises(ValueError, match="a"):
        cli.report_errors(command, ["a"])


def test_the_status_is_what_the_command_returns():
    for status in (0, 3, None):
        with pytest.raises(SystemExit) as end:
            cli.report_errors(lambda argv, status=status: status, [])
        assert end.value.code == status


def test_what_follows_two_dashes_is_for_another_command(monkeypatch):
    def add_arguments(parser):
        parser.add_argument("--number", type=int)

    program, given = types.ModuleType("program", "A program."), []
    program.add_arguments, program.main = add_arguments, given.append
    monkeypatch.setitem(sys.modules, "program", program)
    argv = ["--config.a", "1", "--number=3", "--", "--config.b=2", "--number", "4"]
    assert cli.run("program", "python -m program", argv) is None
    (options,) = given
    assert options.number == 3
    assert options.overrides == ["--config.a=1", "--config.b=2", "--number", "4"]


def test_help_lists_the_commands(capsys):
    for argv in ([], ["--help"], ["-h"]):
        assert status_of(*argv) == 0
        output = capsys.readouterr().out
        assert all(f"    {name} " in output for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_shows_its_docstring_as_it_is_written(capsys, name):
    assert status_of(name, "--help") == 0
    output = capsys.readouterr().out
    module = sys.modules[f"segadv_jax.commands.{name}"]
    assert module.__doc__.strip() in output and f"usage: segadv_jax {name} " in output


@pytest.mark.parametrize(
    ("level", "path", "message", "shown"),
    [
        (logging.INFO, cli.__file__, "devices: 4", True),
        (logging.INFO, "/lib/clu/metric_writers/logging_writer.py", "[9] mce=0.3", False),
        (logging.INFO, "/lib/orbax/checkpoint.py", "Saving checkpoint", False),
        (logging.WARNING, "/lib/orbax/checkpoint.py", "disk is full", True),
        (logging.WARNING, "/lib/orbax/checkpoint.py", "no tracked_metric", False),
        (logging.WARNING, "/lib/orbax/checkpoint.py", "Given directory is read only=W", False),
    ],
)
def test_messages_are_for_people(capsys, level, path, message, shown):
    cli.show_messages()
    record = logging.LogRecord("absl", level, path, 1, message, None, None)
    logging.getLogger().handle(record)
    assert (message in capsys.readouterr().err) == shown


def test_the_package_is_a_program():
    process = subprocess.Popen(
        [sys.executable, "-m", "segadv_jax", "tarin"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    status, output, errors = end_of(process)
    assert (status, output) == (2, "")
    assert errors.startswith("error: tarin is no command; known: check, ")
    assert errors.count("\n") == 1
