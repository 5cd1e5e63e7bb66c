"""The figures of a benchmark as text."""

from collections.abc import Mapping
from typing import Any

from segadv_jax.campaign import text

_SPREAD = ("median", "min", "max")
_COST = ("compile_seconds", "gflop", "temporary_mib")


def render(result: Mapping[str, Any]) -> str:
    """The table of each network's figures, and the rates of the input pipelines.

    Args:
        result: {"networks": {name: as `measure.measure` returns it}, "pipeline": as
            `pipelines.measure` returns it}.
    """
    blocks = [_network(*item) for item in result["networks"].items()]
    speeds = result["pipeline"].items()
    lines = [f"input pipeline alone, {name}: {s['median']:.0f} images/s" for name, s in speeds]
    return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else [])])


def _network(network, figures):
    """The table of one network."""
    titles = [network, "images/s", "min", "max", "compile s", "GFLOP/step", "temporary MiB"]
    for name in figures["peers"]:
        titles += [f"torch {name}", "ratio", "min", "max"]
    rows = [titles]
    for kind, row in figures["rows"].items():
        cells = [kind, *_numbers(row["images_per_second"], _SPREAD, ".2f")]
        cells += _numbers(row, _COST, ".1f")
        for name in figures["peers"]:
            cells += _numbers(figures["peers"][name].get(kind, {}), _SPREAD[:1], ".2f")
            cells += _numbers(figures["ratios"][name].get(kind, {}), _SPREAD, ".2f")
        rows.append(cells)
    memory = ", ".join(f"{name} {mib:.0f}" for name, mib in figures["peak_mib"].items())
    return text.table([*rows, [f"peak memory in MiB: {memory}"]])


def _numbers(values, names, form):
    """The values of `names`, a dash where there is none."""
    return ["-" if values.get(name) is None else format(values[name], form) for name in names]
