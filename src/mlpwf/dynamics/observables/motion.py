"""Motion of the centres of mass: mean square displacement and non-Gaussian parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlpwf.dynamics.columns import Reader, by_temperature
from mlpwf.dynamics.observable import Column, Figure, Molecules, Observable, Table, TimeSinceOrigin, error
from mlpwf.dynamics.state import Runs, Settings, State
from mlpwf.figures import Panel


@dataclass(frozen=True)
class Motion:
    """Motion over one lag."""

    molecules: Molecules
    time_ps: TimeSinceOrigin
    origins: Annotated[int, Column("", "number of pairs of frames")]
    msd_angstrom2: Annotated[float, Column("Å²", "⟨|Δr|²⟩ of centres of mass, drift of their mean removed")]
    msd_error_angstrom2: Annotated[float, error("Å²")]
    alpha2: Annotated[float, Column("", "3⟨r⁴⟩/(5⟨r²⟩²) − 1", source="10.1103/PhysRev.136.A405")]
    alpha2_error: Annotated[float, error("")]


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """MSD and α2 of each group of molecules at each lag."""
    for group, curves in state.curves.items():
        for k, time in enumerate(curves["time_ps"]):
            state.add(
                Motion(
                    molecules=group, time_ps=time, origins=int(curves["origins"][k]),
                    msd_angstrom2=curves["msd_angstrom2"][k], msd_error_angstrom2=curves["msd_error"][k],
                    alpha2=curves["alpha2"][k], alpha2_error=curves["alpha2_error"][k],
                )
            )  # fmt: skip


def panels(reader: Reader) -> list[Panel]:
    """Mean square displacement and non-Gaussian parameter by temperature."""
    found = [
        by_temperature(
            reader, "motion", "msd_angstrom2", "Mean square displacement", reader.label("⟨|Δr|²⟩", "Å²"), y_log=True
        ),
        by_temperature(reader, "motion", "alpha2", "Non-Gaussian parameter", "α₂"),
    ]
    return [panel for panel in found if panel]


OBSERVABLE = Observable(
    title="mean square displacement and non-Gaussian parameter",
    tables=[
        Table("motion", Motion, each="group of molecules and lag", needs=("temperature_kelvin", "molecules", "time_ps"))
    ],
    measure=measure,
    figures=[
        Figure("motion", "Motion of the molecules' centres by temperature, against the time since the origin.", panels)
    ],
)
