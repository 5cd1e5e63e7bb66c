"""A page's example predictions: photograph, truth, and what each arm predicts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segadv_jax import VOID, configuration, drawing, predictor, visualize
from segadv_jax.data import DataSet, Split
from segadv_jax.errors import InputError
from segadv_jax.evaluate import plain
from segadv_jax.metrics.names import percent
from segadv_jax.predictor import DataPredictor
from segadv_jax.report.compared import Arm
from segadv_jax.report.html_parts import Html, element, join, paragraph, picture, swatch

SIDE = 420  # Pixels that a picture is wide or high at most.
BATCH = 4  # Images predicted at once.
FACTOR = 4  # So many times the images shown are looked at.


class Example(NamedTuple):
    """An image and what is predicted of it, without padding."""

    name: str
    image: np.ndarray  # u8[h, w, 3]
    label: np.ndarray  # u8[h, w]
    predictions: list[np.ndarray]  # u8[h, w] by each arm.

    @property
    def interest(self) -> float:
        """What share of the labelled pixels the arms see otherwise, or of one arm, its errors."""
        first, *others = self.predictions
        seen = self.label != VOID
        others = others or [self.label]
        return max(float(((first != other) & seen).sum()) for other in others) / max(seen.sum(), 1)


def examples(arms: Sequence[Arm], split: str, number: int, overrides: Sequence[str] = ()) -> Html:
    """`number` images of a split with the predictions of each arm's first seed.

    Half of them are evenly spread over the split. The others are those, of `FACTOR` times as many,
    where the arms differ most, or where the only one errs most. The choice is always the same.

    Args:
        arms: of one data set.
        split: from which the images are.
        number: of images.
        overrides: "--config.FIELD=VALUE" each, as an evaluation takes them.

    Raises:
        InputError: the data set or a checkpoint is not there, or the arms have other classes.
    """
    without = [arm.name for arm in arms if not arm.first.workdir.has_checkpoints()]
    arms = [arm for arm in arms if arm.name not in without]
    if not arms:
        raise InputError("no checkpoint is there")
    loaded = [_load(arm, overrides) for arm in arms]
    predictor.check_alike(loaded)
    data_set = loaded[0].data_set
    data_set.check_labelled(split, "data.test")
    whole = data_set.read(split)
    rows = spread(len(whole.ids), FACTOR * number)
    found = _predict(loaded, whole.take(rows), whole.canvas())
    even = [found[i] for i in spread(len(found), (number + 1) // 2)]
    others = [each for each in found if all(each is not one for one in even)]
    others.sort(key=lambda each: -each.interest)
    chosen = others[: number - len(even)]
    names = [arm.name for arm in arms]
    why = "where they differ most" if len(arms) > 1 else "with the most errors"
    said = f"Not shown, as no checkpoint is there: {', '.join(without)}." if without else ""
    lead = [paragraph(said, class_="soft")] if said else []
    parts = [
        *lead,
        _legend(data_set, even + chosen),
        *(_figure(each, names, data_set) for each in even),
    ]
    if chosen:
        parts.append(element("h3", f"Those of {len(found)} images {why}"))
        parts += [_figure(each, names, data_set) for each in chosen]
    return join(*parts)


def spread(length: int, number: int) -> list[int]:
    """`number` rows evenly spread over `length`, or all of them."""
    number = min(length, number)
    return [(2 * i + 1) * length // (2 * number) for i in range(number)]


def _load(arm: Arm, overrides: Sequence[str]) -> DataPredictor:
    workdir = arm.first.workdir
    return predictor.load(plain(configuration.of_evaluation(workdir, overrides)), str(workdir))


def _predict(loaded: Sequence[DataPredictor], split: Split, canvas: tuple[int, int]):
    """An Example of each image."""
    found = []
    for batch in split.eval_batches(batch_size=BATCH, canvas=canvas):
        maps = [each.predict(batch["image"], batch["size"]).argmax(-1) for each in loaded]
        for i, (name, present) in enumerate(zip(batch["id"], batch["mask"], strict=True)):
            if present:
                h, w = batch["size"][i]
                predicted = [each[i, :h, :w].astype(np.uint8) for each in maps]
                image, label = batch["image"][i, :h, :w], batch["label"][i, :h, :w]
                name = name.decode() if isinstance(name, bytes) else str(name)
                found.append(Example(name, image, label, predicted))
    return found


def _legend(data_set: DataSet, shown: Sequence[Example]) -> Html:
    """The classes that occur."""
    maps = [m for each in shown for m in (each.label, *each.predictions)]
    occurring = set().union(*(np.unique(m).tolist() for m in maps))
    entries = [
        swatch(rgb, name)
        for i, (name, rgb) in enumerate(
            zip(data_set.class_names, data_set.palette.tolist(), strict=True)
        )
        if i in occurring
    ]
    if VOID in occurring:
        entries.append(swatch(visualize.VOID_COLOUR, "void"))
    return element("div", *entries, class_="legend")


def _figure(example: Example, names: Sequence[str], data_set: DataSet) -> Html:
    """The pictures of one image."""
    cells = [_cell("image", example.image, example.name, True)]
    cells.append(_cell("truth", visualize.colour(example.label, data_set.palette), "truth"))
    seen = example.label != VOID
    for name, predicted in zip(names, example.predictions, strict=True):
        right = float((predicted == example.label)[seen].mean()) if seen.any() else None
        said = f"{name}: {percent(right, '.0f')} % of pixels right"
        cells.append(_cell(said, visualize.colour(predicted, data_set.palette), name))
    head = paragraph(example.name, class_="soft")
    return element("div", head, element("div", *cells), class_="example")


def _cell(caption, pixels, text, photograph=False):
    fitted = drawing.fit(pixels, SIDE, SIDE, smooth=photograph)
    small = max(pixels.shape[:2]) < 200
    drawn = picture(
        np.ascontiguousarray(fitted), text, photograph, class_="pixelated" if small else None
    )
    return element("figure", drawn, element("figcaption", caption))
