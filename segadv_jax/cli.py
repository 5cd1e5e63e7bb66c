"""The command line: `segadv_jax COMMAND ...`, or `python main.py` in a checkout.

segadv_jax check --config=folder --config.data.archives=PHOTOS
segadv_jax train --config=folder --config.data.archives=PHOTOS --workdir=W
segadv_jax predict --workdir=W --out=predictions PHOTOGRAPHS
python main.py --config=configs/voc_largefov.py --config.init=WEIGHTS --workdir=W
python main.py --mode=evaluate --workdir=W
"""

import argparse
import importlib
import logging
import operator
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import logging as absl_logging
from tqdm import tqdm

from segadv_jax import files, last_words
from segadv_jax.errors import InputError
from segadv_jax.signals import Stopped, signals_raised

# Each command, a module of `segadv_jax.commands`, and what it does in a few words.
COMMANDS = {
    "check": "try a configuration: what is in the data, what training costs, what looks wrong",
    "train": "train a segmenter, against an adversary or not, and evaluate it",
    "evaluate": "evaluate a run on a split",
    "correct": "choose how a trained network's probabilities are corrected, without training",
    "predict": "predict photographs with a trained network",
    "report": "one page about runs: results, curves, predictions, the health of the game",
    "export": "write a trained network as StableHLO, ONNX or safetensors, for other programs",
    "compare": "train both arms of an experiment and compare them",
    "campaign": "train several arms with several seeds and compare them",
    "grid_search": "train every point of a grid over learning rates and lambda",
    "tables": "the paper's tables with your runs beside its figures",
    "convert_weights": "write weights, or those of a run, as safetensors",
    "export_voc": "write predictions as PASCAL VOC's evaluation server takes them",
}

MODES = ("train", "evaluate", "check")  # Commands that --mode names.


class _Parser(argparse.ArgumentParser):
    """Reports what is wrong as an InputError."""

    def error(self, message: str) -> NoReturn:
        if "expected one argument" in message:  # Of a value such as -0.5,0 argparse says no more.
            message += "; put an equals sign before a value that begins with a hyphen"
        raise InputError(message)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Carries out a command, of `argv` or of the process's own arguments, and exits."""
    before, sys.unraisablehook = sys.unraisablehook, _hide_orphans
    try:
        report_errors(_dispatch, sys.argv[1:] if argv is None else list(argv))
    finally:
        sys.unraisablehook = before


def report_errors(function, argv: Sequence[str]) -> NoReturn:
    """Calls `function(argv)` and exits with what it returns.

    What is wrong with the input becomes one line on stderr and the status 2. So does a signal where
    nobody waits for it, as before the first step, with the status 128 + signal.
    """
    show_messages()
    try:
        with signals_raised():
            status = function(argv)
    except Stopped as stop:
        print("stopped; the same command goes on", file=sys.stderr)
        status = stop.code
        if _process():  # The others, which wait for this one, must not be waited for.
            sys.stderr.flush()
            os._exit(128 + stop.number)
    except (InputError, FloatingPointError) as error:
        lines = [error.message, *error.details] if isinstance(error, InputError) else [error]
        print(
            f"error{_process()}: " + "\n    ".join(" ".join(str(line).split()) for line in lines),
            file=sys.stderr,
        )
        status = 2
        if _process():
            from segadv_jax import hosts

            hosts.part(status)
    except Exception as error:
        if not _process():
            raise
        from segadv_jax import hosts

        hosts.leave(error)
    sys.exit(status)


def _process() -> str:
    """Which of several processes speaks; JAX is not imported only to ask."""
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized() or jax.process_count() == 1:
        return ""
    return f" in process {jax.process_index()}"


def _dispatch(argv: list[str]) -> int | None:
    if argv and argv[0] in COMMANDS:
        return run(f"segadv_jax.commands.{argv[0]}", f"segadv_jax {argv[0]}", argv[1:])
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(__doc__)
        for name, what in COMMANDS.items():
            print(f"    {name:<16} {what}")
        print("\n`segadv_jax COMMAND --help` says more.")
        return 0
    if not argv[0].startswith("-"):
        raise InputError(f"{argv[0]} is no command; known: {', '.join(COMMANDS)}")
    # Without a command it is the one that --mode names.
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", default="train")
    end = argv.index("--") if "--" in argv else len(argv)
    options, others = parser.parse_known_args(argv[:end])
    if options.mode not in MODES:
        raise InputError(f"--mode={options.mode}: it is {', '.join(MODES)}")
    return run(f"segadv_jax.commands.{options.mode}", "python main.py", [*others, *argv[end:]])


