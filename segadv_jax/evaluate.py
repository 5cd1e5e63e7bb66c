"""One pass over a split: every image once, at its native resolution."""

import json
import math
import os

import jax
import numpy as np
from absl import logging

from segadv_jax import checkpoints, experiment, measures, steps
from segadv_jax.data import pipeline
from segadv_jax.errors import InputError
from segadv_jax.metrics import boundary, confusion

COUNTER_LIMIT = 2**31 - 1  # Of the 32-bit counters on the device.


def evaluate(config, workdir, split=None):
    """Evaluates the checkpoint that the validation selected, and writes ``eval/<split>.json``.

    Averages over flips and scales go to a file of their own, as ``eval/<split>_flip.json``;
    cross-entropy and certainty are those of the image as it is.

    Args:
        config: of a run that was trained in ``workdir``.
        workdir: folder of the run.
        split: name of the split; None takes ``config.evaluate.split``.

    Returns:
        {"pixel_accuracy", "class_accuracy", "mean_iou", "mce", "certainty": float, "iou": {class
        name: float or None where the class does not occur}, "step", "images": int}. Cross-entropy
        and certainty, the highest class probability, are means over label cells. With
        ``config.evaluate.bf`` also "mean_bf", "std_bf" over images and "bf" by class, the same of
        the other reading of the image's border as "..._ignoring_border", and "bf_theta", theta as
        a part of the image's diagonal. If the run has an adversary, also "accuracy_real" and
        "accuracy_synthetic", how often it is right.

    Raises:
        InputError: the workdir has no checkpoint, or one of another architecture.
    """
    experiment.check_numbers(config)
    split = split or config.evaluate.split
    data_set = experiment.load_data(config)
    segmenter, params, step = restore_best(config, workdir, data_set)
    segmenter = experiment.in_tiles(segmenter, config.evaluate.tile)
    examples = pipeline.read_split(data_set.builder, split)
    num_classes, canvas = len(data_set.class_names), examples.canvas()
    bounds = None
    if config.evaluate.bf:
        smallest = boundary.smallest_diagonal(examples.sizes)
        radius = boundary.largest_radius(examples.sizes, smallest)
        first = 0 if config.evaluate.bf_background else 1
        bounds = {"smallest": smallest, "radius": radius, "first": first}
    eval_step = steps.parallel_eval_step(
        segmenter=segmenter,
        boundary=bounds,
        flip=config.evaluate.flip,
        scales=tuple(config.evaluate.scales),
    )
    zeros = steps.zero_totals(num_classes, boundary=config.evaluate.bf)
    batch_size = config.evaluate.batch_size
    totals = run(eval_step, steps.replicate(params), examples, zeros, batch_size, canvas)
    if not totals["confusion"].any():
        raise InputError(f"the split {split!r} has no labels to evaluate against")
    result = summarize(totals, data_set.class_names)
    if bounds:
        result["bf_theta"] = boundary.PIXELS / math.sqrt(bounds["smallest"])
    result |= judge(config, workdir, step, segmenter, params, examples, num_classes)
    result |= {"step": step, "images": len(examples.ids)}
    if jax.process_index() == 0:
        views = [f"scale_{scale:g}" for scale in config.evaluate.scales]
        views = ["flip"] * config.evaluate.flip + (views if views != ["scale_1"] else [])
        # Other views of the images are another measurement.
        path = write_result(workdir, "_".join([split, *views]), result)
        logging.info("%s, in %%: %s", path, measures.describe(result))
    return result


def judge(config, workdir, step, segmenter, params, examples, num_classes):
    """How often the adversary of a run's step is right on whole images, without augmentation.

    Returns:
        {"accuracy_real", "accuracy_synthetic": float}; empty without an adversary.
    """
    if not step or config.alternation.schedule == "standard":
        return {}
    parts = experiment.build(config, num_classes)
    with checkpoints.open_manager(workdir) as manager:
        adversary = checkpoints.restore_adversary(manager, step)
    judge_step = steps.parallel_eval_step(
        steps.judge_step,
        segmenter=segmenter,
        adversary=parts.adversary,
        encode=parts.step["encode"],
    )
    zeros = {name: np.zeros((), np.float32) for name in ("real", "synthetic", "predictions")}
    both = steps.replicate({"segmenter": params, "adversary": adversary})
    totals = run(judge_step, both, examples, zeros, config.evaluate.batch_size, examples.canvas())
    number = max(totals["predictions"], 1)
    return {f"accuracy_{kind}": float(totals[kind] / number) for kind in ("real", "synthetic")}


