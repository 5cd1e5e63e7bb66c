"""A function of one array of known shape, traced to a program of few, plain operations.

A converter to another format needs an equivalent of each of JAX's operations, and has those of
simple networks. So all that does not depend on the argument is computed here, once; what chooses by
platform, as `models/convolution.py` does, takes XLA's own operation; and two general operations
become simple ones: padding is a concatenation, a gather from known places a slice or an index along
each axis.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

# Operations that only call the program that one of these parameters is.
CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint"}
CALLED = ("jaxpr", "call_jaxpr")


def simplified(function: Callable, argument: jax.ShapeDtypeStruct) -> Callable:
    """The function as the program that its tracing with an `argument` leaves."""
    traced = jax.make_jaxpr(function)(argument)
    plain = jax.make_jaxpr(lambda x: _evaluate(traced, x)[0])(argument)
    return lambda x: core.jaxpr_as_fun(plain)(x)[0]


def _evaluate(program: Any, *arguments: Any) -> list[Any]:
    """Results of a traced program: arrays where they are known, otherwise tracers."""
    values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values |= zip(program.jaxpr.invars, arguments, strict=True)

    def read(variable):
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in program.jaxpr.eqns:
        results = _apply(equation, [read(variable) for variable in equation.invars])
        values |= zip(equation.outvars, results, strict=True)
    return [read(variable) for variable in program.jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any]) -> Sequence[Any]:
    """The results of one operation."""
    name, params = equation.primitive.name, equation.params
    if name == "platform_index":
        return [None]  # Only what chooses by it reads it.
    if name == "cond" and params.get("branches_platforms"):
        default = params["branches_platforms"].index(None)
        return _evaluate(params["branches"][default], *inputs[1:])
    if name in CALLS:
        called = next(params[key] for key in CALLED if key in params)
        closed = called if isinstance(called, core.ClosedJaxpr) else core.ClosedJaxpr(called, ())
        return _evaluate(closed, *inputs)
    unknown = [isinstance(value, jax.core.Tracer) for value in inputs]
    if name == "pad" and unknown == [True, False]:
        return [_pad(inputs[0], inputs[1], params["padding_config"])]
    if name == "gather" and unknown == [True, False]:
        return [_gather(equation, inputs[0], inputs[1])]
    with contextlib.nullcontext() if any(unknown) else jax.ensure_compile_time_eval():
        results = equation.primitive.bind(*inputs, **params)
    return results if equation.primitive.multiple_results else [results]


def _pad(x, value, widths):
    """`lax.pad` by concatenation; a negative width cuts off."""
    for axis, (before, after, between) in enumerate(widths):
        if between:
            raise NotImplementedError("padding between elements")
        length = x.shape[axis]
        x = lax.slice_in_dim(x, max(-before, 0), length - max(-after, 0), axis=axis)
        borders = [
            lax.full((*x.shape[:axis], max(width, 0), *x.shape[axis + 1 :]), value, x.dtype)
            for width in (before, after)
        ]
        parts = [part for part in (borders[0], x, borders[1]) if part.shape[axis]]
        x = lax.concatenate(parts, axis) if len(parts) > 1 else x
    return x


def _gather(equation, x, indices):
    """A gather of rows, columns and so on: the place along each axis depends on that axis alone."""
    with jax.ensure_compile_time_eval():
        numbers = jnp.arange(x.size, dtype=jnp.int32).reshape(x.shape)
        picked = np.asarray(equation.primitive.bind(numbers, indices, **equation.params))
    if picked.ndim != x.ndim:
        raise NotImplementedError(f"a gather of shape {picked.shape} from {x.shape}")
    places = np.unravel_index(picked, x.shape)
    along = [
        np.moveaxis(p, axis, 0).reshape(p.shape[axis], -1)[:, 0] for axis, p in enumerate(places)
    ]
    for grid, place in zip(np.ix_(*along), places, strict=True):
        if np.any(grid != place):
            raise NotImplementedError("a gather that is not along the axes")
    for axis, index in enumerate(along):
        first, end = int(index[0]), int(index[0]) + len(index)
        if np.array_equal(index, np.arange(first, end)):
            x = lax.slice_in_dim(x, first, end, axis=axis)
        else:
            all_before = (slice(None),) * axis
            mode = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
            x = x.at[(*all_before, index)].get(**mode)
    return x
