"""Pictures of label maps and predictions.

Arrays are those of an evaluation batch: padded at the bottom and right, with the true (height,
width) in `sizes`. matplotlib is imported when it is needed: for the colours of probabilities.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from segadv_jax import VOID, drawing, files
from segadv_jax.drawing import Entry

# PASCAL VOC's own: far from the classes' colours here and there, and from the white canvas.
VOID_COLOUR = (224, 224, 192)
WRONG_COLOUR = (214, 39, 40)  # Of a boundary where the truth has none.
ROWS = 8  # No grid has more rows of examples.
OPACITY = 0.55  # Of a class's colour over a photograph.


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


def overlay(image, label_map, palette, class_names):
    """A photograph under the colours of its classes, with a legend of those that occur.

    Lines and letters grow with the photograph. Where two classes meet, each has a thin line of its
    full colour. Void stays as it is in the photograph, and so does a class whose colour is black,
    as VOC's background: it would look as if the light were out.

    Args:
        image: u8[h, w, 3].
        label_map: integer[h, w]: class indices or void (255).
        palette, class_names: u8[C, 3] RGB, and C texts.

    Returns:
        u8[h + legend, w, 3]; wider only if a class's name is.
    """
    image, label_map = np.asarray(image), np.asarray(label_map)
    side = min(label_map.shape)
    painted = colour(label_map, palette)
    # A line takes as many pixels on both sides of the boundary.
    line = _near_boundary(label_map, max(1, round(side / 500)))
    left_alone = (label_map == VOID) | ~painted.any(-1)
    weight = np.where(line, 1, OPACITY) * ~left_alone
    weight = weight[..., None].astype(np.float32)
    mixed = np.rint(weight * painted + (1 - weight) * image).astype(np.uint8)
    return _with_legend(
        mixed, [label_map[label_map != VOID]], palette, class_names, max(12, round(side / 28))
    )


def prediction_grid(images, labels, predictions, sizes, palette, class_names, width=drawing.WIDTH):
    """One row an example: image, truth, prediction; a legend of the classes that occur below.

    The picture is at most `width` pixels wide and shows the first `ROWS` examples.

    Args:
        images, labels: u8[n, H, W, 3] and integer[n, H, W]; None leaves its column out.
        predictions: integer[n, H, W], class indices; or {name: such maps} for a column each.
        sizes: i32[n, 2], true heights and widths; the padding is not shown.
        palette, class_names: u8[C, 3] RGB, and C texts.

    Returns:
        u8[h, w, 3], white between the cells.
    """
    if not isinstance(predictions, Mapping):
        predictions = {"prediction": predictions}
    maps = ({} if labels is None else {"truth": labels}) | predictions
    shown = {name: _cropped(column, sizes) for name, column in maps.items()}
    columns = {} if images is None else {"image": _cropped(images, sizes)}
    columns |= {name: [colour(x, palette) for x in column] for name, column in shown.items()}
    rows = list(zip(*columns.values(), strict=True))
    smooth = [name == "image" for name in columns]
    grid = drawing.grid(rows, [Entry(name) for name in columns], smooth=smooth, width=width)
    occurring = [x for column in shown.values() for x in column]
    return _with_legend(grid, occurring, palette, class_names)


def probability_grid(probabilities, sizes, palette, class_names, names=()):
    """The probability map of each class, 0 dark and 1 bright, never rescaled: they compare.

    An example takes as many lines of maps as the width, `drawing.WIDTH` pixels, asks for; as many
    examples are shown as `ROWS` lines allow, but at least one.

    Args:
        probabilities: f32[n, H, W, C].
        sizes: i32[n, 2], true heights and widths; the padding is not shown.
        palette, class_names: u8[C, 3] RGB, and C texts, which stand above the maps.
        names: n texts, which stand above the examples: of files, or of arms on one image.
    """
    painted = [paint(maps) for maps in _cropped(probabilities, sizes)]
    heads = [Entry(*entry) for entry in zip(class_names, map(tuple, palette), strict=True)]
    across = min(len(heads), drawing.WIDTH // (180 + drawing.GAP))
    lines = -(-len(heads) // across)
    across = -(-len(heads) // lines)  # As even as it gets.
    parts = []
    if lines == 1:  # One below the other: the columns need their heads only once.
        rows = [list(maps.transpose(2, 0, 1, 3)) for maps in painted]
        parts.append(drawing.grid(rows, heads, names, cell=(220, 400)))
    else:
        for index, maps in enumerate(painted[: max(1, ROWS // lines)]):
            if len(names):
                title = Entry(names[index])
                parts.append(drawing.write([title], drawing.entry_width(title)))
            for start in range(0, len(heads), across):
                row = list(maps.transpose(2, 0, 1, 3))[start : start + across]
                short = across - len(row)
                row += [np.full((1, 1, 3), drawing.WHITE, np.uint8)] * short
                above = heads[start : start + across] + [Entry("")] * short
                parts.append(drawing.grid([row], above, cell=(220, 220)))
    return drawing.stack([*parts, draw_scale(max(part.shape[1] for part in parts))])


def paint(values):
    """Colours f32[...] in 0..1 as u8[..., 3], dark to bright, also for the colour-blind."""
    from matplotlib import colormaps

    shades = (255 * colormaps["viridis"](np.arange(256))[:, :3]).round().astype(np.uint8)
    return shades[np.round(255 * np.clip(np.asarray(values, np.float32), 0, 1)).astype(np.uint8)]


def draw_scale(width):
    """What the colours of probabilities mean, as u8[h, width, 3]."""
    steps = [0, 0.25, 0.5, 0.75, 1]
    entries = [Entry(f"{step:g}", tuple(paint(step))) for step in steps]
    return drawing.write([Entry("probability"), *entries], width)


def outline(images, label_maps, outlined=(255, 255, 0)):
    """Draws the boundaries of classes on darkened images, as u8[n, H, W, 3].

    A pixel is on a boundary if the one to its right or below it is of another class; void is one.

    Args:
        images: u8[n, H, W, 3].
        label_maps: integer[n, H, W].
        outlined: RGB of the boundaries.
    """
    boundary = _boundaries(np.asarray(label_maps))
    return np.where(boundary[..., None], np.uint8(outlined), np.asarray(images) // 2)


def _boundaries(label_maps):
    """bool[..., H, W]: where the pixel to the right or below is of another class."""
    boundary = np.zeros(label_maps.shape, bool)
    boundary[..., :-1] |= label_maps[..., :-1] != label_maps[..., 1:]
    boundary[..., :-1, :] |= label_maps[..., :-1, :] != label_maps[..., 1:, :]
    return boundary


def judge_boundaries(label, prediction, reach):
    """Boundaries of a prediction on white, as u8[H, W, 3]: those that follow the truth are black.

    The others are red: of them the truth has none, of whatever classes, within `reach` pixels.

    Args:
        label, prediction: integer[H, W].
    """
    from scipy import ndimage  # Slow to import, and nothing else here needs it.

    truth, found = _boundaries(np.asarray(label)), _boundaries(np.asarray(prediction))
    far = np.ones(truth.shape, bool)
    if truth.any():
        far = ndimage.distance_transform_edt(~truth) > reach
    picture = np.full((*found.shape, 3), drawing.WHITE, np.uint8)
    picture[found] = (0, 0, 0)
    picture[found & far] = WRONG_COLOUR
    return picture


def boundary_grid(images, labels, probabilities, sizes, given=True, reach=5):
    """One row an example: image, the truth's boundaries, each arm's boundaries and certainty.

    The certainty is the highest class probability, 0 dark and 1 bright, never rescaled.

    Args:
        images, labels: u8[n, H, W, 3] and integer[n, H, W].
        probabilities: {arm: f32[n, H, W, C]}.
        sizes: i32[n, 2], true heights and widths; the padding is not shown.
        given: whether images and truth are shown; if not, boundaries are those of
            `judge_boundaries`, with `reach`.
    """
    columns = {}
    if given:
        columns["image"] = _cropped(images, sizes)
        columns["truth"] = _cropped(outline(images, labels), sizes)
    for arm, maps in probabilities.items():
        found, name = np.argmax(maps, -1), f"{arm}, boundaries"
        if given:
            columns[name] = _cropped(outline(images, found), sizes)
        else:
            pairs = zip(_cropped(labels, sizes), _cropped(found, sizes), strict=True)
            columns[name] = [judge_boundaries(*pair, reach) for pair in pairs]
        columns[f"{arm}, certainty"] = _cropped(paint(np.max(maps, -1)), sizes)
    rows = list(zip(*columns.values(), strict=True))
    return drawing.grid(rows, [Entry(name) for name in columns])


def save_png(array, path):
    """Writes u8[h, w, 3] RGB or u8[h, w] grey; makes the folder if needed.

    Raises:
        ValueError: the array is not u8. Pillow would write floats as something else.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise ValueError(f"a picture of dtype uint8 is needed, not {array.dtype}")
    with files.replacing(path, "wb") as file:
        Image.fromarray(array).save(file, format="PNG")


