"""The learning curve that a training writes as it goes: `# step rmse_f …`, then a line of numbers for each point."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mlpwf.errors import EngineError


def read_curve(source: Path) -> tuple[list[str], list[list[float]]]:
    """Header and rows of lcurve.out; a row cut short is left out, of a step found twice the last stays."""
    header: list[str] = []
    rows: dict[float, list[float]] = {}
    for line in source.read_text(errors="replace").splitlines():
        words = line.split()
        if line.startswith("#"):
            if "step" in words:
                header = words[1:]
            continue
        if header and len(words) == len(header):
            row = [float(word) for word in words]
            rows[row[0]] = row
    return header, [rows[step] for step in sorted(rows)]


def curve_csv(source: Path) -> str:
    """lcurve.out as CSV, columns named as in its header.

    Raises
    ------
    EngineError
        If the file is missing, empty or holds a value that is not finite.
    """
    if not source.is_file():
        raise EngineError(f"{source}: no such file; expected the learning curve of the training")
    header, rows = read_curve(source)
    if not rows or not np.isfinite(rows).all():
        found = "not finite" if rows else "empty"
        raise EngineError(f"{source}: the learning curve is {found}; lower train.learning_rate or check the labels")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[int(row[0]), *row[1:]] for row in rows])
    return text.getvalue()


@contextmanager
def followed(curve: Path, steps: int, progress: Callable[[int, float], None] | None) -> Iterator[None]:
    """Report from a growing lcurve.out while the block runs."""
    done = threading.Event()

    def follow(reported: int = 0) -> None:
        while not done.wait(1.0):
            header, rows = read_curve(curve) if curve.is_file() else ([], [])
            column = next((i for i, name in enumerate(header) if name.startswith("rmse_f")), None)
            if progress and rows and column is not None and 5 * int(rows[-1][0]) // steps > reported:
                reported = 5 * int(rows[-1][0]) // steps
                progress(int(rows[-1][0]), rows[-1][column])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
