"""Small runs for tests: their configuration, and processes of their own."""

import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path

from absl import logging as absl_logging

from configs import synthetic as synthetic_config
from segadv_jax import cli, devices

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "segmenter.widths": (4, 4, 4),
    "segmenter.hidden": 8,
    "adversary.label_features": 4,
    "adversary.image_features": (2, 4),
    "adversary.fused_features": (4, 4, 4),
    "data.train": "train[:22]",
    "data.validation": "validation[:5]",
    "data.test": "test[:7]",
    "train.batch_size": 4,
    "train.crop": 32,
    "train.log_every": 1,
    "train.updates": 12,
    "evaluate.every": 4,
    "evaluate.batch_size": 4,
    "evaluate.train_images": 6,
    "evaluate.pictures": 2,
    # Otherwise each number of updates is another program to compile.
    "optimizer.segmenter.decay": "constant",
}


def small_config(data_dir, arm="adversarial", **overrides):
    """The configuration of a small run, whose segmenter sees one level of the pyramid only."""
    config = synthetic_config.get_config(arm)
    config.segmenter.unlock()
    config.segmenter.levels = 1  # Quick to compile.
    config.update_from_flattened_dict(SMALL | {"data.data_dir": str(data_dir)} | overrides)
    return config


@contextlib.contextmanager
def told():
    """What people are told meanwhile, a line each."""
    lines, logger = [], absl_logging.get_absl_logger()

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler, verbosity = Handler(), absl_logging.get_verbosity()
    handler.addFilter(cli._is_for_people)
    logger.addHandler(handler)
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        absl_logging.set_verbosity(verbosity)


def trace_once(monkeypatch):
    """Gives all starts the mapped training step of the first; their configurations must be one."""
    kept, map_train_step = [], devices.map_train_step

    def map_once(step):
        if not kept:
            kept.append(map_train_step(step))
        return kept[0]

    monkeypatch.setattr(devices, "map_train_step", map_once)


# XLA's flags of the tests but for the number of devices.
ONE_DEVICE = " ".join(
    flag for flag in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in flag
)


def start_process(arguments, **environment):
    """Python on its own, with one device, and with more environment variables."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ONE_DEVICE} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def git(folder, *arguments):
    """Runs git in the folder of a page's files."""
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder / "results", check=True)
