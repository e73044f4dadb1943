"""Has the run come to equilibrium? τ against waiting time, the drift of the energy, the run in τ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.errors import DataError

NAN = float("nan")
EQUILIBRATED = "equilibrated"
AGING = "aging"
RELAXING = "drifting"
UNDECIDED = "too short to tell"

FEWEST_WINDOWS = 3
RUN_IN_TAU = 10.0  # a shorter run cannot show that it has aged
SIGNIFICANCE = 0.01  # of a false alarm: there are many states and correlators


@dataclass(frozen=True)
class Aging:
    """Whether τ depends on the waiting time.

    Attributes
    ----------
    rate, rate_error
        Growth of ln τ over the whole run, from a line through ln τ(t_w), and its error.
    halves, halves_error
        ln of τ in the second half of the windows over τ in the first, and its error.
    p_value
        Probability of a growth or a fall at least this large in equilibrium.
    verdict
        `equilibrated`; `aging` (τ grows); `drifting` (τ falls, as after heating); `too short to tell`.
    """

    rate: float
    rate_error: float
    halves: float
    halves_error: float
    p_value: float
    verdict: str


def waiting_time_test(waiting_ps: Array, times_ps: Array, errors_ps: Array, run_ps: float) -> Aging:
    """Test τ(t_w) of consecutive windows for a trend.

    A line through ln τ against t_w, weighted by the errors of τ; they are widened by √χ²_red where
    the windows scatter more, and the slope is tested by Student's t with windows − 2 degrees
    of freedom. A run shorter than 10 τ, or a window whose τ is not known, leaves it undecided,
    unless what is known already shows a trend.

    Parameters
    ----------
    waiting_ps
        Waiting time of each window: its middle, since the start of the run, in ps, increasing, shape (windows,).
    times_ps, errors_ps
        τ of each window and its error in ps, shape (windows,); NaN where C did not decay.
    run_ps
        Length of the run in ps.
    """
    from scipy.stats import t as student

    if not waiting_ps.shape == times_ps.shape == errors_ps.shape or waiting_ps.ndim != 1:
        raise DataError(f"shapes {waiting_ps.shape}, {times_ps.shape}, {errors_ps.shape}; expected one (windows,)")
    used = np.isfinite(times_ps) & (times_ps > 0)
    count = int(np.count_nonzero(used))
    if count < FEWEST_WINDOWS:
        return Aging(NAN, NAN, NAN, NAN, NAN, UNDECIDED)
    x, y = waiting_ps[used] / run_ps, np.log(times_ps[used])
    sigma = errors_ps[used] / times_ps[used]
    known = bool(np.all(np.isfinite(sigma) & (sigma > 0)))
    weight = 1 / sigma**2 if known else np.ones(count)
    centred = x - (weight * x).sum() / weight.sum()
    spread = (weight * centred**2).sum()
    rate = float((weight * centred * y).sum() / spread)
    mean = (weight * y).sum() / weight.sum()
    reduced = float((weight * (y - mean - rate * centred) ** 2).sum()) / (count - 2)
    widen = max(1.0, reduced) if known else reduced
    error = float(np.sqrt(widen / spread))
    p = float(2 * student.sf(abs(rate) / error, count - 2)) if error > 0 else NAN
    halves, halves_error = _halves(y, weight, widen)
    if p < SIGNIFICANCE:
        verdict = AGING if rate > 0 else RELAXING
    elif count < len(times_ps) or run_ps < RUN_IN_TAU * float(times_ps[used].max()):
        verdict = UNDECIDED
    else:
        verdict = EQUILIBRATED
    return Aging(rate, error, halves, halves_error, p, verdict)


@dataclass(frozen=True)
class Drift:
    """Change of a quantity over the run by a straight line, its error, and whether it is beyond chance."""

    change: float
    error: float
    p_value: float
    verdict: str


def drift(values: Array, blocks: int = 10) -> Drift:
    """Change of a time series (the potential energy, the density) from the first to the last value.

    The means of contiguous blocks are taken as independent, so a block must be longer than the
    quantity's own relaxation; the slope through them is tested by Student's t.

    Parameters
    ----------
    values
        Evenly spaced in time, shape (n,).
    blocks
        How many blocks, at least 4.
    """
    from scipy.stats import linregress

    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError(f"series of shape {values.shape}; expected finite numbers of shape (n,)")
    if blocks < 4 or len(values) < blocks:
        return Drift(NAN, NAN, NAN, UNDECIDED)
    means = np.array([part.mean() for part in np.array_split(values, blocks)])
    if np.ptp(means) == 0:
        return Drift(0.0, 0.0, 1.0, EQUILIBRATED)
    fit = linregress((np.arange(blocks) + 0.5) / blocks, means)
    return Drift(fit.slope, fit.stderr, fit.pvalue, RELAXING if fit.pvalue < SIGNIFICANCE else EQUILIBRATED)


def _halves(y: Array, weight: Array, widen: float) -> tuple[float, float]:
    """Weighted mean of the second half less that of the first (a middle window counts in neither), with error."""
    half = len(y) // 2
    first, second = slice(None, half), slice(len(y) - half, None)
    means = [(weight[s] * y[s]).sum() / weight[s].sum() for s in (first, second)]
    variance = widen * (1 / weight[first].sum() + 1 / weight[second].sum())
    return float(means[1] - means[0]), float(np.sqrt(variance))
