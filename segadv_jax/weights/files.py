"""Files of weights: what may be read at all, and our own safetensors.

Inside this package the parameters of a network are a flat dict {"layer/kernel": array}.
"""

import os
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from segadv_jax.errors import InputError

FORMAT = "segadv_jax"
_PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin")
_WIDER = {"F16", "F32", "F64"}


def check(path):
    """Raises an InputError unless ``path`` is a file with something in it, and no pickle."""
    if os.path.splitext(path)[1].lower() in _PICKLES:
        raise _pickle(path)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file of weights")
    if not os.path.isfile(path):
        raise InputError(f"{path}: there is no such file; check the path, or download it")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it; change its permissions")
    if not os.path.getsize(path):
        raise InputError(f"{path} is empty; download or copy it again")


def damaged(path, what, reason):
    """The InputError about a file that is not what its name promises.

    Args:
        path: of the file.
        what: kind of file that was expected, as "a caffemodel".
        reason: what is wrong with it.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    # What PyTorch writes is a ZIP archive with a pickle, and was a bare pickle once.
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        return _pickle(path)
    reason = " ".join(str(reason).split())
    return InputError(f"{path} is damaged or not {what} ({reason}); download or copy it again")


def _pickle(path):
    return InputError(
        f"{path} is a pickle, which can run programs and is never loaded; save its tensors where "
        "you trust it, in Python: safetensors.torch.save_file(torch.load(PATH, weights_only=True), "
        '"weights.safetensors")'
    )


def read_tensors(path):
    """Reads a safetensors file.

    Returns:
        ({name: f32 array}, metadata {str: str}).

    Raises:
        InputError: it is damaged, or a tensor is not of floating point.
    """
    check(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
            other = [f"{name} is {dtype}" for name, dtype in dtypes.items() if dtype not in _WIDER]
            if other:
                raise InputError(f"{path}: {', '.join(other)}; save it as float32")
            with np.errstate(over="ignore"):  # Infinity is reported by name later.
                tensors = {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
    except (SafetensorError, OSError) as error:
        raise damaged(path, "a safetensors file", error) from error
    return tensors, metadata


def metadata(path):
    """What a safetensors file says of itself, {str: str}; nothing of any other file."""
    if os.path.splitext(path)[1].lower() != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(path, "a safetensors file", error) from error


def read(path):
    """Reads a file that ``save`` wrote.

    Returns:
        (nested tree of f32 arrays, metadata {str: str}).

    Raises:
        InputError: it cannot be read, or its names are no tree.
    """
    tensors, metadata = read_tensors(path)
    return unflatten(tensors, path), metadata


def save(path, params, metadata=None):
    """Writes parameters as safetensors, all of the file or none of it.

    Args:
        path: of the file, which is replaced if it is there.
        params: tree of arrays, {"trunk": {"conv1": {"kernel": ...}}}, stored as float32 under
            names such as "trunk/conv1/kernel".
        metadata: {str: str} to store beside {"format": "segadv_jax"}.

    Raises:
        InputError: the file cannot be written.
    """
    tensors = {name: np.ascontiguousarray(x, np.float32) for name, x in flatten(params).items()}
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:  # What safetensors writes nobody else may read.
            mode = os.fstat(file.fileno()).st_mode
        save_file(tensors, part, {"format": FORMAT} | (metadata or {}))
        os.chmod(part, mode & 0o777)
        os.replace(part, path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be written ({reason}); choose another place") from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def flatten(tree, prefix=""):
    """{"a": {"b": x}} to {"a/b": x}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat


def unflatten(flat, path=""):
    """{"a/b": x} to {"a": {"b": x}}; an InputError names ``path`` where "a" is an array too."""
    tree = {}
    for name in sorted(flat):  # "a" comes before "a/b".
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise InputError(f"{path}: {name} lies within an array; it is no file of ours")
        node[last] = flat[name]
    return tree
