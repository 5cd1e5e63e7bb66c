"""An experiment is tried before it is trained, through the command line."""

import jax
import pytest
from small_runs import small_config

from segadv_jax import cli
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.report import costs
from segadv_jax.workdir import Workdir

CONFIG = "--config=tests/small_synthetic.py:adversarial"


def check(data_dir, *arguments):
    argv = [CONFIG, f"--config.data.data_dir={data_dir}", *arguments]
    return cli.run("segadv_jax.commands.check", "segadv_jax check", argv)


@pytest.fixture
def cheap(monkeypatch):
    """Without steps, which take long to compile."""
    monkeypatch.setattr(costs, "describe", lambda *_: "Costs: none")


def test_data_networks_and_costs_are_said(data_dir, capsys):
    fields = ("alternation.schedule=fast", "train.updates=9", "evaluate.train_images=8")
    status = check(data_dir, *(f"--config.{field}" for field in fields))
    output = capsys.readouterr().out
    assert not status
    lines = {line.partition("  ")[0]: line.split() for line in output.split("\n")}
    assert lines["Data: synthetic, 8 classes"]
    assert lines["images"][1:] == ["22", "5", "7"]
    shares = [float(x) for x in lines["sky, % of labelled pixels"][-3:]]
    assert all(10 < share < 60 for share in shares)
    assert "segmenter multiscale: " in output and "adversary two_branch: " in output
    assert "weights: config.init, scratch" in output
    # Nine updates of the segmenter and eight of the adversary. Three validations of 5 + 8 images,
    # and a test of 7, four at a time.
    times = {name: lines[name][-1] for name in ("segmenter", "adversary", "validation", "test")}
    assert times == {"segmenter": "9", "adversary": "8", "validation": "12", "test": "2"}
    assert 0 < float(lines["adversary"][1]) and 0 < float(lines["segmenter"][2])
    assert "training " in output and "3 validations " in output and "checkpoints: " in output
    assert "warning: only 5 images to validate with" in output
    number = output.count("\nwarning: ")
    assert number > 1 and output.endswith(f"check: {number} warnings; training can begin\n")


def test_nothing_is_written_to_the_workdir(data_dir, tmp_path, cheap, capsys):
    assert not check(data_dir, f"--workdir={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()


def test_a_run_would_go_on(data_dir, tmp_path, cheap, capsys):
    workdir = Workdir(tmp_path)
    (tmp_path / "checkpoints" / "8").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        # It takes all from there, and needs its first weights no longer.
        patch.setattr(Checkpoints, "__init__", lambda *_: pytest.fail("is opened, which writes"))
        assert not check(data_dir, f"--workdir={workdir}", "--config.init=/nowhere")
    output = capsys.readouterr().out
    assert f"weights: those of the run in {tmp_path}, which would go on" in output
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["8", "checkpoints"]


def test_what_differs_from_the_run_is_said_or_refused(data_dir, tmp_path, cheap, capsys):
    begun = small_config(data_dir, **{"evaluate.split": "test[:7]"})  # As training records it.
    Workdir(tmp_path).record_config(begun.to_dict())
    check(data_dir, f"--workdir={tmp_path}", "--config.train.updates=13")
    output = capsys.readouterr().out
    assert f"warning: differs from {tmp_path} in train.updates\n" in output
    with pytest.raises(InputError, match="another architecture.*config.segmenter.hidden"):
        check(data_dir, f"--workdir={tmp_path}", "--config.segmenter.hidden=9")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.init=/nowhere", "config.init is '/nowhere'"),
        ("--config.data.train=tarin", "the data set synthetic has no split 'tarin'"),
        ("--config.train.batch_size=6", "multiple of 4"),
        ("--config.loss.start=99", "would never begin"),
    ],
)
def test_what_training_would_refuse_is_refused(data_dir, cheap, argument, message):
    with pytest.raises(InputError, match=message):
        check(data_dir, argument)


def test_a_loss_that_is_not_finite_is_an_error(data_dir):
    rate = "--config.optimizer.segmenter.learning_rate=1e30"
    with pytest.raises(FloatingPointError, match="config.optimizer.segmenter.learning_rate"):
        check(data_dir, rate, "--config.alternation.schedule=standard")


def test_the_costs_are_those_of_the_compiled_step():
    def step(x):
        return jax.numpy.matmul(x, x, precision="highest")

    played = []

    def play(compiled):
        played.append(compiled(matrix))
        return played[-1]

    matrix = jax.numpy.ones((64, 64))
    cost, results = costs.measure(jax.jit(step), (matrix,), play)
    assert cost.gflop == pytest.approx(4 * 2 * 64**3 / 1e9, rel=0.02)  # On each of four devices.
    assert cost.mebibytes >= 2 * 64 * 64 * 4 / 2**20
    assert 1 < len(results) == len(played)


def test_a_duration_is_said_as_people_do():
    said = [costs.duration(x) for x in (0.2, 59, 130, 5400, 3 * 3600, 200 * 3600)]
    assert said == ["a second", "59 seconds", "2 minutes", "90 minutes", "3.0 hours", "8.3 days"]
