"""Numbers of dynamically correlated molecules N_corr, each definition by its full name.

Observables that make such a number add a `Count` of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.columns import (
    Reader,
    cell,
    count_name,
    lower,
    of_correlator,
    principal_correlators,
    quantity_name,
)
from mlpwf.dynamics.observable import (
    Column,
    Correlator,
    Equilibrium,
    Figure,
    Molecules,
    Observable,
    Table,
    Told,
    Verdict,
    Windows,
    error,
)
from mlpwf.dynamics.observables.relaxation import Relaxation
from mlpwf.dynamics.state import ALL, NAN, State
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import EQUILIBRATED, OK
from mlpwf.figures import PALETTE, Curve, Panel

COLOURS = (*PALETTE, "#7A5195", "#A05A2C")


@dataclass(frozen=True)
class Count:
    """One number of correlated molecules by one definition."""

    equilibration: Equilibrium
    molecules: Molecules
    correlator: Correlator
    independent_windows: Windows
    definition: Annotated[str, Column("", "full name of the definition")]
    count: Annotated[float, Column("", "N_corr, the number of correlated molecules by that definition")]
    count_error: Annotated[float, error("")]
    time_ps: Annotated[float, Column("ps", "time since the origin that it is of")]
    verdict: Verdict


def count_of(row: Relaxation, definition: str, value: float, spread: float, time_ps: float, verdict: str) -> Count:
    """A count of the molecules and correlator of a row of relaxation.csv."""
    return Count(
        equilibration=row.equilibration,
        molecules=row.molecules,
        correlator=row.correlator,
        independent_windows=row.independent_windows,
        definition=definition,
        count=value,
        count_error=spread,
        time_ps=time_ps,
        verdict=verdict,
    )


def definitions_of(states: Sequence[State], group: str, name: str) -> list[str]:
    """Definitions of the counts that any state has of a correlator of a group of molecules."""
    return list(
        dict.fromkeys(
            row.definition
            for state in states
            for row in state.of(Count)
            if (row.molecules, row.correlator) == (group, name)
        )
    )


def counts_of(states: Sequence[State], group: str, name: str, definition: str) -> tuple[Array, Array]:
    """One count with its error at every state, shape (states,) each; NaN where its verdict is not ok."""
    found = np.full((len(states), 2), NAN)
    for k, state in enumerate(states):
        for row in state.of(Count):
            if (row.molecules, row.correlator, row.definition) == (group, name, definition) and row.verdict == OK:
                found[k] = row.count, row.count_error
    return found[:, 0], found[:, 1]


def panels(reader: Reader) -> list[Panel]:
    """Each count against temperature, a panel for each correlator; open where the state or the number is not sound."""
    if not reader.has("counts"):
        return []
    table = "counts"
    kelvin, value, spread = (reader.get(table, n) for n in ("temperature_kelvin", "count", "count_error"))
    definition = reader.get(table, "definition")
    good = (reader.get(table, "verdict") == OK) & (reader.get(table, "equilibration") == EQUILIBRATED)
    found = []
    for name in principal_correlators(reader, table):
        mine = of_correlator(reader, table, name) & np.isfinite(value)
        if not mine.any():
            continue
        curves = []
        for k, one in enumerate(dict.fromkeys(definition.tolist())):
            colour, label = COLOURS[k % len(COLOURS)], count_name(one)
            sound, other = (mine & (definition == one) & chosen for chosen in (good, ~good))
            curves.append(Curve(label, kelvin[sound], value[sound], spread[sound], style="points", colour=colour))
            curves.append(Curve(f"_{label}", kelvin[other], value[other], style="hollow", colour=colour))
        found.append(Panel(reader.name(name), reader.label("T", "K"), "number of molecules", curves, y_log=True))
    return found


def tell(reader: Reader) -> list[Told]:
    """Every count by its full name, a column for each state."""
    counts = reader.tables.get("counts")
    if counts is None or "definition" not in counts or len(counts["definition"]) == 0:
        return []
    mine = counts["molecules"] == ALL
    temperatures = np.unique(counts["temperature_kelvin"])
    body = []
    for name in dict.fromkeys(counts["correlator"][mine].tolist()):
        for definition in dict.fromkeys(counts["definition"].tolist()):
            chosen = mine & (counts["correlator"] == name) & (counts["definition"] == definition)
            cells = []
            for temperature in temperatures:
                found = np.flatnonzero(chosen & (counts["temperature_kelvin"] == temperature))
                cells.append(cell(counts, int(found[0]), "count", "count_error", "verdict") if len(found) else "–")
            if any(text[0].isdigit() or text[0] == "-" for text in cells):
                body.append((f"{count_name(definition)}, {lower(quantity_name(name))}", *cells))
    header = ("number of correlated molecules", *(f"{t:g} K" for t in temperatures))
    caption = (
        "Numbers of dynamically correlated molecules, each by its own definition; the verdict where it is not ok. "
        "The ensemble is that of the runs where the name says no other."
    )
    return [Told(caption, header, body)] if body else []


OBSERVABLE = Observable(
    title="numbers of correlated molecules",
    tables=[
        Table(
            "counts", Count, each="group of molecules, correlator and definition of N_corr",
            needs=("temperature_kelvin", "molecules", "correlator", "definition", "count"),
        )
    ],
    figures=[
        Figure(
            "counts",
            "Numbers of dynamically correlated molecules by temperature, each definition by its full name; open "
            "circles: states not shown to be in equilibrium, or a verdict that is not ok.",
            panels,
            height=4.2,  # the legend is long
        )
    ],
    tell=tell,
)  # fmt: skip
