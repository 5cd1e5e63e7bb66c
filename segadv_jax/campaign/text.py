"""Tables as text."""

import itertools
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligns the cells of rows in columns, `left` of them at the left, the others at the right.

    A row of a single cell is a line of its own, as an empty line between two groups is, and takes
    no part in the alignment.
    """
    aligned = [row for row in rows if len(row) > 1]
    columns = itertools.zip_longest(*aligned, fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = list(row)
        for i, wide in enumerate(widths[: len(row)] if len(row) > 1 else ()):
            cells[i] = cells[i].ljust(wide) if i < left else cells[i].rjust(wide)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
