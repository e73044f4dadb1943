"""Across temperatures: ensemble terms, three-point counts, laws, energies, and E against each count."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.analyse.records import NAN, NOT_KNOWN, OK, Row, State
from mlpwf.config import Analyse

if TYPE_CHECKING:
    from mlpwf.dynamics.activation import LawFit
    from mlpwf.dynamics.trajectory import Array

log = logging.getLogger(__name__)

USABLE = ("equilibrated", "too short to tell")
PS_PER_S = 1e12
MPAS_PER_PAS = 1e3
THREE_POINT = "three-point N_corr,T"
APPROXIMATE = "three-point N_corr,T by (beta/e) dlntau/dlnT"
BY_TAU_INF = "E(T) = RT ln(tau/tau_inf)"
BY_SLOPE = "E_app(T) = R dlntau/d(1/T)"
LOCAL = "E_app(T) between neighbouring temperatures"
NO_RESPONSE = "needs two temperatures"
NO_CUBE = "the box is no cube"
NO_LAW = "no law fits"
NO_CAPACITY = "needs a heat capacity"


@dataclass(frozen=True)
class Series:
    """One quantity that grows on cooling as τ does, at every state; NaN where the state must not be fitted."""

    quantity: str
    group: str
    correlator: str
    temperatures: Array
    values: Array
    errors: Array
    told: int
    glass_value: float


@dataclass(frozen=True)
class Across:
    """Rows of the tables that need all temperatures."""

    laws: list[Row]
    energies: list[Row]
    cooperativity: list[Row]


def across(states: Sequence[State], settings: Analyse, seed: int, reduced: bool = False) -> Across:
    """Fill the states' rows with what needs their neighbours, and make the tables across temperatures.

    In reduced units a viscosity in Pa s says nothing of T_g.
    """
    rng = np.random.default_rng(seed)
    known = [state for state in states if state.columns]
    add_infinite_boxes(known, reduced)
    add_heat_capacities(known)
    add_responses(known, settings)
    tables = Across([], [], [])
    for series in _all_series(known, settings, reduced):
        fits = _laws(series, settings, rng, tables)
        if series.correlator:
            _approximate_counts(known, series, fits, settings)
            _cooperativity(known, series, fits, settings, rng, tables)
    ensembles = {"ensembles": " and ".join(sorted({state.source.ensemble for state in known}))}
    return Across(
        *([{**ensembles, **row} for row in rows] for rows in (tables.laws, tables.energies, tables.cooperativity))
    )


def add_infinite_boxes(states: Sequence[State], reduced: bool = False) -> None:
    """D of a box of infinite size by the state's own viscosity; blank, with the reason, where it is not known."""
    from mlpwf.dynamics.finite_size import BOLTZMANN_MPAS_A3_PS_K, infinite_box
    from mlpwf.dynamics.viscosity import MPAS_PER_BAR2_A3_PS_K

    for state in states:
        row = state.row
        value, error, verdict = NAN, NAN, OK
        if state.source.fault:
            verdict = state.source.fault
        elif row["diffusion_verdict"] != OK:
            verdict = f"no D: {row['diffusion_verdict']}"
        elif row["viscosity_verdict"] != OK:
            verdict = f"no viscosity: {row['viscosity_verdict']}"
        elif not np.isfinite(state.edge_angstrom):
            verdict = NO_CUBE
        else:
            value, error = infinite_box(
                (row["diffusion_angstrom2_per_ps"], row["diffusion_error_angstrom2_per_ps"]),
                (row["viscosity_mpa_s"], row["viscosity_error_mpa_s"]),
                state.edge_angstrom,
                state.source.temperature_kelvin,
                MPAS_PER_BAR2_A3_PS_K if reduced else BOLTZMANN_MPAS_A3_PS_K,  # k_B = 1: see in_reduced_units
            )
        row |= {
            "diffusion_infinite_angstrom2_per_ps": value,
            "diffusion_infinite_error_angstrom2_per_ps": error,
            "diffusion_infinite_verdict": verdict,
        }


