"""`python -m mlpwf.dynamics.reference`: write what is generated from the observables.

The lists of tables, figures and columns in docs/analyse.md, and the results in workflow/rules/analyse.smk, each
between two marker lines. A test fails when one is stale.
"""

from __future__ import annotations

from pathlib import Path

from mlpwf.dynamics import registry
from mlpwf.dynamics.observable import STANDARD_ERROR, Column, Table
from mlpwf.errors import DataError
from mlpwf.files import write_text

STATE_KEY = {
    "state": Column("", "name of the state"),
    "temperature_kelvin": Column("K", "temperature of the state"),
    "ensemble": Column("", "ensemble of its runs: nve, nvt or npt; not known"),
}
STUDY_KEY = {"ensembles": Column("", "ensembles of the states")}


def tables() -> list[str]:
    """What a row of each table is for, as a table of Markdown."""
    rows = ["| table | a row for each | of |", "| --- | --- | --- |"]
    for name, parts in registry.tables().items():
        titles = [one.title for one in registry.observables().values() if any(t.name == name for t in one.tables)]
        each = parts[0].each if parts[0].across or name == "states" else f"state, {parts[0].each}"
        rows.append(f"| `{name}.csv` | {each} | {'; '.join(titles)} |")
    return rows


def figures() -> list[str]:
    """What each figure shows, as a table of Markdown."""
    rows = ["| figure | what it shows |", "| --- | --- |"]
    return rows + [f"| `{name}` | {_escaped(figure.caption)} |" for name, figure in registry.figures().items()]


def columns() -> list[str]:
    """Unit, definition and source of each column, a table of Markdown for each table; standard errors in one line."""
    lines = [f"Columns with `_error` in their name: {registry.ERRORS}."]
    for name, parts in registry.tables().items():
        lines += ["", f"### `{name}.csv`", "", *_columns(parts)]
    lines += ["", "### Named values", "", "| value | meaning |", "| --- | --- |"]
    for observable in registry.observables().values():
        lines += [f"| `{name}` | {_escaped(meaning)} |" for name, meaning in observable.names.items()]
    return lines


def _columns(parts: list[Table]) -> list[str]:
    rows = ["| column | unit | what it is | source |", "| --- | --- | --- | --- |"]
    every = dict(STUDY_KEY if parts[0].across else STATE_KEY)
    for part in parts:
        every |= part.columns
    for name, column in every.items():
        if column.definition != STANDARD_ERROR:
            source = f"[{column.source}](https://doi.org/{column.source})" if column.source else ""
            rows.append(f"| `{name}` | {column.unit} | {_escaped(column.definition)} | {source} |")
    return rows


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def results() -> list[str]:
    """The names of the tables, as lines of the rule."""
    return [f'                "{name}",' for name in registry.tables()]


def between(text: str, name: str, lines: list[str], path: Path) -> str:
    """A text with the lines between the two lines that hold `NAME: begin` and `NAME: end` replaced.

    Raises
    ------
    DataError
        If either marker is not there exactly once.
    """
    old = text.split("\n")
    marks = [[k for k, line in enumerate(old) if f"{name}: {word}" in line] for word in ("begin", "end")]
    if [len(mark) for mark in marks] != [1, 1]:
        raise DataError(f"{path}: {len(marks[0])} lines hold '{name}: begin' and {len(marks[1])} its end; expected one")
    (first,), (last,) = marks
    return "\n".join([*old[: first + 1], *lines, *old[last:]])


def documents(root: Path) -> dict[str, str]:
    """Content of each generated file below the project's root, by its path from there."""
    generated = {
        "docs/analyse.md": {
            "tables": ["", *tables(), ""], "figures": ["", *figures(), ""], "columns": ["", *columns(), ""]
        },
        "workflow/rules/analyse.smk": {"tables": results()},
    }  # fmt: skip
    found = {}
    for path, parts in generated.items():
        text = (root / path).read_text()
        for name, lines in parts.items():
            text = between(text, name, lines, root / path)
        found[path] = text
    return found


def main() -> None:
    """Write the generated files below the project's root."""
    root = Path(__file__).parents[3]
    for path, content in documents(root).items():
        write_text(root / path, content)


if __name__ == "__main__":
    main()
