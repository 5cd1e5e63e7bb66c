"""A front end from a VGG-16 classifier computes the classifier's fc7, whoever published it."""

import h5py
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file
from weight_files import (
    CONVOLUTIONS,
    DILATED8,
    FRONT_END,
    convolve,
    old_layer,
    ours,
    parts_of_a_net,
    random_layers,
    same,
    torch_file,
    vgg_classifier,
    write_vgg,
)

from segadv_jax import weights
from segadv_jax.errors import InputError
from segadv_jax.models.dilated8 import MEAN_RGB

VGG = random_layers(FRONT_END, seed=3)
INITIAL = ours(random_layers(DILATED8, seed=9))
IMAGE = np.random.default_rng(7).integers(0, 256, (224, 224, 3), np.uint8)
# Where torchvision's convolutions are.
FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
MEAN_CAFFE = np.array([103.939, 116.779, 123.68])[::-1]
MEAN_TORCH, STD_TORCH = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def classify(layers, x):
    """fc7 of a classifier of {name: (kernel [O,I,kh,kw] or [O,I], bias)} on [3,224,224]."""
    for name, count in CONVOLUTIONS.items():
        for i in range(count):
            x = np.maximum(convolve(x, *layers[f"{name}_{i + 1}"], pad=1), 0)
        x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
    x = x.reshape(-1)
    for name in ("fc6", "fc7"):
        kernel, bias = layers[name]
        x = np.maximum(kernel.reshape(len(kernel), -1).astype("f8") @ x + bias, 0)
    return x


def front_end(tree, image, padding):
    """fc7 of our front end, arranged as a classifier, on u8[224,224,3].

    Args:
        tree: our parameters.
        image: RGB.
        padding: the colour, RGB in 0..255, that the original's padding with zero stands for.
    """
    edges = [(1, 1), (1, 1)]
    x = np.stack(
        [np.pad(image[..., c].astype("f8"), edges, constant_values=padding[c]) for c in range(3)], 2
    )
    x = tf.constant((x - MEAN_RGB)[None], tf.float32)
    for name, count in CONVOLUTIONS.items():
        for i in range(count):
            layer = tree[f"{name}_{i + 1}"]
            pad = "VALID" if (name, i) == ("conv1", 0) else "SAME"
            x = tf.nn.relu(tf.nn.conv2d(x, layer["kernel"], 1, pad) + layer["bias"])
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    for name in ("fc6", "fc7"):
        x = tf.nn.relu(tf.nn.conv2d(x, tree[name]["kernel"], 1, "VALID") + tree[name]["bias"])
    assert x.shape[1:3] == (1, 1)
    return x.numpy().reshape(-1)


def check_front_end(path, expected, padding):
    """Asserts that `path` gives fc7 `expected` on IMAGE and leaves the other layers alone."""
    tree = weights.load_vgg(path, INITIAL)
    assert (expected > 0).sum() > 2
    error = np.abs(front_end(tree, IMAGE, padding) - expected).max()
    assert error < 1e-4 * np.abs(expected).max()
    rest = [name for name in DILATED8 if name not in FRONT_END]
    same({name: tree[name] for name in rest}, {name: INITIAL[name] for name in rest})
    assert tree.keys() == INITIAL.keys()


