"""Errors from independent blocks of time, and whether a run allows them at all.

Time origins closer than about 2.5 relaxation times are not independent, however many there are: an
error is taken from blocks at least that long, or not at all. A state that is not in equilibrium, or
not long enough to tell, keeps its numbers and says so in a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlpwf.dynamics.trajectory import Array, Index
from mlpwf.dynamics.verdicts import EQUILIBRATED, TOO_SHORT_TO_TELL
from mlpwf.errors import DataError

if TYPE_CHECKING:
    from mlpwf.dynamics.moments import Moments

NAN = float("nan")
MIN_BLOCKS = 3  # fewer give no error bar
MAX_BLOCKS = 50  # more would sharpen the error of an error only
BLOCK_TAUS = 2.5  # relaxation times that make a block independent of the next
SIGNIFICANT = 3.0  # standard errors that count as a difference
MIN_P_VALUE = 0.01  # above it no drift is assumed

AGING = "aging: slower in the second half"
QUICKENING = "faster in the second half"
DRIFTS = "energy drifts"


@dataclass(frozen=True)
class Estimate:
    """A statistic with its standard error, both NaN where they have no meaning.

    `bias` is the jackknife's estimate of the value's own bias, which is not subtracted.
    """

    value: float
    error: float
    bias: float
    blocks: int


def jackknife(statistic: Callable[..., Array], blocks: Sequence[Array], sizes: Array) -> Estimate:
    """A function of sums over blocks, with its error by leaving out one block after the other.

    With pseudo-values θ_j = h_j θ − (h_j − 1) θ_(j), h_j = n/m_j, the variance is
    (1/g) Σ (θ_j − θ̄)²/(h_j − 1): the jackknife for blocks of unequal size m_j. Source: Busing
    et al., Stat. Comput. 9, 3 (1999), DOI 10.1023/A:1008800423698. The error is widened by Student's t: see
    `widening`.

    Parameters
    ----------
    statistic
        Function of the sums, each with a leading axis of any length, which the result keeps.
    blocks
        Sums over each block, shape (blocks, ...) each.
    sizes
        Weight m_j of each block, shape (blocks,).

    Returns
    -------
    Estimate
        Error and bias are NaN below three blocks.
    """
    totals = [np.sum(block, axis=0, keepdims=True) for block in blocks]
    value = float(np.squeeze(statistic(*totals)))
    count = len(sizes)
    if count < MIN_BLOCKS:
        return Estimate(value, NAN, NAN, count)
    left = statistic(*(total - block for total, block in zip(totals, blocks, strict=True)))
    ratio = float(np.sum(sizes)) / np.asarray(sizes, dtype=np.float64)
    pseudo = ratio * value - (ratio - 1) * left
    centre = float(pseudo.mean())
    error = widening(count) * float(np.sqrt(np.mean((pseudo - centre) ** 2 / (ratio - 1))))
    return Estimate(value, error, value - centre, count)


@cache
def widening(blocks: int) -> float:
    """Factor by which an error from few blocks is widened: two such errors hold 95.45 %, as for many blocks.

    Half the quantile of Student's t with blocks − 1 degrees of freedom: 2.26 for 3 blocks, 1.43 for 5, 1.05
    for 20. Source: Student, DOI 10.1093/biomet/6.1.1.
    """
    from scipy.special import erf
    from scipy.stats import t

    return float(t.ppf((1 + erf(np.sqrt(2))) / 2, blocks - 1)) / 2


def block_numbers(moments: Moments, lag: int, shortest_ps: float, maximum: int = MAX_BLOCKS) -> Index:
    """Block of each window of time origins, −1 where the lag has no pair; shape (W,).

    Blocks hold whole windows of one run and are no shorter than `shortest_ps` nor the lag; where there
    are several runs, each is a block at least. At most `maximum` blocks.
    """
    shortest = max(shortest_ps, float(moments.lags_ps[lag]))
    return split_windows(moments.pairs[:, lag] > 0, moments.window_ps, shortest, maximum, moments.run)


def split_windows(
    used: NDArray[np.bool_], window_ps: Array | float, shortest_ps: float, maximum: int, run: Index | None = None
) -> Index:
    """Block of each used window, −1 for others: as many as are no shorter than `shortest_ps`, up to `maximum`."""
    numbers = np.full(len(used), -1, dtype=np.int64)
    runs = np.zeros(len(used), dtype=np.int64) if run is None else run
    widths = np.broadcast_to(window_ps, len(used))
    members = [np.flatnonzero(used & (runs == each)) for each in np.unique(runs)]
    members = [part for part in members if len(part)]
    fits = np.array([_whole(len(part), float(widths[part[0]]), shortest_ps) for part in members], dtype=np.int64)
    if len(members) > 1:
        fits = np.maximum(fits, 1)
    if fits.sum() > maximum:
        fits = np.maximum(fits * maximum // fits.sum(), 1)
    start = 0
    for part, count in zip(members, fits, strict=True):
        for offset, block in enumerate(np.array_split(part, max(count, 1))):
            numbers[block] = start + offset
        start += max(int(count), 1)
    return numbers


def _whole(windows: int, window: float, shortest: float) -> int:
    """Blocks of whole windows, none below `shortest`, that fit in a number of windows."""
    if not np.isfinite(shortest):
        return 0
    each = max(int(np.ceil(shortest / window * (1 - 1e-9))), 1)
    return windows // each


def block_sums(values: NDArray[np.generic], numbers: Index) -> Array:
    """Sums of values (W, ...) over the windows of each block, shape (blocks, ...)."""
    count = int(numbers.max()) + 1
    summed = np.zeros((count, *values.shape[1:]))
    used = numbers >= 0
    np.add.at(summed, numbers[used], values[used])
    return summed


def independent_windows(moments: Moments, lag: int, tau_ps: float) -> float:
    """n_eff = Σ_runs (t_run − lag)/max(2.5 τ, lag): how many independent looks at the lag the runs hold.

    The relative error of χ4 is about √(2/n_eff).
    """
    left = np.maximum(moments.runs_ps - moments.lags_ps[lag], 0.0)
    return float(np.sum(left) / max(BLOCK_TAUS * tau_ps, float(moments.lags_ps[lag])))


@dataclass(frozen=True)
class Crossing:
    """Where C(t) falls through 1/e.

    Attributes
    ----------
    time
        τ in the unit of the lags; NaN if C does not fall below 1/e, or did before the first lag.
    error
        What τ may be off by, as C between two lags is not known.
    slope
        dC/dln t there.
    before
        Lag before it, as an index; the next one is after it.
    fraction
        How far from the one to the other τ is, in ln t.
    """

    time: float
    error: float
    slope: float
    before: int
    fraction: float


def crossing(times: Array, values: Array) -> Crossing:
    """Time of C = 1/e between lags, from z = ln(−ln C), which is a line in ln t for any stretched exponential.

    z is interpolated by a monotone cubic through two lags on either side (Fritsch and Butland, DOI
    10.1137/0905021). What the curvature of z adds, the difference to a straight line between the two nearest
    lags, stands for what remains unknown; where those are a factor of 2 or more apart, or one is the first,
    so is the difference to a line of ln C in t. Where C is no number between 0 and 1 there, it is taken as a
    line in ln t, and the difference to a line in t is the error.

    Parameters
    ----------
    times
        Lags, increasing, shape (lags,).
    values
        C, shape (lags,).
    """
    below = np.flatnonzero(values < np.exp(-1))
    if len(below) == 0 or below[0] == 0:
        return Crossing(NAN, NAN, NAN, -1, NAN)
    k = int(below[0])
    ends, between = values[k - 1 : k + 1], times[k - 1 : k + 1]
    low, high = np.log(between)
    if not (ends[0] < 1 and ends[1] > 0):
        part = float((ends[0] - np.exp(-1)) / (ends[0] - ends[1]))
        found = float(np.exp(low + part * (high - low)))
        straight = float(between[0] + part * (between[1] - between[0]))
        return Crossing(found, abs(straight - found), float((ends[1] - ends[0]) / (high - low)), k - 1, part)
    z = np.log(-np.log(ends))
    at = _monotone_root(times, values, k)
    line = low - z[0] / (z[1] - z[0]) * (high - low)
    unknown = abs(at - line)
    if k == 1 or between[1] >= 2 * between[0]:
        logarithms = np.log(ends)
        by_rate = between[0] + (-1 - logarithms[0]) / (logarithms[1] - logarithms[0]) * (between[1] - between[0])
        unknown = max(unknown, abs(at - float(np.log(by_rate))))
    found = float(np.exp(at))
    # C ln C = −1/e at the crossing
    slope = -float((z[1] - z[0]) / (high - low) / np.e)
    return Crossing(found, found * unknown, slope, k - 1, (at - low) / (high - low))


def _monotone_root(times: Array, values: Array, k: int) -> float:
    """ln t at which the monotone cubic through ln(−ln C) at up to two lags on either side is 0, before lag k."""
    from scipy.interpolate import PchipInterpolator
    from scipy.optimize import brentq

    first, last = k - 1, k
    if k >= 2 and 0 < values[k - 2] < 1:
        first = k - 2
    if k + 1 < len(values) and 0 < values[k + 1] < 1:
        last = k + 1
    x = np.log(times[first : last + 1])
    cubic = PchipInterpolator(x, np.log(-np.log(values[first : last + 1])))
    low, high = np.log(times[k - 1 : k + 1])
    return float(brentq(cubic, low, high)) if cubic(low) < 0 else float(low)


def decay_time(times_ps: Array, values: Array) -> float:
    """Time at which values (lags,) fall through 1/e; NaN if they do not, or did before. See `crossing`."""
    return crossing(times_ps, values).time


def memory_time(times_ps: Array, values: Array) -> float:
    """Relaxation time that blocks must exceed: of C = 1/e; the first lag if faster, the last if slower."""
    tau = decay_time(times_ps, values)
    if np.isfinite(tau):
        return tau
    return float(times_ps[0] if values[0] < np.exp(-1) else times_ps[-1])


@dataclass(frozen=True)
class Halves:
    """A correlator in the first and the second half of a run, compared at one lag."""

    lag_ps: float
    first: Estimate
    second: Estimate
    score: float
    verdict: str


def compare_halves(moments: Moments, name: str, group: str = "all") -> Halves:
    """Whether a correlator is the same for origins in both halves of the run, near its relaxation time.

    `aging: slower in the second half` and its opposite need a difference of three standard errors; where
    a half holds fewer than three independent blocks it is `too short to tell`.

    Parameters
    ----------
    moments
        Of one or more runs.
    name, group
        Which weight, of which molecules.
    """
    g, k = moments.group(group), moments.weight(name)
    values = 1 - moments.decay[:, :, g, k].sum(axis=0) / moments.pairs.sum(axis=0)
    tau = memory_time(moments.lags_ps, values)
    halves = moments.halves()
    seen = np.flatnonzero(np.all([half.pairs.sum(axis=0) > 0 for half in halves], axis=0))
    if len(seen) == 0:
        nothing = Estimate(NAN, NAN, NAN, 0)
        return Halves(NAN, nothing, nothing, NAN, TOO_SHORT_TO_TELL)
    lag = int(seen[np.argmin(np.abs(np.log(moments.lags_ps[seen] / tau)))])
    found = []
    for half in halves:
        numbers = block_numbers(half, lag, BLOCK_TAUS * tau)
        pairs = block_sums(half.pairs[:, lag], numbers)
        decay = block_sums(half.decay[:, lag, g, k], numbers)
        found.append(jackknife(lambda d, n: 1 - d / n, [decay, pairs], pairs))
    spread = float(np.hypot(found[0].error, found[1].error))
    score = (found[1].value - found[0].value) / spread if spread > 0 else NAN
    if not np.isfinite(score):
        verdict = TOO_SHORT_TO_TELL
    elif abs(score) < SIGNIFICANT:
        verdict = EQUILIBRATED
    else:
        verdict = AGING if score > 0 else QUICKENING
    return Halves(float(moments.lags_ps[lag]), found[0], found[1], float(score), verdict)


@dataclass(frozen=True)
class Drift:
    """Slope of a quantity in its unit per ps, the change over the run, and whether either is significant."""

    slope: float
    error: float
    change: float
    verdict: str


def energy_drift(times_ps: Array, energies: Array, tau_ps: float) -> Drift:
    """Linear trend of the energy through means over blocks of at least 2.5 τ, with a t-test of the slope.

    Parameters
    ----------
    times_ps
        Times in ps, increasing, shape (n,).
    energies
        Energy at each, in any unit, shape (n,).
    tau_ps
        Relaxation time in ps.
    """
    from scipy.stats import linregress

    if times_ps.shape != energies.shape or times_ps.ndim != 1:
        raise DataError(f"times {times_ps.shape} and energies {energies.shape}; expected one shape (n,)")
    if not np.isfinite(energies).all():
        raise DataError("energies hold NaN; the run has failed: simulate this state again")
    run = float(times_ps[-1] - times_ps[0]) if len(times_ps) > 1 else 0.0
    maximum = int(run / (BLOCK_TAUS * tau_ps)) if np.isfinite(tau_ps) and tau_ps > 0 else 0
    count = min(maximum, MAX_BLOCKS, len(times_ps))
    if count < MIN_BLOCKS + 1:
        return Drift(NAN, NAN, NAN, TOO_SHORT_TO_TELL)
    parts = np.array_split(np.arange(len(times_ps)), count)
    fit = linregress([times_ps[part].mean() for part in parts], [energies[part].mean() for part in parts])
    verdict = DRIFTS if fit.pvalue < MIN_P_VALUE else EQUILIBRATED
    return Drift(float(fit.slope), float(fit.stderr), float(fit.slope) * run, verdict)
