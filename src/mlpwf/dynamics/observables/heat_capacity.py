"""Heat capacity of a molecule: as given, by differences of the energy between temperatures, or by its fluctuation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.ensemble import heat_capacity_by_difference
from mlpwf.dynamics.observable import Column, Line, Observable, Table, error
from mlpwf.dynamics.observables.energy import EnergyColumns
from mlpwf.dynamics.state import NAN, Study
from mlpwf.dynamics.verdicts import NOT_KNOWN


@dataclass(frozen=True)
class HeatCapacityColumns:
    """The heat capacity that the terms of the ensembles are made with."""

    heat_capacity_kb_per_molecule: Annotated[
        float,
        Column("k_B", "heat capacity a molecule: as given; else by differences of the energy; else by its fluctuation"),
    ]
    heat_capacity_error_kb_per_molecule: Annotated[float, error("k_B")]
    heat_capacity_from: Annotated[str, Column("", "which of the three it is; not known")]


def compare(study: Study) -> None:
    """The heat capacity of every state."""
    states = study.states
    rows = [state.one(EnergyColumns) for state in states]
    energy = np.array([row.energy_ev_per_molecule for row in rows])
    spread = np.array([row.energy_error_ev_per_molecule for row in rows])
    by_difference = np.full((2, len(states)), NAN)
    usable = np.isfinite(energy)
    if np.count_nonzero(usable) >= 2:
        by_difference[:, usable] = heat_capacity_by_difference(
            study.temperatures[usable], energy[usable], spread[usable]
        )
    for state, row, (value, its_error) in zip(states, rows, by_difference.T, strict=True):
        choices = [
            (state.heat_capacity_kb or NAN, 0.0, "given"),
            (value, its_error, "difference of energies between temperatures"),
            (
                row.heat_capacity_fluctuation_kb_per_molecule,
                row.heat_capacity_fluctuation_error_kb_per_molecule,
                "fluctuation of the energy",
            ),
        ]
        found = next((choice for choice in choices if choice[0] > 0), (NAN, NAN, NOT_KNOWN))
        state.add(HeatCapacityColumns(*found))


OBSERVABLE = Observable(
    title="heat capacity",
    tables=[Table("states", HeatCapacityColumns)],
    compare=compare,
    lines=[
        Line(
            "heat capacity, k_B a molecule", "states", "heat_capacity_kb_per_molecule",
            "heat_capacity_error_kb_per_molecule",
        )
    ],
)  # fmt: skip
