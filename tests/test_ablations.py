"""The ablations: their arms, and the page from its files."""

import pytest
from finished_runs import make_run
from small_runs import ROOT

from segadv_jax import cli, configuration, experiment, files
from segadv_jax.configs import ablations as arms_config
from segadv_jax.configs import voc_baseline
from segadv_jax.errors import InputError
from segadv_jax.report import ablations_page, pages
from segadv_jax.report.ablations_page import ARMS, CLAIMS
from segadv_jax.report.pages import CAMPAIGN
from segadv_jax.workdir import Workdir


def ablations(*arguments):
    """The exit status of a command line."""
    return cli.run("tools.ablations", "python -m tools.ablations", arguments)


@pytest.mark.parametrize("arm", ARMS)
def test_arms_differ_in_what_their_name_says(arm):
    config = arms_config.get_config(arm)
    parts = experiment.build(config, 8)
    reference = arms_config.get_config("simultaneous")
    changed = {
        name
        for name in ("encoding", "alternation", "loss", "adversary", "optimizer", "segmenter")
        if config[name] != reference[name]
    }
    expected = {
        "standard": {"alternation", "loss", "optimizer"},
        "simultaneous": set(),
        "product": {"encoding"},
        "scaling": {"encoding"},
        "saturating": {"loss"},
        "label_map": {"adversary", "optimizer"},
        "label_map_rgb": {"adversary", "optimizer", "encoding"},
    }.get(arm, {"alternation"})
    assert changed == expected
    assert (parts.setup.adversary is None) == (arm == "standard")
    assert config.train == reference.train and config.data == reference.data
    # A pre-trained adversary's steps come on top.
    assert parts.alternation.updates(parts.alternation.steps(300))["segmenter"] == 300


def test_an_adversary_of_label_maps_has_the_fields_of_the_paper_s():
    """So that each can be set, as --config.adversary.leak=0.2."""
    for arm in ("label_map", "label_map_rgb"):
        expected = voc_baseline.field_of_view().to_dict() | {"name": "smallfov_light"}
        assert arms_config.get_config(arm).adversary.to_dict() == expected


def test_every_claim_names_arms_that_there_are():
    assert all(CLAIMS.values())
    assert {arm for pairs in CLAIMS.values() for pair in pairs for arm in pair} <= set(ARMS)
    with pytest.raises(ValueError, match="ablations.py:other: the arm is one of"):
        configuration.load("configs/ablations.py:other")


@pytest.fixture
def folder(tmp_path):
    """Finished runs of all arms with two seeds, and how they were made."""
    for number, arm in enumerate(ARMS):
        for seed in (0, 1):
            score = 0.4 + 0.01 * number + 0.001 * seed
            config, standard = arms_config.get_config(arm), arm == "standard"
            config.seed = seed
            measures = dict.fromkeys(("class_accuracy", "pixel_accuracy", "mean_iou"), score)
            verdicts = {"accuracy_real": 0.9, "accuracy_synthetic": 0.75}
            history = [
                {"step": 200, "validation_mean_iou": score + 0.02, "grad_norm_mce": 0.2},
                {"step": 300, "validation_mean_iou": score, "grad_norm_mce": 0.2},
            ]
            if not standard:
                history[0]["grad_norm_adversarial"] = 0.1
                history[1]["grad_norm_adversarial"] = 0.3
            make_run(
                tmp_path / "runs" / arm / f"seed_{seed}",
                config,
                {"test": measures, "subset_7": measures | ({} if standard else verdicts)},
                history,
                selected=200,
            )
    how = {"commits": ["abc"], "commands": ["python -m tools.ablations train"], "seeds": [0, 1]}
    how["machine"] = {"processor": "some", "processes": 2, "jax": "0.10"}
    files.write_json(tmp_path / "runs" / CAMPAIGN, how)
    return tmp_path


def test_report_puts_runs_on_the_page(folder):
    docs = folder / "docs" / "ablations"
    arguments = ["report", f"--workdir={folder / 'runs'}", f"--results={docs}"]
    assert ablations(*arguments) == 0
    page = (folder / "docs" / "ablations.md").read_text()
    assert "| standard | 40.1 ± 0.1 | 40.1 ± 0.1 | 40.1 ± 0.1 | - | - | - | 2.0 ± 0.0 |" in page
    assert "| 90.0 ± 0.0 | 75.0 ± 0.0 | 100.0 ± 0.0 | 2.0 ± 0.0 |" in page
    # Slow is the fourth arm, fast the third; both seeds say the same.
    assert "| slow - fast | +1.0 | +1.0 to +1.0 | 0: +1.0, 1: +1.0 |" in page
    assert page == ablations_page.render(docs)
    assert page.count("\n> ") == len(CLAIMS)
    (folder / "runs" / "fast" / "seed_1" / "eval" / "subset_7.json").unlink()
    with pytest.raises(InputError, match="fast/seed_1 has no evaluation on its validation images"):
        ablations(*arguments)
    (folder / "runs" / "fast" / "seed_1" / "ended.json").unlink()
    with pytest.raises(InputError, match="lacks fast/seed_1: train first"):
        ablations(*arguments)


def test_what_is_trained_is_measured_on_the_validation_images_once(tmp_path, monkeypatch):
    measured = []

    def evaluate(config, folder, split):
        measured.append((folder, split))
        Workdir(folder).write_evaluation(split, Workdir(folder).evaluation("test"))

    monkeypatch.setattr("tools.ablations.evaluate", evaluate)
    stand_in = f"--program={ROOT / 'tests' / 'stand_in.py'}"
    for _ in range(2):
        assert ablations("train", f"--workdir={tmp_path}", "--seeds=3", stand_in) == 0
    folders = {str(tmp_path / arm / "seed_3") for arm in ARMS}
    assert len(measured) == len(ARMS) and {folder for folder, _ in measured} == folders
    assert pages.read_json(tmp_path / CAMPAIGN)["seeds"] == [3]


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "runs.csv").write_text("arm,seed\n")
    with pytest.raises(InputError, match="runs.csv is damaged .its columns are not"):
        ablations_page.render(tmp_path)
    (tmp_path / "runs.csv").unlink()
    with pytest.raises(InputError, match="runs.csv is missing"):
        ablations_page.render(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "--workdir: the stage train needs a folder"),
        (["train", "--workdir=/dev/null"], "--workdir=/dev/null is not a folder"),
        (
            ["train", "--workdir=W", "--config.loss.lam=1"],
            "the arms are those of configs/ablations",
        ),
        (["report", "--seeds=a"], "--seeds=a: give numbers"),
    ],
)
def test_a_wrong_command_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ablations(*arguments)


def test_published_page_is_that_of_its_files():
    folder = ROOT / "docs" / "ablations"
    assert folder.with_suffix(".md").read_text() == ablations_page.render(folder)
    rows = ablations_page.read_runs(folder)
    assert {row["arm"] for row in rows} == set(ARMS)
    assert all(len([r for r in rows if r["arm"] == arm]) >= 3 for arm in ARMS)
