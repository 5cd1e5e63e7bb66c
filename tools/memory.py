"""The memory of a training process, at each of its validations.

    python -m tools.memory --config=tests/small_synthetic.py:adversarial --workdir=FOLDER \\
        --config.train.updates=20000 --config.evaluate.every=1000 --config.data.data_dir=DATA

Starts the training as a process of its own, waits for its end, and prints its resident memory, in
MiB, as Linux says it: all of it, and the part that is no file of a disk.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from segadv_jax import cli
from segadv_jax.campaign import text
from segadv_jax.workdir import Workdir

PROGRAM = "tools.memory"
POLL = 0.2  # Seconds between two looks at the history.


def resident(process: int) -> tuple[float, float]:
    """(resident memory, the part of it that is anonymous) of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = [re.search(rf"{name}:\s*(\d+) kB", status) for name in ("VmRSS", "RssAnon")]
    whole, own = (int(each[1]) / 1024 if each else float("nan") for each in found)
    return whole, own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="NAME[:VARIANT]", help="file or name")
    parser.add_argument("--workdir", required=True, help="folder of the run")


def main(options: argparse.Namespace) -> int:
    where = [f"--config={options.config}", f"--workdir={options.workdir}", *options.overrides]
    process = subprocess.Popen([sys.executable, "-m", "segadv_jax", "train", *where])
    seen, rows = 0, [["updates", "resident MiB", "anonymous MiB"]]
    while process.poll() is None:
        time.sleep(POLL)
        history = Workdir(options.workdir).history()
        if len(history) > seen and process.poll() is None:
            seen = len(history)
            memory = (f"{size:.1f}" for size in resident(process.pid))
            rows.append([f"{history[-1]['segmenter_updates']:.0f}", *memory])
    print(text.table(rows))
    return process.returncode


if __name__ == "__main__":
    cli.report_errors(lambda argv: cli.run(PROGRAM, f"python -m {PROGRAM}", argv), sys.argv[1:])
