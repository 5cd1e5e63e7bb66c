"""Both arms of a configuration, trained and compared by one command."""

import jax
import pytest
from PIL import Image

from segadv_jax import cli
from segadv_jax.commands import compare as compare_command
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES, percent
from segadv_jax.workdir import Workdir


def compare(*arguments):
    """The exit status of a command line."""
    return cli.run("segadv_jax.commands.compare", "segadv_jax compare", arguments)


def test_a_folder_is_named():
    """That of another configuration would be no place for it."""
    with pytest.raises(InputError, match="arguments are required: --workdir"):
        compare("--config=stanford")


def test_a_configuration_is_given_without_variant(tmp_path):
    with pytest.raises(InputError, match="--config=synthetic:standard: give it without a variant"):
        compare("--config=synthetic:standard", f"--workdir={tmp_path / 'w'}")
    assert not (tmp_path / "w").exists()


def test_a_bucket_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match="--workdir=gs://b/w: .* name a folder of this machine"):
        compare("--config=synthetic", "--workdir=gs://b/w")


def test_programs_are_kept_where_the_configuration_says(
    tmp_path, monkeypatch, compilation_settings
):
    """A field of its file is seen as well as one of the command."""
    config, kept = tmp_path / "kept.py", tmp_path / "compiled"
    config.write_text(
        "from configs import synthetic\n\n\ndef get_config(arm):\n"
        "    config = synthetic.get_config(arm)\n"
        f"    config.compilation_cache = {str(kept)!r}\n    return config\n"
    )

    def train(config, folder):
        assert jax.config.jax_compilation_cache_dir == str(kept)
        raise InputError("far enough")

    monkeypatch.setattr(compare_command, "train", train)
    with pytest.raises(InputError, match="far enough"):
        compare(f"--config={config}", f"--workdir={tmp_path}")


def test_both_arms_are_trained_shown_and_drawn(data_dir, tmp_path, capsys):
    settings = {"data.data_dir": data_dir, "train.updates": 1, "evaluate.every": 1}
    fields = [f"--config.{name}={value}" for name, value in settings.items()]
    config = "--config=tests/small_synthetic.py"
    assert not compare(config, f"--workdir={tmp_path}", *fields)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for arm, schedule in (("standard", "standard"), ("adversarial", "simultaneous")):
        run = Workdir(tmp_path / arm)
        assert run.recorded_config()["alternation"]["schedule"] == schedule
        result = run.result()
        assert [arm, *(percent(result[name]) for name in PAPER_MEASURES)] in lines
        assert run.history()[-1]["segmenter_updates"] == 1
    for name in ("comparison.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