@pytest.mark.parametrize("form", ["published", "upgraded", "convolutions"])
def test_vgg_of_caffe(tmp_path, form):
    layers = vgg_classifier(VGG, flatten=form != "convolutions")
    path = tmp_path / "VGG_ILSVRC_16_layers.caffemodel"
    if form == "published":
        write_vgg(path, VGG)
    else:
        path.write_bytes(b"".join(parts_of_a_net(layers, last="fc8", dilated=False)))
    image = IMAGE[..., ::-1].astype("f8") - MEAN_CAFFE[::-1]
    check_front_end(path, classify(layers, image.transpose(2, 0, 1)), MEAN_CAFFE)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_vgg_of_torch(tmp_path, library, suffix):
    layers = vgg_classifier(VGG, flatten=library == "torchvision")
    names = {name: f"features.{i}" for name, i in zip(FRONT_END, FEATURES, strict=False)}
    names |= {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    if library == "timm":
        names |= {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    tensors = {f"{names[name]}.weight": kernel for name, (kernel, _) in layers.items()}
    tensors |= {f"{names[name]}.bias": bias for name, (_, bias) in layers.items()}
    path = tmp_path / f"vgg16.{suffix}"
    if suffix == "pth":
        path.write_bytes(torch_file(tensors, "legacy" if library == "torchvision" else "archive"))
    else:
        save_file(tensors, path)
    image = (IMAGE / 255 - MEAN_TORCH) / STD_TORCH
    expected = classify(layers, image.transpose(2, 0, 1))
    check_front_end(path, expected, 255 * MEAN_TORCH)
    with pytest.raises(InputError, match=rf"vgg16\.{suffix} is a VGG-16 .* use vgg:"):
        weights.load(path, INITIAL)


@pytest.fixture(scope="module")
def keras_vgg():
    """(a classifier of Keras's own layers, its fc7 on IMAGE)."""
    keras = tf.keras
    x = image = keras.layers.Input((224, 224, 3))
    for name, count in CONVOLUTIONS.items():
        for i in range(count):
            width = len(VGG[f"{name}_1"][1])
            layer = keras.layers.Conv2D(
                width, 3, padding="same", activation="relu", name=f"block{name[4]}_conv{i + 1}"
            )
            x = layer(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{name[4]}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(9, activation="relu", name="fc1")(x)
    x = fc7 = keras.layers.Dense(10, activation="relu", name="fc2")(x)
    x = keras.layers.Dense(5, activation="softmax", name="predictions")(x)
    model = keras.Model(image, x, name="vgg16")
    rng = np.random.default_rng(11)
    for variable in model.weights:
        scale = np.sqrt(2 / np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.1
        variable.assign(scale * rng.standard_normal(variable.shape))
    prepared = keras.applications.vgg16.preprocess_input(IMAGE[None].astype("f4"))
    return model, keras.Model(image, fc7)(prepared).numpy()[0]


def write_published(path, model):
    """A file like vgg16_weights_tf_dim_ordering_tf_kernels.h5, which Keras 1 wrote."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            names = [f"{layer.name}_{part}_1:0" for part in "Wb"] if layer.weights else []
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


# Keras causes it when it writes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("form", ["published", "keras3", "whole"])
def test_vgg_of_keras(tmp_path, keras_vgg, form):
    model, expected = keras_vgg
    path = tmp_path / ("vgg16.weights.h5" if form == "keras3" else "vgg16.h5")
    if form == "published":
        write_published(path, model)
    else:
        (model.save_weights if form == "keras3" else model.save)(str(path))
    check_front_end(path, expected, MEAN_CAFFE)
    with pytest.raises(InputError, match="use vgg:"):
        weights.load(path, INITIAL)


def test_our_own_front_end_counts_as_vgg(tmp_path):
    tree = weights.load_vgg(write_vgg(tmp_path / "vgg.caffemodel", VGG), INITIAL)
    weights.save(tmp_path / "vgg.safetensors", {name: tree[name] for name in FRONT_END})
    same(weights.load_vgg(tmp_path / "vgg.safetensors", INITIAL), tree)
    with pytest.raises(InputError, match="use vgg:"):
        weights.load(tmp_path / "vgg.safetensors", INITIAL)


def test_a_classifier_that_does_not_fit(tmp_path):
    wide = (np.ones((9, 8 * 49 + 1), "f4"), VGG["fc6"][1])
    layers = vgg_classifier(VGG) | {"fc6": wide, "conv5_4": VGG["conv5_3"]}
    layers.pop("conv4_2")
    path = tmp_path / "vgg.caffemodel"
    path.write_bytes(b"".join(parts_of_a_net(layers, old_layer, "legacy", "fc8")))
    with pytest.raises(InputError) as error:
        weights.load_vgg(path, INITIAL)
    for part in (
        "missing conv4_2/kernel, conv4_2/bias; not of this network: conv5_4/bias, conv5_4/kernel",
        "fc6/kernel is 9x393, not 7x7x8x9.",
    ):
        assert part in str(error.value)


def test_damaged_safetensors_and_h5(tmp_path, keras_vgg):
    weights.save(tmp_path / "a.safetensors", INITIAL)
    write_published(tmp_path / "a.h5", keras_vgg[0])
    for name, read in (("a.safetensors", weights.load), ("a.h5", weights.load_vgg)):
        content = (tmp_path / name).read_bytes()
        for cut in np.linspace(1, len(content) - 1, 30, dtype=int):
            (tmp_path / name).write_bytes(content[:cut])
            with pytest.raises(InputError, match=name):
                read(tmp_path / name, INITIAL)
