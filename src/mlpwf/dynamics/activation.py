"""Relaxation times, diffusion and their activation energies, each with a verdict.

A number that has no meaning is NaN, and its verdict says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.errors import DataError
from mlpwf.units import GAS_CONSTANT_KJ_MOL_K

NAN = float("nan")
OK = "ok"
NOT_DECAYED = "not decayed"
RUN_TOO_SHORT = "run shorter than 3 tau"
TOO_FEW_STATES = "too few states"
TOO_FAST = "faster than the first lag"
TOO_FEW_POINTS = "too few points"
NO_FIT = "fit failed"
NOT_DIFFUSIVE = "not diffusive"

KWW_RANGE = (0.02, 0.9)  # values of C the stretched exponential is fitted to
SLOPE_TOLERANCE = 0.1  # |dln MSD/dln t − 1| that counts as diffusion
FEWEST_STATES = 3


@dataclass(frozen=True)
class Relaxation:
    """Time at which C = 1/e, in ps, with its error.

    `run shorter than 3 tau` keeps the number: the state is shown, and kept out of fits.
    """

    tau_ps: float
    error_ps: float
    verdict: str


@dataclass(frozen=True)
class Stretched:
    """A exp[−(t/τ)^β] with its mean time τ/β Γ(1/β); times in ps."""

    tau_ps: float
    beta: float
    amplitude: float
    mean_ps: float
    verdict: str


@dataclass(frozen=True)
class Diffusion:
    """Diffusion coefficient in Å²/ps, its error, and the slope dln MSD/dln t of the range it is from."""

    coefficient: float
    error: float
    slope: float
    verdict: str


@dataclass(frozen=True)
class Arrhenius:
    """ln τ = ln τ∞ + E_a/(RT): E_a in kJ/mol, τ∞ in the unit of τ, each with its error.

    `reduced_chi2` far above 1 says that E depends on temperature.
    """

    energy: float
    energy_error: float
    tau_infinity: float
    ln_tau_infinity_error: float
    reduced_chi2: float
    states: int
    verdict: str


def relaxation_time(times_ps: Array, values: Array, errors: Array, run_ps: float) -> Relaxation:
    """Time of C(τ) = 1/e, by linear interpolation of C in ln t.

    The error is that of C at the crossing over |dC/dln t|.

    Parameters
    ----------
    times_ps
        Lags in ps, increasing, shape (lags,).
    values, errors
        C and its error, shape (lags,).
    run_ps
        Length of the run, in ps.
    """
    if not times_ps.shape == values.shape == errors.shape or times_ps.ndim != 1:
        raise DataError(f"shapes {times_ps.shape}, {values.shape}, {errors.shape}; expected one shape (lags,)")
    below = np.flatnonzero(values < np.exp(-1))
    if len(below) == 0:
        return Relaxation(NAN, NAN, NOT_DECAYED)
    after = int(below[0])
    if after == 0:
        return Relaxation(NAN, NAN, TOO_FAST)
    low, high = np.log(times_ps[after - 1 : after + 1])
    slope = (values[after] - values[after - 1]) / (high - low)
    fraction = (np.exp(-1) - values[after - 1]) / (values[after] - values[after - 1])
    tau = float(np.exp(low + fraction * (high - low)))
    error = abs(errors[after - 1] * (1 - fraction) + errors[after] * fraction) / abs(slope) * tau
    return Relaxation(tau, float(error), OK if run_ps >= 3 * tau else RUN_TOO_SHORT)


def stretched_exponential(times_ps: Array, values: Array) -> Stretched:
    """Fit A exp[−(t/τ)^β] to C(t) between 0.9 and 0.02, once it has fallen below 1/e.

    A in (0, 1] leaves out what decays before the first fitted lag. Least squares
    in C, every lag alike. Source: Williams and Watts, DOI 10.1039/TF9706600080.

    Parameters
    ----------
    times_ps
        Lags in ps, shape (lags,).
    values
        C(t), shape (lags,).
    """
    from scipy.optimize import curve_fit
    from scipy.special import gamma

    below = np.flatnonzero(values < np.exp(-1))
    if len(below) == 0:
        return Stretched(NAN, NAN, NAN, NAN, NOT_DECAYED)
    used = (values <= KWW_RANGE[1]) & (values >= KWW_RANGE[0])
    noise = np.flatnonzero(values < KWW_RANGE[0])
    if len(noise):
        used[noise[0] :] = False
    if np.count_nonzero(used) < 5:
        return Stretched(NAN, NAN, NAN, NAN, TOO_FEW_POINTS)

    def model(t: Array, ln_tau: float, beta: float, amplitude: float) -> Array:
        return np.asarray(amplitude * np.exp(-((t / np.exp(ln_tau)) ** beta)))

    start = (np.log(times_ps[below[0]]), 0.8, 0.95)
    try:
        (ln_tau, beta, amplitude), _ = curve_fit(
            model, times_ps[used], values[used], start, bounds=([-np.inf, 0.1, 0.05], [np.inf, 2.0, 1.0])
        )
    except RuntimeError:
        return Stretched(NAN, NAN, NAN, NAN, NO_FIT)
    tau = float(np.exp(ln_tau))
    return Stretched(tau, float(beta), float(amplitude), float(tau / beta * gamma(1 / beta)), OK)


def diffusion(times_ps: Array, msd: Array, errors: Array, run_ps: float) -> Diffusion:
    """D from MSD = 6Dt + c over the last decade of lags, below a third of the run, that have an error.

    The points share their time origins, so their errors are not averaged down: the
    relative error of D is the largest among them. Verdict `not diffusive` where
    dln MSD/dln t differs from 1 by more than 0.1.

    Parameters
    ----------
    times_ps
        Lags in ps, shape (lags,).
    msd, errors
        Mean square displacement and its error in Å², shape (lags,).
    run_ps
        Length of the run in ps.
    """
    known = (times_ps <= run_ps / 3 * (1 + 1e-9)) & np.isfinite(errors)
    if known.any():
        known &= times_ps >= times_ps[known][-1] / 10
    if np.count_nonzero(known) < 3 or np.any(msd[known] <= 0):
        return Diffusion(NAN, NAN, NAN, TOO_FEW_POINTS)
    t, r2 = times_ps[known], msd[known]
    slope = float(np.polyfit(np.log(t), np.log(r2), 1)[0])
    if abs(slope - 1) > SLOPE_TOLERANCE:
        return Diffusion(NAN, NAN, slope, NOT_DIFFUSIVE)
    coefficient = float(np.polyfit(t, r2, 1, w=1 / r2)[0]) / 6
    relative = float(np.max(errors[known] / r2))
    return Diffusion(coefficient, relative * coefficient, slope, OK)


def arrhenius(temperatures_kelvin: Array, times: Array, errors: Array) -> Arrhenius:
    """Straight line through ln τ against 1/T, weighted where every error is known.

    With known errors, those of the fit follow from them, widened by √χ²_red where
    the points scatter more; without, from the scatter alone. States whose τ is NaN
    are left out; fewer than three make `too few states`.

    Parameters
    ----------
    temperatures_kelvin
        T in K, shape (states,).
    times, errors
        τ and its error in one unit, shape (states,). 1/D for diffusion.
    """
    if not temperatures_kelvin.shape == times.shape == errors.shape:
        raise DataError(
            f"shapes {temperatures_kelvin.shape}, {times.shape}, {errors.shape}; expected one shape (states,)"
        )
    used = np.isfinite(times) & (times > 0)
    count = int(np.count_nonzero(used))
    if len(np.unique(temperatures_kelvin[used])) < FEWEST_STATES:
        return Arrhenius(NAN, NAN, NAN, NAN, NAN, count, TOO_FEW_STATES)
    inverse = 1 / (GAS_CONSTANT_KJ_MOL_K * temperatures_kelvin[used])
    logarithm, sigma = np.log(times[used]), errors[used] / times[used]
    weighted = bool(np.all(np.isfinite(sigma) & (sigma > 0)))
    weight = 1 / sigma**2 if weighted else np.ones(count)
    design = np.stack([np.ones(count), inverse - inverse.mean()], axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    intercept, energy = covariance @ (design.T @ (weight * logarithm))
    residual = float(np.sum(weight * (logarithm - design @ [intercept, energy]) ** 2)) / (count - 2)
    covariance = covariance * (max(1.0, residual) if weighted else residual)
    # back from the centred abscissa to ln tau at 1/T = 0
    to_origin = np.array([1.0, -inverse.mean()])
    return Arrhenius(
        energy=float(energy),
        energy_error=float(np.sqrt(covariance[1, 1])),
        tau_infinity=float(np.exp(intercept - energy * inverse.mean())),
        ln_tau_infinity_error=float(np.sqrt(to_origin @ covariance @ to_origin)),
        reduced_chi2=residual if weighted else NAN,
        states=count,
        verdict=OK,
    )


def local_energies(temperatures_kelvin: Array, times: Array, errors: Array) -> tuple[Array, Array, Array]:
    """E_app = R dln τ/d(1/T) in kJ/mol between neighbouring temperatures, without a model.

    Parameters
    ----------
    temperatures_kelvin
        T in K, distinct and increasing, shape (states,).
    times, errors
        τ and its error in one unit, shape (states,).

    Returns
    -------
    middle, energy, error
        Harmonic mean of the two temperatures in K, E_app and its propagated error in kJ/mol,
        shape (states − 1,); NaN beside a state without τ.
    """
    if np.any(np.diff(temperatures_kelvin) <= 0):
        raise DataError(f"temperatures {temperatures_kelvin} K; expected distinct increasing ones")
    inverse = 1 / temperatures_kelvin
    relative = errors / times
    span = np.diff(inverse) / GAS_CONSTANT_KJ_MOL_K
    energy = np.diff(np.log(times)) / span
    error = np.sqrt(relative[1:] ** 2 + relative[:-1] ** 2) / np.abs(span)
    return 2 / (inverse[1:] + inverse[:-1]), energy, error


def energies_from_prefactor(
    temperatures_kelvin: Array, times: Array, errors: Array, fit: Arrhenius
) -> tuple[Array, Array]:
    """E(T) = RT ln(τ/τ∞) in kJ/mol with τ∞ of the Arrhenius fit, and its error; shape (states,).

    The errors of τ and τ∞ are added in quadrature, though τ∞ comes from the same τ.
    """
    thermal = GAS_CONSTANT_KJ_MOL_K * temperatures_kelvin
    energy = thermal * np.log(times / fit.tau_infinity)
    return energy, thermal * np.sqrt((errors / times) ** 2 + fit.ln_tau_infinity_error**2)
