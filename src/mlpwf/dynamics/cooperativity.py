"""How the activation energy, or the stretching, goes with a number of correlated molecules.

E is fitted against each number with a free intercept, and the law of proportion E ∝ N* is a
hypothesis that is tested, never an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array
from mlpwf.errors import DataError

NAN = float("nan")
OK = "ok"
TOO_FEW_STATES = "too few states"
NOT_KNOWN = "E at T_g is not known"
NO_SLOPE = "slope not known to better than half"
FEWEST_STATES = 3


@dataclass(frozen=True)
class Line:
    """y = a + b x with errors in both, and the test of y = b x.

    Attributes
    ----------
    intercept, intercept_error, slope, slope_error
        a and b; errors from the curvature of χ², widened by √χ²_red where the points scatter more.
    chi2
        Σ (y − a − bx)²/(σ_y² + b²σ_x²) at the minimum.
    proportional_chi2
        The same with a = 0.
    p_value
        Probability, were y = b x true, of an improvement by a free intercept at least this large.
    test
        `likelihood ratio` where the errors explain the scatter, else `F-test`.
    states, verdict
        Points fitted; `ok` or why there is no fit.
    """

    intercept: float
    intercept_error: float
    slope: float
    slope_error: float
    chi2: float
    proportional_chi2: float
    p_value: float
    test: str
    states: int
    verdict: str

    @property
    def proportional(self) -> str:
        """The answer of the test, in words."""
        if not np.isfinite(self.p_value):
            return "not tested"
        return "rejected at 5 %" if self.p_value < 0.05 else "not rejected at 5 %"


def line(x: Array, y: Array, x_error: Array, y_error: Array) -> Line:
    """A straight line through points with errors in both, by least effective variance.

    The errors of x and y are taken as independent. Points with a NaN are left out. Where the
    scatter exceeds the errors (χ² > n − 2) the proportional law is tested by F = Δχ²/(χ²/(n − 2))
    with 1 and n − 2 degrees of freedom, else by Δχ² with one. Source: York et al., DOI
    10.1119/1.1632486.

    Parameters
    ----------
    x, y
        Points, shape (states,).
    x_error, y_error
        Their errors, positive, shape (states,).
    """
    from scipy.stats import chi2 as chi2_law
    from scipy.stats import f as f_law

    if not x.shape == y.shape == x_error.shape == y_error.shape or x.ndim != 1:
        raise DataError(f"shapes {x.shape}, {y.shape}, {x_error.shape}, {y_error.shape}; expected one (states,)")
    used = np.isfinite(x + y + x_error + y_error) & (x_error >= 0) & (y_error > 0)
    count = int(np.count_nonzero(used))
    if count < FEWEST_STATES or np.ptp(x[used]) == 0:
        return Line(NAN, NAN, NAN, NAN, NAN, NAN, NAN, "", count, TOO_FEW_STATES)
    x, y, sx, sy = x[used], y[used], x_error[used], y_error[used]
    slope, free = _minimum(x, y, sx, sy, through_origin=False)
    intercept = _intercept(slope, x, y, sx, sy)
    proportional = _minimum(x, y, sx, sy, through_origin=True)[1]
    reduced = free / (count - 2)
    covariance = _covariance(slope, x, y, sx, sy) * max(1.0, reduced)
    gain = max(proportional - free, 0.0)
    if reduced > 1:
        test, p = "F-test", float(f_law.sf(gain / reduced, 1, count - 2))
    else:
        test, p = "likelihood ratio", float(chi2_law.sf(gain, 1))
    return Line(
        intercept=intercept,
        intercept_error=float(np.sqrt(covariance[0, 0])),
        slope=slope,
        slope_error=float(np.sqrt(covariance[1, 1])),
        chi2=free,
        proportional_chi2=proportional,
        p_value=p,
        test=test,
        states=count,
        verdict=OK,
    )


@dataclass(frozen=True)
class AtGlass:
    """N* extrapolated to T_g: the line solved for N* at E(T_g) of a law; error by bootstrap."""

    count: float
    error: float
    verdict: str


def at_glass(
    counts: Array,
    energy: Array,
    count_errors: Array,
    energy_errors: Array,
    energy_at_glass: float,
    energies_drawn: Array,
    rng: np.random.Generator,
) -> AtGlass:
    """N*(T_g) = (E(T_g) − a)/b, its error from redrawn points and redrawn laws.

    Parameters
    ----------
    counts, energy, count_errors, energy_errors
        N* and E of the states with their errors, shape (states,).
    energy_at_glass
        E(T_g) of the law, in the unit of `energy`.
    energies_drawn
        E(T_g) of the bootstrap fits of that law, shape (draws,); NaN where a fit has none.
    rng
        Random numbers.

    Returns
    -------
    AtGlass
        The error is half the distance of the 16th and 84th percentile of the draws. The verdict is
        not ok where E(T_g) is unknown or the slope is not known to better than half.
    """
    fit = line(counts, energy, count_errors, energy_errors)
    if fit.verdict != OK:
        return AtGlass(NAN, NAN, fit.verdict)
    drawn = energies_drawn[np.isfinite(energies_drawn)]
    if not np.isfinite(energy_at_glass) or len(drawn) <= len(energies_drawn) / 2:
        return AtGlass(NAN, NAN, NOT_KNOWN)
    if not fit.slope > 2 * fit.slope_error:
        return AtGlass(NAN, NAN, NO_SLOPE)
    widen = np.sqrt(max(1.0, fit.chi2 / (fit.states - 2)))
    found = []
    for glass in drawn:
        x = counts + rng.normal(size=counts.shape) * count_errors * widen
        y = energy + rng.normal(size=energy.shape) * energy_errors * widen
        again = line(x, y, count_errors, energy_errors)
        found.append((glass - again.intercept) / again.slope)
    low, high = np.percentile(found, [16, 84])
    return AtGlass((energy_at_glass - fit.intercept) / fit.slope, float(high - low) / 2, OK)


def _intercept(slope: float, x: Array, y: Array, sx: Array, sy: Array) -> float:
    weight = 1 / (sy**2 + slope**2 * sx**2)
    return float((weight * (y - slope * x)).sum() / weight.sum())


def _chi2(slope: float, intercept: float, x: Array, y: Array, sx: Array, sy: Array) -> float:
    return float((((y - intercept - slope * x) ** 2) / (sy**2 + slope**2 * sx**2)).sum())


def _minimum(x: Array, y: Array, sx: Array, sy: Array, through_origin: bool) -> tuple[float, float]:
    """Slope and χ² of the best line, searched over the angle of the line in units of the spreads."""
    from scipy.optimize import minimize_scalar

    scale = np.sqrt(np.mean(y**2) / np.mean(x**2)) if through_origin else np.ptp(y) / np.ptp(x)
    scale = scale or float(np.mean(sy)) / np.ptp(x)

    def misfit(angle: float) -> float:
        slope = float(np.tan(angle) * scale)
        return _chi2(slope, 0.0 if through_origin else _intercept(slope, x, y, sx, sy), x, y, sx, sy)

    grid = np.linspace(-np.pi / 2, np.pi / 2, 92)[1:-1]
    best = int(np.argmin([misfit(angle) for angle in grid]))
    step = grid[1] - grid[0]
    around = (max(grid[best] - step, -1.5707), min(grid[best] + step, 1.5707))
    found = minimize_scalar(misfit, bounds=around, method="bounded", options={"xatol": 1e-10})
    return float(np.tan(found.x) * scale), float(found.fun)


def _covariance(slope: float, x: Array, y: Array, sx: Array, sy: Array) -> Array:
    """Covariance of (a, b) from the points as adjusted to the line (York et al., Eq. 13d)."""
    weight = 1 / (sy**2 + slope**2 * sx**2)
    a = _intercept(slope, x, y, sx, sy)
    adjusted = x + weight * slope * sx**2 * (y - a - slope * x)
    design = np.stack([np.ones_like(x), adjusted], axis=1)
    return np.asarray(np.linalg.inv(design.T @ (weight[:, None] * design)))
