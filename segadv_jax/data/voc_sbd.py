"""PASCAL VOC 2012 segmentation with the annotations of SBD: 21 classes.

Everingham et al., The PASCAL visual object classes challenge (VOC): a retrospective, IJCV 2015;
Hariharan et al., Semantic contours from inverse detectors, ICCV 2011. Splits: ``train_aug``, all
images that either of the two annotates but those of VOC's validation set, with VOC's label where
both do; ``train`` and ``val``, VOC's own; ``val_full``, the images of ``val`` that SBD annotates,
with its labels, which have no void (BF is measured on them); ``test``, images without labels, if
the archive of the challenge's test set lies beside the others.
"""

import dataclasses
import io
import tarfile

import numpy as np
import scipy.io
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data import builders
from segadv_jax.data.archives import Archive, damaged, find, find_beside, key, read_tar
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
TEST = "VOC2012test.tar"  # Its authors give it to registered users only.
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


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """The paths of the archives (``test`` may be empty); `name` identifies their content."""

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
        del dl_manager  # the archives' digests name the config: they are at hand before
        config = self.builder_config
        voc = _Members(config.voc)
        sbd = read_tar(config.sbd, lambda name: name.endswith((".mat", "train.txt", "val.txt")))
        parts = ("train", "val")
        lists = {part: _member(config.sbd, sbd, _SBD_LIST.format(part)) for part in parts}
        voc_ids = {part: _ids(voc.read(_LIST.format(part))) for part in parts}
        splits = derive_splits(voc_ids, {part: _ids(text) for part, text in lists.items()})

        def from_voc(name):
            return voc, _LABEL.format(name), _voc_label

        def from_sbd(name):
            return sbd, _SBD_LABEL.format(name), _sbd_label

        preferred = set(voc_ids["train"]) | set(voc_ids["val"])
        examples = {}
        for split, names in splits.items():
            examples[split] = []
            for name in names:
                by_voc = name in preferred and split != "val_full"
                label = (from_voc if by_voc else from_sbd)(name)
                if _IMAGE.format(name) in voc and label[1] in label[0]:
                    examples[split].append((name, voc, label))
        check_complete({split: len(part) for split, part in examples.items()}, config.allow_partial)
        if config.test:
            test = _Members(config.test)
            examples["test"] = [(n, test, None) for n in _ids(test.read(_LIST.format("test")))]
        return {split: self._generate_examples(part) for split, part in examples.items()}

    def _generate_examples(self, examples):
        for name, images, source in examples:
            label = None
            if source is not None:
                files, member, decode = source
                content = files.read(member) if isinstance(files, _Members) else files[member]
                label = decode(f"the annotation {member}", content)
            yield name, _example(images, name, label)


def derive_splits(voc, sbd):
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


def check_complete(numbers, allow_partial):
    """Raises an InputError that says what is short of the full data set, unless that is allowed.

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
            f"voc_sbd: the archives are a part of the data set: {', '.join(short)} images; fetch "
            "the complete ones, or set --config.data.allow_partial to go on with what is there"
        )
    empty = [split for split, number in numbers.items() if not number]
    if empty:
        raise InputError(f"voc_sbd: the archives hold no image of {', '.join(empty)}")


def prepare(*, archives="", data_dir="", allow_partial=False):
    """Returns the prepared builder.

    Args:
      archives: folder with VOC's and SBD's archives, and that of the test set if there is to be
        its split; empty: the two are downloaded.
      data_dir: where prepared data is kept.
      allow_partial: go on if the archives are incomplete.

    Raises:
      InputError: an archive is missing, damaged, or incomplete and that is not allowed.
    """
    data_dir = builders.folder(data_dir)
    voc, sbd = (find(archive, archives, data_dir) for archive in (VOC, SBD))
    test = find_beside(TEST, archives)
    names = [key(SBD, sbd), *([key(Archive(TEST, ""), test)] if test else [])]
    config = Config(
        name=key(VOC, voc, *names),
        voc=str(voc),
        sbd=str(sbd),
        test=str(test or ""),
        allow_partial=allow_partial,
    )
    builder = builders.prepare(VocSbd, data_dir=data_dir, config=config)
    numbers = {name: split.num_examples for name, split in builder.info.splits.items()}
    check_complete(numbers, allow_partial)
    return builder


class _Members:
    """Random access to a tar archive that is not compressed: its images need not fit in memory."""

    def __init__(self, path):
        self.path = path
        try:
            with tarfile.open(path, "r:") as tar:
                places = {m.name: (m.offset_data, m.size) for m in tar if m.isfile()}
        except (tarfile.TarError, EOFError, OSError) as error:
            raise damaged(path, error) from error
        self._places = places

    def __contains__(self, name):
        return name in self._places

    def read(self, name):
        if name not in self:
            raise InputError(f"{self.path} holds no {name}: it is incomplete; fetch it again")
        start, size = self._places[name]
        with open(self.path, "rb") as file:
            file.seek(start)
            content = file.read(size)
        if len(content) < size:
            raise damaged(self.path, f"it ends within {name}")
        return content


def _member(path, files, name):
    if name not in files:
        raise InputError(f"{path} holds no {name}: it is incomplete; fetch it again")
    return files[name]


def _ids(text):
    return text.decode().split()


def _example(archive, name, label):
    """An example; without a label all of it is void."""
    image, where = archive.read(_IMAGE.format(name)), f"{archive.path}: {_IMAGE.format(name)}"
    try:
        with Image.open(io.BytesIO(image)) as opened:
            size = opened.height, opened.width
    except OSError as error:
        raise InputError(f"{where} is not a readable image ({error})") from error
    label = np.full(size, VOID, np.uint8) if label is None else label
    if label.shape != size:
        raise InputError(
            f"{where} is {size[0]}x{size[1]} (height x width), but its label is"
            f" {label.shape[0]}x{label.shape[1]}"
        )
    return {
        "image": image,
        "label": builders.png(label),
        "size": np.array(size, np.int32),
        "id": name,
    }


def _voc_label(where, content):
    """u8[H,W] of a palette PNG: the indices, not the colours that most decoders make of them."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            label = np.array(opened)
    except OSError as error:
        raise InputError(f"{where} is not a readable image ({error})") from error
    return _checked(where, label)


def _sbd_label(where, content):
    """u8[H,W] of a MATLAB file."""
    try:
        label = scipy.io.loadmat(io.BytesIO(content))["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # SciPy raises whatever its parser meets.
        raise InputError(f"{where} is not a readable annotation ({error!r})") from error
    return _checked(where, np.asarray(label))


def _checked(where, label):
    if label.ndim != 2 or label.dtype != np.uint8:
        raise InputError(f"{where} is no map of class indices, but {label.dtype}{label.shape}")
    wrong = label[(label >= len(CLASS_NAMES)) & (label != VOID)]
    if wrong.size:
        raise InputError(f"{where} has a class {wrong.max()}; known are 0..20 and 255")
    return label
