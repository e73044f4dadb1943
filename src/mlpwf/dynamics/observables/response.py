"""What a change of temperature does to the correlators: χ_T, the energy term of χ4, and the three-point counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.columns import Reader, pairs_of_panels
from mlpwf.dynamics.ensemble import energy_term, response_by_difference, three_point_approximation, three_point_count
from mlpwf.dynamics.heterogeneity import peak
from mlpwf.dynamics.observable import Column, Figure, Observable, Table, error
from mlpwf.dynamics.observables.counts import count_of
from mlpwf.dynamics.observables.heat_capacity import HeatCapacityColumns
from mlpwf.dynamics.observables.relaxation import Relaxation, relaxation_of, relaxed
from mlpwf.dynamics.series import BY_SLOPE, Fits, Series, energies_of, energy_errors
from mlpwf.dynamics.state import NAN, Settings, State, Study
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import OK
from mlpwf.figures import Panel
from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

THREE_POINT = "three-point N_corr,T"
APPROXIMATE = "three-point N_corr,T by (beta/e) dlntau/dlnT"
OTHER_ENSEMBLE = {"nve": (1, "chi4 of NVT = NVE + energy term"), "nvt": (-1, "chi4 of NVE = NVT - energy term")}
"""Sign of the energy term that leads to the other ensemble, and the name of χ4 there."""
NO_RESPONSE = "needs two temperatures"
NO_CAPACITY = "needs a heat capacity"
NO_TAU = "needs tau at enough temperatures"


@dataclass(frozen=True)
class ResponseColumns:
    """Response of one correlator at one lag."""

    response_per_kelvin: Annotated[
        float,
        Column("1/K", "χ_T = ∂⟨C⟩/∂T at fixed t, by the parabola through a state and its neighbours in temperature"),
    ]
    response_error_per_kelvin: Annotated[float, error("1/K")]
    energy_term: Annotated[
        float,
        Column(
            "",
            "(k_B T²/c) χ_T²: χ4 of NVT less NVE, with c_V; of NPT less NPH, with c_P",
            source="10.1063/1.2721554",
        ),
    ]
    energy_term_error: Annotated[float, error("")]


@dataclass(frozen=True)
class Response:
    """χ_T in 1/K and the energy term of one correlator of one state, with errors, shape (lags,) each."""

    response: Array
    error: Array
    term: Array
    term_error: Array


def compare(study: Study) -> None:
    """χ_T and the energy term of each correlator, and the counts that need them."""
    groups = dict.fromkeys(group for state in study.states for group in state.curves)
    names = dict.fromkeys(row.correlator for state in study.states for row in state.of(Relaxation))
    kept = {}
    for group in groups:
        for name in names:
            for state, found in _responses(study, group, name):
                kept[id(state), group, name] = found
                _add_counts(state, relaxed(state, group, name), found, study.settings)
    for state in study.states:
        for row in state.of(Relaxation):
            found = kept[id(state), row.molecules, row.correlator]
            for values in zip(found.response, found.error, found.term, found.term_error, strict=True):
                state.add(ResponseColumns(*values))


def _responses(study: Study, group: str, name: str) -> list[tuple[State, Response]]:
    """The response of one correlator of each state that has the group of molecules."""
    states = [state for state in study.states if group in state.curves]
    curves = [state.curves[group] for state in states]
    found = response_by_difference(
        np.array([state.temperature_kelvin for state in states], dtype=float),
        [one["time_ps"] for one in curves],
        [one[name] for one in curves],
        [one[f"{name}_error"] for one in curves],
    )
    return [(state, _with_term(state, *pair)) for state, pair in zip(states, found, strict=True)]


def _with_term(state: State, response: Array, spread: Array) -> Response:
    heat = state.one(HeatCapacityColumns)
    capacity = heat.heat_capacity_kb_per_molecule
    if not capacity > 0:
        nothing = np.full(len(response), NAN)
        return Response(response, spread, nothing, nothing)
    capacity_error = float(np.nan_to_num(heat.heat_capacity_error_kb_per_molecule))
    return Response(
        response, spread, *energy_term(state.temperature_kelvin, response, spread, capacity, capacity_error)
    )


def _add_counts(state: State, row: Relaxation, found: Response, settings: Settings) -> None:
    """The peak of χ4 of the other ensemble, and the three-point count."""
    curves, name = state.curves[row.molecules], row.correlator
    missing = NO_RESPONSE if not np.isfinite(found.response).any() else NO_CAPACITY
    if state.ensemble in OTHER_ENSEMBLE:
        sign, title = OTHER_ENSEMBLE[state.ensemble]
        chi4, chi4_error = curves[f"chi4_{name}"], curves[f"chi4_{name}_error"]
        top = peak(curves["time_ps"], chi4 + sign * found.term, np.hypot(chi4_error, found.term_error))
        verdict = top.verdict if np.isfinite(top.value) else missing
        state.add(count_of(row, f"peak of {title}", top.value, top.error, top.time_ps, verdict))
    excess = settings.excess_heat_capacity_kb or state.one(HeatCapacityColumns).heat_capacity_kb_per_molecule
    value, spread, time = NAN, NAN, NAN
    if excess > 0 and np.isfinite(found.response).any():
        value, spread = three_point_count(state.temperature_kelvin, found.response, found.error, excess)
        time = float(curves["time_ps"][int(np.nanargmax(found.response**2))])
    verdict = state.fault or (OK if np.isfinite(value) else missing)
    state.add(count_of(row, THREE_POINT, value, spread, time, verdict))


def fit(study: Study, series: Series, fits: Fits) -> None:
    """The three-point count by (β/e) dln τ/dln T, of each state that has the correlator."""
    if not series.correlator:
        return
    energy, drawn = energies_of(series, fits)[BY_SLOPE]
    errors = energy_errors(energy, drawn)
    for k, state in enumerate(study.states):
        row = relaxation_of(state, series.group, series.correlator)
        if row is None:
            continue
        excess = study.settings.excess_heat_capacity_kb or state.one(HeatCapacityColumns).heat_capacity_kb_per_molecule
        thermal = GAS_CONSTANT_KJ_MOL_K * state.temperature_kelvin
        value, spread, verdict = NAN, NAN, NO_TAU if excess > 0 else NO_CAPACITY
        if excess > 0 and np.isfinite(energy[k]) and np.isfinite(row.kww_beta):
            value, spread = three_point_approximation(
                row.kww_beta, row.kww_beta_error, -float(energy[k]) / thermal, float(errors[k]) / thermal, excess
            )
            verdict = OK
        state.add(count_of(row, APPROXIMATE, value, spread, row.tau_ps, state.fault or verdict))


def panels(reader: Reader) -> list[Panel]:
    """χ_T and the energy term of χ4, of the translational correlators and of one rotation a rank."""
    return pairs_of_panels(
        reader,
        {
            "response_per_kelvin": ("∂C/∂T", reader.label("∂C/∂T", "1/K")),
            "energy_term": ("Energy term", "energy term of χ₄"),
        },
    )


OBSERVABLE = Observable(
    title="response to temperature, the energy term of χ4, three-point counts",
    tables=[Table("correlators", ResponseColumns)],
    compare=compare,
    fit=fit,
    names={
        "peak of chi4 of NVT = NVE + energy term": "of runs in the ensemble NVE (10.1063/1.2721554)",
        "peak of chi4 of NVE = NVT - energy term": "of runs in the ensemble NVT (10.1063/1.2721554)",
        THREE_POINT: (
            "(k_B/c) T² max χ_T² (10.1126/science.1120714), c: excess_heat_capacity_kb (Δc_P) of the settings, or else "
            "the run's own heat capacity"
        ),
        APPROXIMATE: "(k_B/c)(β/e)²(dlnτ/dlnT)² (10.1103/PhysRevE.76.041510)",
    },
    figures=[
        Figure(
            "response",
            "What a change of temperature does to the correlators, and the energy term (k_B T²/c)(∂C/∂T)², by which χ₄ "
            "of two ensembles differ.",
            panels,
        )
    ],
)
