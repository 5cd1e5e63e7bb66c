"""One pass over a split: every image once, at its native resolution."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from segadv_jax import configuration, devices, experiment, predictor, progress
from segadv_jax.alternation import ADVERSARY, SEGMENTER
from segadv_jax.checkpoints import Checkpoints
from segadv_jax.data import Split
from segadv_jax.errors import InputError
from segadv_jax.eval_step import Boundaries, adversary_step, logits_step, zero_totals
from segadv_jax.metrics import boundary, boundary_iou, calibration, confusion, names, regions
from segadv_jax.models import Segmenter
from segadv_jax.prediction import Views
from segadv_jax.predictor import Predictor
from segadv_jax.workdir import Workdir

VERDICTS = ("real", "synthetic", "predictions")
COUNTER_LIMIT = 2**31 - 1  # Of the 32-bit counters on the device.
Sums = dict[str, np.ndarray]

# Further fields that change what is measured.
HOW_MEASURED = ("evaluate.tile", "evaluate.bf_background", "segmenter.dtype")
# Fields of config.evaluate that correct the logits, at the values that leave them as they are.
UNCORRECTED = {"prior_shift": 0.0, "temperature": 1.0}


def plain(config: ConfigDict) -> ConfigDict:
    """The same run's configuration that is evaluated to `eval/<split>.json`."""
    copied = config.copy_and_resolve_references()
    views = {"checkpoint": "selected", "flip": False, "scales": (1.0,)}
    copied.evaluate.update(views | UNCORRECTED)
    return copied


def evaluate_run(config: ConfigDict, workdir: str) -> dict[str, Any]:
    """Evaluates a trained run on its test split, plainly and as its configuration says.

    A run without the plain measurement is not done, so other views, corrections and checkpoints
    come on top. Theirs is the result, if there are any.
    """
    result = evaluate(plain(config), workdir, config.data.test, as_result=True)
    if config != plain(config):
        result = evaluate(config, workdir, config.data.test)
    return result


def evaluate(
    config: ConfigDict, workdir: str, split: str = "", *, as_result: bool = False
) -> dict[str, Any]:
    """Evaluates a checkpoint, by default the selected one, and writes `eval/<split>.json`.

    Another checkpoint goes to a file of its own, as `eval/<split>_latest.json`, and so do averages
    over flips and scales, as `eval/<split>_flip.json`; their cross-entropy and certainty are those
    of the image as it is. So does an evaluation with `config.evaluate.prior_shift` or
    `config.evaluate.temperature`, as `eval/<split>_prior_0.5_temperature_1.2.json`. Its logits are
    corrected wherever the segmenter is measured; the adversary judges the maps that it was trained
    to judge. And so does what is measured otherwise than the run's recorded configuration says, as
    `eval/<split>_tile_0.json`.

    Args:
        config: of a run that was trained in `workdir`.
        workdir: folder of the run.
        split: name of the split; `config.evaluate.split`, or `config.data.test`, if not given.
        as_result: this is what the run ends with, `eval/<split>.json`, even if its configuration
            was changed on the way.

    Returns:
        {"pixel_accuracy", "class_accuracy", "mean_iou", "mce", "certainty", "nll", "ece": float,
        "iou": {class name: float or None where the class does not occur}, "confusion": pixels by
        true (row) and predicted class, in the order of "iou", "histogram_true",
        "histogram_predicted": {class name: share of the labelled pixels}, "step", "images": int}.
        Cross-entropy (mce) and certainty, the highest class probability, are means over label
        cells; the negative log-likelihood (nll) and the expected calibration error (ece) are of
        labelled pixels. With `config.evaluate.bf` also what `structure` returns, and "bf_theta",
        theta as a part of the image's diagonal. With a prior shift also "prior_shift", with a
        temperature "temperature". If the run has an adversary, also "accuracy_real" and
        "accuracy_synthetic", how often it is right, unless it sees more than any image has.

    Raises:
        InputError: the workdir has no checkpoint, or one of another architecture or other classes,
            or the images have no labels.
    """
    trained = predictor.load(config, workdir)
    split = split or config.evaluate.split or config.data.test  # Loading may have set them.
    trained.data_set.check_labelled(split, "evaluate.split")
    Workdir(workdir).make()  # If it cannot be written, that is better known now.
    examples = trained.data_set.read(split)
    logging.info("evaluating %s, %d images", split, len(examples.ids))
    flattering = Workdir(workdir).flattering(split, examples.ids)
    if flattering and split != config.data.train and jax.process_index() == 0:
        logging.warning("%s", flattering)
    result = _measure(config, workdir, trained, examples, split)
    result |= {"step": trained.step, "images": len(examples.ids)}
    alpha, temperature = config.evaluate.prior_shift, config.evaluate.temperature
    result |= {"prior_shift": alpha} if alpha else {}
    result |= {"temperature": temperature} if temperature != 1 else {}
    if jax.process_index() == 0:
        # Other views of the images are another measurement, and so are corrected logits.
        corrections = [f"prior_{alpha:g}"] if alpha else []
        corrections += [f"temperature_{temperature:g}"] if temperature != 1 else []
        chosen = config.evaluate.checkpoint
        which = [] if chosen == "selected" else [chosen]
        others = [] if as_result else _otherwise(config, Workdir(workdir))
        name = "_".join([split, *which, *trained.views.names, *corrections, *others])
        path = Workdir(workdir).write_evaluation(name, result)
        logging.info("written to %s: %s %%", path, names.describe(result))
    return result


