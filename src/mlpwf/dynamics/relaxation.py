"""Relaxation times, stretching and diffusion, each with a verdict.

A number that has no meaning is NaN, and its verdict says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpwf.dynamics.correlators import memory, slowest_motion
from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.trajectory import Array, Index
from mlpwf.dynamics.uncertainty import BLOCK_TAUS, MIN_BLOCKS, block_numbers, crossing, widening
from mlpwf.dynamics.verdicts import OK
from mlpwf.errors import DataError

NAN = float("nan")
NOT_DECAYED = "not decayed"
RUN_TOO_SHORT = "run shorter than 3 tau"
TOO_FAST = "faster than the first lag"
TOO_FEW_POINTS = "too few points"
NO_FIT = "fit failed"
NOT_DIFFUSIVE = "not diffusive"

KWW_RANGE = (0.02, 0.9)  # values of C the stretched exponential is fitted to
LAGS_IN_RUN = 6  # of the longest lag of D
SHARED = 0.25  # of the variance of an MSD: what blocks as long as the lag do not see
SLOPE_TOLERANCE = 0.1  # |dln MSD/dln t − 1| that counts as diffusion


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
    """A exp[−(t/τ)^β] with its mean time τ/β Γ(1/β); times in ps. Errors are NaN where no block could be left out."""

    tau_ps: float
    tau_error_ps: float
    beta: float
    beta_error: float
    amplitude: float
    mean_ps: float
    mean_error_ps: float
    verdict: str


@dataclass(frozen=True)
class Diffusion:
    """Diffusion coefficient in Å²/ps, its error, and the slope dln MSD/dln t of the range it is from."""

    coefficient: float
    error: float
    slope: float
    verdict: str


def relaxation_time(times_ps: Array, values: Array, errors: Array, run_ps: float) -> Relaxation:
    """Time of C(τ) = 1/e, between lags by `uncertainty.crossing`.

    The error is that of C at the crossing over |dC/dln t|, and that of the interpolation, added in squares.

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
    found = crossing(times_ps, values)
    if not np.isfinite(found.time):
        return Relaxation(NAN, NAN, TOO_FAST if values[0] < np.exp(-1) else NOT_DECAYED)
    spread = errors[found.before] * (1 - found.fraction) + errors[found.before + 1] * found.fraction
    error = float(np.hypot(spread / abs(found.slope) * found.time, found.error))
    return Relaxation(found.time, error, OK if run_ps >= 3 * found.time else RUN_TOO_SHORT)


def stretched_exponential(times_ps: Array, values: Array, left_out: Array | None = None) -> Stretched:
    """Fit A exp[−(t/τ)^β] to C(t) between 0.9 and 0.02, once it has fallen below 1/e.

    A in (0, 1] leaves out what decays before the first fitted lag. Least squares
    in C, every lag alike: neighbouring lags share their noise, so the errors come from
    the jackknife and not from the fit. Source: Williams and Watts, DOI 10.1039/TF9706600080.

    Parameters
    ----------
    times_ps
        Lags in ps, shape (lags,).
    values
        C(t), shape (lags,).
    left_out
        C(t) with one independent block of time origins left out at a time, shape (blocks, lags);
        see `curves_left_out`. Fewer than three blocks give no error.
    """
    if values.shape != times_ps.shape or times_ps.ndim != 1:
        raise DataError(f"shapes {times_ps.shape}, {values.shape}; expected one shape (lags,)")
    found, verdict = _stretched(times_ps, values)
    if verdict != OK:
        return Stretched(NAN, NAN, NAN, NAN, NAN, NAN, NAN, verdict)
    errors = np.full(4, NAN)
    again = [_stretched(times_ps, one, found) for one in (left_out if left_out is not None else [])]
    fits = np.array([parameters for parameters, word in again if word == OK])
    if len(fits) == len(again) >= MIN_BLOCKS:
        errors = _spread_left_out(fits)
    tau, beta, amplitude, mean = found
    return Stretched(tau, errors[0], beta, errors[1], amplitude, mean, errors[3], OK)


def curves_left_out(moments: Moments, name: str, group: str = "all", maximum: int = 20) -> Array:
    """C(t) with one block of time origins of at least 2.5 τ left out at a time, shape (blocks, lags).

    NaN at lags that only the block left out holds; no rows where fewer than three blocks fit.
    """
    g, k = moments.group(group), moments.weight(name)
    tau = memory(moments, name, group)
    near = int(np.argmin(np.abs(np.log(moments.lags_ps / tau))))
    numbers = block_numbers(moments, near, BLOCK_TAUS * tau, maximum)
    return 1 - _left_out(moments.decay[:, :, g, k], moments, numbers)


def squares_left_out(moments: Moments, longest_ps: float, group: str = "all", maximum: int = 20) -> Array:
    """MSD(t) with one block of time origins left out at a time, shape (blocks, lags).

    Blocks are no shorter than 2.5 relaxation times nor than the longest lag wanted; no rows where fewer than
    three fit.
    """
    if not longest_ps > 0:
        return np.empty((0, len(moments.lags_ps)))
    lag = int(np.argmin(np.abs(moments.lags_ps - longest_ps)))
    numbers = block_numbers(moments, lag, BLOCK_TAUS * slowest_motion(moments, group), maximum)
    return _left_out(moments.squared[:, :, moments.group(group)], moments, numbers)