def run(module: str, prog: str, argv: Sequence[str]) -> int | None:
    """Runs a command or a program of `tools/`, called `prog` in its help; returns its exit status.

    It is a module with a docstring, `add_arguments(parser)` and `main(options)`. What follows "--"
    is `options.overrides`, and so is each argument "--config.FIELD=VALUE" before it. Raises an
    InputError if an argument is wrong, or if no more can be written.
    """
    command = importlib.import_module(module)
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog, None, command.__doc__, formatter_class=form, allow_abbrev=False)
    command.add_arguments(parser)
    argv = [_at_home(word) for word in argv]
    end = argv.index("--") if "--" in argv else len(argv)
    known, fields = _split_fields(argv[:end])
    options = parser.parse_intermixed_args(known)  # Photographs may stand on both sides of --out.
    options.overrides = [*fields, *argv[end + 1 :]]
    from segadv_jax import compilation  # It imports JAX, which --help need not wait for.

    # A command that loads a configuration keeps what it compiles where that says.
    if not hasattr(options, "config"):
        given = [field for field in options.overrides if field.startswith(_CACHE)]
        compilation.keep(given[-1].removeprefix(_CACHE) if given else "")
    try:
        return command.main(options)
    except InputError:
        raise
    except Exception as error:
        why = files.not_written(error)
        if not why:
            raise
        where = next((f"--{x}={vars(options)[x]}: " for x in _PLACES if vars(options).get(x)), "")
        raise InputError(
            f"{where}a file cannot be written ({why}); make room there, or for the data and "
            "temporary files, and give the same command again: what was finished is kept, and "
            "training goes on from its last checkpoint"
        ) from error


_CACHE = "--config.compilation_cache="
_PLACES = ("workdir", "out")  # Options that say where a command writes.


def _at_home(word: str) -> str:
    """Fills in the home folder in --workdir=~/runs: a shell does so only where a word begins."""
    name, equals, value = word.partition("=")
    return f"{name}={os.path.expanduser(value)}" if equals and value[:2] in ("~", "~/") else word


def _split_fields(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(other arguments, fields of the configuration); "--config.a 1" becomes "--config.a=1"."""
    others: list[str] = []
    fields: list[str] = []
    previous = ""
    for word in argv:
        if word.startswith(("--config.", "--noconfig.")):
            fields.append(word)
        elif _lacks_value(previous) and _is_value(word) and _may_be(word, previous):
            fields[-1] += f"={word}"
        else:
            others.append(word)
        previous = word
    return others, fields


def _lacks_value(field: str) -> bool:
    return field.startswith("--config.") and "=" not in field


def _is_value(word: str) -> bool:
    """Whether a word is no option: a number may be negative."""
    return not word.startswith("-") or bool(re.match(r"-\.?\d", word))


def _may_be(word: str, field: str) -> bool:
    """Whether a word can be the value of "--config.FIELD".

    One that is True or False needs none: in "--config.evaluate.flip a.jpg" the photograph is not.
    """
    from segadv_jax.configs import common

    try:
        usual = operator.attrgetter(field.removeprefix("--config."))(common.get_config())
    except AttributeError:  # A network's own field, or a mistake, which is refused later.
        return True
    return not isinstance(usual, bool) or word.lower() in ("true", "t", "1", "false", "f", "0")


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _hide_orphans(dropped: "sys.UnraisableHookArgs") -> None:
    """Shows an error that Python drops, but for those of TensorStore that nobody awaits any more.

    They are the rest of a checkpoint whose writing has failed, which is an error of its own.
    """
    if str(dropped.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(dropped)


_OURS = os.path.dirname(__file__)
_KNOWN = ("tracked_metric", "directory is read only=", "Reached preemption sync point")


def _is_for_people(record: logging.LogRecord) -> bool:
    """Whether to show a record: libraries' reports of their every move are not for the terminal."""
    if record.levelno >= logging.WARNING:
        # Orbax warns of every checkpoint that is saved without a measure, as those in between are,
        # of every folder that it is told to read only, and of what training says itself.
        # What a thread cannot write, or not without another process that is lost, ends the main
        # one too, which says it in a line.
        said, error = record.getMessage(), (record.exc_info or (None, None))[1]
        full = files.not_written(error) or files.not_written(ValueError(said))
        lost = _process() and last_words.lost(error)
        return not (full or lost or any(words in said for words in _KNOWN))
    return _OURS in record.pathname


def show_messages() -> None:
    """Sends log messages through tqdm, above its bar, and only those that are for people."""
    # To be set before JAX and TensorFlow are imported: what their C++ warns of, Python says too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handler = _Handler()
    handler.addFilter(_is_for_people)
    form, time = "%(asctime)s %(message)s", "%H:%M:%S"
    logging.basicConfig(format=form, datefmt=time, level="INFO", handlers=[handler], force=True)
    absl_logging.set_verbosity(absl_logging.INFO)
