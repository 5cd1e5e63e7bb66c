"""PASCAL VOC 2012 segmentation with the annotations of SBD: 21 classes.

Everingham et al., The PASCAL visual object classes challenge (VOC): a retrospective, IJCV 2015;
Hariharan et al., Semantic contours from inverse detectors, ICCV 2011. Splits:

- `train_aug`: all images that VOC or SBD annotates, except those of VOC's validation set, with
  VOC's label where both annotate an image;
- `train` and `val`: VOC's own;
- `val_full`: the images of `val` that SBD annotates, with SBD's labels, which have no void (BF is
  measured on them);
- `test`: images without labels, if the archive of the challenge's test set lies beside the others.
"""

import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import DataSet, builders, mat_files, pipeline
from segadv_jax.data.archives import Archive, find, key, read_tar
from segadv_jax.errors import InputError

VOC = Archive(
    "VOCtrainval_11-May-2012.tar",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
)
SBD = Archive(
    "benchmark.tgz",
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
    "benchmark.tgz",
)
TEST = "VOC2012test.tar"  # Only registered users can download it.
# What complete archives hold.
IMAGES = {"train_aug": 10_582, "train": 1_464, "val": 1_449, "val_full": 1_103, "test": 1_456}
CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep"),
    *("sofa", "train", "tv monitor"),
)
PALETTE = builders.voc_palette(len(CLASS_NAMES))

_ROOT = "VOCdevkit/VOC2012"
_IMAGE, _LABEL = f"{_ROOT}/JPEGImages/{{}}.jpg", f"{_ROOT}/SegmentationClass/{{}}.png"
_LIST = f"{_ROOT}/ImageSets/Segmentation/{{}}.txt"
_SBD_ROOT = "benchmark_RELEASE/dataset"
_SBD_LABEL, _SBD_LIST = f"{_SBD_ROOT}/cls/{{}}.mat", f"{_SBD_ROOT}/{{}}.txt"


class VocSbd(builders.Builder):
    """Images as published; labels 0..20 and 255 for void."""

    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"

    def examples(self):
        voc_path, sbd_path, test_paths, allow_partial = self.source
        voc = read_tar(voc_path, stored=True)
        sbd = read_tar(sbd_path, (".mat", "train.txt", "val.txt"))
        sources = _sources(voc, sbd)
        for path in test_paths:
            test = read_tar(path, stored=True)
            names = _list(test, _LIST, "test")
            if allow_partial:
                names = [name for name in names if _IMAGE.format(name) in test]
            sources["test"] = [(name, test, test, None) for name in names]
        check_complete({split: len(part) for split, part in sources.items()}, allow_partial)
        self.number = sum(map(len, sources.values()))
        makers = {
            split: [functools.partial(_example, *each) for each in part]
            for split, part in sources.items()
        }
        return builders.gather(makers)


def _sources(voc, sbd):
    """Of each split the arguments of `_example`, for what both archives hold."""
    voc_ids = {part: _list(voc, _LIST, part) for part in ("train", "val")}
    sbd_ids = {part: _list(sbd, _SBD_LIST, part) for part in ("train", "val")}
    by_voc = {*voc_ids["train"], *voc_ids["val"]}
    sources = {}
    for split, names in derive_splits(voc_ids, sbd_ids).items():
        sources[split] = []
        for name in names:
            if name in by_voc and split != "val_full":
                labels, label = voc, _LABEL.format(name)
            else:
                labels, label = sbd, _SBD_LABEL.format(name)
            if _IMAGE.format(name) in voc and label in labels:
                sources[split].append((name, voc, labels, label))
    return sources


def _list(archive, path, part):
    """The ids in one of an archive's lists."""
    return archive.read_text(path.format(part)).split()


def derive_splits(voc: dict, sbd: dict) -> dict[str, list[str]]:
    """The sorted ids of each split from the lists "train" and "val" of both archives."""
    val, by_sbd = set(voc["val"]), {*sbd["train"], *sbd["val"]}
    return {
        "train_aug": sorted((by_sbd | set(voc["train"])) - val),
        "train": sorted(voc["train"]),
        "val": sorted(val),
        "val_full": sorted(val & by_sbd),
    }


def check_complete(numbers: Mapping[str, int], allow_partial: bool) -> None:
    """Raises an InputError that says what splits lack, given their numbers of examples.

    With `allow_partial` a part will do, as long as no split is empty.
    """
    short = [
        f"{split} has {number:,} of {IMAGES[split]:,}"
        for split, number in numbers.items()
        if number != IMAGES[split]
    ]
    if short and not allow_partial:
        raise InputError(
            f"voc_sbd: the archives hold only a part of the data set: {', '.join(short)} images;"
            " fetch the complete ones, or set --config.data.allow_partial to use what is there"
        )
    empty = [split for split, number in numbers.items() if not number]
    if empty:
        raise InputError(f"voc_sbd: the archives hold no image of {', '.join(empty)}")


def prepare(*, archives: str = "", data_dir: str = "", allow_partial: bool = False) -> DataSet:
    """Returns the prepared data set.

    `archives` is the folder of VOC's and SBD's archives and, for the split `test`, that of the test
    set. If it is empty, VOC and SBD are downloaded.

    Raises:
        InputError: an archive is missing, damaged, or incomplete although that is not allowed.
    """
    voc, sbd = (find(archive, archives, data_dir) for archive in (VOC, SBD))
    tests = list(Path(archives).expanduser().glob(TEST)) if archives else []
    keys = [key(SBD, sbd)] + [key(Archive(TEST, ""), test) for test in tests]
    source = voc, sbd, tests, allow_partial
    builder = builders.prepare(VocSbd, data_dir, key(VOC, voc, *keys), source)
    # Once more: the data may have been prepared when a part was allowed.
    numbers = {name: split.num_examples for name, split in builder.info.splits.items()}
    check_complete(numbers, allow_partial)
    return pipeline.data_set(builder, CLASS_NAMES, PALETTE, without_labels=("test",))


def _example(name, images, labels, label):
    """The example with the member `label` of `labels`, or all void if that is None."""
    classes = _read_label(f"{labels.path}: {label}", labels.read(label)) if label else None
    image = _IMAGE.format(name)
    return builders.checked_example(f"{images.path}: {image}", name, images.read(image), classes)


def _read_label(where, content):
    """u8[H,W] from a MATLAB file or a PNG: its indices, not the colours of its palette."""
    if where.endswith(".mat"):
        try:
            file = mat_files.read(content)
            label = np.asarray(file["GTcls"]["Segmentation"][0, 0])
        except Exception as error:  # SciPy raises whatever its parser meets.
            raise InputError(f"{where} is not a readable annotation ({error!r})") from error
    else:
        with builders.readable(where), Image.open(io.BytesIO(content)) as opened:
            label = np.array(opened)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise InputError(f"{where} is not a map of class indices but {label.dtype}{label.shape}")
    wrong = label[(label >= len(CLASS_NAMES)) & (label != VOID)]
    if wrong.size:
        raise InputError(f"{where} has a class {wrong.max()}; known are 0..20 and 255")
    return label