def _left_out(sums: Array, moments: Moments, numbers: Index) -> Array:
    """Means over pairs of sums (windows, lags), without one block after the other; no rows below three blocks."""
    blocks = int(numbers.max()) + 1
    if blocks < MIN_BLOCKS:
        return np.empty((0, len(moments.lags_ps)))
    means = []
    for block in range(blocks):
        kept = numbers != block
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(sums[kept].sum(axis=0) / moments.pairs[kept].sum(axis=0))
    return np.array(means)


def _stretched(
    times_ps: Array, values: Array, start: tuple[float, float, float, float] | None = None
) -> tuple[tuple[float, float, float, float], str]:
    """τ, β, A and the mean time of the best stretched exponential, and the verdict."""
    from scipy.optimize import curve_fit
    from scipy.special import gamma

    nothing = (NAN, NAN, NAN, NAN)
    known = np.isfinite(values)
    times_ps, values = times_ps[known], values[known]
    below = np.flatnonzero(values < np.exp(-1))
    if len(below) == 0:
        return nothing, NOT_DECAYED
    used = (values <= KWW_RANGE[1]) & (values >= KWW_RANGE[0])
    noise = np.flatnonzero(values < KWW_RANGE[0])
    if len(noise):
        used[noise[0] :] = False
    if np.count_nonzero(used) < 5:
        return nothing, TOO_FEW_POINTS

    def model(t: Array, ln_tau: float, beta: float, amplitude: float) -> Array:
        return np.asarray(amplitude * np.exp(-((t / np.exp(ln_tau)) ** beta)))

    guess = (np.log(times_ps[below[0]]), 0.8, 0.95) if start is None else (np.log(start[0]), *start[1:3])
    try:
        (ln_tau, beta, amplitude), _ = curve_fit(
            model, times_ps[used], values[used], guess, bounds=([-np.inf, 0.1, 0.05], [np.inf, 2.0, 1.0])
        )
    except RuntimeError:
        return nothing, NO_FIT
    tau = float(np.exp(ln_tau))
    return (tau, float(beta), float(amplitude), float(tau / beta * gamma(1 / beta))), OK


def _spread_left_out(found: Array) -> Array:
    """Jackknife error of what was found with one of (blocks, ...) left out at a time, widened for few blocks."""
    count = len(found)
    return np.asarray(
        widening(count) * np.sqrt((count - 1) / count * np.sum((found - found.mean(axis=0)) ** 2, axis=0))
    )


def diffusive_lags(times_ps: Array, errors: Array, run_ps: float) -> NDArray[np.bool_]:
    """The last decade of lags, below a sixth of the run, that have an error; shape (lags,)."""
    known = (times_ps <= run_ps / LAGS_IN_RUN * (1 + 1e-9)) & np.isfinite(errors)
    if known.any():
        known &= times_ps >= times_ps[known][-1] / 10
    return np.asarray(known)


def diffusion(times_ps: Array, msd: Array, errors: Array, run_ps: float, left_out: Array | None = None) -> Diffusion:
    """D from MSD = 6Dt + c over the last decade of lags, below a sixth of the run, that have an error.

    A sixth leaves five blocks as long as the lag, from which an error can be told. The lags share their
    displacements, and the slope is less certain than any one of them: its error is from the jackknife. Blocks
    of time origins of length B share displacements over a lag L with the next block, by which the jackknife
    sees 1 − L/4B of the variance of a random walk: the error is divided by the root of that, with L = B.
    Verdict `not diffusive` where dln MSD/dln t differs from 1 by more than 0.1.

    Parameters
    ----------
    times_ps
        Lags in ps, shape (lags,).
    msd, errors
        Mean square displacement and its error in Å², shape (lags,).
    run_ps
        Length of the run in ps.
    left_out
        MSD with one independent block of time origins left out at a time, shape (blocks, lags); see
        `squares_left_out`. Fewer than three blocks give no error.
    """
    known = diffusive_lags(times_ps, errors, run_ps)
    if np.count_nonzero(known) < 3 or np.any(msd[known] <= 0):
        return Diffusion(NAN, NAN, NAN, TOO_FEW_POINTS)
    t, r2 = times_ps[known], msd[known]
    slope = float(np.polyfit(np.log(t), np.log(r2), 1)[0])
    if abs(slope - 1) > SLOPE_TOLERANCE:
        return Diffusion(NAN, NAN, slope, NOT_DIFFUSIVE)
    weights = 1 / r2
    coefficient = float(np.polyfit(t, r2, 1, w=weights)[0]) / 6
    error = NAN
    if left_out is not None and len(left_out) >= MIN_BLOCKS:
        again = np.polyfit(t, left_out[:, known].T, 1, w=weights)[0] / 6
        error = float(_spread_left_out(again) / np.sqrt(1 - SHARED))
    return Diffusion(coefficient, error, slope, OK)
