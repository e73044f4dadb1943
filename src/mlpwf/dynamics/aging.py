"""Has the run come to equilibrium? τ against waiting time, and the length of the run in τ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpwf.dynamics.correlators import memory
from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.relaxation import relaxation_time
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.uncertainty import BLOCK_TAUS, MIN_BLOCKS, block_numbers, block_sums, jackknife
from mlpwf.dynamics.verdicts import EQUILIBRATED, TOO_SHORT_TO_TELL
from mlpwf.errors import DataError

NAN = float("nan")
AGING = "aging"
RELAXING = "drifting"

MIN_WINDOWS = 3
RUN_IN_TAU = 10.0  # a shorter run cannot show that it has aged
SIGNIFICANCE = 0.0027  # of a false alarm, three standard errors: there are many states and correlators


@dataclass(frozen=True)
class Aging:
    """Whether τ depends on the waiting time.

    Attributes
    ----------
    rate, rate_error
        Growth of ln τ over the whole run, from a line through ln τ(t_w), and its error.
    p_value
        Probability of a growth or a fall at least this large in equilibrium.
    verdict
        `equilibrated`; `aging` (τ grows); `drifting` (τ falls, as after heating); `too short to tell`.
    """

    rate: float
    rate_error: float
    p_value: float
    verdict: str


def waiting_time_test(waiting_ps: Array, times_ps: Array, run_ps: float) -> Aging:
    """Test τ(t_w) of consecutive windows of one length for a trend.

    The slope of a line through ln τ against t_w is tested by Student's t with windows − 2 degrees of
    freedom, from the scatter of the windows alone: each window's own error, from few blocks, is too
    uncertain to weigh with. A run shorter than 10 τ, or a window whose τ is not known, leaves it
    undecided, unless what is known already shows a trend.

    Parameters
    ----------
    waiting_ps
        Waiting time of each window: its middle, since the start of its run, in ps, shape (windows,).
    times_ps
        τ of each window in ps, shape (windows,); NaN where C did not decay.
    run_ps
        Length of the run in ps.
    """
    from scipy.stats import linregress

    if waiting_ps.shape != times_ps.shape or waiting_ps.ndim != 1:
        raise DataError(f"shapes {waiting_ps.shape}, {times_ps.shape}; expected one shape (windows,)")
    used = np.isfinite(times_ps) & (times_ps > 0)
    count = int(np.count_nonzero(used))
    if count < MIN_WINDOWS or np.ptp(waiting_ps[used]) == 0:
        return Aging(NAN, NAN, NAN, TOO_SHORT_TO_TELL)
    x, y = waiting_ps[used] / run_ps, np.log(times_ps[used])
    fit = linregress(x, y)
    if fit.pvalue < SIGNIFICANCE:
        verdict = AGING if fit.slope > 0 else RELAXING
    elif count < len(times_ps) or run_ps < RUN_IN_TAU * float(times_ps[used].max()):
        verdict = TOO_SHORT_TO_TELL
    else:
        verdict = EQUILIBRATED
    return Aging(float(fit.slope), float(fit.stderr), float(fit.pvalue), verdict)


@dataclass(frozen=True)
class Waiting:
    """Middle of consecutive windows of time origins, τ of each and its error, in ps, shape (windows,)."""

    waiting_ps: Array
    times_ps: Array
    errors_ps: Array


def waiting_times(moments: Moments, name: str, group: str = "all", maximum: int = 8) -> Waiting:
    """τ(t_w) of one run: C = 1/e from the origins of each window alone.

    There are as many windows as hold three independent blocks each (7.5 τ), at most `maximum`; there are none where
    fewer than three fit. Of several runs, the windows of all are taken one after another.

    Parameters
    ----------
    moments
        Of one or more runs of one state.
    name, group
        Which weight, of which molecules.
    maximum
        Maximum number of windows a run.
    """
    tau = memory(moments, name, group)
    middle, times, errors = [], [], []
    for run in np.unique(moments.run):
        mine = np.flatnonzero(moments.run == run)
        run_ps = float(moments.runs_ps[run])
        count = min(maximum, int(run_ps / (MIN_BLOCKS * BLOCK_TAUS * tau)))
        if count < MIN_WINDOWS:
            continue
        parts: Any = np.array_split(mine, count)
        for number, part in enumerate(parts):
            found = _relaxation(moments.windows(part), name, group, tau)
            middle.append((number + 0.5) * run_ps / count)
            times.append(found[0])
            errors.append(found[1])
    return Waiting(np.array(middle), np.array(times), np.array(errors))


def _relaxation(moments: Moments, name: str, group: str, tau_ps: float) -> tuple[float, float]:
    """τ of some windows and its error."""
    g, k = moments.group(group), moments.weight(name)
    seen = np.flatnonzero(moments.pairs.sum(axis=0) > 0)
    values, errors = [], []
    for lag in seen:
        numbers = block_numbers(moments, int(lag), BLOCK_TAUS * tau_ps)
        pairs = block_sums(moments.pairs[:, lag], numbers)
        decay = block_sums(moments.decay[:, lag, g, k], numbers)
        found = jackknife(lambda d, n: 1 - d / n, [decay, pairs], pairs)
        values.append(found.value)
        errors.append(found.error)
    relaxation = relaxation_time(moments.lags_ps[seen], np.array(values), np.array(errors), np.inf)
    return relaxation.tau_ps, relaxation.error_ps
