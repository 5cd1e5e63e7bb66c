"""Weights are written and read unchanged; errors name what does not fit or is damaged."""

import pickle

import h5py
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from weight_files import (
    DILATED8,
    DILATIONS,
    FRONT_END,
    TORCH_FORMS,
    convolve,
    floats,
    group,
    new_layer,
    old_layer,
    ours,
    parts_of_a_net,
    random_layers,
    released,
    same,
    torch_file,
    vgg_classifier,
    write_dilated8,
    write_vgg,
)

from segadv_jax import weights
from segadv_jax.errors import InputError
from segadv_jax.models.dilated8 import Dilated8

DILATED, VGG = random_layers(DILATED8), random_layers(FRONT_END, seed=3)
SHAPES = ours(DILATED)


def flipped(tree):
    """With the first layer's input channels reversed."""
    first = tree["conv1_1"]
    return tree | {"conv1_1": first | {"kernel": first["kernel"][:, :, ::-1]}}


def test_what_is_saved_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    tree = {"trunk": {"conv1": {"kernel": rng.standard_normal((2, 3, 4, 5)).astype("f4").T}}}
    tree |= {"last": {"kernel": np.float64([[1, 2]]), "bias": np.ones(3, "f4")}}
    weights.save(tmp_path / "a.safetensors", tree, {"step": "5"})
    assert weights.metadata(tmp_path / "a.safetensors") == {"format": "segadv_jax", "step": "5"}
    back = weights.load(tmp_path / "a.safetensors", tree)
    same(back["trunk"], tree["trunk"])
    np.testing.assert_array_equal(back["last"]["kernel"], [[1, 2]])
    assert back["last"]["kernel"].dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    tree = {"a": {"bias": np.ones(3)}}
    weights.save(path, tree)

    def full(tensors, metadata):
        assert list(tmp_path.glob(".*.part"))  # The file that is being written.
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.numpy.save", full)
    with pytest.raises(InputError, match=r"a\.safetensors cannot be written \(no space left\)"):
        weights.save(path, {"a": {"bias": np.zeros(3)}})
    assert weights.load(path, tree)["a"]["bias"].tolist() == [1, 1, 1]
    (tmp_path / "plain").write_bytes(b"")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.safetensors", "plain"]
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_is_made_if_it_can_be(tmp_path):
    tree = {"a": {"bias": np.ones(3, "f4")}}
    weights.save(tmp_path / "new" / "a.safetensors", tree)
    same(weights.load(tmp_path / "new" / "a.safetensors", tree), tree)
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(InputError, match="plain/a.safetensors cannot be written"):
        weights.save(tmp_path / "plain" / "a.safetensors", tree)


@pytest.mark.parametrize("form", ["shape", "legacy", "double"])
@pytest.mark.parametrize("layer", [new_layer, old_layer])
@pytest.mark.parametrize("names", ["released", "trained"])
def test_dilated8_of_caffe(tmp_path, form, layer, names):
    layers = released(DILATED)
    if names == "trained":
        layers = {name.replace("ct_", "ctx_"): value for name, value in DILATED.items()}
    path = tmp_path / "dilation8_pascal_voc.caffemodel"
    path.write_bytes(b"".join(parts_of_a_net(layers, layer, form)))
    same(weights.load(path, SHAPES), flipped(ours(DILATED)))


def test_the_released_program_and_ours_agree(tmp_path):
    network = Dilated8(num_classes=3, width=1 / 16)
    image = np.random.default_rng(5).integers(0, 256, (1, 388, 380, 3)).astype("f4")
    size = np.array([[16, 8]])
    shapes = jax.eval_shape(network.init, jax.random.key(0), image, size)["params"]
    assert shapes.keys() == set(DILATED8)
    widths = {group(name): shapes[name]["bias"].shape[0] for name in DILATED8}
    layers = random_layers(DILATED8, seed=2, widths=widths)
    params = weights.load(write_dilated8(tmp_path / "a.caffemodel", layers), shapes)
    # BGR minus the mean, channels first; zeros around the front end's maps.
    x = (image[0, ..., ::-1] - np.array([102.93, 111.36, 116.52])).transpose(2, 0, 1)
    for name, (kernel, bias) in layers.items():
        x = convolve(x, kernel, bias, 33 * (name == "ct_conv1_1"), DILATIONS.get(group(name), 1))
        x = x if "final" in name else np.maximum(x, 0)
        if name in ("conv1_2", "conv2_2", "conv3_3"):
            x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
    logits = jax.jit(network.apply)({"params": params}, image, size)[0]
    assert logits.shape == (2, 1, 3)
    np.testing.assert_allclose(logits, x.transpose(1, 2, 0), rtol=0, atol=1e-4 * np.abs(x).max())


