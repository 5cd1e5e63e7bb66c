"""The layers of Dilated-8 and of its front end, by name."""

from collections.abc import Iterable

from segadv_jax.models import dilated8
from segadv_jax.weights.files import Flat, Shape

FRONT_END = tuple(name for stage in dilated8.FRONT_END for name, *_ in stage)
CONTEXT = tuple(name for name, *_ in dilated8.CONTEXT)
LAYERS = (*FRONT_END, "final", *CONTEXT)
_STAGES = (*dilated8.FRONT_END, dilated8.CONTEXT)
SIDES = {name: side for stage in _STAGES for name, side, *_ in stage} | {"final": 1}  # Of kernels.


def our_name(name: str) -> str:
    """Our name of a caffemodel's layer.

    The released definition calls the front end's last layer fc-final. The published training code
    calls it final, and the context's layers ctx_conv1_1 and so on.
    """
    if name.startswith("ctx_"):
        return f"ct_{name.removeprefix('ctx_')}"
    return "final" if name == "fc-final" else name


def expected_shapes(flat: Flat, layers: Iterable[str]) -> dict[str, Shape]:
    """The shapes that parameters of `layers`, the first of `LAYERS`, have in any network.

    Each layer takes the output of the one before it, and `ct_final` has the classes of `final`.
    """
    shapes: dict[str, Shape] = {}
    inputs: int | None = 3
    classes: int | None = None
    for layer in layers:
        kernel, side = flat.get(f"{layer}/kernel"), SIDES[layer]
        outputs = kernel.shape[3] if kernel is not None and kernel.ndim == 4 else None
        if layer == "final":
            classes = outputs
        outputs = classes if layer == "ct_final" and classes else outputs
        shapes[f"{layer}/kernel"] = side, side, inputs, outputs
        shapes[f"{layer}/bias"] = (outputs,)
        inputs = outputs
    return shapes
