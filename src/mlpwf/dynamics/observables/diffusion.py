"""Coefficient of diffusion, from the slope of the mean square displacement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.observable import Column, Line, Observable, Table, Verdict, error
from mlpwf.dynamics.observables.equilibrium import StateEquilibrium
from mlpwf.dynamics.relaxation import diffusion, diffusive_lags, squares_left_out
from mlpwf.dynamics.series import Point, Series, series_of
from mlpwf.dynamics.state import ALL, NAN, Runs, Settings, State, Study


@dataclass(frozen=True)
class DiffusionColumns:
    """Diffusion of all molecules of a state."""

    diffusion_angstrom2_per_ps: Annotated[
        float,
        Column(
            "Å²/ps",
            "MSD = 6Dt + c over the last decade of lags below a sixth of the run, if dln MSD/dln t is within 0.1 of 1",
        ),
    ]
    diffusion_error_angstrom2_per_ps: Annotated[float, error("Å²/ps")]
    diffusion_slope: Annotated[float, Column("", "dln MSD/dln t there")]
    diffusion_verdict: Verdict


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """D of all molecules of a state."""
    curves, run_ps = state.curves[ALL], float(runs.moments.runs_ps.min())
    times, errors = curves["time_ps"], curves["msd_error"]
    longest = float(np.max(times[diffusive_lags(times, errors, run_ps)], initial=0.0))
    found = diffusion(times, curves["msd_angstrom2"], errors, run_ps, squares_left_out(runs.moments, longest))
    state.add(DiffusionColumns(found.coefficient, found.error, found.slope, state.fault or found.verdict))


def series(study: Study) -> list[Series]:
    """1/D, which grows on cooling; no value of it is known at T_g."""
    points = []
    for state in study.states:
        row, verdict = state.one(DiffusionColumns), state.one(StateEquilibrium).equilibration
        D, spread = np.float64(row.diffusion_angstrom2_per_ps), row.diffusion_error_angstrom2_per_ps
        points.append(Point(float(1 / D), float(spread / D**2), row.diffusion_verdict, verdict))
    return [series_of("inverse_diffusion_ps_per_angstrom2", study.temperatures, points, NAN, ALL)]


OBSERVABLE = Observable(
    title="diffusion",
    tables=[Table("states", DiffusionColumns)],
    measure=measure,
    series=series,
    lines=[
        Line(
            "D, Å²/ps", "states", "diffusion_angstrom2_per_ps", "diffusion_error_angstrom2_per_ps", "diffusion_verdict"
        )
    ],
)
