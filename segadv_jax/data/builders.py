"""What the TFDS builders share: features, encoding, and preparation by one process per host."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from segadv_jax.data.archives import lock, writable_folder
from segadv_jax.data.cpu_tensorflow import tfds


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of our builders, whose archives are at hand before TFDS is asked to prepare them."""

    # None of our URLs is registered with TFDS. Its own look-up of them imports a package
    # (importlib_resources) that it does not declare.
    url_infos: dict = {}


def features(encoding):
    """Features of an example: `image` as encoded bytes of the given format ("jpeg" or "png")."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format=encoding),
            "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "size": tfds.features.Tensor(shape=(2,), dtype=np.int32),
            "id": tfds.features.Text(),
        }
    )


def voc_palette(num_classes):
    """Colours u8[C,3] of class indices as PASCAL VOC's label images have them: bits, spread out."""
    index = np.arange(num_classes)
    colours = np.zeros((num_classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours


def png(array):
    """Encodes u8[H,W] or u8[H,W,3] as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def folder(data_dir):
    """Returns the folder of prepared data: `data_dir`, or TFDS's usual one; creates it.

    Raises:
      InputError: the folder cannot be created or written.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return writable_folder(Path(chosen).expanduser())


def prepare(make, data_dir, **arguments):
    """Makes the builder `make(data_dir=..., **arguments)`, prepares its data if it is not there
    yet, and returns the builder.

    The first process that comes prepares; the others of the host wait, then find it done. TFDS
    writes to a temporary folder and renames it, so an interrupted run leaves nothing half done.
    """
    with lock(data_dir / make.name):
        # Made inside the lock, since a builder looks only once for what is prepared already.
        builder = _quietly(make, data_dir=data_dir, **arguments)
        if not _quietly(builder.is_prepared):
            logging.info("preparing %s in %s", builder.name, builder.data_dir)
            # TFDS prints that it downloads, also what is drawn or at hand.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
    return builder


def _quietly(make, **arguments):
    """Calls `make` without TFDS's warnings of a configuration or a folder that is new to it."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        return make(**arguments)
    finally:
        logging.set_verbosity(verbosity)
