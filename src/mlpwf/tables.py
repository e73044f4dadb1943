"""Tables as lines of text, whose columns cannot touch whatever is in them."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], align: str = "") -> list[str]:
    """Rows as lines, columns as wide as their widest cell and two blanks apart.

    Parameters
    ----------
    rows
        Cells of each row, as many in each.
    align
        `<` (left) or `>` (right) of each column; columns beyond its end are left-aligned.
    """
    sides = align.ljust(len(rows[0]), "<")
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
