"""Trains or evaluates a segmenter.

    python main.py --config=configs/synthetic.py --workdir=runs/synthetic
    python main.py --config=configs/stanford.py:standard --config.data.archives=FOLDER --workdir=W
    python main.py --mode=evaluate --config=configs/stanford.py:standard --workdir=W

Any field of the configuration is set as in --config.train.batch_size=8.
"""

import jax
from absl import flags, logging
from ml_collections import config_flags

from segadv_jax import console
from segadv_jax.evaluate import evaluate
from segadv_jax.train import train

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment to run: FILE or FILE:VARIANT."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.mark_flag_as_required("config")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "What to do.")
_MULTIHOST = flags.DEFINE_bool("multihost", False, "This is one of several hosts, as of a TPU pod.")


def main():
    if _MULTIHOST.value:
        jax.distributed.initialize()
    logging.info("devices: %s", ", ".join(map(str, jax.devices())))
    config, workdir = _CONFIG.value, _WORKDIR.value
    if _MODE.value == "evaluate":
        evaluate(config, workdir)
    else:
        train(config, workdir)
        evaluate(config, workdir, config.data.test)  # Read here, once, and nowhere before.


if __name__ == "__main__":
    console.run(main)
