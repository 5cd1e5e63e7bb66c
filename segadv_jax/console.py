"""What a person sees in the terminal: our own messages and the metrics, above the progress bar."""

import logging
import os

from tqdm import tqdm

_OURS = (os.path.dirname(__file__), os.path.join("clu", "metric_writers"))


class _Handler(logging.Handler):
    def emit(self, record):
        tqdm.write(self.format(record))


def _is_for_people(record):
    """Whether to show a record: libraries' reports of their every move are not for the terminal."""
    if record.levelno >= logging.WARNING:
        return True
    if not any(place in record.pathname for place in _OURS):
        return False
    return "Got images" not in record.getMessage()  # The writer says that of every picture.


def setup():
    """Sends log messages through tqdm, and only those that are for people."""
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_for_people)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.INFO)
