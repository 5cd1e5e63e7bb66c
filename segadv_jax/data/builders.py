"""What the TFDS builders share: features, encoding, and preparation by one process per host."""

import contextlib
import inspect
import io
from collections.abc import Sized
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from segadv_jax import VOID, progress
from segadv_jax.data import Palette
from segadv_jax.data.archives import data_folder, lock
from segadv_jax.data.cpu_tensorflow import tfds
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
    label = np.full(size, VOID, np.uint8) if label is None else label
    if label.shape != size:
        raise InputError(
            f"{where} is {size[0]}x{size[1]} (height x width), but its label is"
            f" {label.shape[0]}x{label.shape[1]}"
        )
    return example(name, image, label)


def voc_palette(num_classes: int) -> Palette:
    """PASCAL VOC's colours of class indices: the index's bits, spread over the three channels."""
    shifts = np.arange(3)[:, None] + 3 * np.arange(8)
    return np.packbits(np.arange(num_classes)[:, None, None] >> shifts & 1, axis=-1)[..., 0]


def prepare(make: type[Builder], data_dir: str, name: str = "", source: Any = None) -> Builder:
    """Makes a builder, prepares its data if it is not there yet, and returns it.

    `name` identifies the content of `source`, if there is one. The first process of a host
    prepares; the others wait, then find the data prepared. TFDS writes to a temporary folder and
    renames it, so an interrupted run leaves nothing half done.
    """
    config = tfds.core.BuilderConfig(name=name) if name else None
    folder = data_folder(data_dir)
    with lock(folder / make.name):
        verbosity = logging.get_verbosity()
        # TFDS warns about a configuration or a folder that it has never seen.
        logging.set_verbosity(logging.ERROR)
        try:
            # Made inside the lock: a builder looks only once for what is prepared already.
            builder = make(data_dir=folder, config=config)
            is_prepared = builder.is_prepared()
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
