"""Terms by which χ4 differs between ensembles, and the three-point number of correlated molecules.

Heat capacities are a molecule's, in k_B. χ_T comes from differences between temperatures alone: ⟨δC δE⟩/(k_B T²)
holds where the motion from an origin on keeps its energy, which neither a thermostat faster than τ nor NVE allows.
Source of all: Berthier et al., J. Chem. Phys. 126, 184503 (2007), DOI 10.1063/1.2721554.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.errors import DataError
from mlpwf.units import BOLTZMANN_EV_K

NAN = float("nan")


def response_by_difference(
    temperatures_kelvin: Array, times_ps: Sequence[Array], values: Sequence[Array], errors: Sequence[Array]
) -> list[tuple[Array, Array]]:
    """χ_T(t) = ∂⟨C(t)⟩/∂T of each state, from the parabola through it and its neighbours.

    At the ends, where there is one neighbour only, from the difference to it. Curves at other
    temperatures are interpolated in ln t to the lags of the state, and are NaN beyond their own.

    Parameters
    ----------
    temperatures_kelvin
        T in K, increasing, shape (states,).
    times_ps, values, errors
        Lags in ps (increasing), C and its error of each state, shapes (lags of the state,).

    Returns
    -------
    list of (response, error)
        χ_T and its error in 1/K for each state, shapes (lags of the state,); NaN for a single state.
    """
    T = temperatures_kelvin
    if not len(T) == len(times_ps) == len(values) == len(errors):
        raise DataError(f"{len(T)} temperatures, {len(values)} curves; expected one curve a temperature")
    if np.any(np.diff(T) <= 0):
        raise DataError(f"temperatures {T} K; expected distinct increasing ones")
    found = []
    for k, grid in enumerate(times_ps):
        near = [j for j in (k - 1, k, k + 1) if 0 <= j < len(T)]
        if len(near) < 2:
            found.append((np.full(len(grid), NAN), np.full(len(grid), NAN)))
            continue
        weights = _derivative_weights(T[near], float(T[k]))
        curves = [_at(grid, times_ps[j], values[j]) for j in near]
        spreads = [_at(grid, times_ps[j], errors[j]) for j in near]
        response = sum((w * c for w, c in zip(weights, curves, strict=True)), np.zeros(len(grid)))
        variance = sum(((w * s) ** 2 for w, s in zip(weights, spreads, strict=True)), np.zeros(len(grid)))
        found.append((response, np.sqrt(variance)))
    return found


def heat_capacity_by_fluctuation(energy_ev: Array, temperature_kelvin: float, molecules: int) -> float:
    """c/k_B = ⟨δE²⟩/(N (k_B T)²) a molecule, from the total energy (NVT) or enthalpy (NPT) in eV."""
    return float(np.var(energy_ev)) / (molecules * (BOLTZMANN_EV_K * temperature_kelvin) ** 2)


def heat_capacity_by_difference(temperatures_kelvin: Array, energy_ev: Array, errors_ev: Array) -> tuple[Array, Array]:
    """c/k_B = d⟨e⟩/d(k_B T) at each state, from the energy or enthalpy of a molecule in eV.

    By the parabola through a state and its neighbours, as `response_by_difference`.

    Returns
    -------
    capacity, error
        In k_B, shape (states,).
    """
    grids = [np.ones(1)] * len(temperatures_kelvin)
    found = response_by_difference(temperatures_kelvin, grids, list(energy_ev[:, None]), list(errors_ev[:, None]))
    values, errors = (np.array([pair[i][0] for pair in found]) for i in (0, 1))
    return values / BOLTZMANN_EV_K, errors / BOLTZMANN_EV_K


def energy_term(
    temperature_kelvin: float, response: Array, response_error: Array, capacity: float, capacity_error: float = 0.0
) -> tuple[Array, Array]:
    """(k_B T²/c) χ_T²: what χ4 gains from fluctuations of the energy, and its error.

    χ4^NVT = χ4^NVE + (k_B T²/c_V) χ_T². With the derivative at constant pressure and c_P it is
    the term from NPH to NPT.

    Parameters
    ----------
    temperature_kelvin
        T in K.
    response, response_error
        χ_T and its error in 1/K, any shape.
    capacity, capacity_error
        c and its error in k_B a molecule.
    """
    if not capacity > 0:
        raise DataError(f"heat capacity {capacity} k_B per molecule; expected a positive number")
    term = temperature_kelvin**2 * response**2 / capacity
    slope = 2 * temperature_kelvin**2 * np.abs(response) / capacity
    return np.asarray(term), np.hypot(slope * response_error, term * capacity_error / capacity)


def three_point_count(
    temperature_kelvin: float, response: Array, response_error: Array, excess_capacity: float
) -> tuple[float, float]:
    """N_corr,T = (k_B/Δc_P) T² max_t χ_T², and its error; NaN without a finite χ_T.

    A lower bound of the number of correlated molecules. Source: Berthier et al., DOI
    10.1126/science.1120714; Dalle-Ferrier et al., DOI 10.1103/PhysRevE.76.041510.

    Parameters
    ----------
    temperature_kelvin
        T in K.
    response, response_error
        χ_T(t) and its error in 1/K, shape (lags,).
    excess_capacity
        Δc_P (liquid above the crystal or glass) in k_B a molecule; c_V for the term of an NVT run.
    """
    if not np.isfinite(response).any():
        return NAN, NAN
    term, error = energy_term(temperature_kelvin, response, response_error, excess_capacity)
    top = int(np.nanargmax(term))
    return float(term[top]), float(error[top])


def three_point_approximation(
    beta: float, beta_error: float, slope: float, slope_error: float, excess_capacity: float
) -> tuple[float, float]:
    """N_corr,T ≈ (k_B/Δc_P) (β/e)² (dln τ/dln T)², for C = exp[−(t/τ)^β]; and its error.

    dln τ/dln T = −E_app/(RT). Source: Dalle-Ferrier et al., DOI 10.1103/PhysRevE.76.041510.
    """
    if not excess_capacity > 0:
        raise DataError(f"heat capacity {excess_capacity} k_B per molecule; expected a positive number")
    value = (beta * slope / np.e) ** 2 / excess_capacity
    return float(value), float(2 * value * np.hypot(beta_error / beta, slope_error / slope))


def _derivative_weights(points: Array, at: float) -> Array:
    """Weights w with Σ w_j f(T_j) = df/dT at `at`, exact for polynomials through the points."""
    powers = np.arange(len(points))[:, None]
    shifted = (points - at) / np.ptp(points)
    target = np.zeros(len(points))
    target[1] = 1 / np.ptp(points)
    return np.asarray(np.linalg.solve(shifted**powers, target))


def _at(grid: Array, times: Array, values: Array) -> Array:
    if len(times) == len(grid) and np.array_equal(times, grid):
        return values
    return np.interp(np.log(grid), np.log(times), values, left=NAN, right=NAN)
