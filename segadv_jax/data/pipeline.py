"""Batches from a prepared split: order, sharding by process, decoding and padding with tf.data.

Encoded images are held in memory. So order is random access, and a run that starts again at
step k goes straight to its batch: what comes before is neither read nor decoded.
"""

import itertools
from typing import NamedTuple

import numpy as np

from segadv_jax import VOID
from segadv_jax.data.arrays import canvas_of, check_canvas
from segadv_jax.data.cpu_tensorflow import tf, tfds
from segadv_jax.data.order import PADDING, eval_rows, process_rows, train_rows
from segadv_jax.errors import InputError


class Split(NamedTuple):
    """A split in memory, encoded: images JPEG or PNG, labels one-channel PNG.

    `sizes` is i32[N,2], (height, width). The other fields are lists of length N.
    """

    ids: list[str]
    images: list[bytes]
    labels: list[bytes]
    sizes: np.ndarray

    def canvas(self, multiple=16):
        """Returns (height, width): the largest of the split, rounded up to a `multiple`."""
        return canvas_of(self.sizes, multiple)

    def first(self, n):
        """The split of the first ``n`` examples."""
        return Split(*(field[:n] for field in self))

    def take(self, rows):
        """The split of the examples in ``rows``, an array of integers."""
        ids, images, labels = ([field[row] for row in rows] for field in self[:3])
        return Split(ids, images, labels, self.sizes[rows])


def check_split(builder, split, field=""):
    """Raises an InputError that names the ``field`` if a prepared data set has no such split."""
    known = list(builder.info.splits)
    for part in split.split("+"):
        if part.split("[")[0].strip() not in known:
            where = f"config.{field}: " if field else ""
            raise InputError(
                f"{where}the data set {builder.name} has no split {part.strip()!r};"
                f" known: {', '.join(known)} (join several with +)"
            )


def read_split(builder, split):
    """Reads a split of a prepared TFDS builder into memory, in its stored order.

    Args:
      builder: TFDS builder with the features of `segadv_jax.data.builders.FEATURES`.
      split: a name, or several joined as in "subset_0+subset_1"; TFDS slices work as well.

    Raises:
      InputError: a split that the data set does not have, or an empty one.
    """
    check_split(builder, split)
    skip = tfds.decode.SkipDecoding()
    try:
        examples = builder.as_dataset(
            split=split,
            decoders={"image": skip, "label": skip},
            # One file after the other: the order is the stored one.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        rows = list(examples.as_numpy_iterator())
    except ValueError as error:
        raise InputError(f"the split {split!r} cannot be read: {_line(error)}") from error
    if not rows:
        raise InputError(f"the split {split!r} of the data set {builder.name} is empty")
    return Split(
        ids=[row["id"].decode() for row in rows],
        images=[row["image"] for row in rows],
        labels=[row["label"] for row in rows],
        sizes=np.stack([row["size"] for row in rows]),
    )


def train_batches(
    split, *, batch_size, canvas, seed, stream=0, start=0, process_index=0, process_count=1
):
    """Returns an endless iterator of training batches, the first of which is batch `start`.

    The global batch of `batch_size` rows is that of `order.train_rows`; process p of P gets its
    contiguous rows `p * batch_size // P` onwards, padded to `canvas` (height, width).

    Raises:
      InputError: a batch that the processes cannot share evenly or that is larger than the
        split, or an image larger than the canvas.
    """
    rows = train_rows(len(split.ids), batch_size, seed, stream, start)
    return _batches(split, rows, process_rows(batch_size, process_index, process_count), canvas)


def eval_batches(split, *, batch_size, canvas, process_index=0, process_count=1):
    """Returns an iterator that covers every example exactly once, in order.

    The rows are shared by the processes as in `train_batches`. All processes get the same number
    of batches, all of the same shape: the last is filled up with rows of mask 0, whose image is
    0, label 255, size the canvas and id "".

    Raises:
      InputError: as `train_batches`.
    """
    mine = process_rows(batch_size, process_index, process_count)
    return _batches(split, eval_rows(len(split.ids), batch_size), mine, canvas)


def _batches(split, rows, mine, canvas):
    """Returns an iterator over one process's part ``mine`` of the batches of ``rows``."""
    check_canvas(split.ids, split.sizes, canvas)

    def encoded():
        for row in itertools.chain.from_iterable(batch[mine] for batch in rows):
            if row == PADDING:
                yield _BLANK_IMAGE, _BLANK_LABEL, np.array(canvas, np.int32), 0.0, ""
            else:
                yield split.images[row], split.labels[row], split.sizes[row], 1.0, split.ids[row]

    dataset = tf.data.Dataset.from_generator(
        encoded,
        output_signature=(
            tf.TensorSpec((), tf.string),
            tf.TensorSpec((), tf.string),
            tf.TensorSpec((2,), tf.int32),
            tf.TensorSpec((), tf.float32),
            tf.TensorSpec((), tf.string),
        ),
    )
    dataset = dataset.map(
        lambda *example: decode(*example, canvas=canvas),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.batch(mine.stop - mine.start).prefetch(tf.data.AUTOTUNE)
    # Not a generator function: what is wrong with the arguments is raised at the call.
    return (
        batch | {"id": np.array([name.decode() for name in batch["id"]])}
        for batch in dataset.as_numpy_iterator()
    )


def decode(image, label, size, mask, name, *, canvas):
    """Decodes one example and pads it to `canvas` (height, width) at the bottom and right."""
    # TensorFlow's default DCT is faster, but its pixels differ between machines.
    # The op behind decode_jpeg decodes PNG as well.
    image = tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")
    label = tf.io.decode_png(label, channels=1)[..., 0]
    below, right = canvas[0] - tf.shape(label)[0], canvas[1] - tf.shape(label)[1]
    image = tf.pad(image, [[0, below], [0, right], [0, 0]])
    label = tf.pad(label, [[0, below], [0, right]], constant_values=VOID)
    return {
        "image": tf.ensure_shape(image, (*canvas, 3)),
        "label": tf.ensure_shape(label, canvas),
        "size": size,
        "mask": mask,
        "id": name,
    }


# A padding row is a black pixel with a void label: the canvas does the rest.
_BLANK_IMAGE = tf.io.encode_png(np.zeros((1, 1, 3), np.uint8)).numpy()
_BLANK_LABEL = tf.io.encode_png(np.full((1, 1, 1), VOID, np.uint8)).numpy()


def _line(error):
    """The first line of an error's message."""
    return str(error).strip().split("\n")[0]
