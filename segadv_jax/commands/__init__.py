"""The commands of the console program.

Each is a module with a docstring, which its --help shows, `add_arguments(parser)` and
`main(options)`, which returns the exit status. A new one needs a line in `cli.COMMANDS`.
"""

import argparse
import functools
import os

from absl import logging
from ml_collections import ConfigDict

from segadv_jax import compilation, configuration, experiment, files, hosts, predictor
from segadv_jax.errors import InputError
from segadv_jax.predictor import Predictor
from segadv_jax.workdir import Workdir


def add_run_arguments(
    parser: argparse.ArgumentParser, config: bool = True, workdir: bool = True
) -> None:
    """Adds the arguments of a command that works on one run, and whether it needs each of them."""
    about = "file or name" if config else "file or name; that of the run if not given"
    parser.add_argument("--config", required=config, metavar="NAME[:VARIANT]", help=about)
    parser.add_argument("--workdir", required=workdir, help="folder of the run")
    multihost = (
        "whether this is one of several processes, as on a TPU pod: by default it looks for them; "
        f"{hosts.NO}; {hosts.YES}, it must find them; or ADDRESS:PORT,PROCESSES,INDEX by hand"
    )
    add = functools.partial(parser.add_argument, "--multihost", metavar="WHERE", help=multihost)
    add(nargs="?", const=hosts.YES, default=hosts.AUTO)


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a command that works on a trained network, a run's or a file's."""
    parser.add_argument("--workdir", help="folder of the run")
    parser.add_argument("--weights", metavar="FILE.safetensors", help="instead of --workdir")
    checkpoints = ", ".join(experiment.CHECKPOINTS)
    about = f"of the run: {checkpoints}; selected, by its validation, if not given"
    parser.add_argument("--checkpoint", metavar="NAME", help=about)


def check_network(options: argparse.Namespace) -> None:
    """Raises an InputError if these arguments contradict each other; reads nothing."""
    if (options.workdir is None) == (options.weights is None):
        both = "not both" if options.workdir else "one of them"
        raise InputError(f"name the run, --workdir=W, or weights, --weights=FILE, {both}")
    if options.workdir and not files.is_remote(options.workdir) and os.path.isfile(options.workdir):
        raise InputError(
            f"--workdir={options.workdir} is a file; name the folder of a run, or give a file of "
            f"weights as --weights={options.workdir}"
        )
    checkpoint = options.checkpoint
    of_run = [f"--checkpoint={checkpoint}"] if checkpoint else options.overrides
    if options.weights is not None and of_run:
        raise InputError(
            f"{of_run[0]} is of a run, but --weights={options.weights} is a file: "
            "leave it out, or name the run, --workdir=W"
        )
    if checkpoint and checkpoint not in experiment.CHECKPOINTS:
        known = ", ".join(experiment.CHECKPOINTS)
        raise InputError(f"--checkpoint={checkpoint}: it is one of {known}")


def network(options: argparse.Namespace) -> Predictor:
    """The trained network that these arguments name; raises an InputError as `predictor` does."""
    if options.weights is not None:
        return predictor.from_weights(options.weights)
    checkpoint = options.checkpoint or ""
    return predictor.from_run(options.workdir, checkpoint, overrides=options.overrides)


def begin_run(options: argparse.Namespace) -> ConfigDict:
    """Loads the configuration, joins the other processes, and says what the program runs on.

    Without --config it is that of the run in --workdir, as an evaluation may change it.
    """
    if options.config is None:
        config = configuration.of_evaluation(Workdir(options.workdir), options.overrides)
    else:
        config = configuration.load(options.config, options.overrides)
    compilation.keep(config.compilation_cache)
    hosts.join(options.multihost, _task(config, options.workdir))
    say_devices(config)
    return config


def _task(config, workdir):
    """What all processes must be doing alike; each may have the data in a folder of its own."""
    content = config.to_dict()
    content["data"] |= {"archives": "", "data_dir": ""}
    content["compilation_cache"] = ""
    return f"{workdir} {content}"


def say_devices(config: ConfigDict | None = None) -> None:
    """Says what the program runs on, and how precisely its networks compute."""
    networks = [] if config is None else ["segmenter"]
    if config is not None and config.alternation.schedule != "standard":
        networks.append("adversary")
    dtypes = {name: config[name].get("dtype", "float32") for name in networks} if config else {}
    logging.info("%s", hosts.describe(dtypes))
