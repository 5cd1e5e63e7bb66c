"""Grids from the command line, one of which is killed on the way."""

import json
import signal

import pytest
from processes import end_of
from small_runs import ROOT, start_process

from segadv_jax import cli, files
from segadv_jax.campaign import pool
from segadv_jax.campaign.arms import load_config
from segadv_jax.errors import InputError

TESTS = str(ROOT / "tests")
VOC, STANFORD = "configs/voc_largefov.py:product", "configs/stanford.py:adversarial"
FLAGS = ["--slr=1e-6,1e-5", "--alr=0.1,0.5", "--lam=0.1,1"]

# The stand-in with a configuration that says what it is of, and measures that grow with slr, fall
# with alr and grow a little with lambda. At the first update of one run it kills its grid and
# itself, once; a run of another fails.
PROGRAM = """
import json, pathlib, sys
sys.path.insert(0, {tests!r})
import stand_in
from processes import kill_with_parent
fields, train = stand_in.FIELDS, stand_in.train
folder = pathlib.Path(fields["workdir"])
lam = float(fields["config.loss.lam"])
rates = {{
    player: float(fields.get(f"config.optimizer.{{player}}.learning_rate", 0.1))
    for player in ("segmenter", "adversary")
}}
config = {{
    "seed": int(fields["config.seed"]),
    "data": {{"name": "voc_sbd", "test": fields["config.data.test"]}},
    "train": {{"updates": 3}},
    "adversary": {{"name": "largefov"}},
    "encoding": "product",
    "alternation": {{"schedule": "slow"}},
    "loss": {{"lam": lam, "reduction": "mean"}},
    "optimizer": {{player: {{"learning_rate": rate}} for player, rate in rates.items()}},
}}
def train_one(updates):
    (folder / "config.json").write_text(json.dumps(config))
    if (folder.parent.name, folder.name) == {fails!r}:
        sys.exit("error: this one fails")
    if (folder.parent.name, folder.name) == {dies!r} and not (folder / "history.csv").exists():
        train(1)
        kill_with_parent()
    train(3)
def evaluate(split, updates):
    score = 0.5 + config["seed"] / 50 + lam / 1000
    score += (rates["segmenter"] > 5e-6) / 25 - (rates["adversary"] > 0.3) / 100
    result = {{"class_accuracy": 0.6, "pixel_accuracy": 0.7, "mean_iou": score, "mean_bf": 0.45}}
    result |= {{"std_bf": 0.2, "iou": {{"dog": 0.8}}, "mce": 1.5, "step": 30, "images": 7}}
    stand_in.write_json(f"eval/{{split}}.json", result)
stand_in.train, stand_in.evaluate = train_one, evaluate
stand_in.main()
"""


def program(folder, dies=None, fails=None):
    """The flag for it."""
    path = folder / "program.py"
    path.write_text(PROGRAM.format(tests=TESTS, dies=dies, fails=fails))
    return f"--program={path}"


def grid_search(*arguments):
    """The exit status of a command line."""
    return cli.run("segadv_jax.commands.grid_search", "segadv_jax grid_search", arguments)


def start_grid_search(*arguments):
    """The same in a process of its own: (exit status, what it wrote to stdout, and to stderr)."""
    return end_of(start_process(["-m", "segadv_jax", "grid_search", *arguments]))


def tables(workdir, out):
    """Writes the paper's tables with the best point of a grid."""
    arguments = [f"--out={out}", f"grid={workdir}"]
    assert not cli.run("segadv_jax.commands.tables", "segadv_jax tables", arguments)


