"""Corrections of a trained segmenter's logits, chosen on validation images; nothing is trained."""

import functools
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from segadv_jax import class_balance, devices, evaluate, predictor
from segadv_jax.eval_step import corrections_step, zero_totals


def choose_prior_shift(
    config: ConfigDict, workdir: str, split: str, alphas: Sequence[float]
) -> tuple[float, list[dict[str, Any]]]:
    """Evaluates several `config.evaluate.prior_shift` with one pass of the network per image.

    No measures are written. To be chosen on validation images, as any other setting.

    Returns:
        (the one with the highest mean IoU, of equal ones the first, and each one's measures as
        `evaluate.evaluate` returns them, without those of structure and of the adversary).

    Raises:
        InputError: as `evaluate.evaluate`.
    """
    trained = predictor.load(config, workdir)
    counts = predictor.count_cells(config, trained.data_set, trained.segmenter)
    shifts = {alpha: class_balance.prior_shift(counts, alpha) for alpha in alphas}
    views = {alpha: trained.views._replace(shift=shift) for alpha, shift in shifts.items()}
    results = _correct(config, trained, split, "prior_shift", views)
    return max(results, key=lambda result: result["mean_iou"])["prior_shift"], results


def choose_temperature(
    config: ConfigDict, workdir: str, split: str, temperatures: Sequence[float]
) -> tuple[float, list[dict[str, Any]]]:
    """`choose_prior_shift` for `config.evaluate.temperature`: that with the least "nll".

    Which Guo et al. (2017, Section 4.2) choose by, too.
    """
    trained = predictor.load(config, workdir)
    views = {value: trained.views._replace(temperature=value) for value in temperatures}
    results = _correct(config, trained, split, "temperature", views)
    return min(results, key=lambda result: result["nll"])["temperature"], results


def _correct(config, trained, split, field, views):
    """The measures with each of {value of the field: views}."""
    step = functools.partial(corrections_step, segmenter=trained.segmenter, views=views)
    examples, class_names = trained.data_set.read(split), trained.class_names
    totals = evaluate.accumulate(
        devices.map_eval_step(step),
        devices.replicate(trained.params),
        examples,
        {value: zero_totals(len(class_names)) for value in views},
        config.evaluate.batch_size,
        what=f"evaluating {split}",
    )
    results = []
    for value in views:
        evaluate.check_measured(totals[value], split)
        of_run = {field: value, "step": trained.step, "images": len(examples.ids)}
        results.append(evaluate.summarize(totals[value], class_names) | of_run)
    return results
