"""What was compiled is kept where the user can say, and nothing stops for lack of it."""

import logging

import jax
import jax.numpy as jnp
import pytest

from segadv_jax import cli, compilation
from segadv_jax.errors import InputError


@pytest.fixture(autouse=True)
def settings(compilation_settings, monkeypatch):
    """Those of a user without a variable of JAX's; afterwards those of the tests."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(compilation, "_LEAST", 0.0)  # What is compiled here takes no time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def programs(folder):
    return sorted(path.name for path in folder.glob("*-cache"))


def compile_anew(number):
    """Compiles a program that depends on the number; returns what it says."""
    return jax.jit(lambda x: x * number + 1)(jnp.ones(3))


def test_programs_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation.keep()
    compile_anew(2)
    folder = tmp_path / "segadv_jax" / "compiled"
    kept = programs(folder)
    assert kept and jax.config.jax_compilation_cache_max_size == compilation.LIMIT
    # What a process that was killed has left behind is no obstacle for the next.
    (folder / kept[0].replace("-cache", "-atime")).unlink()
    compilation.keep(str(folder))
    assert programs(folder) == kept[1:]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    compilation.keep()
    assert (tmp_path / "home" / ".cache" / "segadv_jax" / "compiled").is_dir()


def test_a_folder_wins_over_the_variable_which_wins_over_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "variable"))
    compilation.keep()
    compile_anew(3)
    assert programs(tmp_path / "variable") and not (tmp_path / "users").exists()
    compilation.keep(str(tmp_path / "named"))
    compile_anew(4)
    assert programs(tmp_path / "named")


def test_commands_keep_what_they_compile(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = ["--workdir=none", f"--out={tmp_path / 'out'}", "none.jpg"]
    for more, folder in (([], "segadv_jax/compiled"), (["--config.compilation_cache=x"], "x")):
        with pytest.raises(InputError, match="none"):
            cli.run("segadv_jax.commands.predict", "predict", [*given, *more])
        assert (tmp_path / jax.config.jax_compilation_cache_dir) == tmp_path / folder


def test_a_configuration_is_read_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    config = tmp_path / "mine.py"
    config.write_text(
        "from segadv_jax.configs import synthetic\n\n\ndef get_config():\n"
        "    config = synthetic.get_config()\n    config.compilation_cache = 'none'\n"
        "    config.train.updates = 0\n    return config\n"
    )
    with pytest.raises(InputError, match="config.train.updates is 0"):
        cli.run("segadv_jax.commands.check", "check", [f"--config={config}"])
    assert jax.config.jax_compilation_cache_dir is None and not (tmp_path / "users").exists()


def test_a_folder_is_shared_with_processes_that_do_not_limit_it(tmp_path, recwarn):
    with compilation.shared(str(tmp_path / "shared")):  # As those do that only have the variable.
        compile_anew(7)
    shared = programs(tmp_path / "shared")
    assert shared and not list((tmp_path / "shared").glob("*-atime"))
    compilation.keep(str(tmp_path / "mine"))
    with compilation.shared(str(tmp_path / "shared")):
        compile_anew(8)
    assert len(programs(tmp_path / "shared")) > len(shared)
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]
    mine = programs(tmp_path / "mine")
    compile_anew(9)
    assert len(programs(tmp_path / "mine")) > len(mine)
    assert jax.config.jax_compilation_cache_max_size == compilation.LIMIT


def test_nothing_is_kept_if_that_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation.keep("none")
    compile_anew(5)
    assert jax.config.jax_compilation_cache_dir is None and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        compilation.keep(str(tmp_path / "file" / "folder"))
        assert compile_anew(6)[0] == 7
    (record,) = caplog.records
    assert "what is compiled cannot be kept" in record.getMessage()
    assert jax.config.jax_compilation_cache_dir is None
