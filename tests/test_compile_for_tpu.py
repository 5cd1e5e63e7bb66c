"""Steps compiled for TPUs that are not there."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segadv_jax import cli
from segadv_jax.benchmark import ahead_of_time
from segadv_jax.benchmark.ahead_of_time import CHIPS, Figures
from segadv_jax.errors import InputError

PROGRAM = "tools.compile_for_tpu"
ROOT = Path(__file__).parent.parent
TINY = ("--config.segmenter.widths=(4,6,8)", "--config.segmenter.hidden=8", "--classes=3")


def test_bytes_of_collectives_are_those_of_their_results():
    program = """
      %a.1 = f32[256,16]{1,0:T(8,128)} all-reduce(%x), channel_id=1, replica_groups={{0,1}}
      %a.2 = (f32[8]{0}, bf16[2,3]{1,0}, pred[4]{0}) all-reduce-start(%y, %z, %w), to_apply=%add
      %a.3 = f32[8]{0} all-reduce-done(%a.2)
      %a.4 = f32[] all-reduce(%v), to_apply=%add
      %fusion = f32[1000]{0} fusion(%all-reduce.7), kind=kLoop
    """
    assert ahead_of_time.reduced_bytes(program) == 4 * 256 * 16 + (32 + 12 + 4) + 4


def test_a_step_takes_as_long_as_what_takes_longest_and_then_the_sum():
    figures = Figures(1e9, 2e9, 1e6, flops=197e12, traffic=409.5e9, reduced=100e9)
    seconds = figures.seconds(CHIPS["v5e"], 4)
    assert seconds == pytest.approx(
        {"arithmetic": 1.0, "memory": 0.5, "reduction": 0.75, "step": 1.75}
    )
    assert figures.seconds(CHIPS["v5e"], 1)["reduction"] == 0
    assert figures.memory == 3.001e9


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--topology=4x4"], "--topology=4x4: name a kind of chip .*v5e.* such as v5e:4x4"),
        (["--topology=h100:8"], "--topology=h100:8: name a kind of chip"),
        (["--topology=v5e:4x4", "--turns=all"], "--turns=all: 'all' is none of standard, segm"),
        (["--topology=v5e:4x4", "--canvas=500x500"], "--canvas: '500x500': .*multiples of 16"),
    ],
)
def test_wrong_arguments_are_named(argv, message):
    with pytest.raises(InputError, match=message):
        cli.run(PROGRAM, PROGRAM, ["--config=configs/synthetic.py", *argv])


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed")
def test_a_small_network_is_compiled_for_a_slice(tmp_path):
    """In a process of its own: libtpu may be loaded by one alone."""
    out = tmp_path / "figures.json"
    argv = ["--topology=v5e:2x2", "--config=configs/synthetic.py:adversarial", "--turns=both"]
    argv += [*TINY, "--config.train.crop=32", f"--json={out}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", PROGRAM, *argv]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| both |" in done.stdout
    both = json.loads(out.read_text())["turns"]["both"]
    # The gradients of both players, and little else, are summed over the chips.
    assert both["reduced"] > 4 * 1000
    assert 0 < both["temporary"] < both["memory"] < CHIPS["v5e"].memory
    assert 0 < both["arithmetic"] <= both["step"] and both["reduction"] > 0
