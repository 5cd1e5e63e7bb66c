"""The same function as an ONNX model, by jax2onnx."""

import importlib.util
import logging
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, UInt8

from segadv_jax.errors import InputError
from segadv_jax.export import INPUT, OUTPUT, Predict, static

OPSET = 18  # What ONNX Runtime reads from 1.14 on.


def check_installed() -> None:
    """Raises an InputError that says what to install if jax2onnx is not there."""
    if importlib.util.find_spec("jax2onnx") is None:
        raise InputError(
            "the format onnx needs jax2onnx: pip install 'segadv_jax[onnx]', then "
            "pip install --no-deps jax2onnx, or leave onnx out of --formats"
        )


def to_onnx(predict: Predict, shape: Sequence[int]) -> bytes:
    """The function over batches of photographs of `shape` (H, W), with its parameters.

    Raises:
        InputError: the network has an operation that cannot be converted.
    """
    import jax2onnx

    # That some of the values in between have shapes but no types harms nobody.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    photograph = jax.ShapeDtypeStruct((*shape, 3), np.uint8)
    photographs = jax.ShapeDtypeStruct(("n", *shape, 3), np.uint8)
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "model_name": "segadv_jax"}
    try:
        mapped = jax.vmap(static.simplified(predict, photograph))
        model = jax2onnx.to_onnx(mapped, [photographs], opset=OPSET, **names)
    except Exception as error:  # It may be of any kind.
        raise InputError(
            f"this network cannot be written as ONNX ({type(error).__name__}: {error}); leave onnx "
            "out of --formats"
        ) from error
    _compact(model.graph)
    return model.SerializeToString()


def _compact(graph):
    """Stores large constants that repeat along an axis once, to be expanded when they are read.

    Masks and zeros at the size of the maps would make the file several times as large.
    """
    from onnx import helper, numpy_helper

    for constant in list(graph.initializer):
        array = small = numpy_helper.to_array(constant)
        for axis in range(array.ndim):
            first = small.take([0], axis) if small.size else small
            small = first if np.array_equal(*np.broadcast_arrays(first, small)) else small
        if array.size - small.size < 1000:
            continue
        name = constant.name
        shape = numpy_helper.from_array(np.array(array.shape, np.int64), f"{name}_shape")
        graph.initializer.remove(constant)
        graph.initializer.extend([numpy_helper.from_array(small, f"{name}_once"), shape])
        expand = helper.make_node("Expand", [f"{name}_once", f"{name}_shape"], [name])
        graph.node.insert(0, expand)


def run_onnx(
    model: bytes, photographs: UInt8[np.ndarray, "n H W 3"]
) -> Float[np.ndarray, "n H W C"] | None:
    """What ONNX Runtime makes of photographs with a model; None where it is not installed.

    Raises:
        InputError: it cannot run the model.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return session.run([OUTPUT], {INPUT: photographs})[0]
    except Exception as error:  # It has many kinds, of no common base.
        raise InputError(
            f"ONNX Runtime cannot run this network ({type(error).__name__}: {error}); leave onnx "
            "out of --formats"
        ) from error
