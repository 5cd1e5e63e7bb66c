"""EfficientNet-Lite0's backbone is that of the public PyTorch code, on images of any size."""

import io
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

from segadv_jax import initialize, weights
from segadv_jax.models import SEGMENTERS
from segadv_jax.models.efficientnet_lite import TAPS, Backbone, first_cells
from segadv_jax.weights import torch_files

torch = pytest.importorskip("torch")
public = pytest.importorskip("efficientnet_lite_pytorch")

SIZES = ((213, 159), (97, 131), (224, 224), (64, 150))
LAST = (2, 4, 10, 15)  # The blocks whose outputs have the strides TAPS.


@pytest.fixture(scope="module")
def images(stanford_archives):
    """Real images u8[H,W,3] of the SIZES."""
    with tarfile.open(stanford_archives / "iccv09Data.tar.gz") as tar:
        photos = (member for member in tar if member.name.endswith(".jpg"))
        content = [tar.extractfile(next(photos)).read() for _ in SIZES]
    return [
        np.asarray(Image.open(io.BytesIO(photo)).convert("RGB").resize(size[::-1]))
        for photo, size in zip(content, SIZES, strict=True)
    ]


def theirs(images):
    """[(taps [h,w,C], logits [1000])] by the public code, padding each image by its own size."""
    path = weights.installed_efficientnet_lite()
    model = public.EfficientNet.from_pretrained("efficientnet-lite0", path, image_size=None).eval()
    found = []
    blocks = {number: model._blocks[number] for number in LAST}
    outputs = {}
    for number, block in blocks.items():
        block.register_forward_hook(lambda _, __, y, number=number: outputs.update({number: y}))
    for image in images:
        x = (torch.tensor(image.transpose(2, 0, 1)[None].astype("f4")) - 127) / 128
        with torch.no_grad():
            logits = model(x)[0].numpy()
        taps = [outputs[number][0].numpy().transpose(1, 2, 0) for number in LAST]
        found.append((taps, logits))
    return found


def ours(images):
    """The same taps by our backbone, all images on one canvas with noise beside them."""
    segmenter = SEGMENTERS["efficientnet_lite0"](num_classes=2)
    initial = jax.tree.map(lambda x: np.zeros(x.shape), initialize.shapes(segmenter))
    path = weights.installed_efficientnet_lite()
    params = weights.load_efficientnet_lite(path, initial)["backbone"]
    shape = (len(images), *np.max([image.shape for image in images], 0))
    canvas = np.random.default_rng(0).integers(0, 256, shape).astype("f4")
    for row, image in zip(canvas, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    size = np.array([image.shape[:2] for image in images], np.int32)
    maps = jax.jit(Backbone().apply)({"params": params}, canvas, size)
    return [
        [cut(tap[i], size[i], s) for s, tap in zip(TAPS, maps, strict=True)]
        for i in range(len(size))
    ]


def cut(tap, size, stride):
    """The part of a tap that is the image's."""
    (top, left), (rows, columns) = first_cells(size[None], stride)[0], -(-size // stride)
    return np.asarray(tap)[top : top + rows, left : left + columns]


def classify(tap):
    """ImageNet's logits from the last tap, by what the backbone leaves out of the classifier."""
    flat = torch_files.read(weights.installed_efficientnet_lite())
    x = tap.astype("f8") @ flat["_conv_head.weight"][:, :, 0, 0].T
    x = (x - flat["_bn1.running_mean"]) / np.sqrt(flat["_bn1.running_var"] + 1e-3)
    x = np.clip(x * flat["_bn1.weight"] + flat["_bn1.bias"], 0, 6).mean((0, 1))
    return flat["_fc.weight"] @ x + flat["_fc.bias"]


def error(got, expected):
    """The largest difference, relative to the largest value."""
    assert got.shape == expected.shape
    return np.abs(got - expected).max() / np.abs(expected).max()


def test_taps_and_logits_are_those_of_the_public_code(images):
    for image, taps, (expected, logits) in zip(images, ours(images), theirs(images), strict=True):
        errors = [error(*pair) for pair in zip(taps, expected, strict=True)]
        errors.append(error(classify(taps[-1]), logits))
        print(image.shape, [f"{value:.1e}" for value in errors])
        assert max(errors) < 1e-4
