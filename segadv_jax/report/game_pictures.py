"""What an adversary is shown of an image, and what it says of it, as pictures."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from segadv_jax import (
    VOID,
    drawing,
    encodings,
    experiment,
    losses,
    prediction,
    predictor,
    visualize,
)
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import Palette
from segadv_jax.drawing import Entry, Picture
from segadv_jax.errors import InputError
from segadv_jax.files import PathLike
from segadv_jax.models.geometry import count_cells, downsample_labels
from segadv_jax.workdir import Workdir

SHOWN = ("basic", "product", "scaling")  # The paper's encodings.
CLASSES = 6  # So many maps stand beside each other.
Pair = tuple[np.ndarray, np.ndarray]  # Of the real and of the synthetic map.


class Look(NamedTuple):
    """One image as both players see it, without padding."""

    image: UInt8[np.ndarray, "H W 3"]
    label: UInt8[np.ndarray, "H W"]
    predicted: UInt8[np.ndarray, "H W"]
    encoded: dict[str, Pair]  # By encoding: f32[h, w, channels] at the label cells.
    # The probability of each pixel that its map is ground truth, NaN where nothing is judged.
    verdicts: Pair | None  # f32[H, W]; None without an adversary.


class Looked(NamedTuple):
    """Images of a run, with the classes of its data set."""

    looks: list[Look]
    class_names: tuple[str, ...]
    palette: Palette
    encoding: str  # The run's own.


def look(folder: PathLike, rows: Sequence[int], split: str = "") -> Looked:
    """The images in these `rows` of a split, by default the run's test split, as it sees them.

    Raises:
        InputError: the folder is no run, it has no checkpoint, or its data set is not there, or
            has no such row.
    """
    run = predictor.from_run(folder, views=False)
    config, data_set = run.config, experiment.load_data(run.config)
    setup = experiment.build(config, len(run.class_names)).setup
    theta = None
    if setup.adversary is not None:
        with Checkpoints(Workdir(folder), to_read=True) as checkpoints:
            theta = checkpoints.restore_player("adversary", run.step)
    examples = data_set.read(split or config.data.test)
    if wrong := [row for row in rows if row >= len(examples.ids)]:
        raise InputError(f"there is no image {wrong[0]}, only 0 to {len(examples.ids) - 1}")
    step = jax.jit(functools.partial(_look, setup=setup))
    # The canvas of the whole split: without padding an adversary may be too large for one image.
    looks, canvas = [], examples.canvas()
    for batch in examples.take(rows).eval_batches(batch_size=1, canvas=canvas):
        given = {name: batch[name] for name in ("image", "label", "size")}
        looks.append(_crop(given, jax.device_get(step(run.params, theta, given)), setup))
    return Looked(looks, run.class_names, run.palette, config.encoding)


def draw_encodings(looked: Looked) -> Picture:
    """The paper's Figure 2 for each encoding: image, truth, prediction, then both encoded maps.

    Maps of probabilities are drawn dark (0) to bright (1). Those of *product*, a class times the
    three colours, are drawn as one picture in colour, in which 0 is grey.
    """
    parts = []
    for one in looked.looks:
        maps = one.label[None], one.predicted[None]
        own = [one.label.shape], looked.palette, looked.class_names
        parts.append(visualize.prediction_grid(one.image[None], *maps, *own))
        parts += _encoded(one, looked)
    return drawing.stack([*parts, visualize.draw_scale(max(x.shape[1] for x in parts))])


def draw_verdicts(looked: Looked) -> Picture:
    """How the adversary judges both maps of each image, place by place, over the image in grey.

    Raises:
        InputError: the run has no adversary.
    """
    rows = []
    for one in looked.looks:
        if one.verdicts is None:
            raise InputError("this run has no adversary: name one that was trained against one")
        real, synthetic = (over(one.image, verdict) for verdict in one.verdicts)
        label, predicted = (visualize.colour(x, looked.palette) for x in (one.label, one.predicted))
        rows.append([one.image, label, real, predicted, synthetic])
    heads = ["image", "truth", "judged", "prediction", "judged"]
    grid = drawing.grid(
        rows, [Entry(head) for head in heads], smooth=(True, False, True, False, True)
    )
    steps = [0, 0.25, 0.5, 0.75, 1]
    entries = [Entry(f"{step:g}", tuple(_judged(float(step)))) for step in steps]
    meaning = Entry('judged: the adversary\'s probability of "this is ground truth"')
    space = np.full((8, 1, 3), drawing.WHITE, np.uint8)
    return drawing.stack([grid, space, drawing.write([meaning, *entries], grid.shape[1])])


def over(
    image: UInt8[np.ndarray, "H W 3"], verdict: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Probabilities over an image in grey: blue for 1, red for 0, white for 0.5."""
    grey = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    weight = np.where(np.isnan(verdict), 0, 0.65)[..., None]
    colours = _judged(np.nan_to_num(verdict, nan=0.5))
    return np.rint(weight * colours + (1 - weight) * grey).astype(np.uint8)


