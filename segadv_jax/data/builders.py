"""What the TFDS builders share: features, encoding, and preparation by one process per host."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from segadv_jax import VOID
from segadv_jax.data.archives import lock
from segadv_jax.data.cpu_tensorflow import tfds
from segadv_jax.errors import InputError
from segadv_jax.files import writable_folder


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of our builders, whose archives are at hand before TFDS is asked to prepare them."""

    # None of our URLs is registered with TFDS. Its own look-up of them imports a package
    # (importlib_resources) that it does not declare.
    url_infos: dict = {}


def features(encoding: str) -> tfds.features.FeaturesDict:
    """Features of an example: `image` as encoded bytes of the given format ("jpeg" or "png")."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format=encoding),
            "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "size": tfds.features.Tensor(shape=(2,), dtype=np.int32),
            "id": tfds.features.Text(),
        }
    )


def example(name: str, image: bytes, label: UInt8[np.ndarray, "H W"]) -> dict[str, Any]:
    """An example with these features: an encoded image and its label."""
    size = np.array(label.shape, np.int32)
    return {"image": image, "label": png(label), "size": size, "id": name}


def checked_example(
    where: str, name: str, image: bytes, label: UInt8[np.ndarray, "H W"] | None
) -> dict[str, Any]:
    """As `example`, but all void without a label.

    Args:
        where: the image's place, for error messages.
        name: of the example.
        image: a JPEG or PNG file.
        label: its label.

    Raises:
        InputError: the image cannot be decoded, or is not as large as its label.
    """
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
            size = opened.height, opened.width
    except OSError as error:
        raise InputError(f"{where} is not a readable image ({error})") from error
    label = np.full(size, VOID, np.uint8) if label is None else label
    if label.shape != size:
        raise InputError(
            f"{where} is {size[0]}x{size[1]} (height x width), but its label is"
            f" {label.shape[0]}x{label.shape[1]}"
        )
    return example(name, image, label)


def voc_palette(num_classes: int) -> UInt8[np.ndarray, "C 3"]:
    """PASCAL VOC's colours of class indices: the index's bits, spread over the three channels."""
    index = np.arange(num_classes)
    colours = np.zeros((num_classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            bits = (index >> (3 * bit + channel) & 1) << (7 - bit)
            colours[:, channel] |= bits.astype(np.uint8)
    return colours


def png(array: UInt8[np.ndarray, "H W *channels"]) -> bytes:
    """Encodes u8[H,W] or u8[H,W,3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def folder(data_dir: str) -> Path:
    """Returns the folder of prepared data: `data_dir`, or TFDS's usual one; creates it.

    Raises:
        InputError: the folder cannot be created or written.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return writable_folder(Path(chosen).expanduser(), "--config.data.data_dir")


def prepare(
    make: type[Builder], data_dir: Path, config: tfds.core.BuilderConfig | None = None
) -> Builder:
    """Makes a builder, prepares its data if it is not there yet, and returns it.

    The first process of a host prepares; the others wait, then find the data prepared. TFDS
    writes to a temporary folder and renames it, so an interrupted run leaves nothing half done.

    Args:
        make: the builder's class.
        data_dir: folder of prepared data.
        config: of the builder, if it has any.
    """
    options = {"data_dir": data_dir} | ({"config": config} if config else {})
    with lock(data_dir / make.name):
        # Made inside the lock: a builder looks only once for what is prepared already.
        builder = _quietly(make, **options)
        if not _quietly(builder.is_prepared):
            logging.info("preparing %s in %s", builder.name, builder.data_dir)
            # TFDS prints that it downloads, also what is drawn or at hand.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
    return builder


def _quietly(make: Callable, **arguments: Any) -> Any:
    """Calls `make` without TFDS's warnings about a configuration or a folder that it never saw."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        return make(**arguments)
    finally:
        logging.set_verbosity(verbosity)
