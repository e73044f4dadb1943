"""Correlators C(t): overlap, self-scattering at each wavevector, rotation of each axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlpwf.dynamics.columns import Reader, by_temperature, correlator_names, of_correlator
from mlpwf.dynamics.observable import (
    Column,
    Correlator,
    Equilibrium,
    Figure,
    Molecules,
    Observable,
    Table,
    TimeSinceOrigin,
    Windows,
    error,
)
from mlpwf.dynamics.observables.relaxation import Relaxation
from mlpwf.dynamics.state import Runs, Settings, State
from mlpwf.figures import Panel


@dataclass(frozen=True)
class Value:
    """One correlator of one group of molecules at one lag."""

    equilibration: Equilibrium
    molecules: Molecules
    correlator: Correlator
    time_ps: TimeSinceOrigin
    origins: Annotated[int, Column("", "number of pairs of frames")]
    independent_windows: Windows
    value: Annotated[float, Column("", "C(t) of the correlator")]
    value_error: Annotated[float, error("")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """C(t) of each correlator of each group of molecules."""
    for row in state.of(Relaxation):
        curves, name = state.curves[row.molecules], row.correlator
        for k, time in enumerate(curves["time_ps"]):
            state.add(
                Value(
                    equilibration=row.equilibration, molecules=row.molecules, correlator=name, time_ps=time,
                    origins=int(curves["origins"][k]), independent_windows=curves[f"windows_{name}"][k],
                    value=curves[name][k], value_error=curves[f"{name}_error"][k],
                )
            )  # fmt: skip


def panels(reader: Reader) -> list[Panel]:
    """C(t) of every correlator by temperature."""
    table = "correlators"
    found = [
        by_temperature(reader, table, "value", reader.name(name), "C(t)", of_correlator(reader, table, name))
        for name in correlator_names(reader)
    ]
    return [panel for panel in found if panel]


OBSERVABLE = Observable(
    title="correlators",
    tables=[
        Table(
            "correlators", Value, each="group of molecules, correlator and lag",
            needs=("temperature_kelvin", "molecules", "correlator", "time_ps"),
        )
    ],
    measure=measure,
    figures=[Figure("correlators", "Correlators by temperature, against the time since the origin.", panels)],
)  # fmt: skip