def read_csv(path):
    return files.read_csv(path, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no grid; give --slr, --alr or --lam"),
        (["--lam="], "--lam=: give numbers from 0 on"),
        (["--lam=1,"], "--lam=1,: give numbers"),
        (["--slr=1e-5,x"], "--slr=1e-5,x: give numbers"),
        (["--alr=-0.1"], "--alr=-0.1: give numbers"),
        (["--alr=nan"], "--alr=nan: give numbers"),
        (["--alr=inf"], "--alr=inf: give numbers"),
        (["--slr=1e-5,0.00001"], "--slr=1e-5,0.00001: 1e-05 comes twice"),
        (["--lam=1", "--seeds="], "--seeds=: give numbers"),
        (["--lam=1", "--seeds=1,1"], "--seeds=1,1: 1 comes twice"),
        (["--lam=1", "--processes=0"], "--processes: 0 is not a number from 1 on"),
        (["--lam=1", "--config=configs/none.py"], "none.py: there is no file"),
        (["--lam=1", "--config=configs/stanford.py:odd"], "odd: the arm is"),
        (["--lam=1", "--lamb=2"], "--lamb=2"),
        (["--lam=1", "--config=configs/stanford.py:standard"], "--lam: .*without adversary"),
        (["--alr=1", "--config=configs/voc_baseline.py"], "--alr: .*schedule is 'standard'"),
        (["--lam=1", "--", "--config.alternation.schedule=standard"], "--lam: .* without advers"),
        (["--lam=1", "--", "--config.loss.lam=2"], "lam=2 after --: --lam sets it; leave it out"),
        (["--lam=1", "--", "--config.data.test=test"], "measured on config.data.validation"),
        (["--lam=1", "--", "--config.data.validation="], "config.data.validation is empty"),
        (["--lam=1", "--", f"--config={VOC}"], "give the configuration before --"),
        (["--lam=1", "--", "--config.seed=1"], "give the seeds of all arms in --seeds"),
        (["--lam=1", "--", "--config.train.updaets=3"], "updaets: .*; did you mean updates"),
        (["--lam=1", "--", "updates=3"], "updates=3 after --: a run takes"),
        (["--lam=1", "--table_only"], "no such folder; there is no table"),
    ],
)
def test_wrong_commands_are_refused_before_anything_starts(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    workdir = tmp_path / "w"
    given = [f"--workdir={workdir}", program(tmp_path), f"--config={STANFORD}", "--seeds=0"]
    with pytest.raises(InputError, match=message) as error:
        grid_search(*given, *arguments)
    assert "\n" not in str(error.value)
    assert not workdir.exists()


def test_a_failed_run_keeps_its_point_from_being_the_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pool, "POLL", 0.02)
    workdir, command = tmp_path / "w", [f"--config={STANFORD}", "--lam=1,2", "--seeds=0,1"]
    failing = program(tmp_path, fails=("lam2", "seed_0"))  # Seed 1 has the larger measures.
    command += [f"--workdir={workdir}", failing, "--processes=2", "--", "--config.train.crop=80"]
    assert grid_search(*command) == 1
    output, errors = capsys.readouterr()
    assert "failed: lam2/seed_0, exit status 1: error: this one fails" in errors
    assert "the same command tries the failed runs again" in errors
    assert [(r["point"], r["seeds"]) for r in read_csv(workdir / "grid.csv")] == [
        ("lam1", "0 1"),
        ("lam2", "1"),
    ]
    assert "Best: lam1," in output
    best = f"segadv_jax train --config={STANFORD} --config.train.crop=80 --config.loss.lam=1 "
    assert sorted(best.split()) == sorted(output.split("\n  ")[1].split()[:-1])  # No data.test.
    # Of the four runs none has read another split, and the table alone starts none.
    assert [path.name for path in workdir.glob("*/*/eval/*")] == ["subset_7.json"] * 3
    assert grid_search("--table_only", *command) == 0
    assert capsys.readouterr().out == output
    program(tmp_path)
    assert grid_search(*command) == 0
    assert "Best: lam2," in capsys.readouterr().out


def test_a_killed_grid_ends_as_it_should_and_fills_its_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pool, "POLL", 0.02)
    workdir, killed = tmp_path / "w", ("slr1e-06_alr0.5_lam0.1", "seed_0")
    command = [f"--workdir={workdir}", program(tmp_path, dies=killed), f"--config={VOC}", *FLAGS]
    command += ["--seeds=0,1", "--processes=2"]
    status, _, errors = start_grid_search(*command)
    assert status == -signal.SIGKILL, errors
    assert not (workdir / "grid.csv").exists()
    assert grid_search(*command) == 0
    output, errors = capsys.readouterr()
    assert f"{'/'.join(killed)}: resumes, 1 of 3 updates" in errors

    lines = read_csv(workdir / "grid.csv")
    # slr counts most, then alr, then lambda.
    assert [(r["slr"], r["alr"], r["lam"]) for r in lines] == [
        (slr, alr, lam)
        for slr in ("1e-05", "1e-06")
        for alr in ("0.1", "0.5")
        for lam in ("1.0", "0.1")
    ]
    assert all(r["seeds"] == "0 1" for r in lines)
    assert float(lines[0]["mean_iou"]) == pytest.approx(0.551)
    assert float(lines[0]["mean_iou_std"]) == pytest.approx(0.02 / 2**0.5)
    assert float(lines[0]["mean_bf"]) == 0.45
    assert [r["best"] for r in lines] == ["yes"] + [""] * 7
    assert output.splitlines()[1].split()[:3] == ["on", "val,", "in"] and "mean BF" in output
    assert "Note: BF on val says little: void surrounds the objects" in output
    assert output.splitlines()[2].split()[:6] == [
        "slr1e-05_alr0.1_lam1",
        *"0 1 55.10 +- 1.41".split(),
    ]
    best = next(line for line in output.splitlines() if line.startswith("  segadv_jax train"))
    config = load_config(best.split()[2:-1])
    assert config.optimizer.segmenter.learning_rate == 1e-5
    assert (config.optimizer.adversary.learning_rate, config.loss.lam) == (0.1, 1)
    starts = {p.parts[-3:-1]: len(p.read_text().splitlines()) for p in workdir.glob("*/*/starts")}
    assert len(starts) == 16
    assert starts.pop(killed) == 2 and set(starts.values()) == {1}
    assert len(read_csv(workdir / "results.csv")) == 16

    out = tmp_path / "tables"
    tables(workdir, out)
    cells = {(r["row"], r["column"]): r for r in read_csv(out / "supplement_table2.csv")}
    found = {c: cells["LargeFOV, product", c] for c in ("mIoU", "mBF", "slr", "alr", "lambda")}
    ours = {column: float(cell["ours"]) for column, cell in found.items()}
    assert ours == pytest.approx({"mIoU": 55.1, "mBF": 45, "slr": 1e-5, "alr": 0.1, "lambda": 16})
    assert "slr1e-05_alr0.1_lam1, the best of 8 points by mean IoU" in found["mIoU"]["from"]
    assert "split val, 7 images, the paper's on split val, 1,449" in found["mIoU"]["warning"]
    assert sum(bool(cell["ours"]) for cell in cells.values()) == 6


