"""The command line and the terminal: flags, messages, errors of one line."""

import logging
import os
import re
import sys

from absl import app, flags
from tqdm import tqdm

from segadv_jax.errors import InputError

_OURS = (os.path.dirname(__file__), os.path.join("clu", "metric_writers"))


def run(main):
    """Runs ``main()`` after parsing the flags; what is wrong with the input becomes one line.

    The exit status is then 2. Only flags are taken, no other arguments.
    """
    app.run(lambda argv: _report(main), flags_parser=lambda argv: _report(_parse, argv))


def _report(function, *args):
    try:
        return function(*args)
    except (InputError, FloatingPointError, flags.Error) as error:
        # What a configuration file raises comes as a traceback; its last line says what is wrong.
        lines = [line for line in str(error).splitlines() if line.strip()]
        print("error:", " ".join(lines[:1] + lines[1:][-1:]), file=sys.stderr)
        sys.exit(2)


def no_such_field(error, argv):
    """What a configuration raised about a field that it does not have, as an InputError."""
    field = re.search(r"\w+", str(error))[0]
    flag = next((arg.split("=")[0] for arg in argv if field in arg), field)
    similar = re.search(r'Did you mean "(\w+)"', str(error))
    hint = f"; did you mean {similar[1]}?" if similar else ""
    return InputError(f"{flag}: the configuration has no field {field}{hint}")


def _parse(argv):
    try:
        rest = flags.FLAGS(argv)
        getattr(flags.FLAGS.config, "seed", None)  # A missing file is reported on access only.
    except (AttributeError, KeyError) as error:
        raise no_such_field(error, argv) from error
    except OSError as error:
        raise InputError(f"--config: {str(error).splitlines()[-1].strip()}") from error
    if len(rest) > 1:
        raise InputError(f"{rest[1]}: not a flag; every setting is given as --name=value")
    _show_messages()
    return rest


class _Handler(logging.Handler):
    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stderr)


def _is_for_people(record):
    """Whether to show a record: libraries' reports of their every move are not for the terminal."""
    if record.levelno >= logging.WARNING:
        # Orbax warns of every checkpoint that is saved without a measure, as those in between are.
        return "tracked_metric" not in record.getMessage()
    if not any(place in record.pathname for place in _OURS):
        return False
    return "Got images" not in record.getMessage()  # The writer says that of every picture.


def _show_messages():
    """Sends log messages through tqdm, above its bar, and only those that are for people."""
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_for_people)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.INFO)
