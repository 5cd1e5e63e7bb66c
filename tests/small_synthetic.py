"""The small run of `small_runs.py` as a configuration for command lines."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from small_runs import small_config


def get_config(arm="adversarial"):
    return small_config("", arm)
