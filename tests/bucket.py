"""A store of objects for tests: gs:// of TensorFlow's gfile, which epath uses, in a folder."""

import contextlib
import os
from unittest import mock

import tensorflow as tf

PREFIX = "gs://"


def local(path, folder):
    """Where in the folder a URL lies; any other path as it is."""
    path = os.fspath(path)
    return f"{folder}/{path.removeprefix(PREFIX)}" if path.startswith(PREFIX) else path


@contextlib.contextmanager
def in_folder(folder):
    """gs://NAME is FOLDER/NAME meanwhile, for all that goes through Python.

    As in a store, nothing is appended to and nothing is moved.
    """

    def mapped(function):
        return lambda path, **named: function(local(path, folder), **named)

    def opened(path, mode="r"):
        assert not (os.fspath(path).startswith(PREFIX) and "a" in mode), (
            "an object is written whole"
        )
        return whole(local(path, folder), mode)

    def glob(pattern):
        found = of_local["glob"](local(pattern, folder))
        return [PREFIX + path.removeprefix(f"{folder}/") for path in found]

    gfile, whole = tf.io.gfile, tf.io.gfile.GFile
    names = ("exists", "isdir", "listdir", "makedirs", "mkdir", "remove", "rmtree", "stat")
    of_local = {name: getattr(gfile, name) for name in (*names, "glob")}
    replaced = {name: mapped(of_local[name]) for name in names}
    with mock.patch.multiple(gfile, GFile=opened, glob=glob, **replaced):
        yield
