"""Writes a trained segmenter in formats that other programs load, without this package.

    segadv_jax export --workdir=runs/garden --out=exported
    segadv_jax export --weights=garden.safetensors --out=exported --height=480 --width=640
    segadv_jax export --workdir=runs/garden --out=exported --formats=stablehlo,onnx,safetensors

The exported function takes photographs u8[n,H,W,3], RGB, any number n of one size H x W, and
returns the probabilities of the classes at every pixel, f32[n,H,W,C]: those of `predict` and of
evaluation, with the run's tiles, flips, scales and corrections of the logits. Set others as in
--config.evaluate.temperature=1.3. --out receives
- model.json: the names and colours of the classes, the size, what goes in and what comes out;
- model.stablehlo: for JAX, on CPUs, CUDA and TPUs;
- model.onnx: for ONNX Runtime and others; needs jax2onnx here, see docs/export.md;
- model.safetensors: the parameters alone, with what they belong to; `predict --weights` reads it.
Each program is run on two made-up photographs, and must agree with the segmenter to 1e-4.
docs/export.md has ten lines for each that load it.
"""

import argparse
from pathlib import Path

import numpy as np

from segadv_jax import commands, export, files, predictor
from segadv_jax.errors import InputError
from segadv_jax.export import onnx

FORMATS = ("stablehlo", "onnx", "safetensors")
TOLERANCE = 1e-4  # Of a probability.
LEAST, MOST = 16, 8192  # Pixels of a side.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands.add_network_arguments(parser)
    parser.add_argument("--out", required=True, help="folder to write, new or empty")
    formats = f"of {', '.join(FORMATS)}; stablehlo,safetensors if not given"
    parser.add_argument("--formats", default="stablehlo,safetensors", help=formats)
    height = "of the photographs in pixels; with neither given 3/4 of the width"
    width = "the same; with neither given the run's config.data.longest_side"
    parser.add_argument("--height", type=int, help=height)
    parser.add_argument("--width", type=int, help=width)


def main(options: argparse.Namespace) -> int:
    commands.check_network(options)
    formats = _formats(options)
    out = Path(options.out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out={out} is not empty; name another folder")
    trained = commands.network(options)
    shape = _shape(options, trained.longest_side)
    files.writable_folder(out, "--out")
    predict = export.predict_one(trained.params, trained.segmenter, trained.views, shape)
    photographs = np.random.RandomState(0).randint(0, 256, (2, *shape, 3)).astype(np.uint8)
    expected = trained.predict(photographs, np.array([shape] * 2))
    # All before the first file: where a format fails, the folder is still empty for the others.
    programs = {}
    for name in formats:
        if name in _CONVERTERS:
            convert, run = _CONVERTERS[name]
            program = convert(predict, shape)
            programs[name] = program, run(program, photographs)
    differences = []
    for name in formats:
        path = out / f"model.{name}"
        if name == "safetensors":
            predictor.save_weights(trained, path)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
            continue
        program, got = programs[name]
        path.write_bytes(program)
        what = "not checked, as onnxruntime is not installed"
        if got is not None:
            differences.append(float(np.abs(got - expected).max()))
            what = f"differs from the segmenter by {differences[-1]:.1e} at most"
        print(f"{path}: {len(program) / 1e6:.1f} MB, {what}")
    files.write_json(out / "model.json", _about(trained, shape, formats))
    print(f"{out / 'model.json'}: {len(trained.class_names)} classes, {shape[0]}x{shape[1]} pixels")
    # Written so that a difference that is no number fails, too.
    if not all(difference <= TOLERANCE for difference in differences):
        print(f"a difference is above {TOLERANCE:g}: do not use that file")
        return 1
    return 0


_CONVERTERS = {
    "stablehlo": (export.to_stablehlo, export.run_stablehlo),
    "onnx": (onnx.to_onnx, onnx.run_onnx),
}


def _formats(options):
    formats = list(dict.fromkeys(options.formats.split(",")))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(
            f"--formats={options.formats}: {unknown[0]!r} is no format; known: {', '.join(FORMATS)}"
        )
    if "onnx" in formats:
        onnx.check_installed()
    return formats


def _shape(options, longest_side):
    """(H, W) of the photographs."""
    if (options.height is None) != (options.width is None):
        raise InputError("--height and --width belong together; give both or neither")
    if options.height is None and not longest_side:
        raise InputError(
            "this run has photographs of any size: give --height and --width, that of the "
            "photographs it will be used on"
        )
    shape = (options.height, options.width)
    if options.height is None:  # 4:3 is what most cameras take.
        shape = (longest_side * 3 // 4, longest_side)
    for name, pixels in zip(("height", "width"), shape, strict=True):
        if not LEAST <= pixels <= MOST:
            raise InputError(f"--{name}={pixels}: set it from {LEAST} to {MOST} pixels")
    return shape


def _about(trained, shape, formats):
    """What model.json says."""
    height, width = shape
    return {
        "classes": list(trained.class_names),
        "palette": trained.palette.tolist(),
        "input": {
            "name": export.INPUT,
            "shape": ["n", height, width, 3],
            "type": "uint8",
            "meaning": "RGB photographs, 0 to 255, upright (EXIF orientation applied), resized to "
            f"{height} rows of {width} pixels",
        },
        "output": {
            "name": export.OUTPUT,
            "shape": ["n", height, width, len(trained.class_names)],
            "type": "float32",
            "meaning": "probability of each class at each pixel; argmax over the last axis gives "
            "the label map, whose label i is classes[i] and has the colour palette[i]",
        },
        "step": trained.step,
        "files": {name: f"model.{name}" for name in formats},
        "platforms": list(export.PLATFORMS),
    }
