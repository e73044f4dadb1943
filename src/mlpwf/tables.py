"""Tables: as lines of text whose columns cannot touch, and as read from CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpwf.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]


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


def read_columns(path: Path, needs: Sequence[str] = ()) -> Columns:
    """Columns of a CSV by name: numbers (an empty field is NaN) or, failing that, text.

    Raises
    ------
    DataError
        If the file has no header, rows of another length, or lacks a column of `needs`.
    """
    import numpy as np

    try:
        with path.open(newline="") as handle:
            header, *body = csv.reader(line for line in handle if not line.startswith("#"))
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file ({error}); delete it and run its stage again") from None
    absent = [name for name in needs if name not in header]
    if absent:
        found = ", ".join(header)
        raise DataError(f"{path}: no column {absent[0]}; found {found}; delete it and run its stage again")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            message = f"{path}: line {number} has {len(row)} fields; expected {len(header)}"
            raise DataError(f"{message}; delete it and run its stage again")
    columns: dict[str, NDArray[Any]] = {}
    for name, cells in zip(header, zip(*body, strict=True) if body else [()] * len(header), strict=True):
        try:
            columns[name] = np.array([cell or "nan" for cell in cells], dtype=np.float64)
        except ValueError:
            columns[name] = np.array(cells, dtype=np.str_)
    return columns
