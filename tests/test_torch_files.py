"""PyTorch's files are read without PyTorch; what is hostile or damaged is refused, nothing runs."""

import pickle
import pickletools
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from weight_files import (
    EMPTY,
    TORCH_FORMS,
    items,
    named,
    number,
    text,
    torch_archive,
    torch_dict,
    torch_file,
    torch_legacy,
    torch_storage,
    torch_tensor,
)

from segadv_jax.errors import InputError
from segadv_jax.weights import torch_files

RNG = np.random.default_rng(0)
ARRAYS = {"conv.weight": RNG.standard_normal((4, 3, 2, 2)).astype("f4")}
ARRAYS |= {"conv.bias": RNG.standard_normal(5).astype("f4"), "scale": np.array(2.5, "f4")}
FORMS = sorted(TORCH_FORMS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def read(path, content):
    path.write_bytes(content)
    return torch_files.read(path)


def equal(flat, arrays):
    assert list(flat) == list(arrays)
    for name, array in flat.items():
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
        np.testing.assert_array_equal(array, arrays[name].astype("f4"))


def refused(path, content, reason):
    with pytest.raises(InputError, match=reason) as error:
        read(path, content)
    message = str(error.value)
    assert message.startswith(f"{path} ") and message.isprintable() and len(message) < 1000


@pytest.mark.parametrize("form", FORMS)
def test_state_dicts_of_both_forms(path, form):
    equal(read(path, torch_file(ARRAYS, form)), ARRAYS)
    halves = {"a": ARRAYS["conv.weight"].astype("f2"), "b": ARRAYS["conv.bias"].astype("f8")}
    counts = {"n": np.array(3, "i8"), "mask": np.ones(9, "u1")}
    equal(read(path, torch_file(counts | halves, form)), halves)


@pytest.mark.parametrize("form", FORMS)
def test_tensors_lie_in_their_storage_as_they_like(path, form):
    values = np.arange(30, dtype="f4")
    storage = torch_storage("0", "Float", 30, form == "legacy")
    tensors = {
        "turned": torch_tensor(storage, (2, 3), (1, 2), 4),
        "last": torch_tensor(storage, (2, 1, 5), (5, 999, 1), 20),
        "channels_last": torch_tensor(storage, (1, 3, 2, 4), (24, 1, 12, 3), 6),
    }
    flat = read(path, TORCH_FORMS[form](torch_dict(tensors), {"0": values}))
    expected = {"turned": values[4:10].reshape(3, 2).T, "last": values[20:].reshape(2, 1, 5)}
    expected["channels_last"] = values[6:].reshape(1, 2, 4, 3).transpose(0, 3, 1, 2)
    equal(flat, expected)


def test_bfloat16(path):
    values = np.array([1.5, -2, 3e38], "f4")
    upper = (values.view("u4") >> 16).astype("u2")
    body = torch_dict({"a": torch_tensor(torch_storage("0", "BFloat16", 3), (3,))})
    np.testing.assert_allclose(read(path, torch_archive(body, {"0": upper}))["a"], values, 0.01)


@pytest.mark.parametrize("name", ["state_dict", "model"])
def test_what_a_training_program_writes(path, name):
    tensor = torch_tensor(torch_storage("0", "Float", 3), (3,))
    other = text("optimizer") + b"}" + text("lr") + b"G" + struct.pack(">d", 0.1) + b"s"
    body = b"}(" + text(name) + torch_dict({"a": tensor}) + other + b"u"
    values = np.arange(3, dtype="f4")
    equal(read(path, torch_archive(body, {"0": values})), {"a": values})
    body = b"}(" + text("net") + torch_dict({"a": tensor}) + other + b"u"
    refused(path, torch_archive(body, {"0": values}), "holds net, optimizer besides .*alone")


def test_dictionaries_and_parameters_of_python_2(path):
    tensor = torch_tensor(torch_storage("0", "Float", 3, True), (3,))
    parameter = named("torch._utils", "_rebuild_parameter") + items(tensor, b"\x88", EMPTY) + b"R"
    pair = b"](" + b"U\x01a" + parameter + b"e"
    body = named("collections", "OrderedDict") + items(b"](" + pair + b"e") + b"R"
    values = np.arange(3, dtype="f4")
    equal(read(path, torch_legacy(body, {"0": values})), {"a": values})


PROGRAMS = {
    "GLOBAL": (named("os", "system") + items(text("touch ran")) + b"R", "wants os.system"),
    "STACK_GLOBAL": (
        text("os") + text("system") + b"\x93" + items(text("touch")) + b"R",
        "os.system",
    ),
    "odd STACK_GLOBAL": (b")" + number(3) + b"\x93", "without a name"),
    "attribute": (named("torch._utils", "_rebuild_tensor_v2.__globals__"), "wants torch"),
    "INST": (b"(" + text("touch ran") + b"ios\nsystem\n", "instruction INST"),
    "OBJ": (b"(" + named("os", "system") + text("touch ran") + b"o", "wants os.system"),
    "NEWOBJ": (EMPTY + b")\x81", "instruction NEWOBJ"),
    "EXT": (b"\x82\x01", "instruction EXT1"),
    "REDUCE of no function": (text("os.system") + b")R", "no function"),
    "OrderedDict of itself": (named("collections", "OrderedDict") + items(EMPTY) + b"R", "argum"),
    "BUILD": (named("torch", "FloatStorage") + b"}" + text("a") + number(1) + b"sb", "no tensor"),
    "text PERSID": (b"Pos.system\n", "instruction PERSID"),
    "BINPERSID of a module": (items(text("module"), *[number(1)] * 4) + b"Q", "a module outside"),
    "BINPERSID of a number": (number(1) + b"Q", "outside"),
    "keys that are no names": (b"}" + b")" + number(1) + b"s", "no names"),
    "nothing": (b"N", "no dictionary"),
    "no tensors": (EMPTY, "no floating-point tensor"),
    "a name of two lines": (torch_dict({"a\nb": b"N"}), "'a.*nb'"),
    "an unknown function": (named("a\x1b[2J", "b" * 999), "wants"),
    "instructions without end": (b"N" * 1_000_001, "more than 1,000,000 instructions"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("form", FORMS)
def test_programs_do_not_run(path, form, program, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(pickle, "Unpickler", None)
    monkeypatch.setattr(pickle, "loads", None)
    body, reason = PROGRAMS[program]
    refused(path, TORCH_FORMS[form](body, {}), reason)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


BROKEN = {
    "a stack that is empty": b"t",
    "no mark": number(1) + b"t",
    "below a mark": EMPTY + b"(" + b"s",
    "a memo that is empty": b"j" + struct.pack("<I", 2**32 - 1),
    "odd SETITEMS": b"}(" + text("a") + b"u",
    "APPEND to a dictionary": EMPTY + number(1) + b"a",
    "a tensor without storage": named("torch._utils", "_rebuild_tensor_v2")
    + items(*[b")"] * 6)
    + b"R",
    "sizes that are numbers": named("torch._utils", "_rebuild_tensor_v2")
    + items(torch_storage("0", "Float", 3), *[number(1)] * 5)
    + b"R",
    "a storage of negative size": torch_storage("0", "Float", -3),
    "a storage of two kinds": items(*(torch_storage("0", kind, 3) for kind in ("Float", "Half"))),
    "more text than there is": b"X" + struct.pack("<I", 2**31) + b"a",
    "more bytes than there are": b"\x8e" + struct.pack("<Q", 2**62) + b"a",
    "more bytes than memory": b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"a",
    "a long of negative length": b"\x8b" + struct.pack("<i", -5),
    "an unknown instruction": b"\xff",
    "no Unicode": b"X" + struct.pack("<I", 2) + b"\xff\xfe",
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("form", FORMS)
def test_broken_instructions(path, form, broken):
    refused(path, TORCH_FORMS[form](BROKEN[broken], {}), "damaged or not a state dict of PyTorch")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((7,), (1,), 0), ((3,), (1,), 4), ((3,), (1,), -1), ((2, 3), (2, 1), 0), ((6,), (0,), 0)]
    + [
        ((2, 3), (0, 1), 0),
        ((3,), (-1,), 3),
        ((-3,), (1,), 0),
        ((0, 2**30), (1, 1), 0),
        ((3,), (2,), 0),
    ]
    + [((2**30, 2**30), (2**30, 1), 0), ((1,) * 99, (1,) * 99, 0), ((2,), (1, 1), 0)],
)
def test_tensors_beyond_their_storage(path, form, size, stride, offset):
    tensor = torch_tensor(torch_storage("0", "Float", 6, form == "legacy"), size, stride, offset)
    content = TORCH_FORMS[form](torch_dict({"a": tensor}), {"0": np.ones(6, "f4")})
    refused(path, content, "damaged or not a state dict")


@pytest.mark.parametrize("form", FORMS)
def test_storages_that_are_not_all_there(path, form):
    for claimed, stored in ((2**31 - 1, {"0": 6}), (7, {"0": 6}), (6, {}), (6, {"1": 6})):
        storage = torch_storage("0", "Float", claimed, form == "legacy")
        tensor = torch_tensor(storage, (6,))
        storages = {key: np.ones(size, "f4") for key, size in stored.items()}
        refused(path, TORCH_FORMS[form](torch_dict({"a": tensor}), storages), "damaged")


def test_archives_that_are_something_else(path):
    body, values = torch_dict({"a": torch_tensor(torch_storage("0", "Float", 6), (6,))}), np.ones(6)
    storages = {"0": values.astype("f4")}
    deflated = torch_archive(body, {"0": np.zeros(10**6)}, method=zipfile.ZIP_DEFLATED)
    refused(path, deflated, "compressed or encrypted")
    refused(path, torch_archive(body, storages, b"big"), "not little-endian")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "hello")
    refused(path, path.read_bytes(), "without data.pkl")
    refused(path, pickle.dumps({"a": 1}, 2), "damaged or not a state dict of PyTorch")
    content = torch_legacy(body, storages)
    assert content.count(b"\x88u") == 1
    refused(path, content.replace(b"\x88u", b"\x89u"), "not little-endian")


def test_memory_stays_within_bounds(path):
    """Of a file that asks for gigabytes: by its memo, by copies, by tensors that share."""
    huge = b"r" + struct.pack("<I", 2**32 - 2)
    values = np.ones(10**6, "f4")
    storage = torch_storage("0", "Float", values.size)
    tensor = torch_tensor(storage + b"q\x07", (values.size,))
    shared = torch_tensor(b"h\x07", (values.size,))
    tensors = {"a": tensor} | {f"b{i}": shared for i in range(100)}
    copies = b"](" + (b"](" + text("a") + b"Ne") * 1000 + b"eq\x01"
    again = named("collections", "OrderedDict") + b"h\x01\x85R"
    contents = [
        torch_archive(b"N" + huge, {}),
        torch_archive(torch_dict(tensors), {"0": values}),
        torch_archive(items(copies, *[again] * 1000), {}),
    ]
    for content in contents:
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(InputError):
            torch_files.read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * len(content) + 10**6


def test_nesting_without_end(path):
    for body in (
        b")" + b"\x85" * 100_000,
        b"]" * 100_000 + b"a" * 99_999,
        b"}q\x01" + text("a") + b"h\x01s",
    ):
        with pytest.raises(InputError):
            read(path, torch_archive(body, {}))


@pytest.mark.parametrize("form", FORMS)
def test_no_cut_and_no_flipped_byte_is_taken_for_the_whole(path, form):
    content = torch_file(ARRAYS, form)
    # A flipped value is a value: only an archive has checksums.
    values = np.zeros(len(content), bool)
    for array in ARRAYS.values() if form == "legacy" else ():
        start = content.index(array.tobytes())
        values[start : start + array.nbytes] = True
    rng = np.random.default_rng(2)
    for cut in range(0, len(content), 5):
        try:
            equal(read(path, content[:cut]), ARRAYS)
        except InputError as error:
            assert str(path) in str(error)
        else:
            raise AssertionError(f"cut at {cut}")
    places = np.flatnonzero(~values)
    refusals = 0
    for place in places[::2]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        try:
            flat = read(path, flipped)
        except InputError as error:
            refusals += 1
            assert str(path) in str(error)
            continue
        # Names and shapes may be others, which do not fit a network: no tensor must fill its
        # storage.
        for array, expected in zip(flat.values(), ARRAYS.values(), strict=True):
            if array.shape == expected.shape:
                np.testing.assert_array_equal(array, expected)
    assert refusals > len(places) / 4


def test_random_instructions_never_end_otherwise(path):
    known = [code.code.encode("latin-1") for code in pickletools.opcodes]
    pieces = [*known, EMPTY, text("a"), number(1), torch_storage("0", "Float", 1)]
    pieces += [
        named("torch._utils", "_rebuild_tensor_v2"),
        items(number(1)),
        b"\x85",
        b"h\x01",
        b"q\x01",
    ]
    rng = np.random.default_rng(1)
    for _ in range(600):
        body = b"".join(pieces[i] for i in rng.integers(len(pieces), size=rng.integers(1, 20)))
        with pytest.raises(InputError):
            read(path, torch_archive(body, {"0": np.ones(1, "f4")}))


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_files_that_torch_writes(path, legacy, protocol):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    state = model.to(memory_format=torch.channels_last).state_dict()
    state |= {
        "half": torch.randn(3).half(),
        "bf": torch.ones(2).bfloat16(),
        "scalar": torch.ones(()),
    }
    state |= {"parameter": torch.nn.Parameter(torch.randn(2, 3)), "part": torch.randn(9)[4:]}
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not legacy}
    floating = {
        name: x.detach().float().numpy() for name, x in state.items() if x.is_floating_point()
    }
    for saved in (state, {"state_dict": state, "epoch": 3}):
        torch.save(saved, path, **options)
        equal(torch_files.read(path), floating)
    torch.save(model, path, **options)
    with pytest.raises(InputError, match=r"wants torch\.nn\.modules.*state_dict\(\)"):
        torch_files.read(path)
