"""Pages that are made of the program itself: its commands, the measured tables, the API."""

import csv
import os
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from mlpwf import cli

PROJECT = Path(__file__).parents[1]
BENCHMARKS, SOURCE = PROJECT / "benchmarks", PROJECT / "src"
ELSEWHERE = {SOURCE / "mlpwf/potentials/mace/worker.py"}
"""Runs where PyTorch is, and cannot be imported here."""
LONGEST = 200  # rows; a longer table is a file to take, not to read


def commands():
    """Every command with its options, from the program itself."""
    cli._register()
    command = typer.main.get_command(cli.app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="mlpwf", title="Commands")
    return text.replace("**Usage**:", "Usage:").replace("**Options**:", "Options:")


def cell(text):
    """Text that stays in its cell of a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def tables():
    """Every table that a benchmark wrote, as it stands in `benchmarks/`."""
    lines = [
        "# Measured tables",
        "",
        "Each table is the file that a script in `benchmarks/` wrote. The pages of this site quote these numbers.",
        "",
    ]
    for path in sorted(BENCHMARKS.rglob("*.csv")):
        name = path.relative_to(BENCHMARKS.parent).as_posix()
        up = os.path.relpath(path, Path(__file__).parent / "generated")
        with path.open(newline="") as source:
            header, *rows = csv.reader(source)
        lines += [f"## {name}", "", f"{len(rows)} rows: [{path.name}]({up})", ""]
        if len(rows) <= LONGEST:
            shown = [" | ".join(map(cell, row)) for row in (header, ["---"] * len(header), *rows)]
            lines += [*(f"| {row} |" for row in shown), ""]
    return "\n".join(lines)


def modules():
    """Modules of the program by room: the folder below `mlpwf`, `ground` for its files, or the executor plugin."""
    rooms = {}
    for path in sorted(set(SOURCE.rglob("*.py")) - ELSEWHERE):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if name.endswith("__main__"):
            continue
        room = "executor" if parts[0] != "mlpwf" else parts[1] if len(parts) > 2 else "ground"
        rooms.setdefault(room, []).append(name)
    return rooms


def api(room, names):
    """The page of a room: its modules by their docstrings."""
    parts = [f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in names]
    return "\n".join([f"# {room}\n", *parts])


def write_pages(folder):
    """Write every generated page; one that is the same stays as it is."""
    pages = {"commands.md": commands(), "tables.md": tables()}
    pages |= {f"api/{room}.md": api(room, names) for room, names in modules().items()}
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
