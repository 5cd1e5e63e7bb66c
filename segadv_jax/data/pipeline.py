"""Splits of a prepared TFDS data set: encoded in memory, decoded and padded by tf.data.

Encoded images are held in memory. So order is random access, and a run that starts again at
step k goes straight to its batch: what comes before is neither read nor decoded.
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np

from segadv_jax import VOID
from segadv_jax.data import Batch, Canvas, DataSet, Palette, Split
from segadv_jax.data.builders import damaged_copy, png
from segadv_jax.data.cpu_tensorflow import tf, tfds
from segadv_jax.data.order import PADDING
from segadv_jax.errors import InputError

# A padding row is one black pixel with a void label, which is padded to the canvas like any image.
_BLANK_IMAGE = png(np.zeros((1, 1, 3), np.uint8))
_BLANK_LABEL = png(np.full((1, 1), VOID, np.uint8))
_SIGNATURE = (
    tf.TensorSpec((), tf.string),
    tf.TensorSpec((), tf.string),
    tf.TensorSpec((2,), tf.int32),
    tf.TensorSpec((), tf.float32),
    tf.TensorSpec((), tf.string),
)
_PREFETCHED = 2  # Batches.


def _options():
    """Without autotuning: its thread wakes ever more seldom, and closing an iterator waits for it.

    With it, each training and each validation ended up to a minute late, idle.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


class Encoded(Split):
    """A split in memory, encoded: images are JPEG or PNG files, labels one-channel PNG files."""

    def _batches(self, rows: Iterable[np.ndarray], count: int, canvas: Canvas) -> Iterator[Batch]:
        def examples():
            for row in itertools.chain.from_iterable(rows):
                if row == PADDING:
                    yield _BLANK_IMAGE, _BLANK_LABEL, np.array(canvas, np.int32), 0.0, ""
                else:
                    yield self.images[row], self.labels[row], self.sizes[row], 1.0, self.ids[row]

        dataset = tf.data.Dataset.from_generator(examples, output_signature=_SIGNATURE)
        decode = functools.partial(_decode, canvas=canvas)
        dataset = dataset.map(decode, num_parallel_calls=os.cpu_count(), deterministic=True)
        dataset = dataset.batch(count).prefetch(_PREFETCHED).with_options(_options())
        return (
            batch | {"id": np.array([name.decode() for name in batch["id"]])}
            for batch in dataset.as_numpy_iterator()
        )


def _decode(image, label, size, mask, name, *, canvas):
    """Decodes one example and pads it to the canvas at the bottom and right."""
    # TensorFlow's default DCT is faster, but its pixels differ between machines.
    # The op behind decode_jpeg decodes PNG as well.
    image = tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")
    label = tf.io.decode_png(label, channels=1)[..., 0]
    below, right = canvas[0] - tf.shape(label)[0], canvas[1] - tf.shape(label)[1]
    image = tf.pad(image, [[0, below], [0, right], [0, 0]])
    label = tf.pad(label, [[0, below], [0, right]], constant_values=VOID)
    image, label = tf.ensure_shape(image, (*canvas, 3)), tf.ensure_shape(label, canvas)
    return {"image": image, "label": label, "size": size, "mask": mask, "id": name}


def read_split(builder: tfds.core.DatasetBuilder, split: str) -> Encoded:
    """Reads a split of a prepared builder into memory, in its stored order; see `DataSet.read`.

    Raises:
        InputError: as `DataSet.read`, or the prepared copy is damaged or cut short.
    """
    skip = tfds.decode.SkipDecoding()
    try:
        expected = builder.info.splits[split].num_examples
        if expected <= 0:  # As of train[5:2].
            raise InputError(f"the split {split!r} of the data set {builder.name} is empty")
        examples = builder.as_dataset(
            split=split,
            decoders={"image": skip, "label": skip},
            # One file after the other: the order is the stored one.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        rows = list(examples.as_numpy_iterator())
    except InputError:
        raise
    except (tf.errors.OpError, OSError, AssertionError) as error:
        reason = f"in the split {split!r}: {getattr(error, 'message', error)}"
        raise damaged_copy(builder.data_dir, reason) from error
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the split {split!r} cannot be read: {reason}") from error
    if len(rows) != expected:
        reason = f"the split {split!r} has {len(rows)} of {expected} images"
        raise damaged_copy(builder.data_dir, reason)
    return Encoded(
        ids=[row["id"].decode() for row in rows],
        images=[row["image"] for row in rows],
        labels=[row["label"] for row in rows],
        sizes=np.array([row["size"] for row in rows], np.int32).reshape(-1, 2),
    )


def data_set(
    builder: tfds.core.DatasetBuilder,
    class_names: tuple[str, ...],
    palette: Palette,
    without_labels: tuple[str, ...] = (),
) -> DataSet:
    """The data set of a prepared TFDS builder; see `DataSet`."""
    read, splits = functools.partial(read_split, builder), tuple(builder.info.splits)
    return DataSet(builder.name, splits, read, class_names, palette, without_labels)
