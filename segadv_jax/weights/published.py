"""The layers of Dilated-8, and its parameters from published networks; its front end from VGG-16.

Yu and Koltun, Multi-Scale Context Aggregation by Dilated Convolutions, 2016; Simonyan and
Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015. How to turn a
classifier's inner products into convolutions: Long et al., Fully Convolutional Networks for
Semantic Segmentation, 2015. Each library prepares its images in its own way, which is folded into
the first layer: the front end sees RGB in 0..255 minus MEAN_RGB, and its output is that of the
classifier, exactly so wherever it sees no padding.

Results are {"layer/kernel": f32[kh,kw,I,O], "layer/bias": f32[O]} with all layers, also unknown
ones, but for a classifier's last. Arrays of other ranks are left alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.models import dilated8
from segadv_jax.weights import files, keras
from segadv_jax.weights.files import Flat, Shape

FRONT_END = tuple(name for stage in dilated8.FRONT_END for name, *_ in stage)
CONTEXT = tuple(name for name, *_ in dilated8.CONTEXT)
LAYERS = (*FRONT_END, "final", *CONTEXT)
_STAGES = (*dilated8.FRONT_END, dilated8.CONTEXT)
_SIDES = {name: side for stage in _STAGES for name, side, *_ in stage} | {"final": 1}  # Of kernels.

# Our names of the files' layers. The released definition of Dilated-8 calls the front end's last
# layer fc-final. The published training code calls it final, and the context's ctx_conv1_1 etc.
CAFFE = {f"ctx_{name.removeprefix('ct_')}": name for name in CONTEXT} | {"fc-final": "final"}
_KERAS = {f"block{name[4]}_conv{name[6]}": name for name in FRONT_END[:-2]}
_KERAS |= {"fc1": "fc6", "fc2": "fc7"}
_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_TORCH = {f"features.{i}": name for name, i in zip(FRONT_END[:-2], _PLACES, strict=True)}
_TORCH |= {"classifier.0": "fc6", "classifier.3": "fc7"}  # Of torchvision.
_TORCH |= {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7"}  # Of timm.
_CLASSIFIERS = ("fc8", "predictions", "classifier.6", "head.fc")  # Of ImageNet's classes.

# Caffe's and Keras's classifiers subtract a mean; torchvision's and timm's also divide by a
# deviation. RGB in 0..255.
_MEAN_CAFFE = (123.68, 116.779, 103.939)
_MEAN_TORCH = 255 * np.array((0.485, 0.456, 0.406))
_STD_TORCH = 255 * np.array((0.229, 0.224, 0.225))


def expected_shapes(flat: Flat, layers: Iterable[str]) -> dict[str, Shape]:
    """The shapes that parameters of `layers`, the first of `LAYERS`, have in any network.

    Each layer takes the output of the one before it, and `ct_final` has the classes of `final`.
    """
    shapes: dict[str, Shape] = {}
    inputs: int | None = 3
    classes: int | None = None
    for layer in layers:
        kernel, side = flat.get(f"{layer}/kernel"), _SIDES[layer]
        outputs = kernel.shape[3] if kernel is not None and kernel.ndim == 4 else None
        if layer == "final":
            classes = outputs
        outputs = classes if layer == "ct_final" and classes else outputs
        shapes[f"{layer}/kernel"] = side, side, inputs, outputs
        shapes[f"{layer}/bias"] = (outputs,)
        inputs = outputs
    return shapes


def from_caffe(flat: Flat, classifier: bool) -> Flat:
    """Converts the arrays of a caffemodel, of a VGG-16 `classifier` or of Dilated-8.

    Both see BGR, minus their mean. `flat` is emptied in the process, as in `from_torch`.
    """
    flat = _convert(flat, CAFFE, _from_channels_first, _CLASSIFIERS if classifier else ())
    _reverse_colours(flat)
    return _fold(flat, _MEAN_CAFFE) if classifier else flat


def from_keras(path: PathLike) -> Flat:
    """Reads and converts Keras's weights, .h5 or .weights.h5."""
    layers = keras.read(path)
    if not _KERAS.keys() & layers.keys():
        raise InputError(
            f"{path} is not a VGG-16 of Keras: its layers are {files.listed(layers) or 'none'}; "
            "give vgg16_weights_tf_dim_ordering_tf_kernels.h5"
        )
    flat = {}
    for name, arrays in layers.items():
        if name in _CLASSIFIERS:
            continue
        if len(arrays) != 2:
            reason = f"{name} has {len(arrays)} arrays, not a kernel and a bias"
            raise files.damaged(path, "a VGG-16 of Keras", reason)
        flat[f"{name}/kernel"], flat[f"{name}/bias"] = arrays
    flat = _convert(flat, _KERAS, _from_rows)
    _reverse_colours(flat)
    return _fold(flat, _MEAN_CAFFE)


