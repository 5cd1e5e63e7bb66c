"""A trained segmenter as one function of photographs that other programs can load.

It takes photographs u8[n,H,W,3], RGB, all of one size that is fixed, as many as one likes, and
returns the class probabilities of every pixel f32[n,H,W,C], as `prediction.predict` has them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from segadv_jax import prediction
from segadv_jax.models import Segmenter
from segadv_jax.prediction import Views

PLATFORMS = ("cpu", "cuda", "tpu")
INPUT, OUTPUT = "photographs", "probabilities"

Predict = Callable[[UInt8[Array, "H W 3"]], Float[Array, "H W C"]]


def predict_one(params: Any, segmenter: Segmenter, views: Views, shape: Sequence[int]) -> Predict:
    """The function from one photograph of `shape` (H, W) to its probabilities.

    Mapped over a batch, each example has shapes that are known, whatever the size of the batch.
    """
    size = np.array([shape], np.int32)
    predict = functools.partial(prediction.predict, segmenter=segmenter, views=views)
    return lambda photograph: predict(params, photograph[None], size)[0]


def to_stablehlo(predict: Predict, shape: Sequence[int]) -> bytes:
    """The function over batches of photographs of `shape` (H, W), with its parameters.

    Returns:
        A StableHLO program for each of `PLATFORMS`, as `jax.export.deserialize` reads it.
    """
    (batch,) = jax.export.symbolic_shape("n")
    photographs = jax.ShapeDtypeStruct((batch, *shape, 3), jnp.uint8)
    mapped = jax.jit(jax.vmap(predict))
    return bytes(jax.export.export(mapped, platforms=PLATFORMS)(photographs).serialize())


def run_stablehlo(
    program: bytes, photographs: UInt8[np.ndarray, "n H W 3"]
) -> Float[np.ndarray, "n H W C"]:
    """What the program that `to_stablehlo` returned makes of photographs, on this machine."""
    return np.asarray(jax.export.deserialize(bytearray(program)).call(photographs))
