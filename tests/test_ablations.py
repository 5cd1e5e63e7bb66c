"""The ablations: their arms, and the page from its files."""

import json
from pathlib import Path

import pytest

from configs import ablations as arms_config
from segadv_jax import experiment
from segadv_jax.errors import InputError
from tools import ablations, results_files

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arm", ablations.ARMS)
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
    assert (parts.adversary is None) == (arm == "standard")
    assert config.train == reference.train and config.data == reference.data
    # A pre-trained adversary's steps come on top.
    assert parts.alternation.updates(parts.alternation.steps(300))["segmenter"] == 300


def test_every_claim_names_arms_that_there_are():
    for _, sentence, pairs in ablations.CLAIMS:
        assert sentence and pairs
        assert {arm for pair in pairs for arm in pair} <= set(ablations.ARMS)
    with pytest.raises(ValueError, match="configs/ablations.py:other: the arm is one of"):
        arms_config.get_config("other")


def made_run(folder, arm, seed, score):
    """What a finished run leaves, as far as it is read."""
    run = folder / arm / f"seed_{seed}"
    (run / "eval").mkdir(parents=True)
    config = arms_config.get_config(arm)
    config.seed = seed
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    columns = "step,segmenter_updates,validation_mean_iou,grad_norm_mce,grad_norm_adversarial"
    pushes = ("", "") if arm == "standard" else (0.1, 0.3)
    lines = [
        columns,
        f"200,200,{score + 0.02},0.2,{pushes[0]}",
        f"300,300,{score},0.2,{pushes[1]}",
    ]
    (run / "history.csv").write_text("\n".join(lines) + "\n")
    result = {"class_accuracy": score, "pixel_accuracy": score, "mean_iou": score, "step": 200}
    (run / "eval" / "test.json").write_text(json.dumps(result | {"mce": 1.0, "images": 142}))
    verdicts = {} if arm == "standard" else {"accuracy_real": 0.9, "accuracy_synthetic": 0.75}
    (run / "eval" / "subset_7.json").write_text(json.dumps(result | verdicts))


def test_report_puts_runs_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "FOLDER", tmp_path / "docs" / "ablations")
    for number, arm in enumerate(ablations.ARMS):
        for seed in (0, 1):
            made_run(tmp_path / "runs", arm, seed, 0.4 + 0.01 * number + 0.001 * seed)
    how = {"commits": ["abc"], "commands": ["python -m tools.ablations train"], "seeds": [0, 1]}
    how["machine"] = {"processor": "some", "processes": 2, "jax": "0.10"}
    results_files.write_json(tmp_path / "runs" / results_files.CAMPAIGN, how)
    assert ablations.main(["report", f"--workdir={tmp_path / 'runs'}"]) == 0
    page = (tmp_path / "docs" / "ablations.md").read_text()
    assert "| standard | 40.1 ± 0.1 | 40.1 ± 0.1 | 40.1 ± 0.1 | - | - | - | 2.0 ± 0.0 |" in page
    assert "| 90.0 ± 0.0 | 75.0 ± 0.0 | 100.0 ± 0.0 | 2.0 ± 0.0 |" in page
    # Slow is the fourth arm, fast the third; both seeds say the same.
    assert "| slow − fast | +1.0 | +1.0 to +1.0 | +1.0, +1.0 |" in page
    assert page == ablations.render(tmp_path / "docs" / "ablations")
    (tmp_path / "runs" / "fast" / "seed_1" / "history.csv").unlink()
    with pytest.raises(InputError, match="history.csv|lacks fast/seed_1"):
        ablations.main(["report", f"--workdir={tmp_path / 'runs'}"])


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "runs.csv").write_text("arm,seed\n")
    with pytest.raises(InputError, match="runs.csv cannot be read .its columns are not"):
        ablations.render(tmp_path)
    with pytest.raises(InputError, match="--workdir: name a folder"):
        ablations.main(["train"])


def test_published_page_is_that_of_its_files():
    folder = ROOT / "docs" / "ablations"
    assert folder.with_suffix(".md").read_text() == ablations.render(folder)
    rows = ablations.read_rows(folder)
    assert {row["arm"] for row in rows} == set(ablations.ARMS)
    assert all(len([r for r in rows if r["arm"] == arm]) >= 3 for arm in ablations.ARMS)
