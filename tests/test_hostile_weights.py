"""Readers of weights stand any file: an InputError of one line, little memory, nothing runs."""

import ast
import json
import struct
import tracemalloc
from pathlib import Path

import h5py
import hostile_weights
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weight_files import field, torch_archive

from segadv_jax import predictor, weights
from segadv_jax.errors import InputError
from segadv_jax.weights import caffemodel, description, files, keras

QUICKLY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ROOM = 2**23  # Bytes of memory for a file of few kilobytes.
NUMBERS = st.sampled_from([0, 1, 127, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1])
KERNEL, BIAS = "block1_conv1/kernel", "block1_conv1/bias"


@st.composite
def mutated(draw, reader):
    """A small valid file, mutated in some places: flipped, cut, and lengths that are changed."""
    content = bytearray(draw(st.sampled_from(hostile_weights.small_files(reader))))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "number", "cut", "delete", "repeat"])):
            case "flip" if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "set" if content:
                content[place] = draw(st.integers(0, 255))
            case "number":
                size, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from("<>"))
                packed = struct.pack(f"{order}Q", draw(NUMBERS))
                content[place : place + size] = packed[:size] if order == "<" else packed[-size:]
            case "cut":
                del content[place:]
            case "delete":
                del content[place : place + draw(st.integers(1, 16))]
            case "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 64))]
    return hostile_weights.mended(reader, bytes(content))


def check_memory(path, content):
    path.write_bytes(content)
    tracemalloc.start()
    try:
        hostile_weights.read(path)
        assert tracemalloc.get_traced_memory()[1] < ROOM + 8 * len(content)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", hostile_weights.SUFFIXES)
def test_the_files_that_are_mutated_are_valid(reader, tmp_path):
    path = tmp_path / f"a.{hostile_weights.SUFFIXES[reader]}"
    for content in hostile_weights.small_files(reader):
        path.write_bytes(content)
        assert weights.read_any(path).flat


@pytest.mark.parametrize("reader", ["caffe", "safetensors", "torch"])
def test_mutated_files(reader, tmp_path):
    path = tmp_path / f"a.{hostile_weights.SUFFIXES[reader]}"

    @QUICKLY
    @given(mutated(reader))
    def check(content):
        check_memory(path, content)

    check()


JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.just(-1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@QUICKLY
@given(st.dictionaries(st.sampled_from(["classes", "config", "shift", "step"]), JSON | st.text()))
def test_what_weights_say_about_themselves(tmp_path_factory, said):
    path = tmp_path_factory.getbasetemp() / "said.safetensors"
    known = hostile_weights.small_files("safetensors")[0]
    path.write_bytes(known)
    about = weights.metadata(path) | {k: json.dumps(v) for k, v in said.items()}
    path.write_bytes(safetensors.numpy.save({"a": np.ones(1, "f4")}, about))
    hostile_weights.read(path)


@pytest.mark.parametrize(
    "classes",
    ["[" * 100_000, '{"class_names": ["a"], "palette": [[300, 0, 0]]}', '{"class_names": [1]}'],
)
def test_nested_and_impossible_classes(classes, tmp_path):
    path = tmp_path / "a.safetensors"
    about = {"format": files.FORMAT, "classes": classes, "config": "{}"}
    path.write_bytes(safetensors.numpy.save({"a": np.ones(1, "f4")}, about))
    with pytest.raises(InputError, match="what it says about itself is damaged"):
        description.read(path)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"segmenter": 5},
        {"segmenter": {"name": []}},
        {"segmenter": {"name": "os.system"}},
        {"segmenter": {"name": "multiscale"}, "evaluate": [1]},
        {"segmenter": {"name": "multiscale", "levels": 10**9}},
        {"segmenter": {"name": "multiscale"}, "evaluate": {"tile": -(10**30), "scales": [[]]}},
    ],
    ids=str,
)
def test_configurations_of_weights_that_are_none(config, tmp_path):
    path = tmp_path / "a.safetensors"
    about = description.Description(
        config | {"segmenter": {}}, ("a", "b"), np.eye(2, 3, dtype=np.uint8), 7
    )
    about = {"format": files.FORMAT} | description.metadata(about) | {"config": json.dumps(config)}
    path.write_bytes(safetensors.numpy.save({"a/kernel": np.ones(1, "f4")}, about))
    with pytest.raises(InputError) as error:
        predictor.from_weights(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 5000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x12\x00" * 2_000, "more than 1,000 fields"),
        (field(100, field(1, "x") + b"\x3a\x00" * 2_000), "more than 1,000 fields"),
        (field(100, field(1, "x") + field(7, b"\x2a\x00" * 2_000)), "more than 1,000 fields"),
        (
            field(100, field(1, "x") + field(7, field(7, field(1, b"\xff\x7f" * 10**5))) * 2),
            "x: an array of 100000 dimensions",
        ),
    ],
    ids=["layers", "arrays", "values", "dimensions"],
)
def test_a_caffemodel_of_very_many_things(content, reason, tmp_path, monkeypatch):
    """Each message takes hundreds of bytes; the product of many sides takes minutes."""
    monkeypatch.setattr(caffemodel, "_MOST_FIELDS", 1000)  # Counting is slow in tests.
    path = tmp_path / "a.caffemodel"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        weights.read_any(path)