def from_torch(tensors: Flat) -> Flat:
    """Converts the state of torchvision's `vgg16` or timm's, which sees (RGB / 255 - mean) / std.

    `tensors` are {"features.0.weight": f32[O,I,kh,kw], ...}. They are emptied in the process,
    because a copy of everything takes half a gigabyte.
    """
    flat = {}
    for name in list(tensors):
        layer, _, part = name.rpartition(".")
        flat[f"{layer}/{'kernel' if part == 'weight' else part}"] = tensors.pop(name)
    return _fold(_convert(flat, _TORCH, _from_channels_first), _MEAN_TORCH, _STD_TORCH)


def _convert(
    flat: Flat,
    ours: Mapping[str, str],
    convert: Callable[[str, np.ndarray], np.ndarray],
    left_out: tuple[str, ...] = _CLASSIFIERS,
) -> Flat:
    """Our names and kernels; `flat` is emptied in the process."""
    converted = {}
    for name in list(flat):
        array = flat.pop(name)
        layer, _, part = name.rpartition("/")
        if not layer.startswith(left_out):
            layer = ours.get(layer, layer)
            converted[f"{layer}/{part}"] = convert(layer, array) if part == "kernel" else array
    return converted


def _from_channels_first(name: str, kernel: np.ndarray) -> np.ndarray:
    """Converts [O,I,kh,kw], or an inner product's [O,I], whose rows are [I,kh,kw] flattened."""
    side = _SIDES.get(name, 3)
    if kernel.ndim == 4 and kernel.shape[:2] == (1, 1) and name.startswith("fc"):
        kernel = kernel[0, 0]
    if kernel.ndim == 2 and kernel.shape[1] % side**2 == 0:
        kernel = kernel.reshape(kernel.shape[0], -1, side, side)
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
    return np.ascontiguousarray(kernel, np.float32)


def _from_rows(name: str, kernel: np.ndarray) -> np.ndarray:
    """Converts an inner product's [I,O], whose columns are [kh,kw,I] flattened."""
    side = _SIDES.get(name, 3)
    if kernel.ndim == 2 and kernel.shape[0] % side**2 == 0:
        kernel = kernel.reshape(side, side, -1, kernel.shape[1])
    return kernel


def _reverse_colours(flat: Flat) -> None:
    """Makes the first layer take RGB instead of BGR."""
    kernel = flat.get("conv1_1/kernel")
    if kernel is not None and kernel.ndim == 4:
        flat["conv1_1/kernel"] = np.ascontiguousarray(kernel[:, :, ::-1])


def _fold(flat: Flat, mean: Sequence[float] | np.ndarray, std: np.ndarray | float = 1.0) -> Flat:
    """Makes the first layer take RGB - MEAN_RGB instead of (RGB - mean) / std.

    k * (x - mean) / std = (k / std) * (x - MEAN_RGB) + sum of (k / std) * (MEAN_RGB - mean).
    """
    kernel, bias = flat.get("conv1_1/kernel"), flat.get("conv1_1/bias")
    if kernel is None or bias is None or kernel.ndim != 4 or kernel.shape[2:] != (3, bias.size):
        return flat  # Reported later, with all else that is missing or wrong.
    with files.unwarned():
        kernel = kernel.astype(np.float64) / np.broadcast_to(std, 3)[:, None]
        shift = np.einsum("hwio,i->o", kernel, np.subtract(dilated8.MEAN_RGB, mean))
        flat["conv1_1/kernel"] = kernel.astype(np.float32)
        flat["conv1_1/bias"] = (bias + shift).astype(np.float32)
    return flat
