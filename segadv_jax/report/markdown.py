"""Markdown: tables, and figures as text, in the same way on every page. Figures are in percent."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segadv_jax.metrics.names import percent

_NUMBER = re.compile(r"[-+]?\d|-$")


def join(*parts: str) -> str:
    """Paragraphs, tables and headings below each other; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; its columns of numbers are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    columns = zip(*cells, strict=True) if cells else [()] * len(head)
    rules = ["---:" if _is_numeric(column) else "---" for column in columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[*head], rules, *cells])


def _is_numeric(column: Iterable[str]) -> bool:
    filled = [cell for cell in column if cell]
    return bool(filled) and all(_NUMBER.match(cell) for cell in filled)


def mean_std(spread: Mapping[str, float | None], form: str = ".2f") -> str:
    """ "51.30 ± 0.42"; the deviation is left out where there is none.

    Args:
        spread: "mean" and "std", each a fraction or None.
        form: of both.
    """
    if spread["std"] is None:
        return percent(spread["mean"], form)
    return f"{percent(spread['mean'], form)} ± {percent(spread['std'], form)}"


def interval(ends: Sequence[float] | None, form: str = "+.2f") -> str:
    """ "-1.96 to +0.09"; a dash where there is none."""
    return "-" if ends is None else " to ".join(percent(end, form) for end in ends)


def by_seed(differences: Mapping[int, float], form: str = "+.2f") -> str:
    """ "0: -0.17, 1: +0.31"."""
    return ", ".join(f"{seed}: {percent(value, form)}" for seed, value in differences.items())
