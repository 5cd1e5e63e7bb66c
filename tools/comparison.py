"""What several seeds say: mean and spread of each arm, and the paired difference between two.

Runs of two arms with the same seed start from the same segmenter and see the same images, so their
difference is a pair: what the seed does to both cancels in it, and fewer seeds tell more.

A row is a dict with ``arm``, ``seed``, ``split`` and the fractions of ``MEASURES``, None where a
measure is not defined; ``runs.results`` makes them.
"""

import statistics

import numpy as np
from scipy import special

from segadv_jax.measures import MEASURES, percent, title

CONFIDENCE = 0.95
RESAMPLES = 10_000
RESAMPLING_SEED = 0


def t_interval(values, confidence=CONFIDENCE):
    """Student's t interval for the mean of normally distributed values: (low, high).

    Args:
        values: list of float; the mean of fewer than two has no interval, and the result is None.
        confidence: probability, 0 to 1, with which such an interval holds the true mean.
    """
    if len(values) < 2:
        return None
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    reach = error * float(special.stdtrit(len(values) - 1, (1 + confidence) / 2))
    return mean - reach, mean + reach


def bootstrap_interval(values, confidence=CONFIDENCE, resamples=RESAMPLES, seed=RESAMPLING_SEED):
    """Percentile bootstrap interval for the mean of values of any distribution: (low, high).

    It takes the sample for the population, and so is too narrow for few values: under five or so
    believe ``t_interval``.

    Args:
        values: list of float; the mean of fewer than two has no interval, and the result is None.
        confidence: as in ``t_interval``.
        resamples: how often as many values are drawn from ``values`` with replacement.
        seed: of the drawing.
    """
    if len(values) < 2:
        return None
    values = np.asarray(values)
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    # From the first value on, so that equal values have equal means to the last bit.
    means = values[0] + (values - values[0])[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def spread(rows, measures=MEASURES):
    """Mean and standard deviation (n - 1 in the denominator) of one arm over its seeds.

    Returns:
        {"split": names joined by ", ", "seeds": [int], measure: {"mean", "std": fraction or None
        where there are too few values}}.
    """
    result = {"split": ", ".join(sorted({row["split"] for row in rows}))}
    result["seeds"] = sorted(row["seed"] for row in rows)
    for measure in measures:
        values = [row[measure] for row in rows if row[measure] is not None]
        result[measure] = {
            "mean": statistics.mean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    return result


def compare(rows, arm, other):
    """The paired difference ``arm`` - ``other`` over the seeds that both have finished.

    Args:
        rows: of any arms; a pair is of one seed and one split.
        arm, other: names.

    Returns:
        {"arms": [arm, other], "seeds": [int], measure: {"differences": {seed: fraction}, "mean":
        fraction, "t_interval", "bootstrap_interval": (low, high)}}, None for what too few seeds
        leave open.
    """
    ours, theirs = (
        {(row["seed"], row["split"]): row for row in rows if row["arm"] == name}
        for name in (arm, other)
    )
    places = sorted(ours.keys() & theirs.keys())
    result = {"arms": [arm, other], "seeds": [seed for seed, _ in places]}
    for measure in MEASURES:
        pairs = {place[0]: (ours[place][measure], theirs[place][measure]) for place in places}
        differences = {seed: a - b for seed, (a, b) in pairs.items() if None not in (a, b)}
        values = list(differences.values())
        result[measure] = {
            "differences": differences,
            "mean": statistics.mean(values) if values else None,
            "t_interval": t_interval(values),
            "bootstrap_interval": bootstrap_interval(values),
        }
    return result


def summarize(rows, arms, pairs=()):
    """All of the above, ready for JSON.

    Args:
        rows: of all arms.
        arms: names, in the order in which they are shown.
        pairs: of names, as (arm, other), to be compared.
    """
    return {
        "arms": {arm: spread([row for row in rows if row["arm"] == arm]) for arm in arms},
        "comparisons": [compare(rows, *pair) for pair in pairs],
        "confidence": CONFIDENCE,
        "bootstrap": {
            "method": "percentile",
            "resamples": RESAMPLES,
            "seed": RESAMPLING_SEED,
        },
    }


def table(summary):
    """A summary of ``summarize`` as text, in percent; a dash stands for what is not known yet."""
    arms = summary["arms"]
    wide = max(len(name) for name in (*arms, "bootstrap interval"))
    split = max([len(arm["split"]) for arm in arms.values()] + [5])

    def line(name, on, seeds, cells):
        return f"{name:<{wide}}  {on:<{split}}  {seeds:>5}" + "".join(f"{c:>18}" for c in cells)

    titles = [title(measure) for measure in MEASURES]
    lines = [line("in %, mean +- std", "split", "seeds", titles)]
    for name, arm in arms.items():
        cells = [
            f"{percent(arm[m]['mean'], '.2f')} +- {percent(arm[m]['std'], '.2f')}" for m in MEASURES
        ]
        lines.append(line(name, arm["split"] or "-", len(arm["seeds"]), cells))
    for pair in summary["comparisons"]:
        measures = [pair[measure] for measure in MEASURES]
        lines += ["", line(" - ".join(pair["arms"]), "", len(pair["seeds"]), titles)]
        means = [percent(measure["mean"], "+.2f") for measure in measures]
        lines.append(line("mean difference", "", "", means))
        for kind, name in (("t", "Student's t"), ("bootstrap", "bootstrap")):
            intervals = [measure[f"{kind}_interval"] or [None] for measure in measures]
            cells = [" to ".join(percent(end, "+.2f") for end in ends) for ends in intervals]
            lines.append(line(f"{summary['confidence']:.0%} {name}", "", "", cells))
        by_seed = pair["mean_iou"]["differences"].items()
        by_seed = ", ".join(f"{seed}: {percent(value, '+.2f')}" for seed, value in by_seed)
        lines.append(f"mean IoU by seed   {by_seed or '-'}")
    if summary["comparisons"]:
        how = summary["bootstrap"]
        how = f"{how['method']}s of {how['resamples']:,} resamples, seed {how['seed']}"
        lines += ["", f"bootstrap: {how}"]
    return "\n".join(lines)
