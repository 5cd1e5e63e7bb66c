"""Pictures of label maps, predictions and training curves.

NumPy and Pillow only; matplotlib is imported by `curves`, when it is called. Arrays are those of an
evaluation batch: padded at the bottom and right, with the true (height, width) in `sizes`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segadv_jax import VOID

# No colour of the VOC palette, whose channels are multiples of 64, and not the white between cells.
VOID_COLOUR = (90, 90, 90)
BACKGROUND = 255
GAP = 4
LINE = 18
SWATCH = 10


def colour(label_map, palette):
    """Paints a label map integer[..., h, w] with a palette u8[C, 3]; void is `VOID_COLOUR`.

    Raises:
        ValueError: an index is neither a class of the palette nor void.
    """
    label_map = np.asarray(label_map)
    classes = len(palette)
    strange = (label_map != VOID) & ((label_map < 0) | (label_map >= classes))
    if strange.any():
        value = label_map[strange][0]
        raise ValueError(f"class index {value} is neither void (255) nor one of {classes} classes")
    table = np.empty((256, 3), np.uint8)
    table[:] = VOID_COLOUR
    table[:classes] = palette
    return table[label_map]


def prediction_grid(images, labels, predictions, probabilities, sizes, palette, class_names):
    """One row an example: image, truth, prediction, then the probability map of each class.

    Args:
        images, labels: u8[n, H, W, 3] and integer[n, H, W]; None leaves its column out.
        predictions: integer[n, H, W], class indices.
        probabilities: f32[n, H, W, C], 0 black and 1 white, never rescaled: maps can be compared.
        sizes: i32[n, 2], true heights and widths; the padding is not shown.
        palette, class_names: u8[C, 3] RGB, and what heads the columns of the maps.

    Returns:
        u8[h, w, 3], white between the cells.
    """
    grey = np.round(255 * np.clip(np.asarray(probabilities, np.float32), 0, 1)).astype(np.uint8)
    given, rows = _given(images, labels, palette), []
    for i, (prediction, maps) in enumerate(zip(predictions, grey, strict=True)):
        cells = [column[i] for column in given.values()] + [colour(prediction, palette)]
        cells += [np.repeat(maps[..., c, None], 3, axis=-1) for c in range(len(class_names))]
        rows.append(cells)
    heads = [(name, None) for name in (*given, "prediction")]
    heads += list(zip(class_names, palette, strict=True))
    return _grid(rows, sizes, heads)


def comparison_grid(images, labels, predictions, sizes, palette, class_names):
    """One row an example: image, truth, then one column for each arm of `predictions`.

    The arguments are as in `prediction_grid`, {arm: integer[n, H, W]} the predictions. A legend of
    the classes stands above the columns' names.
    """
    given = _given(images, labels, palette)
    columns = given | {name: colour(arm, palette) for name, arm in predictions.items()}
    rows = list(zip(*columns.values(), strict=True))
    heads = [(name, None) for name in columns]
    grid = _grid(rows, sizes, heads)
    entries = [*zip(class_names, palette, strict=True), ("void", VOID_COLOUR)]
    return np.concatenate([_legend(entries, grid.shape[1]), grid])


def outline(images, label_maps, outlined=(255, 255, 0)):
    """Draws the boundaries of classes on darkened images, as u8[n, H, W, 3].

    A pixel is on a boundary if the one to its right or below it is of another class; void is one.

    Args:
        images: u8[n, H, W, 3].
        label_maps: integer[n, H, W].
        outlined: RGB of the boundaries.
    """
    label_maps = np.asarray(label_maps)
    boundary = np.zeros(label_maps.shape, bool)
    boundary[:, :, :-1] |= label_maps[:, :, :-1] != label_maps[:, :, 1:]
    boundary[:, :-1] |= label_maps[:, :-1] != label_maps[:, 1:]
    return np.where(boundary[..., None], np.uint8(outlined), np.asarray(images) // 2)


def boundary_grid(images, labels, probabilities, sizes):
    """One row an example: image, the truth's boundaries, each arm's boundaries and certainty.

    The certainty is the highest class probability, 0 black and 1 white, never rescaled.

    Args:
        images, labels: u8[n, H, W, 3] and integer[n, H, W].
        probabilities: {arm: f32[n, H, W, C]}.
        sizes: i32[n, 2], true heights and widths; the padding is not shown.
    """
    columns = {"image": images, "truth": outline(images, labels)}
    for arm, maps in probabilities.items():
        columns[arm] = outline(images, np.argmax(maps, -1))
        certainty = np.round(255 * np.clip(np.max(maps, -1), 0, 1)).astype(np.uint8)
        columns[f"{arm}, certainty"] = np.repeat(certainty[..., None], 3, -1)
    rows = list(zip(*columns.values(), strict=True))
    return _grid(rows, sizes, [(name, None) for name in columns])


def curves(
    histories: Mapping[str, Sequence[Mapping]], path, keys: Sequence[str], *, x="segmenter_updates"
):
    """Draws one plot for each key, one line for each arm, and writes them to `path`.

    Args:
        histories: {arm: rows of its history.csv}; empty and absent values are skipped.
        path: the picture to write; its folder is made if needed, its suffix chooses the format.
        keys: columns to draw, against the column `x`.

    Raises:
        ValueError: no arm has a value for one of the keys.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure alive

    figure = Figure(figsize=(8, 3 * len(keys)), layout="constrained")
    for axes, key in zip(figure.subplots(len(keys), squeeze=False)[:, 0], keys, strict=True):
        for i, (arm, rows) in enumerate(histories.items()):
            points = [(float(row[x]), float(row[key])) for row in rows if _has(row, x, key)]
            if points:
                marker = "." if len(points) < 50 else None  # or else a single point is not seen
                axes.plot(*zip(*points, strict=True), color=f"C{i}", marker=marker, label=arm)
        if not axes.lines:
            raise ValueError(
                f"no value of {key!r} against {x!r} in the histories of {[*histories]}"
            )
        axes.set(xlabel=x.replace("_", " "), ylabel=key)
        axes.grid(alpha=0.3)
        axes.legend()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def save_png(array, path):
    """Writes u8[h, w, 3] RGB or u8[h, w] grey; makes the folder if needed.

    Raises:
        ValueError: the array is not u8. Pillow would write floats as something else.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise ValueError(f"a picture of dtype uint8 is needed, not {array.dtype}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format="PNG")


def _given(images, labels, palette):
    """The columns of what a data set gives: {head: u8[n, H, W, 3]}."""
    given = {} if images is None else {"image": images}
    return given if labels is None else given | {"truth": colour(labels, palette)}


def _has(row, *columns):
    return all(row.get(column) not in (None, "") for column in columns)


def _grid(rows, sizes, heads):
    """Lays out rows of u8[H, W, 3] cells, cropped to `sizes`, under heads of (text, colour)."""
    sizes = np.asarray(sizes)
    height = int(sizes[:, 0].max())
    width = max(int(sizes[:, 1].max()), *(_entry_width(*head) for head in heads))
    step = np.array([height, width]) + GAP
    canvas = np.full((LINE + len(rows) * step[0], len(heads) * step[1] - GAP, 3), BACKGROUND, "u1")
    for column, head in enumerate(heads):
        left = column * step[1]
        canvas[:LINE, left : left + width] = _line([head], width)
    for row, (cells, (h, w)) in enumerate(zip(rows, sizes, strict=True)):
        for column, cell in enumerate(cells):
            top, left = LINE + row * step[0], column * step[1]
            canvas[top : top + h, left : left + w] = cell[:h, :w]
    return canvas


def _legend(entries, width):
    """Swatches and names, broken into as many lines of `width` pixels as they need."""
    lines, used = [[]], 0
    for entry in entries:
        need = _entry_width(*entry)
        if lines[-1] and used + need > width:
            lines.append([])
            used = 0
        lines[-1].append(entry)
        used += need
    return np.concatenate([_line(line, width) for line in lines])


def _line(entries, width):
    """Draws (text, colour or None) beside each other, as u8[LINE, width, 3]."""
    picture = Image.new("RGB", (width, LINE), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(picture)
    left = 0
    for text, swatch in entries:
        start = left
        if swatch is not None:
            box = (left, GAP, left + SWATCH - 1, GAP + SWATCH - 1)
            draw.rectangle(box, fill=tuple(int(v) for v in swatch))
            start += SWATCH + GAP
        draw.text((start, 1), text, fill=(0, 0, 0), font=_font())
        left += _entry_width(text, swatch)
    return np.asarray(picture)


def _entry_width(text, swatch):
    """Pixels that one name takes on a line, the space behind it included."""
    return (SWATCH + GAP) * (swatch is not None) + int(np.ceil(_font().getlength(text))) + 2 * GAP


def _font():
    return ImageFont.load_default(12)