def place(
    verdict: Float[np.ndarray, "rows columns"],
    first: int,
    size: tuple[int, int],
    stride: int,
    offset: float,
    block: int,
) -> Float[np.ndarray, "H W"]:
    """Verdicts at the pixels of their blocks, NaN elsewhere.

    Args:
        verdict: of each block.
        first: the cell with which the first block begins, along both sides.
        size: (height, width) of the image.
        stride, offset: cell i lies at pixel `stride * i + offset`, in the middle of its own.
        block: cells on a side of a block.
    """
    corner = round(stride * first + offset - (stride - 1) / 2)
    rows, columns = ((np.arange(side) - corner) // (stride * block) for side in size)
    # Where cells do not begin at the border, the first blocks reach up to it; if they are judged.
    rows, columns = (np.maximum(x, 0) if not first else x for x in (rows, columns))
    inside = [(x >= 0) & (x < n) for x, n in zip((rows, columns), verdict.shape, strict=True)]
    placed = np.full(size, np.nan, np.float32)
    placed[np.ix_(*inside)] = verdict[np.ix_(rows[inside[0]], columns[inside[1]])]
    return placed


def _judged(values):
    from matplotlib import colormaps

    colours = np.array(colormaps["RdBu"](np.clip(values, 0.0, 1.0)))  # A tuple, if of one value.
    return np.rint(255 * colours[..., :3]).astype(np.uint8)


def _look(params, theta, batch, *, setup):
    """(classes at the pixels, {encoding: both maps}, both verdicts with their weights or None)."""
    segmenter, adversary = setup.segmenter, setup.adversary
    image, size = jnp.asarray(batch["image"], jnp.float32), batch["size"]
    cell_label = downsample_labels(batch["label"], segmenter.stride, segmenter.offset)
    logits = prediction.segment(params, batch["image"], size, segmenter)
    logits = logits[:, : cell_label.shape[1], : cell_label.shape[2]]
    at_pixels = prediction.at_pixels(logits, image.shape[1:3], size, segmenter)
    colours = segmenter.apply({}, image, size, method="colours")
    probabilities = jax.nn.softmax(logits)
    encoded = {
        name: encodings.ENCODINGS[name](probabilities, cell_label, colours) for name in SHOWN
    }
    predicted = jnp.argmax(at_pixels, -1).astype(jnp.uint8)
    if adversary is None:
        return predicted, encoded, None
    seen = image
    if adversary.sees == "features":
        seen = prediction.features(params, batch["image"], size, segmenter)
    judge: Callable[[Any], Any] = functools.partial(
        adversary.apply, {"params": theta}, image=seen, size=size
    )
    maps = setup.encode(probabilities, cell_label, colours)
    judged = adversary.apply({}, cell_label, size, method="block_labels")
    weights = losses.prediction_weights(judged, adversary.block)
    # Without padding the first block lies within the map.
    places = jnp.broadcast_to(jnp.arange(cell_label.shape[1])[:, None], cell_label.shape[1:])
    places = jnp.minimum(places, VOID - 1).astype(jnp.uint8)[None]
    first = adversary.apply({}, places, size, method="block_labels")[0, 0, 0]
    verdicts = [jax.nn.sigmoid(judge(label_map))[..., 0] for label_map in maps]
    return predicted, encoded, (*verdicts, weights, first)


def _crop(batch, found, setup):
    """A Look from what `_look` returns of one image."""
    predicted, encoded, judged = found
    height, width = batch["size"][0].tolist()
    h, w = np.asarray(count_cells(batch["size"][0], setup.segmenter.stride))
    maps = {
        name: (np.asarray(real[0, :h, :w]), np.asarray(synthetic[0, :h, :w]))
        for name, (real, synthetic) in encoded.items()
    }
    image, label = batch["image"][0, :height, :width], batch["label"][0, :height, :width]
    one = Look(image, label, predicted[0, :height, :width], maps, None)
    if judged is None:
        return one
    real, synthetic, weights, first = judged
    where = int(first), (height, width), setup.segmenter.stride, setup.segmenter.offset
    placed = [
        place(np.where(weights > 0, verdict, np.nan)[0], *where, setup.adversary.block)
        for verdict in (real, synthetic)
    ]
    return one._replace(verdicts=(placed[0], placed[1]))


def _encoded(one, looked):
    """A grid for each encoding: a column a class, the ground truth above the prediction."""
    classes = np.bincount(np.r_[one.label.ravel(), one.predicted.ravel()], minlength=256)[:VOID]
    chosen = sorted(np.argsort(-classes, kind="stable")[: min(CLASSES, (classes > 0).sum())])
    heads = [Entry(looked.class_names[c], tuple(looked.palette[c])) for c in chosen]
    wide = (drawing.WIDTH + drawing.GAP) // CLASSES - drawing.GAP
    parts = []
    for name, pair in one.encoded.items():
        if name == "product":
            unit = max(np.abs(pair[0]).max(), np.abs(pair[1]).max(), 1e-6)
            rows = [[_coloured(x[..., 3 * c : 3 * c + 3], unit) for c in chosen] for x in pair]
        else:
            rows = [[visualize.paint(x[..., c]) for c in chosen] for x in pair]
        own = ", which this run's adversary is shown" if name == looked.encoding else ""
        names = ["real map (of the truth)", "synthetic map (of the prediction)"]
        maps = drawing.grid(rows, heads, names, cell=(260, wide))
        heading = drawing.write([Entry(f"{name}{own}")], drawing.WIDTH, 20)[:, : maps.shape[1]]
        space = np.full((16, 1, 3), drawing.WHITE, np.uint8)
        parts += [space, heading, maps]
    return parts


def _coloured(values, unit):
    return np.rint(127.5 + 127.5 * np.clip(values / unit, -1, 1)).astype(np.uint8)