def test_the_wrong_one_of_two_networks(tmp_path):
    path = write_vgg(tmp_path / "vgg.caffemodel", VGG)
    with pytest.raises(InputError, match=rf"{path} is a VGG-16 classifier.*, use vgg:{path}$"):
        weights.load(path, SHAPES)
    path = write_dilated8(tmp_path / "dilated8.caffemodel", DILATED)
    with pytest.raises(
        InputError, match=rf"{path} is a whole network, not a VGG-16.*: use {path} without vgg:"
    ):
        weights.load_vgg(path, SHAPES)
    path = write_vgg(tmp_path / "vgg.caffemodel", VGG)
    with pytest.raises(InputError, match=r"this segmenter has no layer conv1_1, conv1_2, .*fc7;"):
        weights.load_vgg(path, {"trunk": {}})
    path = tmp_path / "other.caffemodel"
    path.write_bytes(b"".join(parts_of_a_net({"ip1": VGG["conv1_1"]}, last="")))
    for read in (weights.load, weights.load_vgg):
        with pytest.raises(InputError, match="neither Dilated-8 nor VGG-16: its layers are ip1"):
            read(path, SHAPES)


def change(tree, **layers):
    """`tree` with layers replaced, or dropped where None."""
    return {name: value for name, value in (tree | layers).items() if value is not None}


def test_everything_that_does_not_fit_is_named_at_once(tmp_path):
    final = (np.ones((4, 10, 1, 1), "f4"), DILATED["final"][1])
    layers = change(DILATED, ct_fc1=None, final=final, upsample=VGG["conv1_1"])
    caffe, plain = tmp_path / "a.caffemodel", tmp_path / "a.safetensors"
    caffe.write_bytes(b"".join(parts_of_a_net(released(layers))))
    weights.save(plain, ours(layers))
    for path in (caffe, plain):
        with pytest.raises(InputError) as error:
            weights.load(path, SHAPES)
        assert str(error.value).startswith(
            f"{path} does not fit this network: missing ct_fc1/kernel, ct_fc1/bias; not of this "
            "network: upsample/bias, upsample/kernel; final/kernel is 1x1x10x4, not 1x1x10x3. "
        )
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["caffemodel", "safetensors"])
def test_what_is_not_finite_is_refused(tmp_path, suffix, value):
    layers = {name: (kernel.copy(), bias.copy()) for name, (kernel, bias) in DILATED.items()}
    layers["conv3_2"][0][1, 2, 0, 1] = value
    layers["ct_final"][1][2] = value
    path = tmp_path / f"a.{suffix}"
    if suffix == "caffemodel":
        write_dilated8(path, layers)
    else:
        weights.save(path, ours(layers))
    with pytest.raises(InputError, match="not finite in conv3_2/kernel, ct_final/bias;"):
        weights.load(path, SHAPES)


def test_no_cut_of_a_caffemodel_is_taken_for_the_whole(tmp_path):
    parts, path = parts_of_a_net(released(DILATED)), tmp_path / "cut.caffemodel"
    content, ends = b"".join(parts), np.cumsum([len(part) for part in parts])
    # After prob nothing is missing.
    cuts = {0, *ends[:-2].tolist(), *np.random.default_rng(0).integers(1, ends[-3], 150).tolist()}
    for cut in cuts:
        path.write_bytes(content[:cut])
        for read in (weights.load, weights.load_vgg):
            with pytest.raises(InputError, match=r"cut\.caffemodel"):
                read(path, SHAPES)
    parts = parts_of_a_net(vgg_classifier(VGG), old_layer, "legacy", "fc8", dilated=False)
    needed = next(i for i, part in enumerate(parts) if b"fc7" in part)
    content, ends = b"".join(parts), np.cumsum([len(part) for part in parts])
    cuts = {*ends[:needed].tolist(), *np.random.default_rng(0).integers(1, ends[needed], 100)}
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"cut\.caffemodel"):
            weights.load_vgg(path, SHAPES)


