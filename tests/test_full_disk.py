"""A disk that is full: one line, nothing that was finished is lost, and the next start goes on.

What a test can fill without a disk of its own is the size that a file may have.
"""

import contextlib
import resource

import pytest
from small_runs import told, trace_once

from segadv_jax import cli
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.errors import InputError
from segadv_jax.workdir import Workdir
from tools import kill

ROOM = 20  # Bytes of a row that still find room.


def run(*arguments):
    return cli.run("segadv_jax.commands.train", "train", arguments)


@contextlib.contextmanager
def room(size):
    """No file can become larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# What TensorStore drops of a checkpoint that could not be written; on a command line, `cli` does.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(data_dir, tmp_path, monkeypatch):
    given = ["--config=tests/small_synthetic.py:adversarial", f"--config.data.data_dir={data_dir}"]
    given += ["--config.evaluate.every=2", "--config.train.updates=6"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    trace_once(monkeypatch)
    run(*given, f"--workdir={whole}")
    history = Workdir(folder).history_path
    # In the middle of a row, of a checkpoint, and of what comes at the end.
    for owner, name, is_due, size, last in (
        (Workdir, "add_validation", lambda row: row["segmenter_updates"] == 4, ROOM, 2),
        (Checkpoints, "save", lambda state, step, *_: step == 4, 0, 2),
        (Workdir, "write_evaluation", lambda *_: True, 0, 6),
    ):
        function = getattr(owner, name)

        def when_full(self, *arguments, function=function, is_due=is_due, size=size):
            if is_due(*arguments):
                stack.enter_context(room(size and history.stat().st_size + size))
            return function(self, *arguments)

        with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
            patch.setattr(owner, name, when_full)
            with pytest.raises(InputError) as error, told() as lines:
                run(*given, f"--workdir={folder}")
        said = str(error.value)
        assert said.startswith(f"--workdir={folder}: a file cannot be written (File too large); ")
        assert "the same command again" in said and "\n" not in said
        assert not [line for line in lines if "rror" in line]
        assert kill.latest(folder) == last
    run(*given, f"--workdir={folder}")
    assert not kill.differences(whole, folder)
