"""Both arms of a configuration, trained and compared by one command."""

import pytest
from PIL import Image

from segadv_jax import cli
from segadv_jax.errors import InputError
from segadv_jax.metrics.names import PAPER_MEASURES, percent
from segadv_jax.workdir import Workdir


def compare(*arguments):
    """The exit status of a command line."""
    return cli.run("segadv_jax.commands.compare", "segadv_jax compare", arguments)


def test_a_configuration_is_given_without_variant(tmp_path):
    with pytest.raises(InputError, match="--config=synthetic:standard: give it without a variant"):
        compare("--config=synthetic:standard", f"--workdir={tmp_path / 'w'}")
    assert not (tmp_path / "w").exists()


def test_a_bucket_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match="--workdir=gs://b/w: .* name a folder of this machine"):
        compare("--config=synthetic", "--workdir=gs://b/w")


def test_both_arms_are_trained_shown_and_drawn(data_dir, tmp_path, capsys, compilation_settings):
    settings = {"data.data_dir": data_dir, "train.updates": 1, "evaluate.every": 1}
    settings |= {"evaluate.flip": True}
    fields = [f"--config.{name}={value}" for name, value in settings.items()]
    config = tmp_path / "kept.py"  # A field of its file is seen as well as one of the command.
    config.write_text(
        "import small_synthetic\n\n\ndef get_config(arm):\n"
        "    config = small_synthetic.get_config(arm)\n"
        f"    config.compilation_cache = {str(tmp_path / 'compiled')!r}\n    return config\n"
    )
    assert not compare(f"--config={config}", f"--workdir={tmp_path}", *fields)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for arm, schedule in (("standard", "standard"), ("adversarial", "simultaneous")):
        run = Workdir(tmp_path / arm)
        assert run.recorded_config()["alternation"]["schedule"] == schedule
        result = run.evaluation(f"{run.recorded_config()['data']['test']}_flip")
        assert run.result()["images"] == result["images"]  # Without it the run is not done.
        assert [arm, *(percent(result[name]) for name in PAPER_MEASURES)] in lines
        assert run.history()[-1]["segmenter_updates"] == 1
    assert list((tmp_path / "compiled").glob("*-cache"))
    for name in ("comparison.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