def test_a_damaged_byte_is_noticed_or_does_not_matter(tmp_path):
    parts, path = parts_of_a_net(released(DILATED)), tmp_path / "flipped.caffemodel"
    content, whole, refused = bytearray(b"".join(parts)), flipped(ours(DILATED)), 0
    values = np.zeros(len(content), bool)
    for array in (x for layer in DILATED.values() for x in layer):
        start = content.index(floats(array))
        values[start : start + 4 * array.size] = True
    rng = np.random.default_rng(0)
    for place in rng.choice(np.flatnonzero(~values), 250, replace=False):
        old = content[place]
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        content[place] = old
        try:
            same(weights.load(path, SHAPES), whole)
        except InputError as error:
            assert "flipped.caffemodel" in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([new_layer("conv1_1", "Convolution", DILATED["conv1_1"])] * 2, "two layers conv1_1"),
        ([new_layer("conv1_1", "Convolution", DILATED["conv1_1"] * 2)], "conv1_1 has 4 arrays"),
        (
            [new_layer("conv1_1", "Convolution", DILATED["conv1_1"][:1] * 1 + (np.ones((0,)),))],
            "conv1_1: 0 bytes of float32 are not an array of 0",
        ),
        ([new_layer("relu1", "ReLU")], "no layer with weights"),
        ([b"name: 'dilation8'\nlayer {\n"], "damaged or not a caffemodel"),
    ],
)
def test_damaged_layers_are_named(tmp_path, parts, reason):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match=reason):
        weights.load(path, SHAPES)


def test_too_few_values_for_a_shape(tmp_path):
    path = write_dilated8(tmp_path / "a.caffemodel", DILATED)
    part = new_layer("conv1_2", "Convolution", DILATED["conv1_2"])
    right = b"\x3a\x06\x0a\x04" + bytes(DILATED["conv1_2"][0].shape)
    assert part.count(right) == 1
    wrong = part.replace(right, right[:-1] + b"\x04")
    path.write_bytes(path.read_bytes().replace(part, wrong))
    with pytest.raises(InputError, match="conv1_2: 576 bytes of float32 are not an .* 4x4x3x4"):
        weights.load(path, SHAPES)


class Program:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", ["pth", "pt", "pkl", "caffemodel", "h5", "safetensors"])
@pytest.mark.parametrize("form", ["archive", "legacy", "bare"])
def test_a_pickle_never_runs(tmp_path, suffix, form):
    ran, path = tmp_path / "ran", tmp_path / f"vgg16.{suffix}"
    content = pickle.dumps({"features.0.weight": Program(ran)}, 2)
    if form == "bare":
        path.write_bytes(content)
    else:
        path.write_bytes(TORCH_FORMS[form](content[2:-1], {}))
    reason = "is a pickle or a ZIP archive, not .*name it .pth: .* without running"
    if suffix in ("pth", "pt", "pkl"):
        reason = "damaged or not a state dict" if form == "bare" else "it wants (io|_io).open"
    for read in (weights.load, weights.load_vgg):
        with pytest.raises(InputError, match=rf"vgg16.* {reason}"):
            read(path, SHAPES)
    assert not ran.exists()


def test_a_network_of_pytorch_that_is_not_known(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(torch_file({"stem.weight": np.ones(3, "f4")}))
    with pytest.raises(InputError, match="missing conv1_1/.*not of this network: stem.weight"):
        weights.load(path, SHAPES)
    path.write_bytes(torch_file({"stem.weight": np.float32([1, np.nan])}))
    with pytest.raises(
        InputError, match=r"other\.pth has values that are not finite in stem.weigh"
    ):
        weights.load(path, SHAPES)


@pytest.mark.parametrize("suffix", ["safetensors", "caffemodel", "h5", "pth"])
def test_files_that_hold_no_weights(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    for content, reason in ((None, "no such file"), (b"", "is empty"), (b"<html>" * 9, "damaged")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=rf"a\.{suffix}.* {reason}"):
            weights.load_vgg(path, SHAPES)
    (tmp_path / f"b.{suffix}").mkdir()
    with pytest.raises(InputError, match=rf"b\.{suffix} is a folder"):
        weights.load(tmp_path / f"b.{suffix}", SHAPES)
    (tmp_path / "weights.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="give .safetensors, .caffemodel, .h5 or .pth"):
        weights.load(tmp_path / "weights.npz", SHAPES)


def test_tensors_that_are_no_parameters(tmp_path):
    save_file({"a/kernel": np.ones(3, np.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="a/kernel is I8; save it as float32"):
        weights.load(tmp_path / "a.safetensors", SHAPES)
    save_file({"a": np.ones(3), "a/bias": np.ones(3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="not of this network: a[.]"):
        weights.load(tmp_path / "a.safetensors", {"a": {"bias": np.ones(3)}})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dense/kernel"] = np.ones(3)
    with pytest.raises(InputError, match="is not a VGG-16 of Keras: its layers are none"):
        weights.load_vgg(tmp_path / "a.h5", SHAPES)
