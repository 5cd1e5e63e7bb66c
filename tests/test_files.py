"""Files are written whole or not at all, and what is damaged is named with its remedy."""

import os
import socket
import subprocess
import sys

import pytest

from segadv_jax import files
from segadv_jax.errors import InputError


def test_a_file_is_there_once_all_of_it_is_written(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with files.replacing(path) as file:
        file.write("all ")
        file.flush()
        assert not path.exists()
        file.write("of it\n")
    assert path.read_text() == "all of it\n"
    with files.replacing(str(path), "wb") as file:
        file.write(b"\r\n")
    assert path.read_bytes() == b"\r\n"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_no_part(tmp_path, error):
    path = tmp_path / "file.txt"
    for before in ([], ["file.txt"]):
        with pytest.raises(error), files.replacing(path) as file:
            file.write("half")
            file.flush()
            raise error
        assert os.listdir(tmp_path) == before
        path.write_text("old")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("where", "name", "value"), [(os, "getpid", -1), (socket, "gethostname", "other")]
)
def test_several_may_write_the_same_file(tmp_path, monkeypatch, where, name, value):
    """Each has a part of its own, also of two machines; the last one stays."""
    path = tmp_path / "file.txt"
    with files.replacing(path) as mine:
        mine.write("mine")
        monkeypatch.setattr(where, name, lambda: value)
        with files.replacing(path) as other:
            other.write("other")
        assert path.read_text() == "other"
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["file.txt"]


def test_text_is_utf_8_whatever_the_machine_writes(tmp_path):
    program = (
        "from segadv_jax import files; files.write_csv('a.csv', ['a'], [{'a': 'Stra\\xdfe'}]); "
        "files.append_csv('a.csv', ['a'], {'a': 'Flu\\xdf'})"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | ascii_only | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    rows = files.read_csv(tmp_path / "a.csv", "mend it")
    assert [row["a"] for row in rows] == ["Straße", "Fluß"]


def test_a_folder_is_made_or_refused_by_its_field(tmp_path):
    assert files.writable_folder(tmp_path / "a" / "b", "--out") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        message = f"--out={path} is not a folder that can be written .*; choose another"
        with pytest.raises(InputError, match=message):
            files.writable_folder(path, "--out")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # Root may write anywhere.
    with pytest.raises(InputError, match="--out=.*no permission to write.*; choose another"):
        files.writable_folder(tmp_path, "--out")


def test_json_comes_back(tmp_path):
    content = {"a": [1, 2.5, None], "b": {"c": "d"}}
    files.write_json(tmp_path / "a.json", content)
    assert files.read_json(tmp_path / "a.json", "restore it", ("a", "b")) == content
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting"),
        (b"[1]", "it is no JSON object"),
        (b'{"a": 1}', "it lacks b, c"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"", "Expecting value"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path} is damaged .*{reason}.*; restore it$") as raised:
        files.read_json(path, "restore it", ("a", "b", "c"))
    assert "\n" not in str(raised.value)


def test_csv_comes_back_as_text(tmp_path):
    path = tmp_path / "a.csv"
    rows = [{"a": 1, "b": None, "more": 7}, {"a": 'with "quotes", and\na line', "b": 0.5}]
    files.write_csv(path, ("a", "b"), rows)
    expected = [{"a": "1", "b": ""}, {"a": 'with "quotes", and\na line', "b": "0.5"}]
    assert (
        files.read_csv(path, "mend it", ("a", "b")) == files.read_csv(path, "mend it") == expected
    )


@pytest.mark.parametrize(
    ("content", "columns", "reason"),
    [
        (b"a,b\n1\n", (), "a row has too many or too few fields"),
        (b"a,b\n1,2,3\n", (), "a row has too many or too few fields"),
        (b"a,c\n1,2\n", ("a", "b"), "its columns are not a,b"),
        (b"", ("a", "b"), "its columns are not a,b"),
        (b"a,b\n\xff,2\n", (), "can't decode byte 0xff"),
    ],
)
def test_a_damaged_csv_is_named(tmp_path, content, columns, reason):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path} is damaged .*{reason}.*; mend it$"):
        files.read_csv(path, "mend it", columns)


def test_a_column_that_is_needed_is_missed_unless_the_file_is_empty(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n")
    assert files.read_csv(path, "mend it", needed="b") == []
    with pytest.raises(InputError, match="a.csv is damaged .it has no column c.; mend it"):
        files.read_csv(path, "mend it", needed="c")
    path.write_text("")
    assert files.read_csv(path, "mend it", needed="c") == []


def test_a_file_that_is_not_there_is_no_damage(tmp_path):
    for read in (files.read_json, files.read_csv):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none", "restore it")


def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path):
    parts = (".0123456789abcdef.host.71.part", "deep/.0123456789abcdef.one.example.72.part")
    for name in (*parts, "mine.part", "holiday.7z.001.part", "c.71.parts"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files.clear_parts(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["c.71.parts", "holiday.7z.001.part", "mine.part"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    with files.replacing(path, "wb") as file:
        assert [part.name for part in tmp_path.iterdir()] != [path.name]
        file.write(b"all of it")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"all of it"


def test_what_killed_writing_leaves_is_recognised(tmp_path):
    """The name that `replacing` gives is one that `clear_parts` clears."""
    with files.replacing(tmp_path / "a.csv") as file:
        file.write("torn")
        (part,) = tmp_path.iterdir()
        files.clear_parts(tmp_path)
        assert not list(tmp_path.iterdir())
        part.touch()  # `replacing` goes on.
