"""Markdown: tables, and figures as text, in the same way on every page. Figures are in percent."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segadv_jax.metrics.names import percent

_NUMBER = re.compile(r"[-+]?\d|-$")


def join(*parts: str) -> str:
    """Paragraphs, tables and headings below each other; empty ones are left out."""
    return "\n\n".join(filter(None, parts))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; its columns of numbers are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    rules = ["---:" if _is_numeric([row[i] for row in cells]) else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[*head], rules, *cells])


def _is_numeric(column: Iterable[str]) -> bool:
    filled = [cell for cell in column if cell]
    return bool(filled) and all(map(_NUMBER.match, filled))


def mean_std(spread: Mapping[str, float | None], form: str = ".2f") -> str:
    """ "51.30 ± 0.42" of "mean" and "std"; the deviation is left out where it is None."""
    both = [spread["mean"]] if spread["std"] is None else [spread["mean"], spread["std"]]
    return " ± ".join(percent(figure, form) for figure in both)


def interval(ends: Sequence[float] | None, form: str = "+.2f") -> str:
    """ "-1.96 to +0.09"; a dash where there is none."""
    return "-" if ends is None else " to ".join(percent(end, form) for end in ends)


def by_seed(differences: Mapping[int, float], form: str = "+.2f") -> str:
    """ "0: -0.17, 1: +0.31"."""
    return ", ".join(f"{seed}: {percent(value, form)}" for seed, value in differences.items())
