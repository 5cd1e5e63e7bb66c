"""Writes weights as a .safetensors file, which --config.init and other programs read.

    segadv_jax convert_weights dilation8_pascal_voc.caffemodel dilated8.safetensors
    segadv_jax convert_weights VGG_ILSVRC_16_layers.caffemodel vgg16.safetensors
    segadv_jax convert_weights runs/voc/adversarial segmenter.safetensors
    segadv_jax convert_weights runs/voc/adversarial adversary.safetensors --player=adversary

The source is
- the released Dilated-8: the target is the complete network, for --config.init=TARGET;
- a VGG-16 classifier, of Caffe (.caffemodel), Keras (.h5), torchvision or timm (.safetensors): the
  target is Dilated-8's front end, conv1_1 to fc7, for --config.init=vgg:TARGET;
- the workdir of a run: the target is a player of the best checkpoint, or of the latest if none was
  validated;
- a .safetensors file of one of these: it is checked and written again.

Kernels are f32[kh,kw,I,O], the input is RGB in 0..255 minus the mean that the segmenter subtracts.
"""

import argparse
import os

from segadv_jax.errors import InputError
from segadv_jax.weights import export
from segadv_jax.workdir import Workdir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="file of weights, or workdir of a run")
    parser.add_argument("target", help="file to write, .safetensors")
    parser.add_argument(
        "--player", choices=export.PLAYERS, help="of a run; the segmenter if not given"
    )


def main(options: argparse.Namespace) -> None:
    source, target = options.source, options.target
    export.check_target(source, target)
    if os.path.isdir(source):
        what = export.export(Workdir(source), target, options.player or "segmenter")
    elif options.player:
        raise InputError(f"--player={options.player}: {source} is not the workdir of a run")
    else:
        what = export.convert(source, target)
    print(f"{target}: {what}")
