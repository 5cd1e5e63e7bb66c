"""Writes a run's predictions as PASCAL VOC's evaluation server takes them.

    segadv_jax export_voc --workdir=runs/voc/largefov_product --out=submission

writes `submission/results/VOC2012/Segmentation/comp6_test_cls/ID.png`, label images with VOC's
palette at the images' own sizes, and `submission/results.tgz`, which is to be submitted. The split
"test" needs VOC2012test.tar beside the other archives; --split=val shows the format without it.
Predictions are those of the checkpoint that the run's configuration names, by default the best one,
with its tiles, flips and scales; set others as in --config.evaluate.flip=True, and
--config.data.archives=FOLDER if the archives have moved.
"""

import argparse
import tarfile
from pathlib import Path

import numpy as np

from segadv_jax import configuration, files, predicted, predictor
from segadv_jax.errors import InputError
from segadv_jax.workdir import Workdir

FOLDER = "results/VOC2012/Segmentation/comp6_{}_cls"  # comp6: trained on more than VOC's images.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--split", default="test", help="of the data set; test if not given")


def main(options: argparse.Namespace) -> None:
    config = configuration.of_evaluation(Workdir(options.workdir), options.overrides)
    if config.data.name != "voc_sbd":
        raise InputError(
            f"--workdir={options.workdir} is a run on {config.data.name}: the server evaluates "
            "PASCAL VOC, voc_sbd, only"
        )
    folder = Path(options.out, FOLDER.format(options.split))
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--out={options.out}: {folder} is not empty; name another folder")
    trained = predictor.load(config, options.workdir)
    examples = trained.data_set.read(options.split)
    files.writable_folder(folder, "--out")
    # One at a time: the images are few, and the network is large.
    for batch in examples.eval_batches(batch_size=1, canvas=examples.canvas()):
        probabilities = trained.predict(batch["image"], batch["size"])
        height, width = map(int, batch["size"][0])
        classes = probabilities[0, :height, :width].argmax(-1).astype(np.uint8)
        image = predicted.palette_image(classes, trained.palette)
        image.save(folder / f"{batch['id'][0]}.png")
    archive = Path(options.out, "results.tgz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FOLDER.format(options.split))
    print(f"{archive}: {len(examples.ids)} label images")