def _cropped(column, sizes):
    """The first `ROWS` of a column, without their padding."""
    pairs = list(zip(column, np.asarray(sizes), strict=True))[:ROWS]
    return [np.asarray(cell)[:h, :w] for cell, (h, w) in pairs]


def _near_boundary(label_map, reach):
    """bool[h, w]: pixels within `reach` of another class, along rows or columns; void is one."""
    near = np.zeros(label_map.shape, bool)
    for step in range(1, reach + 1):
        across = label_map[:, step:] != label_map[:, :-step]
        down = label_map[step:] != label_map[:-step]
        near[:, step:] |= across
        near[:, :-step] |= across
        near[step:] |= down
        near[:-step] |= down
    return near


def _with_legend(picture, label_maps, palette, class_names, font=drawing.FONT):
    """A picture with a legend of the classes in the label maps, and of void, below it."""
    found = np.zeros(256, bool)
    for label_map in label_maps:
        found |= np.bincount(np.ravel(label_map), minlength=256).astype(bool)
    entries = [
        Entry(name, tuple(rgb))
        for name, rgb, occurs in zip(class_names, palette, found[: len(palette)], strict=True)
        if occurs
    ]
    if found[VOID]:
        entries.append(Entry("void", VOID_COLOUR))
    margin = font // 2
    wide = margin + max((drawing.entry_width(entry, font) for entry in entries), default=1)
    width = max(picture.shape[1], wide)
    edge = np.full((margin, 1, 3), drawing.WHITE, np.uint8)
    legend = drawing.write(entries, width - margin, font)
    beside = np.full((legend.shape[0], margin, 3), drawing.WHITE, np.uint8)
    return drawing.stack([picture, edge, np.concatenate([beside, legend], 1)])
