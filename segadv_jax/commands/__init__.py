"""The commands of the console program.

Each is a module with a docstring, which its --help shows, `add_arguments(parser)` and
`main(options)`, which returns the exit status. A new one needs a line in `cli.COMMANDS`.
"""

import argparse

import jax
from absl import logging
from ml_collections import ConfigDict

from segadv_jax import configuration
from segadv_jax.workdir import Workdir


def add_run_arguments(
    parser: argparse.ArgumentParser, config: bool = True, workdir: bool = True
) -> None:
    """Adds the arguments of a command that works on one run, and whether it needs each of them."""
    about = "file or name" if config else "file or name; that of the run if not given"
    parser.add_argument("--config", required=config, metavar="NAME[:VARIANT]", help=about)
    parser.add_argument("--workdir", required=workdir, help="folder of the run")
    multihost = "this is one of several hosts, as of a TPU pod"
    parser.add_argument("--multihost", action="store_true", help=multihost)


def begin_run(options: argparse.Namespace) -> ConfigDict:
    """Loads the configuration, joins the other hosts, and says what the program runs on.

    Without --config it is that of the run in --workdir, as an evaluation may change it.
    """
    if options.config is None:
        config = configuration.of_evaluation(Workdir(options.workdir), options.overrides)
    else:
        config = configuration.load(options.config, options.overrides)
    if options.multihost:
        jax.distributed.initialize()
    say_devices()
    return config


def say_devices() -> None:
    logging.info("devices: %s", ", ".join(map(str, jax.devices())))
