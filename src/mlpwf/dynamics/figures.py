"""Figures of the dynamics of a liquid, from the tables of `mlpwf analyse`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mlpwf.dynamics import registry
from mlpwf.dynamics.columns import Reader, Tables
from mlpwf.figures import Panel, lines, rows
from mlpwf.files import replacing, write_text


def figures(tables: Tables) -> dict[str, list[Panel]]:
    """Panels of every figure that the tables allow, by its name."""
    reader = Reader(tables)
    made = {name: figure.panels(reader) for name, figure in registry.figures().items()}
    return {name: panels for name, panels in made.items() if panels}


def write_figures(tables: Tables, folder: Path) -> dict[str, str]:
    """Write each figure as PNG and SVG, and the numbers drawn as CSV; return captions by file name."""
    every, written = registry.figures(), {}
    for name, panels in figures(tables).items():
        figure = lines(panels, columns=2, height=every[name].height)
        for kind in ("png", "svg"):
            with replacing(folder / f"{name}.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=150, facecolor="white")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows(panels))
        write_text(folder / f"{name}.csv", text.getvalue())
        written[f"{name}.png"] = every[name].caption
    return written