# The program, but that one run, at its third update, kills its grid and itself, once.
KILLING = """
import os, pathlib, sys
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"  # As in conftest.py.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
sys.path[:0] = {paths!r}
from processes import kill_with_parent, train_until_step
folder = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
def stop():
    if folder.parts[-3:-1] == {killed!r} and not (folder / "was_here").exists():
        (folder / "was_here").touch()
        kill_with_parent()
train_until_step(3, stop)  # The second was validated.
"""


@pytest.mark.slow
def test_a_real_grid_killed_on_the_way(data_dir, tmp_path):
    workdir, point = tmp_path / "w", "slr0.01_alr0.01_lam1"
    path = tmp_path / "killing.py"
    path.write_text(KILLING.format(paths=[str(ROOT), TESTS], killed=("w", point)))
    settings = {"train.updates": 6, "evaluate.every": 2, "data.data_dir": data_dir}
    settings |= {"evaluate.train_images": 0, "evaluate.pictures": 1}
    fields = [f"--config.{name}={value}" for name, value in settings.items()]
    shared = [f"--program={path}", "--config=tests/small_synthetic.py"]
    shared += ["--processes=2", "--seeds=0"]
    command = [*shared, f"--workdir={workdir}"]
    command += ["--slr=0.01,0.02", "--alr=0.001,0.01", "--lam=0.1,1", "--", *fields]
    status, _, errors = start_grid_search(*command)
    assert status == -signal.SIGKILL, errors
    status, output, errors = start_grid_search(*command)
    assert status == 0, errors
    assert f"{point}/seed_0: resumes, 2 of 6 updates" in errors
    lines = read_csv(workdir / "grid.csv")
    results = {
        line["point"]: json.loads(
            (workdir / line["point"] / "seed_0" / "eval" / "validation[:5].json").read_text()
        )
        for line in lines
    }
    assert len(results) == 8 and len({r["mce"] for r in results.values()}) == 8
    scores = [results[line["point"]]["mean_iou"] for line in lines]
    assert scores == sorted(scores, reverse=True) == [float(line["mean_iou"]) for line in lines]
    assert f"Best: {lines[0]['point']}, to be trained with" in output

    # Killed it ended as one left alone: that point in a grid of its own.
    alone = tmp_path / "alone"
    command = [*shared, f"--workdir={alone}", "--slr=0.01", "--alr=0.01", "--lam=1"]
    status, _, errors = start_grid_search(*command, "--", *fields)
    assert status == 0, errors
    for name in ("history.csv", "eval/validation[:5].json"):
        killed, left = ((w / point / "seed_0" / name).read_bytes() for w in (workdir, alone))
        assert killed == left

    out = tmp_path / "tables"
    tables(workdir, out)
    cells = {cell["column"]: cell for cell in read_csv(out / "other_runs.csv")}
    assert float(cells["mean IoU"]["ours"]) == pytest.approx(100 * scores[0])
    assert "seeds 0; split validation[:5], 5 images" in cells["mean IoU"]["from"]
    assert not any(cell["ours"] for cell in read_csv(out / "table1.csv"))
