"""Small valid files of weights, and what is done to them to see whether a reader stands it.

As a program it fuzzes a reader with atheris (pip install atheris), guided by what is reached:

    python tests/hostile_weights.py torch FOLDER -max_total_time=600 -rss_limit_mb=2048

FOLDER keeps the files that reached something new; the other arguments are libFuzzer's.
"""

import gc
import io
import os
import resource
import signal
import struct
import sys
import tempfile
import types
import warnings
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
from weight_files import (
    new_layer,
    old_layer,
    parts_of_a_net,
    random_layers,
    torch_file,
)

from segadv_jax import weights
from segadv_jax.errors import InputError
from segadv_jax.weights import description, files, keras, keras_layout

SUFFIXES = {"caffe": "caffemodel", "keras": "h5", "safetensors": "safetensors", "torch": "pth"}
ROOM = 2**28  # Bytes that a reader of a file of some kilobytes can be given at most.


def small_files(reader: str) -> list[bytes]:
    """Small valid files of a reader of SUFFIXES, one of each form."""
    if reader == "caffe":
        widths = {"conv1": 2, "fc6": 2}
        layers = random_layers(["conv1_1", "conv1_2"], widths=widths)
        forms = ((new_layer, "shape"), (new_layer, "double"), (old_layer, "legacy"))
        return [b"".join(parts_of_a_net(layers, *form)) for form in forms]
    if reader == "keras":
        return [_keras(True), _keras(False)]
    if reader == "safetensors":
        tensors = {"a/kernel": np.ones((1, 2, 3), "f4"), "a/bias": np.ones(3, "f2")}
        config = {"segmenter": {"name": "multiscale"}, "evaluate": {"tile": 0}}
        about = description.Description(config, ("a", "b"), np.zeros((2, 3), np.uint8), 7, (0.5, 1))
        metadata = {"format": "segadv_jax", **description.metadata(about)}
        return [safetensors.numpy.save(tensors, metadata), safetensors.numpy.save(tensors)]
    arrays = {"features.0.weight": np.ones((2, 3, 1, 1), "f4"), "features.0.bias": np.ones(2, "f8")}
    stem = {"_conv_stem.weight": np.ones((2, 3, 1, 1), "f2")}
    stem |= {f"_bn0.{part}": np.ones(2, "f4") for part in ("weight", "bias", "running_mean")}
    stem |= {"_bn0.running_var": np.ones(2, "f4"), "n": np.array(1, "i8")}
    return [torch_file(x, form) for x in (arrays, stem) for form in ("archive", "legacy")]


def _keras(numbered):
    """Keras's file of a layer: its names as attributes, or numbers as Keras 3 has them."""
    file, arrays = io.BytesIO(), (np.ones((3, 3, 3, 2), "f4"), np.ones(2, "f4"))
    with h5py.File(file, "w") as made:
        if numbered:
            group = made.create_group("layers/conv2d/vars")
            group.attrs["name"] = "block1_conv1"
            names = ["0", "1"]
        else:
            made.attrs["layer_names"] = [b"block1_conv1"]
            group = made.create_group("block1_conv1")
            names = ["block1_conv1_W_1:0", "block1_conv1_b_1:0"]
            group.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, arrays, strict=True):
            group[name] = array
    return file.getvalue()


def mended(reader: str, content: bytes) -> bytes:
    """A file that says again how long its header is, so that what the header says is looked at."""
    end = content.rfind(b"}") + 1
    return (
        struct.pack("<Q", end - 8) + content[8:] if reader == "safetensors" and end > 8 else content
    )


def read(path: Path) -> bool:
    """Whether a file is taken for weights; one that is not is refused in one line."""
    try:
        weights.read_any(path)
        if path.suffix == ".safetensors":
            description.read(path)
    except InputError as error:
        assert str(path) in str(error)
        assert str(error).isprintable() and len(str(error)) < 5000, str(error)[:5000]
        return False
    return True


def _describe(path: Path) -> str:
    """As `keras._describe`, in a fork of this process, which is quicker than a new one."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE):
            signal.signal(number, signal.SIG_DFL)  # Not libFuzzer's.
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        with os.fdopen(sender, "w") as file:
            file.write(keras_layout.describe(os.fspath(path)))
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        with open("contained.txt", "a") as file:
            file.write(f"{status}\n")
        raise files.damaged(path, "a file of Keras's weights", f"signal {-status}")
    return said


def _guiding() -> set[str]:
    """The modules whose branches guide the mutations."""
    own = {name for name in sys.modules if name.startswith(("segadv_jax.weights", "h5py."))}
    return own | {"pickletools", "zipfile", "safetensors", "safetensors.numpy", "json.decoder"}


def fuzz(reader: str, folder: Path, options: list[str]) -> None:
    """Runs a reader on mutated files until it ends otherwise than by an InputError."""
    import atheris

    warnings.simplefilter("error")
    for number, content in enumerate(small_files(reader)):
        (folder / f"valid_{number}").write_bytes(content)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        path = Path(scratch, f"a.{SUFFIXES[reader]}")

        def one(content):
            path.write_bytes(mended(reader, content))
            read(path)

        keras._describe = _describe
        one((folder / "valid_0").read_bytes())  # Imports all that it needs.
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
        for function in gc.get_objects():
            if isinstance(function, types.FunctionType) and function.__module__ in _guiding():
                atheris.instrument_func(function)
        atheris.Setup([sys.argv[0], str(folder), *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    fuzz(sys.argv[1], target, sys.argv[3:])
