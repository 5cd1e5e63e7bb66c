"""Writes a run's predictions as PASCAL VOC's evaluation server takes them.

    python -m tools.export_voc_test --workdir=runs/voc/largefov_product --out=submission

writes ``submission/results/VOC2012/Segmentation/comp6_test_cls/ID.png``, label images with VOC's
palette at the images' own sizes, and ``submission/results.tgz``, which is what is submitted. The
split "test" needs VOC2012test.tar beside the other archives; --split=val shows the format without.
Predictions are those of the best checkpoint, on the tiles, flips and scales of its configuration.
The exit status is 0, or 2 if there is nothing to export.
"""

import functools
import os
import tarfile

import jax
import numpy as np
from PIL import Image

from segadv_jax import evaluate, experiment, prediction
from segadv_jax.data import pipeline
from segadv_jax.errors import InputError
from tools import command_line, runs

FOLDER = "results/VOC2012/Segmentation/comp6_{}_cls"  # comp6: trained on more than VOC's images.


def export(config, workdir, split, out):
    """Writes the predictions and the archive; returns the archive's path and how many they are.

    Raises:
        InputError: the workdir has no checkpoint, the data cannot be read, or ``out`` is not empty.
    """
    folder = os.path.join(out, FOLDER.format(split))
    if os.path.isdir(folder) and os.listdir(folder):
        raise InputError(f"--out={out}: {folder} is not empty; name another folder")
    data_set = experiment.load_data(config)
    segmenter, params, _ = evaluate.restore_best(config, workdir, data_set)
    segmenter = experiment.in_tiles(segmenter, config.evaluate.tile)
    examples = pipeline.read_split(data_set.builder, split)
    predict = jax.jit(
        functools.partial(
            prediction.predict,
            segmenter=segmenter,
            flip=config.evaluate.flip,
            scales=tuple(config.evaluate.scales),
        )
    )
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(data_set.palette)] = data_set.palette
    os.makedirs(folder, exist_ok=True)
    # One at a time: the images are few, and the network is large.
    for batch in pipeline.eval_batches(examples, batch_size=1, canvas=examples.canvas()):
        probabilities = predict(params, batch["image"], batch["size"])
        height, width = batch["size"][0]
        classes = np.asarray(probabilities)[0, :height, :width].argmax(-1).astype(np.uint8)
        image = Image.frombytes("P", (int(width), int(height)), classes.tobytes())
        image.putpalette(palette.reshape(-1).tolist())
        image.save(os.path.join(folder, f"{batch['id'][0]}.png"))
    archive = os.path.join(out, "results.tgz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(os.path.join(out, "results"), "results")
    return archive, len(examples.ids)


def main(argv):
    """Runs the command line ``argv``, without the program's name."""
    parser = command_line.Parser("tools.export_voc_test", __doc__)
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--split", default="test", help="of the data set; test if not given")
    parser.add_argument("--archives", help="folder of the archives, if not the run's")
    parser.add_argument("--data_dir", help="folder of prepared data, if not the run's")
    options = parser.parse_args(argv)
    config = runs.read_config(options.workdir)
    if config.data.name != "voc_sbd":
        raise InputError(
            f"--workdir={options.workdir} is a run on {config.data.name}: the server evaluates "
            "PASCAL VOC, voc_sbd, only"
        )
    for name in ("archives", "data_dir"):
        if getattr(options, name) is not None:
            config.data[name] = getattr(options, name)
    archive, number = export(config, options.workdir, options.split, options.out)
    print(f"{archive}: {number} label images")


if __name__ == "__main__":
    command_line.run(main)