def restore_best(config, workdir, data_set):
    """The segmenter of the checkpoint that the validation selected.

    Without any checkpoint it is the one whose weights ``config.init`` is the path of: published
    weights are evaluated without training.

    Returns:
        (module, its parameters as NumPy arrays, the checkpoint's step; 0 without any).

    Raises:
        InputError: the workdir has no checkpoint, or one of another architecture.
    """
    segmenter = experiment.build_segmenter(config, len(data_set.class_names))
    shapes = experiment.shapes(segmenter)
    is_path = config.init not in ("", "scratch") and not config.init.startswith("vgg:")
    fresh = not checkpoints.are_in(workdir)
    if fresh and not is_path:
        raise InputError(
            f"--workdir={workdir} holds no checkpoint; train first, with --mode=train, or set "
            "config.init to the path of a whole network's weights"
        )
    if fresh:
        experiment.check_init(config.init)
        params = experiment.pretrained(config.init, shapes, getattr(segmenter, "padding", None))
        checkpoints.make_workdir(workdir)
    recorded = config.to_dict(), experiment.IDENTITY, experiment.ADDED
    changed = checkpoints.record_config(workdir, *recorded)
    if fresh:
        return segmenter, params, 0
    if is_path and "init" in changed:
        raise InputError(
            f"config.init is {config.init!r}, but --workdir={workdir} holds checkpoints of its "
            "own, which would be evaluated: name another --workdir for these weights"
        )
    with checkpoints.open_manager(workdir) as manager:
        step = manager.best_step()
        if step is not None:
            params = checkpoints.restore_segmenter(manager, shapes, step)
    # Raised within, it would leave the manager's thread behind.
    if step is None:
        raise InputError(
            f"--workdir={workdir} holds no validated checkpoint; train up to a validation"
        )
    return segmenter, params, step


def run(eval_step, params, examples, zeros, batch_size, canvas):
    """Totals over a split, whatever the batch size and number of devices.

    Args:
        eval_step: of ``steps.parallel_eval_step``.
        params: replicated.
        examples: pipeline.Split.
        zeros: the totals before the first batch, {name: number or array}.
        batch_size: images per step, over all devices; rounded up to a multiple of their number.
        canvas: (height, width) in pixels.

    Returns:
        {name: i64 or f64 array of the shape in ``zeros``}.
    """
    batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
    batches = pipeline.eval_batches(
        examples,
        batch_size=batch_size,
        canvas=canvas,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    # Counts are 32-bit on the device: they move to the host before they can overflow.
    until_full = max(1, COUNTER_LIMIT // (batch_size * math.prod(canvas)))
    sums = {
        name: np.zeros(x.shape, np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64)
        for name, x in zeros.items()
    }
    totals, held = None, 0
    for batch in batches:
        if totals is None:
            totals = steps.replicate(zeros)
        totals = eval_step(params, totals, steps.shard(batch))
        held += 1
        if held == until_full:
            sums, totals, held = _add(sums, totals), None, 0
    return _add(sums, totals) if held else sums


def _add(sums, totals):
    return {name: value + np.asarray(totals[name], value.dtype) for name, value in sums.items()}


def summarize(totals, class_names):
    """Measures of ``run``'s totals, ready for JSON: NaN becomes None."""

    def by_class(values):
        return dict(zip(class_names, map(float, values), strict=True))

    result = confusion.measures(totals["confusion"])
    for name in ("mce", "certainty"):
        result[name] = float(totals[name] / max(totals["cells"], 1))
    result["iou"] = by_class(result["iou"])
    for border, suffix in (("outside", ""), ("ignore", "_ignoring_border")):
        if f"bf_{border}_sum" in totals:
            found = boundary.measures(totals, border)
            found["bf"] = by_class(found["bf"])
            result |= {f"{name}{suffix}": value for name, value in found.items()}

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return None if math.isnan(value) else value

    return plain(result)


def write_result(workdir, split, result):
    """Writes ``<workdir>/eval/<split>.json``; returns its path."""
    path = os.path.join(workdir, "eval", f"{split}.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.part", "w") as file:
        json.dump(result, file, indent=2)
    os.replace(f"{path}.part", path)
    return path
