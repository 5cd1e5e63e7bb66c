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

import dataclasses
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.io
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import DataSet, builders, pipeline
from segadv_jax.data.archives import (
    Archive,
    Members,
    StoredMembers,
    find,
    find_beside,
    key,
    read_tar,
)
from segadv_jax.data.cpu_tensorflow import tfds
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

Lists = dict[str, list[str]]


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """The paths of the archives (`test` may be empty); `name` identifies their content."""

    voc: str = ""
    sbd: str = ""
    test: str = ""
    allow_partial: bool = False


class VocSbd(builders.Builder):
    """Images as published; labels 0..20 and 255 for void."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            description=__doc__,
            features=builders.features("jpeg"),
            homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # The archives are at hand: their digests name the config.
        config = self.builder_config
        voc = StoredMembers(config.voc)
        sbd = read_tar(config.sbd, lambda name: name.endswith((".mat", "train.txt", "val.txt")))
        sources = _sources(voc, sbd)
        check_complete({split: len(part) for split, part in sources.items()}, config.allow_partial)
        if config.test:
            test = StoredMembers(config.test)
            sources["test"] = [_Source(name, test, test, "") for name in _list(test, _LIST, "test")]
        return {split: self._generate_examples(part) for split, part in sources.items()}

    def _generate_examples(self, sources):
        for source in sources:
            yield source.name, _example(source)


class _Source(NamedTuple):
    """Where an example is: the archives of its image and of its label.

    `label` is the name of the label's member, empty for an example without a label.
    """

    name: str
    images: Members
    labels: Members
    label: str


def _sources(voc: Members, sbd: Members) -> dict[str, list[_Source]]:
    """Of each split the examples that both archives hold."""
    voc_ids = {part: _list(voc, _LIST, part) for part in ("train", "val")}
    sbd_ids = {part: _list(sbd, _SBD_LIST, part) for part in ("train", "val")}
    by_voc = {*voc_ids["train"], *voc_ids["val"]}
    sources: dict[str, list[_Source]] = {}
    for split, names in derive_splits(voc_ids, sbd_ids).items():
        sources[split] = []
        for name in names:
            if name in by_voc and split != "val_full":
                source = _Source(name, voc, voc, _LABEL.format(name))
            else:
                source = _Source(name, voc, sbd, _SBD_LABEL.format(name))
            if _IMAGE.format(name) in voc and source.label in source.labels:
                sources[split].append(source)
    return sources


def _list(archive: Members, path: str, part: str) -> list[str]:
    """The ids in one of an archive's lists."""
    return archive.read(path.format(part)).decode().split()


def derive_splits(voc: Lists, sbd: Lists) -> Lists:
    """The ids of each split from the lists of both archives.

    Args:
        voc: {"train": ids, "val": ids} of VOC's segmentation task.
        sbd: {"train": ids, "val": ids} of SBD.

    Returns:
        {"train_aug", "train", "val", "val_full": sorted ids}.
    """
    val, by_sbd = set(voc["val"]), {*sbd["train"], *sbd["val"]}
    return {
        "train_aug": sorted((by_sbd | set(voc["train"])) - val),
        "train": sorted(voc["train"]),
        "val": sorted(val),
        "val_full": sorted(val & by_sbd),
    }


def check_complete(numbers: Mapping[str, int], allow_partial: bool) -> None:
    """Raises an InputError that says what the full data set has more, unless a part is allowed.

    Args:
        numbers: {split: number of its examples}.
        allow_partial: whether a part will do, as long as no split is empty.
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

    Args:
        archives: folder with VOC's and SBD's archives and, for the split `test`, that of the test
            set; empty: VOC and SBD are downloaded.
        data_dir: where prepared data is kept.
        allow_partial: whether incomplete archives will do.

    Raises:
        InputError: an archive is missing, damaged, or incomplete although that is not allowed.
    """
    folder = builders.folder(data_dir)
    voc, sbd = (find(archive, archives, folder) for archive in (VOC, SBD))
    test = find_beside(TEST, archives)
    names = [key(SBD, sbd), *([key(Archive(TEST, ""), test)] if test else [])]
    config = Config(
        name=key(VOC, voc, *names),
        voc=str(voc),
        sbd=str(sbd),
        test=str(test or ""),
        allow_partial=allow_partial,
    )
    builder = builders.prepare(VocSbd, data_dir=folder, config=config)
    # Once more: the data may have been prepared when a part was allowed.
    numbers = {name: split.num_examples for name, split in builder.info.splits.items()}
    check_complete(numbers, allow_partial)
    return pipeline.data_set(builder, CLASS_NAMES, PALETTE)


def _example(source):
    """The example; all of it is void if it has no label."""
    label = None
    if source.label:
        where = f"{source.labels.path}: {source.label}"
        decode = _sbd_label if source.label.endswith(".mat") else _voc_label
        label = _checked(where, decode(where, source.labels.read(source.label)))
    member = _IMAGE.format(source.name)
    where = f"{source.images.path}: {member}"
    return builders.checked_example(where, source.name, source.images.read(member), label)


def _voc_label(where, content):
    """A palette PNG's indices, not the colours that most decoders make of them."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return np.array(opened)
    except OSError as error:
        raise InputError(f"{where} is not a readable image ({error})") from error


def _sbd_label(where, content):
    """The label map in a MATLAB file."""
    try:
        return np.asarray(scipy.io.loadmat(io.BytesIO(content))["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # SciPy raises whatever its parser meets.
        raise InputError(f"{where} is not a readable annotation ({error!r})") from error


def _checked(where, label):
    """The label, if it is u8[H,W] of known classes; otherwise an InputError."""
    if label.ndim != 2 or label.dtype != np.uint8:
        raise InputError(f"{where} is not a map of class indices but {label.dtype}{label.shape}")
    wrong = label[(label >= len(CLASS_NAMES)) & (label != VOID)]
    if wrong.size:
        raise InputError(f"{where} has a class {wrong.max()}; known are 0..20 and 255")
    return label
