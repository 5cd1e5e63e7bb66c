"""Trains or evaluates a segmenter.

    python main.py --config=configs/synthetic.py --workdir=runs/synthetic
    python main.py --config=configs/stanford.py:standard --config.data.archives=FOLDER --workdir=W
    python main.py --mode=evaluate --config=configs/stanford.py:standard --workdir=W

Any field of the configuration can be set by --config.group.field=value.
"""

import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from segadv_jax import console
from segadv_jax.errors import InputError
from segadv_jax.evaluate import evaluate
from segadv_jax.train import train

_CONFIG = config_flags.DEFINE_config_file("config", "configs/synthetic.py", "Experiment to run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "What to do.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    console.setup()
    logging.info("devices: %s", ", ".join(map(str, jax.devices())))
    config, workdir = _CONFIG.value, _WORKDIR.value
    try:
        if _MODE.value == "evaluate":
            evaluate(config, workdir)
        else:
            train(config, workdir)
            evaluate(config, workdir, config.data.test)  # Read here, once, and nowhere before.
    except (InputError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main)
