"""Follows the instructions of a pickle that `torch.save` wrote; none of them can do harm.

Python's own machine for these instructions calls whatever function a file names and allocates
whatever it asks for. This one knows only what state dicts are made of and makes nothing but plain
values and descriptions of tensors; all else is refused. What it takes of memory is bounded by a
small multiple of the file's size, and a constant.
"""

import io
import pickletools
import warnings
from typing import Any, NamedTuple

from segadv_jax.weights.files import shown

# The names of storages in a file, and what their values are. NumPy has no bfloat16.
STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "?",
}
_DICT, _PARAMETER = "collections.OrderedDict", "torch._utils._rebuild_parameter"
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_GLOBALS = {_DICT, _PARAMETER, *_TENSORS, *STORAGES}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_VALUES |= {"BINSTRING", "SHORT_BINSTRING"}  # Of Python 2.
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "SETITEM": 2, "APPEND": 1}
# A tensor takes about 40 instructions. One of a single byte can make an object of 200.
_MOST_INSTRUCTIONS = 1_000_000
_MOST_DIMENSIONS = 32


class _Global(NamedTuple):
    """A function or class that the file names."""

    name: str


class Storage(NamedTuple):
    """The values that tensors have, by their key in the file."""

    key: str
    kind: str
    size: int  # Of values.


class Tensor(NamedTuple):
    """Where in a storage a tensor's values are."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Foreign(Exception):
    """It is no state dict; the reason."""


class Damaged(Exception):
    """It is no file of PyTorch, or not all of it; the reason."""


def run(file: io.BytesIO, known: dict[str, Storage] | None = None) -> Any:
    """What the pickle at this place of `file` describes; `known` collects its storages by key."""
    try:
        with warnings.catch_warnings():  # Of Python, about texts that are refused in any case.
            warnings.simplefilter("ignore")
            return _follow(file, {} if known is None else known)
    except ValueError as error:  # Of genops: an unknown instruction, or the end of the file.
        raise Damaged(error) from error
    except (IndexError, KeyError) as error:
        raise Damaged("it takes what it has not put there") from error


def _follow(file: io.BytesIO, known: dict[str, Storage]) -> Any:
    """Follows the instructions: `stack` is what lies above the last mark, `below` the rest."""
    stack: list[Any] = []
    below: list[list[Any]] = []
    memo: dict[int, Any] = {}  # A list, as Python has it, could be made as long as a file likes.
    argument: Any
    for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if number == _MOST_INSTRUCTIONS:
            raise Foreign(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")
        name = operation.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in ("TUPLE", "SETITEMS", "APPENDS"):
            items, stack = stack, below.pop()
            stack.append(tuple(items) if name == "TUPLE" else _add(stack.pop(), items, name))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3", "SETITEM", "APPEND"):
            items = [stack.pop() for _ in range(_TAKES[name])][::-1]
            stack.append(_add(stack.pop(), items, name) if "TUPLE" not in name else tuple(items))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_find(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(_find(f"{module}.{last}" if type(module) is type(last) is str else ""))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), known))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":  # The versions of the modules: nothing that is needed.
            if type(stack.pop()) is not dict or type(stack[-1]) is not dict:
                raise Foreign("it has an object that is no tensor")
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise Foreign(f"it has the instruction {name}, which no state dict needs")
    raise AssertionError("genops ends with STOP")


def _add(target: Any, items: list[Any], name: str) -> Any:
    """`target` with `items`, of a list or the keys and values of a dictionary in turn."""
    if name.startswith("APPEND") and type(target) is list:
        target.extend(items)
    elif name.startswith("SETITEM") and type(target) is dict and len(items) % 2 == 0:
        _set(target, zip(items[::2], items[1::2], strict=True))
    else:
        raise Damaged(f"{name} without a list or dictionary")
    return target


def _set(target: dict, pairs: Any) -> None:
    for key, value in pairs:
        # Hashing another one may take all of the stack.
        if type(key) not in (str, int):
            raise Foreign("it has a dictionary whose keys are no names")
        target[key] = value


def _find(name: str) -> _Global:
    if name not in _GLOBALS:
        raise Foreign(f"it wants {shown(name) or 'something without a name'}")
    return _Global(name)


def _call(function: Any, arguments: Any) -> Any:
    """What one of the functions in `_GLOBALS` would return."""
    if type(function) is not _Global or type(arguments) is not tuple:
        raise Foreign("it calls what is no function")
    name = function.name
    if name == _DICT and not arguments:
        return {}
    if name == _DICT and len(arguments) == 1 and type(arguments[0]) is list:  # Of Python 2.
        made: dict = {}
        if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in arguments[0]):
            _set(made, arguments[0])
            arguments[0].clear()  # A file could ask for a thousand copies of a long one.
            return made
    if name == _PARAMETER and arguments and type(arguments[0]) is Tensor:
        return arguments[0]
    if name in _TENSORS and len(arguments) >= 4 and type(arguments[0]) is Storage:
        storage, offset, size, stride = arguments[:4]
        tuples = type(size) is type(stride) is tuple
        if tuples and len(size) == len(stride) <= _MOST_DIMENSIONS:
            if all(type(number) is int for number in (offset, *size, *stride)):
                return Tensor(storage, offset, size, stride)
    raise Damaged(f"{name} with other arguments than torch.save gives it")


def _storage(what: Any, known: dict[str, Storage]) -> Storage:
    """The storage that a persistent id names; adds it to `known`."""
    if type(what) is not tuple or not 5 <= len(what) <= 6 or type(what[0]) is not str:
        raise Foreign("it refers to something outside the file")
    tag, kind, key, _, size = what[:5]
    if tag != "storage" or type(kind) is not _Global or kind.name not in STORAGES:
        raise Foreign(f"it refers to a {shown(tag)} outside the file")
    if type(key) is not str or type(size) is not int or size < 0 or what[5:] not in ((), (None,)):
        raise Damaged("a storage has no size or is a part of another")
    storage = Storage(key, kind.name, size)
    if known.setdefault(key, storage) != storage:
        raise Damaged(f"the storage {shown(key)} is of two kinds")
    return storage