def add_heat_capacities(states: Sequence[State]) -> None:
    """c by differences of the energy between temperatures, and the one to use: given, by difference, by fluctuation."""
    from mlpwf.dynamics.ensemble import heat_capacity_by_difference

    temperatures = _temperatures(states)
    energy, error = (
        np.array([float(state.row[f"energy{which}_ev_per_molecule"]) for state in states]) for which in ("", "_error")
    )
    by_difference = np.full((2, len(states)), NAN)
    usable = np.isfinite(energy)
    if np.count_nonzero(usable) >= 2:
        by_difference[:, usable] = heat_capacity_by_difference(temperatures[usable], energy[usable], error[usable])
    for k, state in enumerate(states):
        fluctuation = "heat_capacity_fluctuation{}_kb_per_molecule"
        choices = [
            (state.source.heat_capacity_kb or NAN, 0.0, "given"),
            (by_difference[0, k], by_difference[1, k], "difference of energies between temperatures"),
            (
                float(state.row[fluctuation.format("")]),
                float(state.row[fluctuation.format("_error")]),
                "fluctuation of the energy",
            ),
        ]
        value, spread, origin = next((c for c in choices if c[0] > 0), (NAN, NAN, NOT_KNOWN))
        state.row |= {
            "heat_capacity_kb_per_molecule": value,
            "heat_capacity_error_kb_per_molecule": spread,
            "heat_capacity_from": origin,
        }


def add_responses(states: Sequence[State], settings: Analyse) -> None:
    """χ_T, the energy term of χ4, and the counts that need them."""
    from mlpwf.dynamics.ensemble import response_by_difference

    groups = dict.fromkeys(group for state in states for group in state.columns)
    names = dict.fromkeys(row["correlator"] for state in states for row in state.relaxation)
    for group in groups:
        mine = [state for state in states if group in state.columns]
        columns = [state.columns[group] for state in mine]
        for name in names:
            found = response_by_difference(
                _temperatures(mine),
                [c["time_ps"] for c in columns],
                [c[name] for c in columns],
                [c[f"{name}_error"] for c in columns],
            )
            for state, (response, error) in zip(mine, found, strict=True):
                _add_response(state, group, name, response, error, settings)


def _add_response(state: State, group: str, name: str, response: Array, error: Array, settings: Analyse) -> None:
    from mlpwf.dynamics.ensemble import energy_term, three_point_count
    from mlpwf.dynamics.heterogeneity import peak

    columns, T = state.columns[group], state.source.temperature_kelvin
    capacity = float(state.row["heat_capacity_kb_per_molecule"])
    spread = np.nan_to_num(float(state.row["heat_capacity_error_kb_per_molecule"]))
    rows = [row for row in state.curves if (row["molecules"], row["correlator"]) == (group, name)]
    if capacity > 0:
        term, term_error = energy_term(T, response, error, capacity, spread)
    else:
        term, term_error = np.full(len(response), NAN), np.full(len(response), NAN)
    for k, row in enumerate(rows):
        row |= {
            "response_per_kelvin": response[k],
            "response_error_per_kelvin": error[k],
            "energy_term": term[k],
            "energy_term_error": term_error[k],
        }
    relaxation = state.relaxation_of(group, name)
    key = _count_key(state, group, name, relaxation)
    missing = NO_RESPONSE if not np.isfinite(response).any() else NO_CAPACITY
    sign, title = {"nve": (1, "chi4 of NVT = NVE + energy term"), "nvt": (-1, "chi4 of NVE = NVT - energy term")}.get(
        state.source.ensemble, (0, "")
    )
    if sign:
        chi4, chi4_error = columns[f"chi4_{name}"], columns[f"chi4_{name}_error"]
        top = peak(columns["time_ps"], chi4 + sign * term, np.hypot(chi4_error, term_error))
        verdict = top.verdict if np.isfinite(top.value) else missing
        state.counts.append(_count(key, f"peak of {title}", top.value, top.error, top.time_ps, verdict))
    excess = settings.excess_heat_capacity_kb or capacity
    value, value_error, time = NAN, NAN, NAN
    if excess > 0 and np.isfinite(response).any():
        value, value_error = three_point_count(T, response, error, excess)
        time = float(columns["time_ps"][int(np.nanargmax(response**2))])
    verdict = state.source.fault or (OK if np.isfinite(value) else missing)
    state.counts.append(_count(key, THREE_POINT, value, value_error, time, verdict))


