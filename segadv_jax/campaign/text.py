"""Tables as text."""

import itertools
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligns the cells of rows in columns.

    Args:
        rows: the cells of each row. A row of a single cell is a line of its own, as an empty line
            between two groups is, and takes no part in the alignment.
        left: how many columns are aligned at the left; the others are at the right.
    """
    aligned = [row for row in rows if len(row) > 1]
    columns = itertools.zip_longest(*aligned, fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = row
        if len(row) > 1:
            cells = [
                f"{cell:<{wide}}" if i < left else f"{cell:>{wide}}"
                for i, (cell, wide) in enumerate(zip(row, widths, strict=False))
            ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
