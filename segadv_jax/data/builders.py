"""What the TFDS builders share: features, encoding, and preparation by one process per host."""

import contextlib
import inspect
import io
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from segadv_jax import VOID, progress
from segadv_jax.data import Palette
from segadv_jax.data.archives import data_folder, lock
from segadv_jax.data.cpu_tensorflow import tf, tfds
from segadv_jax.data.photographs import REPORTED
from segadv_jax.data.photographs import png as png
from segadv_jax.data.photographs import readable as readable
from segadv_jax.errors import InputError

Example = dict[str, Any]


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of our builders, whose archives are at hand before TFDS is asked to prepare them.

    Its method `examples` reads `source` and returns {split: iterable of what `example` makes}.
    """

    source: Any = None
    bar: Any = None  # Shows how many examples are written.
    VERSION = tfds.core.Version("1.0.0")
    about: str | None = None  # The module's docstring if None.
    homepage: str | None = None
    encoding = "jpeg"  # Of the images: jpeg or png.
    number = 0  # Of examples, where `examples` knows it and returns no lists.
    # None of our URLs is registered with TFDS. Its own look-up of them imports a package
    # (importlib_resources) that it does not declare.
    url_infos: dict = {}

    def _info(self, **more):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format=self.encoding),
            "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "size": tfds.features.Tensor(shape=(2,), dtype=np.int32),
            "id": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            description=self.about or inspect.getmodule(type(self)).__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.homepage,
            disable_shuffling=True,
            **more,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # The archives are at hand: their digests name the config.
        parts = self.examples()
        if all(isinstance(part, Sized) for part in parts.values()):
            self.number = sum(map(len, parts.values()))
        self.bar = progress.bar(f"preparing {self.name}", self.number)
        return {split: self._generate_examples(part) for split, part in parts.items()}

    def _generate_examples(self, examples):
        for example in examples:
            yield example["id"], example
            self.bar.update()


def gather(makers: Mapping[str, Sequence[Callable[[], Example]]]) -> dict[str, Iterator[Example]]:
    """The examples of all splits, in the order of `makers`, in which they are to be read.

    What is wrong with any of them is raised after the last: all at once, before the copy is kept.
    """
    problems: dict[str, None] = {}  # As a set in order: an image may be in several splits.
    last = [*makers][-1]

    def examples(split):
        for number, make in enumerate(makers[split]):
            try:
                made = make()
            except InputError as error:
                problems[str(error)] = None
            if problems:  # All is thrown away in the end, but a split must not be empty.
                made = dummy(f"{split}, damaged, {number}")
            yield made
        if split == last:
            _refuse(list(problems))

    return {split: examples(split) for split in makers}


def _refuse(problems: list[str]) -> None:
    """Raises an InputError with all problems, if there are any."""
    if len(problems) == 1:
        raise InputError(problems[0])
    if problems:
        more = len(problems) - REPORTED
        details = [f"- {line}" for line in problems[:REPORTED]]
        details += [f"- and {more} more"] if more > 0 else []
        what = f"{len(problems)} things are wrong with the archives' content; fetch them again"
        raise InputError(what, details)


def dummy(name: str) -> Example:
    """An example that stands for one that cannot be used."""
    label = np.zeros((1, 1), np.uint8)
    return example(name, png(label[..., None].repeat(3, -1)), label)


def example(name: str, image: bytes, label: UInt8[np.ndarray, "H W"]) -> Example:
    """An example of an encoded image and its label."""
    size = np.array(label.shape, np.int32)
    return {"image": image, "label": png(label), "size": size, "id": name}


def checked_example(
    where: str, name: str, image: bytes, label: UInt8[np.ndarray, "H W"] | None
) -> Example:
    """As `example`, but all void without a label; an error names the image as `where`.

    Raises:
        InputError: the image cannot be decoded, or is not as large as its label.
    """
    with readable(where), Image.open(io.BytesIO(image)) as opened:
        opened.load()
        size = opened.height, opened.width
    check_decoded(where, image, size)
    label = np.full(size, VOID, np.uint8) if label is None else label
    if label.shape != size:
        raise InputError(
            f"{where} is {size[0]}x{size[1]} (height x width), but its label is"
            f" {label.shape[0]}x{label.shape[1]}"
        )
    return example(name, image, label)


def check_decoded(where: str, image: bytes, size: tuple[int, int]) -> None:
    """Raises an InputError unless TensorFlow too decodes a JPEG or PNG file, to this size.

    Batches are decoded by it, and Pillow forgives more.
    """
    try:
        decoded = tuple(tf.io.decode_jpeg(image, channels=3).shape[:2])
    except tf.errors.OpError as error:
        raise InputError(f"{where} is not a readable image (damaged)") from error
    if decoded != size:
        raise InputError(f"{where} is not a readable image (it has two sizes, {decoded}, {size})")


def voc_palette(num_classes: int) -> Palette:
    """PASCAL VOC's colours of class indices: the index's bits, spread over the three channels."""
    shifts = np.arange(3)[:, None] + 3 * np.arange(8)
    return np.packbits(np.arange(num_classes)[:, None, None] >> shifts & 1, axis=-1)[..., 0]


def damaged_copy(folder: Any, reason: object) -> InputError:
    """The InputError about a prepared copy that cannot be read."""
    line = " ".join(str(reason).split())[:200]
    return InputError(
        f"the prepared copy {folder} is damaged ({line}); delete it and start again, and it is "
        f"made anew: rm -r {shlex.quote(str(folder))}"
    )


def prepare(make: type[Builder], data_dir: str, name: str = "", source: Any = None) -> Builder:
    """Makes a builder, prepares its data if it is not there yet, and returns it.

    `name` identifies the content of `source`, if there is one. The first process of a host
    prepares; the others wait, then find the data prepared. TFDS writes to a temporary folder and
    renames it, so an interrupted run leaves nothing half done.

    Raises:
        InputError: the prepared data is damaged, or what `examples` raises.
    """
    config = tfds.core.BuilderConfig(name=name) if name else None
    folder = data_folder(data_dir)
    with lock(folder / make.name):
        verbosity = logging.get_verbosity()
        # TFDS warns about a configuration or a folder that it has never seen.
        logging.set_verbosity(logging.ERROR)
        copy = folder / make.name / name / str(make.VERSION)
        try:
            # Made inside the lock: a builder looks only once for what is prepared already.
            builder = make(data_dir=folder, config=config)
            is_prepared = builder.is_prepared()
            if is_prepared and not builder.info.splits:
                raise ValueError("it does not say what is in it")
        except Exception as error:  # TFDS raises whatever its readers meet.
            if not copy.exists():
                raise
            raise damaged_copy(copy, error) from error
        finally:
            logging.set_verbosity(verbosity)
        builder.source = source
        if not is_prepared:
            logging.info("preparing %s in %s", builder.name, builder.data_dir)
            # TFDS prints that it downloads, also what is drawn or at hand.
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    builder.download_and_prepare(
                        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                    )
            finally:
                if builder.bar is not None:
                    builder.bar.close()
    return builder