def _count_key(state: State, group: str, name: str, relaxation: Row) -> Row:
    return {
        **state.key, "equilibration": relaxation["equilibration"], "molecules": group, "correlator": name,
        "independent_windows": relaxation["independent_windows"],
    }  # fmt: skip


def _count(key: Row, definition: str, value: float, error: float, time: float, verdict: str) -> Row:
    return {**key, "definition": definition, "count": value, "count_error": error, "time_ps": time, "verdict": verdict}


def _temperatures(states: Sequence[State]) -> Array:
    return np.array([state.source.temperature_kelvin for state in states], dtype=float)


def _all_series(states: Sequence[State], settings: Analyse, reduced: bool) -> list[Series]:
    """τ of every correlator of every group, 1/D and the viscosity."""
    temperatures = _temperatures(states)
    found = []
    pairs = dict.fromkeys((r["molecules"], r["correlator"]) for state in states for r in state.relaxation)
    for group, name in pairs:
        rows = [state.relaxation_of(group, name) for state in states]
        usable = [r.get("tau_verdict") == OK and r.get("equilibration") in USABLE for r in rows]
        values, errors = (
            np.array([r[column] if ok else NAN for r, ok in zip(rows, usable, strict=True)], dtype=float)
            for column in ("tau_ps", "tau_error_ps")
        )
        told = sum(r.get("equilibration") == "equilibrated" for r, ok in zip(rows, usable, strict=True) if ok)
        quantity = f"tau_{name}_ps"
        found.append(
            Series(quantity, group, name, temperatures, values, errors, told, settings.glass_time_s * PS_PER_S)
        )
    for quantity, column, glass in (
        ("inverse_diffusion_ps_per_angstrom2", "diffusion{}_angstrom2_per_ps", NAN),
        ("viscosity_mpa_s", "viscosity{}_mpa_s", NAN if reduced else settings.glass_viscosity_pa_s * MPAS_PER_PAS),
    ):
        verdicts = [state.row[f"{column.split('{')[0]}_verdict"] for state in states]
        usable = [v == OK and state.row["equilibration"] in USABLE for v, state in zip(verdicts, states, strict=True)]
        values, errors = (
            np.array(
                [
                    float(state.row[column.format(which)]) if ok else NAN
                    for state, ok in zip(states, usable, strict=True)
                ]
            )
            for which in ("", "_error")
        )
        if quantity.startswith("inverse"):
            values, errors = 1 / values, errors / values**2
        told = sum(s.row["equilibration"] == "equilibrated" for s, ok in zip(states, usable, strict=True) if ok)
        if quantity.startswith("inverse") or any(state.source.stress for state in states):
            found.append(Series(quantity, "all", "", temperatures, values, errors, told, glass))
    return found


@dataclass(frozen=True)
class _Fits:
    """The best law, its bootstrap fits and the ln τ they are of; fits of all laws mixed; T_g in K."""

    best: LawFit
    draws: list[LawFit]
    ln_tau: Array
    mixed: list[LawFit]
    glass_kelvin: float


def _laws(series: Series, settings: Analyse, rng: np.random.Generator, tables: Across) -> _Fits:
    """Rows of laws.csv and energies.csv of one quantity; the best law with its bootstrap fits."""
    from mlpwf.dynamics import activation

    T, values, errors = series.temperatures, series.values, series.errors
    fits = activation.fit_laws(T, values, errors)
    best = activation.best_law(fits)
    weights = activation.akaike_weights(fits)
    kept: dict[str, tuple[list[LawFit], Array]] = {}
    for name, fit in fits.items():
        kept[name] = activation.resampled(name, T, values, errors, rng, settings.bootstrap)
        draws = kept[name][0]
        given = settings.glass_temperature_kelvin
        target = series.glass_value
        if given is None and not np.isfinite(target):
            glass = activation.Extrapolation(NAN, NAN, NAN, NAN, 0, "no value at T_g is known of this quantity")
        else:
            glass = activation.extrapolate(fit, draws, target, given)
        spread = [_spread([getattr(d, which) for d in draws]) for which in ("ln_tau_infinity", "strength", "constant")]
        tables.laws.append(
            {
                "quantity": series.quantity, "molecules": series.group, "law": name, "best": name == best.law,
                "states": fit.states, "states_shown_equilibrated": series.told,
                "ln_prefactor": fit.ln_tau_infinity, "ln_prefactor_error": spread[0],
                "strength_kelvin": fit.strength, "strength_error_kelvin": spread[1],
                "constant_kelvin": fit.constant, "constant_error_kelvin": spread[2],
                "chi2": fit.chi2, "misfit_p_value": fit.p_value, "aicc": fit.aicc,
                "akaike_weight": weights[name], "verdict": fit.verdict,
                "glass_kelvin": glass.glass_kelvin, "glass_error_kelvin": glass.glass_error,
                "fragility": glass.fragility, "fragility_error": glass.fragility_error, "glass_verdict": glass.verdict,
            }
        )  # fmt: skip
    glass_kelvin = settings.glass_temperature_kelvin or best.glass_temperature(series.glass_value)
    mixed = activation.mixed(fits, {name: draws for name, (draws, _) in kept.items()}, rng)
    found = _Fits(best, *kept[best.law], mixed or kept[best.law][0], glass_kelvin)
    _energies(series, found, tables)
    return found


