"""Shear viscosity and the relaxation time of the stress, from the pressure tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.observable import Column, Line, Observable, Table, Verdict, error
from mlpwf.dynamics.observables.equilibrium import StateEquilibrium
from mlpwf.dynamics.series import Point, Series, series_of
from mlpwf.dynamics.state import ALL, NAN, Runs, Settings, State, Stress, Study
from mlpwf.dynamics.viscosity import shear_viscosity
from mlpwf.errors import DataError

NO_TENSOR = "no pressure tensor"
MPAS_PER_PAS = 1e3


@dataclass(frozen=True)
class ViscosityColumns:
    """Viscosity of a state."""

    viscosity_mpa_s: Annotated[
        float,
        Column(
            "mPa s",
            "V/(k_B T) ∫⟨σ(0)σ(t)⟩dt over the five shear components; fits that contradict the spectrum near zero "
            "(p < 0.05) are left out, the error holds the change of η at lower cut-offs",
            source="10.1021/acs.jcim.5c01475",
        ),
    ] = NAN
    viscosity_error_mpa_s: Annotated[float, error("mPa s")] = NAN
    stress_relaxation_ps: Annotated[float, Column("ps", "relaxation time of the stress, of the same fits")] = NAN
    stress_relaxation_error_ps: Annotated[float, error("ps")] = NAN
    viscosity_verdict: Verdict = NO_TENSOR


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """Viscosity of a state; NaN where there is no pressure tensor."""
    volume = abs(float(np.linalg.det(runs.trajectory.cell)))
    state.add(viscosity_columns(state, runs.stresses, volume))


def viscosity_columns(state: State, stresses: Sequence[Stress], volume: float) -> ViscosityColumns:
    """Viscosity from the pressure tensors of all runs, as far as the shortest goes.

    Parameters
    ----------
    stresses
        Of each run; none where they are not known.
    volume
        Of the box in Å³, where the pressure tensors do not say it.

    Raises
    ------
    DataError
        For pressure tensors at different intervals, or without a volume.
    """
    if not stresses:
        return ViscosityColumns()
    steps = min(len(one.pressure_bar) for one in stresses)
    if len({one.interval_ps for one in stresses}) > 1:
        raise DataError(f"{state.name}: pressure tensors at different intervals; expected one for all runs")
    box = stresses[0].volume_angstrom3 or volume
    if not box > 0:
        raise DataError(f"{state.name}: no box, so no volume; expected one to make a viscosity of the pressure tensor")
    runs = np.stack([one.pressure_bar[:steps] for one in stresses])
    found = shear_viscosity(runs, stresses[0].interval_ps, box, state.temperature_kelvin)
    return ViscosityColumns(
        found.value, found.error, found.relaxation, found.relaxation_error, state.fault or found.verdict
    )


def series(study: Study) -> list[Series]:
    """The viscosity, where any state has a pressure tensor; in reduced units no value of it is known at T_g."""
    rows = [state.one(ViscosityColumns) for state in study.states]
    if all(row.viscosity_verdict == NO_TENSOR for row in rows):
        return []
    points = [
        Point(
            row.viscosity_mpa_s, row.viscosity_error_mpa_s, row.viscosity_verdict,
            state.one(StateEquilibrium).equilibration,
        )
        for state, row in zip(study.states, rows, strict=True)
    ]  # fmt: skip
    glass = NAN if study.settings.reduced else study.settings.glass_viscosity_pa_s * MPAS_PER_PAS
    return [series_of("viscosity_mpa_s", study.temperatures, points, glass, ALL)]


OBSERVABLE = Observable(
    title="viscosity",
    tables=[Table("states", ViscosityColumns)],
    measure=measure,
    series=series,
    lines=[
        Line("viscosity, mPa s", "states", "viscosity_mpa_s", "viscosity_error_mpa_s", "viscosity_verdict"),
        Line(
            "relaxation of the stress, ps", "states", "stress_relaxation_ps", "stress_relaxation_error_ps",
            "viscosity_verdict",
        ),
    ],
)  # fmt: skip