def _otherwise(config, workdir):
    """["FIELD_VALUE"] of `HOW_MEASURED` where the run's recorded configuration has another one."""
    changed, values = configuration.compare(workdir, config), configuration.plain(config.to_dict())
    return [f"{field.split('.')[1]}_{values[field]}" for field in HOW_MEASURED if field in changed]


def _measure(
    config, workdir: str, trained: Predictor, examples: Split, split: str
) -> dict[str, Any]:
    """The measures of the segmenter, and of the adversary if there is one."""
    class_names, boundaries = trained.class_names, None
    if config.evaluate.bf:
        boundaries = boundaries_of(config, examples)
    step = mapped_step(trained.segmenter, boundaries, trained.views)
    params = {SEGMENTER: trained.params}
    zeros = {SEGMENTER: zero_totals(len(class_names), config.evaluate.bf)}
    judge = None
    if trained.step and config.alternation.schedule != "standard":
        judge, params[ADVERSARY] = _adversary(config, workdir, trained, examples)
    if judge:
        zeros[ADVERSARY] = {name: np.zeros((), np.float32) for name in VERDICTS}

    def both(params, totals, batch):
        totals = dict(totals)
        totals[SEGMENTER], logits = step(params[SEGMENTER], totals[SEGMENTER], batch)
        if judge:
            totals[ADVERSARY] = judge(params, totals[ADVERSARY], batch | {"logits": logits})
        return totals

    batch_size, what = config.evaluate.batch_size, f"evaluating {split}"
    totals = accumulate(both, devices.replicate(params), examples, zeros, batch_size, what=what)
    check_measured(totals[SEGMENTER], split)
    result = summarize(totals[SEGMENTER], class_names)
    if boundaries:
        result["bf_theta"] = boundaries.tolerance.theta
    if judge:
        right = totals[ADVERSARY]
        number = right["predictions"]
        if number:
            result |= {f"accuracy_{kind}": float(right[kind] / number) for kind in VERDICTS[:2]}
        elif jax.process_index() == 0:
            logging.warning("the adversary is not measured: it judges no labelled cell")
    return result


def mapped_step(
    segmenter: Segmenter, boundaries: Boundaries | None = None, views: Views = Views()
) -> Callable:
    """`logits_step` over all devices: the very same for the same arguments.

    So a validation and the evaluation after the training run one program, if their images have one
    canvas.
    """
    hashable: Any = segmenter  # As flax's modules are.
    return _mapped_step(hashable, boundaries, views)


@functools.lru_cache(maxsize=4)
def _mapped_step(segmenter, boundaries, views):
    fixed = {"segmenter": segmenter, "boundaries": boundaries, "views": views}
    return devices.map_eval_step(functools.partial(logits_step, **fixed), rows=True)