def test_names_that_a_terminal_cannot_show(tmp_path):
    path, name = tmp_path / "a.caffemodel", b"\x1b[2J\n\xff" * 1000
    path.write_bytes(field(100, field(1, name) + b"\x3a\x00" * 3))
    assert not hostile_weights.read(path)
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.numpy.save({f"a\n{i}": np.ones(1, "i4") for i in range(999)}))
    assert not hostile_weights.read(path)
    path = tmp_path / "a.pth"
    path.write_bytes(torch_archive(b"S'\\q'\n0S'\\777'\n", {}))
    assert not hostile_weights.read(path)


# What Keras's files say: read by HDF5's library in a process of its own, which the tests of the
# next function stand in for.
PLACES = st.tuples(
    NUMBERS | st.integers(-9, 60), st.lists(NUMBERS | st.integers(-2, 9), max_size=40) | NUMBERS,
    st.sampled_from(["<f4", "<f2", "<f8", "<i4", "|O", "|V8", "x"]) | NUMBERS,
)  # fmt: skip


@QUICKLY
@given(
    JSON
    | st.fixed_dictionaries({"layers": st.lists(st.tuples(st.text(), st.lists(PLACES) | JSON))})
)
def test_arrays_that_are_said_to_be_anywhere(tmp_path_factory, said):
    path = tmp_path_factory.getbasetemp() / "said.h5"
    path.write_bytes(b"\x89HDF" + bytes(60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras, "_describe", lambda path: json.dumps(said))
        tracemalloc.start()
        try:
            found = keras.read(path)
            assert sum(x.nbytes for arrays in found.values() for x in arrays) <= 4 * 64
        except InputError as error:
            assert str(path) in str(error) and str(error).isprintable()
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < ROOM


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "stops at it with signal 11"),
        ("import time; time.sleep(99)", "finds no end of it"),
        (
            "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass",
            "finds no end of it",
        ),
        ("print('nothing')", "Expecting value"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "Expecting value"),
        ("raise MemoryError", "exit 1: MemoryError"),
    ],
)
def test_a_library_that_crashes_or_never_ends(program, reason, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(keras, "_LAYOUT", str(tmp_path / "program.py"))
    if "sleep" in program:
        monkeypatch.setattr(keras, "_SECONDS", 1)
    path = tmp_path / "a.h5"
    path.write_bytes(hostile_weights.small_files("keras")[0])
    with pytest.raises(InputError, match=f"a.h5 is damaged .*{reason}"):
        weights.read_any(path)


def test_mutated_files_of_keras(tmp_path):
    """Few, as each takes a process; `hostile_weights.py keras` tries thousands."""
    path, random, refused = tmp_path / "a.h5", np.random.RandomState(4), 0
    for number in range(8):
        content = bytearray(hostile_weights.small_files("keras")[number % 2])
        used = np.flatnonzero(np.frombuffer(content, np.uint8))
        for place in random.choice(used, 4):
            content[place] = random.randint(256)
        path.write_bytes(content)
        refused += not hostile_weights.read(path)
    path.write_bytes(content[: len(content) // 2])
    assert not hostile_weights.read(path) and refused


def put(kind, layer, folder):
    """Puts two arrays into a group, in a way that Keras has not."""
    values = np.ones(10**6, "f4")
    if kind == "compressed":
        for name in "ab":
            layer.create_dataset(name, (2**28,), "f4", chunks=(2**20,), compression="gzip")
    elif kind == "external storage":
        (folder / "secret").write_bytes(bytes(400))
        for name in "ab":
            layer.create_dataset(name, (100,), "f4", external=[(folder / "secret", 0, 400)])
    elif kind == "virtual":
        layout = h5py.VirtualLayout((100,), "f4")
        layout[:] = h5py.VirtualSource(folder / "other.h5", "x", (100,))
        for name in "ab":
            layer.create_virtual_dataset(name, layout)
    elif kind == "external link":
        for name in "ab":
            layer[name] = h5py.ExternalLink(folder / "other.h5", "/x")
    elif kind == "soft link":
        layer["a"], layer["b"] = h5py.SoftLink("/elsewhere"), values
        layer.file["elsewhere"] = values
    elif kind == "shared":
        layer["a"] = values
        for number in range(9):
            layer[f"b{number}"] = layer["a"]
    elif kind == "integers":
        layer["a"], layer["b"] = np.ones(9, "i4"), values


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("compressed", "not stored in one piece"),
        ("external storage", "not stored in one piece"),
        ("virtual", "not stored in one piece"),
        ("external link", "a is not in the file itself"),
        ("soft link", "a is not in the file itself"),
        ("shared", "is larger than the file"),
        ("integers", "numbers of another kind"),
    ],
)
def test_what_hdf5_could_fetch_from_elsewhere_or_make_large(kind, reason, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(100, "f4")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        layer = file.create_group("block1_conv1")
        put(kind, layer, tmp_path)
        file.attrs["layer_names"], layer.attrs["weight_names"] = [b"block1_conv1"], sorted(layer)
    with pytest.raises(InputError, match=f"a.h5 is damaged or not a file of Keras's .*{reason}"):
        weights.read_any(path)


# What would run what a file says. Where h5py may be used, a process is all that it can break.
UNPICKLING = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LOADING = {"np.load", "numpy.load", "jnp.load"}


def unpickles(source):
    """The lines of a module that could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        named = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
        named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [node.lineno for name in named if name.partition(".")[0] in UNPICKLING]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            by_name = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            allowed = by_name.get("allow_pickle", "False") == "False" and None not in by_name
            wrong = called in ("eval", "exec", "torch.load") or called.endswith(".read_pickle")
            if wrong or (called in LOADING and not (allowed and len(node.args) < 3)):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "def f():\n import dill as d", "eval('1')"]
    + ["np.load(p, allow_pickle=True)", "np.load(p, None, True)", "torch.load(p)", "exec(x)"]
    + ["numpy.load(p, **how)", "pd.read_pickle(p)"],
)
def test_what_unpickles_is_found(source):
    assert unpickles(source)
    assert not unpickles("import pickletools\nnp.load(p, mmap_mode='r')\nx.eval(1)\nf.load(p)")


def test_nothing_in_the_package_unpickles_or_runs_what_a_file_says():
    root = Path(weights.__file__).parents[1]
    paths = sorted(root.rglob("*.py"))
    assert len(paths) > 100
    for path in paths:
        assert not unpickles(path.read_text(encoding="utf-8")), path
    using = [path.name for path in paths if "import h5py" in path.read_text(encoding="utf-8")]
    assert using == ["keras_layout.py"]
