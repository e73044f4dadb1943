"""The part of the page on the production runs: correlators, heterogeneity, laws, activation, equilibrium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlpwf.dynamics import registry
from mlpwf.dynamics.columns import ALL, Reader, cell, lower, quantity_name
from mlpwf.dynamics.figures import figures
from mlpwf.dynamics.observable import Line
from mlpwf.figures import lines, rows
from mlpwf.report.gather import Record
from mlpwf.report.parts import Drawing, Part, Table

if TYPE_CHECKING:
    from mlpwf.tables import Columns


def dynamics(record: Record) -> Part:
    """Correlators and heterogeneity by temperature, laws and energies, states with their verdicts."""
    tables = record.analysis.tables
    every = registry.figures()
    drawings = [
        Drawing(
            name, every[name].caption, partial(lines, panels, columns=2, height=every[name].height), list(rows(panels))
        )
        for name, panels in figures(tables).items()
    ]
    shown = [*_runs(record), *_told(Reader(tables))]
    return Part("dynamics", "Dynamics of the liquid", drawings=drawings, tables=shown, warnings=_warnings(record))


UNKNOWN = 0.5
"""A quantity whose standard error is more than this part of it is not shown as known."""


def activation_energy(tables: Mapping[str, Columns]) -> tuple[str, str]:
    """The headline: E_app of the first correlator that has it at the coldest such state, and what it is."""
    energies = tables.get("energies")
    needed = {
        "quantity",
        "definition",
        "law",
        "temperature_kelvin",
        "energy_kj_mol",
        "energy_error_kj_mol",
        "molecules",
    }
    if energies is None or not needed <= set(energies) or len(energies["quantity"]) == 0:
        return "–", "kJ/mol, not known yet"
    known = np.isfinite(energies["energy_kj_mol"]) & (energies["molecules"] == ALL)
    known &= np.char.startswith(energies["definition"], "E_app(T) =")
    for quantity in dict.fromkeys(energies["quantity"].tolist()):
        mine = np.flatnonzero(known & (energies["quantity"] == quantity))
        if len(mine):
            k = mine[np.argmin(energies["temperature_kelvin"][mine])]
            value, error = float(energies["energy_kj_mol"][k]), float(energies["energy_error_kj_mol"][k])
            if not error <= UNKNOWN * abs(value):
                return "–", "kJ/mol, not known: the runs are too short to tell"
            text = f"{value:#.3g}".rstrip(".") + f" ± {error:.2g}"
            at = f"{float(energies['temperature_kelvin'][k]):g} K"
            return (
                text,
                f"kJ/mol, E_app at {at} by the {energies['law'][k]} law, from {lower(quantity_name(quantity))}",
            )
    return "–", "kJ/mol, too few equilibrated states"


def _warnings(record: Record) -> list[str]:
    """Sentences on the states that blew up, and on those whose molecules broke."""
    remedy = "Explore {} longer, label and train again, then simulate."
    if record.classical:
        remedy = "Look at the force field, or simulate {} with a shorter time step."
    found = [
        f"The run at {s.state} blew up at step {s.end_step}: {s.reason}. "
        f"It has no numbers. {remedy.format('this state')}"
        for s in record.segments
        if not s.stable
    ]
    states = sorted({s.state for s in record.segments if not s.intact}, key=_kelvin)
    if states:
        found.append(
            f"Molecules broke at {', '.join(states)}: the numbers of these states are not the liquid's, and enter no "
            f"fit. {remedy.format('these states')}"
        )
    return found


def _runs(record: Record) -> list[Table]:
    """A row for the run of each state: how long it is, how fast it went, and whether it is to be trusted."""
    names = list(dict.fromkeys(segment.state for segment in record.segments))
    asked = record.sections.simulate.asked_ps
    table = []
    for name in sorted(names, key=_kelvin):
        mine = [segment for segment in record.segments if segment.state == name]
        last, far = mine[-1], f"{max(0.0, mine[-1].end_ps):.4g}"
        table.append(
            (
                name,
                f"{far} of {asked[name]:g}" if name in asked else far,
                "–" if last.ns_per_day is None else f"{last.ns_per_day:.3g}",
                last.ensemble,
                str(last.molecules),
                "yes" if all(segment.intact for segment in mine) else "no",
                "stable" if last.stable else "blew up",
            )
        )
    header = ("state", "length, ps", "ns/day", "ensemble", "molecules", "all whole", "verdict")
    return [Table("Production runs.", header, table)] if table else []


def _kelvin(state: str) -> float:
    try:
        return float(state.removesuffix("K"))
    except ValueError:
        return 0.0


def _told(reader: Reader) -> list[Table]:
    """What the observables tell: the table of states, and tables of their own."""
    tables = [*_states(reader)]
    for observable in registry.observables().values():
        if observable.tell:
            tables += [Table(told.caption, told.header, told.rows) for told in observable.tell(reader)]
    return tables


def _states(reader: Reader) -> list[Table]:
    """The lines of every observable, a column for each state."""
    states = reader.tables.get("states")
    if states is None or len(states["temperature_kelvin"]) == 0:
        return []
    temperatures = states["temperature_kelvin"]
    body: list[tuple[str, ...]] = []
    for observable in registry.observables().values():
        body += _lines(reader, observable.lines, temperatures)
    header = ("quantity", *(f"{t:g} K" for t in temperatures))
    return [Table("States: value ± standard error, and the verdict where it is not ok.", header, body)]


def _lines(reader: Reader, lines: Sequence[Line], temperatures: NDArray[np.float64]) -> list[tuple[str, ...]]:
    """Lines of one observable: of each correlator of all molecules, where they are of correlators."""
    plain = [line for line in lines if "{}" not in line.title]
    found = [
        (line.title, *_at(reader.tables[line.table], temperatures, line))
        for line in plain
        if reader.has(line.table) and line.value in reader.tables[line.table]
    ]
    named = [line for line in lines if line not in plain and reader.has(line.table)]
    for table in dict.fromkeys(line.table for line in named):
        columns = reader.tables[table]
        mine = reader.rows(table, molecules=ALL)
        for name in dict.fromkeys(reader.get(table, "correlator")[mine].tolist()):
            chosen = mine & (columns["correlator"] == name)
            rows_of = {key: column[chosen] for key, column in columns.items()}
            title = lower(quantity_name(name))
            found += [
                (line.title.format(title), *_at(rows_of, temperatures, line)) for line in named if line.table == table
            ]
    return found


def _at(table: Columns, temperatures: NDArray[np.float64], line: Line) -> list[str]:
    """Cells of a table with one row a state, in the order of the temperatures; a dash where there is no row."""
    at = {float(kelvin): k for k, kelvin in enumerate(table["temperature_kelvin"])}
    places = [at.get(float(kelvin)) for kelvin in temperatures]
    return ["–" if k is None else cell(table, k, line.value, line.error, line.verdict) for k in places]