def _adversary(config, workdir, trained, examples):
    """(`adversary_step` over all devices, the adversary's parameters) of a run.

    The step is None where all images are smaller than what the adversary sees at once.
    """
    setup = experiment.build(config, len(trained.class_names)).setup
    assert setup.adversary is not None
    stride, largest = trained.segmenter.stride, int(examples.sizes.min(1).max())
    least = setup.adversary.least_cells * stride
    if -(-largest // stride) * stride < least:
        if jax.process_index() == 0:
            logging.warning(
                "the adversary is not measured: without padding (config.adversary.padding) it sees "
                "%d pixels at once, more than any image has",
                least,
            )
        return None, {}
    with Checkpoints(Workdir(workdir), to_read=True) as checkpoints:
        params = checkpoints.restore_player(ADVERSARY, trained.step)
    return _mapped_adversary_step(trained.segmenter, setup.adversary, setup.encode), params


@functools.lru_cache(maxsize=4)
def _mapped_adversary_step(segmenter, adversary, encode):
    fixed = {"segmenter": segmenter, "adversary": adversary, "encode": encode}
    return devices.map_eval_step(functools.partial(adversary_step, **fixed))


def boundaries_of(config: ConfigDict, examples: Split) -> Boundaries:
    """How the measures of structure are taken of a split."""
    return Boundaries.of(examples.sizes, first=0 if config.evaluate.bf_background else 1)


def accumulate(
    step: Callable,
    params: Any,
    examples: Split,
    zeros: Any,
    batch_size: int,
    canvas: tuple[int, int] | None = None,
    what: str = "",
) -> Any:
    """Totals over a split, whatever the batch size and number of devices.

    Args:
        step: of `devices.map_eval_step`.
        params: replicated.
        examples: the split.
        zeros: the totals before the first batch, or a tree of totals.
        batch_size: images per step, over all devices; rounded up to a multiple of their number, and
            fewer where so many have more pixels than can be counted at once.
        canvas: (height, width) in pixels; that of the split if not given.
        what: what is being done, for a bar on the terminal; none if empty.

    Raises:
        InputError: one image for each device has more pixels than can be counted.
    """
    canvas, count = canvas or examples.canvas(), jax.device_count()
    batch_size = min(-(-batch_size // count), COUNTER_LIMIT // math.prod(canvas) // count) * count
    if not batch_size:
        raise InputError(
            f"images on a canvas of {canvas[0]}x{canvas[1]} pixels (height x width) are too large "
            f"to be evaluated on {count} devices at once: all together may have {COUNTER_LIMIT:,} "
            "pixels; shrink them (config.data.longest_side), or use fewer devices"
        )
    batches = examples.eval_batches(
        batch_size=batch_size,
        canvas=canvas,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    # Counts are 32-bit on the device: they move to the host before they can overflow.
    until_full = max(1, COUNTER_LIMIT // (batch_size * math.prod(canvas)))
    sums = jax.tree.map(
        lambda x: np.zeros(x.shape, np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64),
        zeros,
    )
    totals, held = None, 0
    with progress.bar(what, len(examples.ids)) as bar:
        for batch in map(devices.shard, batches):
            # One is on its way while the devices are at another, no more: they would fill the
            # memory, and on the virtual devices of a CPU each would wait for threads of the others.
            jax.block_until_ready(totals)
            if totals is None:
                totals = devices.replicate(zeros)
            totals = step(params, totals, batch)
            held += 1
            if held == until_full:
                sums, totals, held = _add(sums, totals), None, 0
            if not bar.disable:  # It shows what is done, not what the devices are yet to do.
                jax.block_until_ready(totals)
            bar.update(min(batch_size, bar.total - bar.n))
        return _add(sums, totals) if held else sums


def _add(sums, totals):
    """The sums, and the totals from the device. NumPy's sum of two numbers is no array."""

    def add(x, more):
        return np.asarray(x + np.asarray(more, x.dtype))

    return jax.tree.map(add, sums, jax.device_get(totals))


def check_measured(totals: Sums, split: str) -> None:
    """Raises an InputError if no pixel of a split had a label."""
    if not totals["confusion"].any():
        raise InputError(f"the split {split!r} has no labels to evaluate against")


def summarize(totals: Sums, class_names: Sequence[str]) -> dict[str, Any]:
    """Measures of `accumulate`'s totals, ready for JSON: NaN becomes None."""

    def by_class(values):
        return dict(zip(class_names, map(float, values), strict=True))

    result: dict[str, Any] = confusion.measures(totals["confusion"])
    for name in ("mce", "certainty"):
        result[name] = float(totals[name] / max(totals["cells"], 1))
    result |= calibration.measures(totals, int(totals["confusion"].sum()))
    result["iou"] = by_class(result["iou"])
    for name, shares in confusion.shares(totals["confusion"]).items():
        result[name] = by_class(shares)
    if "region_images" in totals:
        result |= structure(totals, by_class)

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return None if math.isnan(value) else value

    return plain(result) | {"confusion": totals["confusion"].tolist()}


def structure(totals: Sums, by_class: Callable) -> dict[str, Any]:
    """The measures of boundaries and regions.

    "mean_bf", "std_bf" over images and "bf" by class; "mean_bf_3_pixels", with a theta of 3 instead
    of 5 pixels; these of the other reading of the image's border as "..._ignoring_border";
    "mean_boundary_iou" and "boundary_iou" by class; means per image, "regions", "specks" of the
    predictions and "regions_true", "specks_true" of the truth.
    """
    result: dict[str, Any] = {}
    for border, suffix in (("outside", ""), ("ignore", "_ignoring_border")):
        found = boundary.measures(totals, f"bf_{border}")
        found["bf"] = by_class(found["bf"])
        result |= {f"{name}{suffix}": value for name, value in found.items()}
        fine = boundary.measures(totals, f"bf_3_pixels_{border}")
        result[f"mean_bf_3_pixels{suffix}"] = fine["mean_bf"]
    result |= boundary_iou.measures(totals)
    result["boundary_iou"] = by_class(result["boundary_iou"])
    return result | regions.measures(totals)
