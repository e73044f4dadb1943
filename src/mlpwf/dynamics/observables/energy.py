"""Energy of the box: its mean, its drift over the run, and the heat capacity from its fluctuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.correlators import memory
from mlpwf.dynamics.ensemble import heat_capacity_by_fluctuation
from mlpwf.dynamics.observable import Column, Line, Observable, Table, error
from mlpwf.dynamics.state import NAN, Energy, Runs, Settings, State
from mlpwf.dynamics.uncertainty import energy_drift
from mlpwf.dynamics.verdicts import NOT_KNOWN, USABLE

BLOCKS = 10  # of a run, for the errors of the mean and of the fluctuation


@dataclass(frozen=True)
class EnergyColumns:
    """Energy of a state."""

    energy_ev_per_molecule: Annotated[
        float, Column("eV", "mean total energy of the box (enthalpy at NPT) a molecule")
    ] = NAN
    energy_error_ev_per_molecule: Annotated[float, error("eV")] = NAN
    energy_change_over_run_ev_per_molecule: Annotated[
        float,
        Column("eV", "change of the energy a molecule over the run, from a line through means over blocks of 2.5 τ"),
    ] = NAN
    energy_verdict: Annotated[
        str, Column("", "equilibrated; energy drifts (t-test of the slope, 1 %); too short to tell; not known")
    ] = NOT_KNOWN
    heat_capacity_fluctuation_kb_per_molecule: Annotated[
        float, Column("k_B", "⟨δE²⟩/(N (k_B T)²), heat capacity a molecule from the fluctuation of the energy (NVT)")
    ] = NAN
    heat_capacity_fluctuation_error_kb_per_molecule: Annotated[float, error("k_B")] = NAN


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """Energy, drift and fluctuation of a state; NaN where the energy is not known."""
    slowest = max(memory(runs.moments, name) for name in runs.moments.names)
    state.add(energy_columns(state, runs.energies, runs.trajectory.molecules, slowest))


def energy_columns(state: State, energies: Sequence[Energy], molecules: int, tau_ps: float) -> EnergyColumns:
    """Drift of the energy of each run, and the heat capacity from its fluctuations (NVT).

    Parameters
    ----------
    energies
        Of each run; none where they are not known.
    molecules
        In the box.
    tau_ps
        Slowest relaxation time in ps, which the blocks of the drift exceed 2.5 times.
    """
    if not energies:
        return EnergyColumns()
    drifts = [energy_drift(one.times_ps, one.total_ev / molecules, tau_ps) for one in energies]
    worst = next((drift for drift in drifts if drift.verdict not in USABLE), drifts[0])
    blocks = [part for one in energies for part in np.array_split(one.total_ev / molecules, BLOCKS) if len(part)]
    means = np.array([part.mean() for part in blocks])
    capacity, capacity_error = NAN, NAN
    if state.ensemble == "nvt":
        T = state.temperature_kelvin
        capacities = np.array([heat_capacity_by_fluctuation(part * molecules, T, molecules) for part in blocks])
        capacity_error = float(np.std(capacities, ddof=1) / np.sqrt(len(blocks)))
        capacity = heat_capacity_by_fluctuation(np.concatenate([one.total_ev for one in energies]), T, molecules)
    return EnergyColumns(
        energy_ev_per_molecule=float(np.mean(means)),
        energy_error_ev_per_molecule=float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else NAN,
        energy_change_over_run_ev_per_molecule=worst.change,
        energy_verdict=worst.verdict,
        heat_capacity_fluctuation_kb_per_molecule=capacity,
        heat_capacity_fluctuation_error_kb_per_molecule=capacity_error,
    )


OBSERVABLE = Observable(
    title="energy, its drift and its fluctuation",
    tables=[Table("states", EnergyColumns)],
    measure=measure,
    lines=[
        Line(
            "change of the energy over the run, eV a molecule", "states", "energy_change_over_run_ev_per_molecule",
            verdict="energy_verdict",
        )
    ],
)  # fmt: skip
