"""Coefficient of diffusion in a box of infinite size, by the state's own viscosity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.finite_size import BOLTZMANN_MPAS_A3_PS_K, infinite_box
from mlpwf.dynamics.observable import Column, Line, Observable, Table, Verdict, error
from mlpwf.dynamics.observables.diffusion import DiffusionColumns
from mlpwf.dynamics.observables.viscosity import ViscosityColumns
from mlpwf.dynamics.state import NAN, State, Study
from mlpwf.dynamics.verdicts import OK
from mlpwf.dynamics.viscosity import MPAS_PER_BAR2_A3_PS_K

NO_CUBE = "the box is no cube"


@dataclass(frozen=True)
class InfiniteBoxColumns:
    """Diffusion in a box of infinite size."""

    diffusion_infinite_angstrom2_per_ps: Annotated[
        float,
        Column(
            "Å²/ps",
            "D + k_B T ξ/(6πηL), ξ = 2.837297, with the state's own η: D in a box of infinite size, from a cube of "
            "edge L; errors of D and η",
            source="10.1021/jp0477147",
        ),
    ]
    diffusion_infinite_error_angstrom2_per_ps: Annotated[float, error("Å²/ps")]
    diffusion_infinite_verdict: Verdict


def compare(study: Study) -> None:
    """D of a box of infinite size of every state; NaN, with the reason, where it is not known."""
    for state in study.states:
        state.add(infinite_box_columns(state, study.settings.reduced))


def infinite_box_columns(state: State, reduced: bool = False) -> InfiniteBoxColumns:
    """The same of one state whose diffusion and viscosity are measured."""
    diffusion, viscosity = state.one(DiffusionColumns), state.one(ViscosityColumns)
    verdict = _missing(state, diffusion, viscosity)
    if verdict != OK:
        return InfiniteBoxColumns(NAN, NAN, verdict)
    value, spread = infinite_box(
        (diffusion.diffusion_angstrom2_per_ps, diffusion.diffusion_error_angstrom2_per_ps),
        (viscosity.viscosity_mpa_s, viscosity.viscosity_error_mpa_s),
        state.edge_angstrom,
        state.temperature_kelvin,
        MPAS_PER_BAR2_A3_PS_K if reduced else BOLTZMANN_MPAS_A3_PS_K,  # k_B = 1: see analyse.tables.in_reduced_units
    )
    return InfiniteBoxColumns(value, spread, OK)


def _missing(state: State, diffusion: DiffusionColumns, viscosity: ViscosityColumns) -> str:
    """Why there is no such number; ok if there is one."""
    if state.fault:
        return state.fault
    if diffusion.diffusion_verdict != OK:
        return f"no D: {diffusion.diffusion_verdict}"
    if viscosity.viscosity_verdict != OK:
        return f"no viscosity: {viscosity.viscosity_verdict}"
    return OK if np.isfinite(state.edge_angstrom) else NO_CUBE


OBSERVABLE = Observable(
    title="diffusion in a box of infinite size",
    tables=[Table("states", InfiniteBoxColumns)],
    compare=compare,
    lines=[
        Line(
            "D of an infinite box, Å²/ps", "states", "diffusion_infinite_angstrom2_per_ps",
            "diffusion_infinite_error_angstrom2_per_ps", "diffusion_infinite_verdict",
        )
    ],
)  # fmt: skip