def _energies(series: Series, fits: _Fits, tables: Across) -> None:
    from mlpwf.dynamics import activation

    T, best = series.temperatures, fits.best
    law = f"{best.law} ({best.verdict})" if best.verdict != OK else best.law
    misfit = best.p_value < activation.MISFIT
    columns = {
        (name, law): (T, energy, np.sqrt(np.diag(activation.covariance(drawn, energy))))
        for name, (energy, drawn) in _energies_of(series, fits).items()
    }
    columns[LOCAL, "none"] = activation.local_energies(T, series.values, series.errors)
    for (definition, name), found in columns.items():
        for temperature, energy, error in np.stack(found, axis=1).tolist():
            tables.energies.append(
                {
                    "quantity": series.quantity, "molecules": series.group, "definition": definition, "law": name,
                    "temperature_kelvin": temperature, "energy_kj_mol": energy, "energy_error_kj_mol": error,
                    "verdict": "too few states" if not np.isfinite(energy)
                    else NO_LAW if misfit and definition != LOCAL else OK,
                }
            )  # fmt: skip


def _energies_of(series: Series, fits: _Fits) -> dict[str, tuple[Array, Array]]:
    """E(T) and E_app(T) at the states with their draws, by definition."""
    from mlpwf.dynamics import activation

    T, values = series.temperatures, series.values
    return {
        BY_TAU_INF: activation.energies(T, values, fits.best, fits.draws, fits.ln_tau),
        BY_SLOPE: activation.apparent_energies(T, values, fits.best, fits.mixed),
    }


def _approximate_counts(states: Sequence[State], series: Series, fits: _Fits, settings: Analyse) -> None:
    """The three-point count by (β/e) dln τ/dln T, of each state."""
    from mlpwf.dynamics import activation
    from mlpwf.dynamics.ensemble import three_point_approximation
    from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

    energy, drawn = _energies_of(series, fits)[BY_SLOPE]
    error = np.sqrt(np.diag(activation.covariance(drawn, energy)))
    for k, state in enumerate(states):
        relaxation = state.relaxation_of(series.group, series.correlator)
        if not relaxation:
            continue
        excess = settings.excess_heat_capacity_kb or float(state.row["heat_capacity_kb_per_molecule"])
        thermal = GAS_CONSTANT_KJ_MOL_K * state.source.temperature_kelvin
        value, spread, verdict = NAN, NAN, NO_CAPACITY if not excess > 0 else "needs tau at enough temperatures"
        beta, beta_error = float(relaxation["kww_beta"]), float(relaxation["kww_beta_error"])
        if excess > 0 and np.isfinite(energy[k]) and np.isfinite(beta):
            value, spread = three_point_approximation(
                beta, beta_error, -float(energy[k]) / thermal, float(error[k]) / thermal, excess
            )
            verdict = OK
        key = _count_key(state, series.group, series.correlator, relaxation)
        state.counts.append(
            _count(key, APPROXIMATE, value, spread, float(relaxation["tau_ps"]), state.source.fault or verdict)
        )


