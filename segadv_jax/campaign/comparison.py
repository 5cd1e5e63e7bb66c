"""What several seeds say: mean and spread of each arm, and the paired difference between two.

Runs of two arms with the same seed start from the same segmenter and see the same images, so their
difference is a pair: what the seed does to both cancels in it, and fewer seeds tell more.

A row is a dict with `arm`, `seed`, `split` and the fractions of `PAPER_MEASURES`, None where a
measure is not defined; `runs.results` makes them. What too few seeds leave open is None.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from segadv_jax.campaign import text
from segadv_jax.metrics.names import PAPER_MEASURES, percent, title

CONFIDENCE = 0.95
RESAMPLES = 10_000
RESAMPLING_SEED = 0

Row = Mapping[str, Any]


def intervals(values: Sequence[float]) -> dict[str, tuple[float, ...] | None]:
    """Two intervals for the mean, (low, high), that hold the true one in `CONFIDENCE` of cases.

    "t_interval" is Student's, of normally distributed values. "bootstrap_interval", of percentiles,
    is for any distribution; it takes the sample for the population, and so is too narrow for few
    values: for fewer than about five, trust the other.
    """
    if len(set(values)) < 2:  # SciPy has none for equal values.
        equal = (values[0], values[0]) if len(values) > 1 else None
        return {"t_interval": equal, "bootstrap_interval": equal}
    bootstrap = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        method="percentile",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(RESAMPLING_SEED),
    ).confidence_interval
    low, high = map(float, bootstrap)
    return {"t_interval": t_test(values)["t_interval"], "bootstrap_interval": (low, high)}


def t_test(values: Sequence[float]) -> dict[str, Any]:
    """Student's test of a mean of 0: {"t_interval": as in `intervals`, "p": two-sided}.

    Both are None for fewer than two values.
    """
    if len(values) < 2:
        return {"t_interval": None, "p": None}
    if len(set(values)) == 1:
        return {"t_interval": (values[0], values[0]), "p": 1.0 if values[0] == 0 else 0.0}
    # Not stats.ttest_1samp, which warns where values differ in their last bits only.
    mean, error, freedom = statistics.mean(values), stats.sem(values), len(values) - 1
    low, high = stats.t.interval(CONFIDENCE, freedom, loc=mean, scale=error)
    p = 2 * stats.t.sf(abs(mean) / error, freedom)
    return {"t_interval": (float(low), float(high)), "p": float(p)}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number: below 0.05, one of them is due to chance in 5 % at most.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6, 1979. What is not known yet, None, counts as one of them, and stays None.
    """
    corrected: list[float | None] = [None] * len(p_values)
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[place] = largest
    return corrected


def spread(rows: Iterable[Row], measures: Iterable[str] = PAPER_MEASURES) -> dict[str, Any]:
    """Mean and standard deviation (n - 1 in the denominator) of one arm over its seeds.

    Returns:
        {"split": names joined by ", ", "seeds": [int], measure: {"mean", "std": fraction}}.
    """
    rows = list(rows)
    result: dict[str, Any] = {"split": ", ".join(sorted({row["split"] for row in rows}))}
    result["seeds"] = sorted(row["seed"] for row in rows)
    for measure in measures:
        values = [row[measure] for row in rows if row.get(measure) is not None]
        result[measure] = {
            "mean": statistics.mean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    return result


def paired(
    rows: Iterable[Row], arm: str, other: str, measures: Iterable[str] = PAPER_MEASURES
) -> tuple[list[int], dict[str, dict[int, float]]]:
    """The differences `arm` - `other` for the seeds that both have finished on one split.

    Returns:
        (the seeds, {measure: {seed: difference}}, without the seeds whose measure is None).
    """
    rows = list(rows)
    ours, theirs = (
        {(row["seed"], row["split"]): row for row in rows if row["arm"] == name}
        for name in (arm, other)
    )
    both = sorted(ours.keys() & theirs.keys())
    result = {}
    for measure in measures:
        pairs = {key[0]: (ours[key][measure], theirs[key][measure]) for key in both}
        result[measure] = {seed: a - b for seed, (a, b) in pairs.items() if None not in (a, b)}
    return [seed for seed, _ in both], result


def compare(rows: Iterable[Row], arm: str, other: str) -> dict[str, Any]:
    """The paired difference `arm` - `other` over the seeds that both have finished on one split.

    Returns:
        {"arms": [arm, other], "seeds": [int], measure: {"differences": {seed: fraction}, "mean":
        fraction, "t_interval", "bootstrap_interval": (low, high)}}.
    """
    seeds, found = paired(rows, arm, other)
    result: dict[str, Any] = {"arms": [arm, other], "seeds": seeds}
    for measure, differences in found.items():
        values = list(differences.values())
        result[measure] = {
            "differences": differences,
            "mean": statistics.mean(values) if values else None,
            **intervals(values),
        }
    return result


def summarize(
    rows: Iterable[Row], arms: Iterable[str], pairs: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    """All of the above, ready for JSON: of the arms in the order given, and of the pairs."""
    rows = list(rows)
    return {
        "arms": {arm: spread(row for row in rows if row["arm"] == arm) for arm in arms},
        "comparisons": [compare(rows, *pair) for pair in pairs],
        "confidence": CONFIDENCE,
        "bootstrap": {"method": "percentile", "resamples": RESAMPLES, "seed": RESAMPLING_SEED},
    }


def table(summary: Mapping[str, Any]) -> str:
    """A summary of `summarize` as text, in percent; a dash stands for what is not known yet."""
    titles = [title(measure) for measure in PAPER_MEASURES]
    lines: list[Sequence[str]] = [("in %, mean +- std", "split", "seeds", *titles)]
    for name, arm in summary["arms"].items():
        cells = [mean_and_std(**arm[measure]) for measure in PAPER_MEASURES]
        lines.append((name, arm["split"] or "-", str(len(arm["seeds"])), *cells))
    for pair in summary["comparisons"]:
        measures = [pair[measure] for measure in PAPER_MEASURES]
        lines += [(), (" - ".join(pair["arms"]), "", str(len(pair["seeds"])), *titles)]
        means = [percent(measure["mean"], "+.2f") for measure in measures]
        lines.append(("mean difference", "", "", *means))
        for kind, name in (("t", "Student's t"), ("bootstrap", "bootstrap")):
            intervals = [measure[f"{kind}_interval"] or [None] for measure in measures]
            cells = [" to ".join(percent(end, "+.2f") for end in ends) for ends in intervals]
            lines.append((f"{summary['confidence']:.0%} {name}", "", "", *cells))
        differences = pair["mean_iou"]["differences"].items()
        by_seed = ", ".join(f"{seed}: {percent(value, '+.2f')}" for seed, value in differences)
        lines.append((f"mean IoU by seed: {by_seed or '-'}",))
    if summary["comparisons"]:
        how = f"bootstrap: percentiles of {RESAMPLES:,} resamples, seed {RESAMPLING_SEED}"
        lines += [(), (how,)]
    return text.table(lines, left=2)


def mean_and_std(mean: float | None, std: float | None) -> str:
    """A cell of a table, in percent."""
    return f"{percent(mean, '.2f')} +- {percent(std, '.2f')}"