def _cooperativity(
    states: Sequence[State], series: Series, fits: _Fits, settings: Analyse, rng: np.random.Generator, tables: Across
) -> None:
    """Rows of cooperativity.csv: E, by each definition, and β, against each count of one correlator."""
    from mlpwf.dynamics import activation, cooperativity

    glass, best = fits.glass_kelvin, fits.best
    at_glass = {}
    for name, draws in ((BY_TAU_INF, fits.draws), (BY_SLOPE, fits.mixed)):
        drawn = [
            d.glass_temperature(series.glass_value) if settings.glass_temperature_kelvin is None else glass
            for d in draws
        ]
        laws = zip([best, *draws], [glass, *drawn], strict=True)
        at_glass[name] = [
            law.energy(np.array(g)) if name == BY_TAU_INF else law.apparent_energy(np.array(g)) for law, g in laws
        ]
    beta = np.array(
        [_kww(state.relaxation_of(series.group, series.correlator)) for state in states], dtype=float
    ).reshape(-1, 2)
    for definition in _definitions(states, series):
        counts, count_errors = _counts_of(states, series, definition)
        key = {"correlator": series.correlator, "molecules": series.group, "count_definition": definition}
        for name, (energy, energy_drawn) in _energies_of(series, fits).items():
            usable = np.isfinite(series.values)
            if name == BY_SLOPE and best.law == "Arrhenius":
                usable[:] = False  # one energy at all temperatures has no slope against anything
            chosen = (counts[usable], energy[usable], count_errors[usable])
            fit = cooperativity.line(*chosen, activation.covariance(energy_drawn[:, usable], energy[usable]))
            end = cooperativity.at_glass(
                *chosen, energy_drawn[:, usable], float(at_glass[name][0]),
                np.array(at_glass[name][1:], dtype=float), rng,
            )  # fmt: skip
            tables.cooperativity.append(
                {
                    **key, "against": name, "law": best.law, **_line_row(fit, "kJ/mol"), "glass_kelvin": glass,
                    "count_at_glass": end.count, "count_at_glass_error": end.error,
                    "count_at_glass_verdict": end.verdict,
                }
            )  # fmt: skip
        usable = np.isfinite(series.values)
        fit = cooperativity.line(counts[usable], beta[usable, 0], count_errors[usable], beta[usable, 1])
        tables.cooperativity.append(
            {
                **key, "against": "stretching exponent beta", "law": "none", **_line_row(fit, "1"), "glass_kelvin": NAN,
                "count_at_glass": NAN, "count_at_glass_error": NAN, "count_at_glass_verdict": "not extrapolated",
            }
        )  # fmt: skip


def _line_row(fit: Any, unit: str) -> Row:
    """The columns of a line: `unit` is that of intercept and slope."""
    return {
        "states": fit.states, "unit": unit, "intercept": fit.intercept, "intercept_error": fit.intercept_error,
        "slope": fit.slope, "slope_error": fit.slope_error, "chi2": fit.chi2,
        "misfit_p_value": fit.misfit_p_value, "proportional_chi2": fit.proportional_chi2,
        "proportional_p_value": fit.p_value, "test": fit.test,
        "proportional": fit.proportional, "verdict": fit.verdict,
    }  # fmt: skip


def _kww(relaxation: Row) -> tuple[float, float]:
    return float(relaxation.get("kww_beta", NAN)), float(relaxation.get("kww_beta_error", NAN))


def _definitions(states: Sequence[State], series: Series) -> list[str]:
    return list(
        dict.fromkeys(
            row["definition"] for state in states for row in state.counts
            if (row["molecules"], row["correlator"]) == (series.group, series.correlator)
        )
    )  # fmt: skip


def _counts_of(states: Sequence[State], series: Series, definition: str) -> tuple[Array, Array]:
    """One count with its error at every state; NaN where its verdict is not ok."""
    found = np.full((len(states), 2), NAN)
    for k, state in enumerate(states):
        for row in state.counts:
            same = (row["molecules"], row["correlator"], row["definition"])
            if same == (series.group, series.correlator, definition) and row["verdict"] == OK:
                found[k] = row["count"], row["count_error"]
    return found[:, 0], found[:, 1]


def _spread(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.std(known)) if len(known) > 1 else NAN
