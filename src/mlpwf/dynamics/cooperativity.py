"""How the activation energy, or the stretching, goes with a number of correlated molecules.

E is fitted against each number with a free intercept, and the law of proportion E ∝ N* is a
hypothesis that is tested, never an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.activation import covariance
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.verdicts import OK
from mlpwf.errors import DataError

NAN = float("nan")
TOO_FEW_STATES = "too few states"
NOT_KNOWN = "E at T_g is not known"
NO_SLOPE = "slope not known to better than half"
NO_LINE = "the points do not lie on a line"
MISFIT = 0.01  # a line whose points scatter so improbably is no description of them
MIN_STATES = 3


@dataclass(frozen=True)
class Line:
    """y = a + b x with errors in both, and the test of y = b x.

    Attributes
    ----------
    intercept, intercept_error, slope, slope_error
        a and b; errors from the curvature of χ², widened by √χ²_red where the points scatter more.
    chi2
        rᵀ V⁻¹ r with r = y − a − bx and V = C_y + b² diag(σ_x²), at the minimum.
    proportional_chi2
        The same with a = 0.
    misfit_p_value
        Probability, were the line and the errors true, of a χ² at least this large.
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
    misfit_p_value: float
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

    The errors of x are taken as independent of one another and of those of y. Points with a NaN are
    left out. Where the scatter exceeds the errors (χ² > n − 2) the proportional law is tested by
    F = Δχ²/(χ²/(n − 2)) with 1 and n − 2 degrees of freedom, else by Δχ² with one. Source: York et
    al., DOI 10.1119/1.1632486; with a matrix in place of the weights where the y depend on one another.

    Parameters
    ----------
    x, y
        Points, shape (states,).
    x_error
        Errors of x, shape (states,).
    y_error
        Errors of y, positive, shape (states,), or their covariance, shape (states, states).
    """
    from scipy.stats import chi2 as chi2_law
    from scipy.stats import f as f_law

    spread = np.diag(y_error**2) if y_error.ndim == 1 else y_error
    if not x.shape == y.shape == x_error.shape or x.ndim != 1 or spread.shape != 2 * x.shape:
        raise DataError(
            f"shapes {x.shape}, {y.shape}, {x_error.shape}, {y_error.shape}; expected one (states,), "
            "or (states, states) for the last"
        )
    variance = np.diag(spread)
    # a covariance may leave some combination of the y without an error: then every x must have one
    used = np.isfinite(x + y + x_error + variance) & (variance > 0)
    used &= x_error >= 0 if y_error.ndim == 1 else x_error > 0
    count = int(np.count_nonzero(used))
    if count < MIN_STATES or np.ptp(x[used]) == 0:
        return Line(NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, "", count, TOO_FEW_STATES)
    points = _Points(x[used], y[used], x_error[used] ** 2, spread[np.ix_(used, used)])
    slope, free = _minimum(points, through_origin=False)
    intercept = points.intercept(slope)
    proportional = _minimum(points, through_origin=True)[1]
    reduced = free / (count - 2)
    covariance = points.covariance(slope) * max(1.0, reduced)
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
        misfit_p_value=float(chi2_law.sf(free, count - 2)),
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
    energy_drawn: Array,
    energy_at_glass: float,
    at_glass_drawn: Array,
    rng: np.random.Generator,
) -> AtGlass:
    """N*(T_g) = (E(T_g) − a)/b, its error from redrawn points and the law of each redrawing.

    Parameters
    ----------
    counts, energy, count_errors
        N* and E of the states, and the errors of N*, shape (states,).
    energy_drawn
        E of the states in each bootstrap draw, shape (draws, states).
    energy_at_glass
        E(T_g) of the law, in the unit of `energy`.
    at_glass_drawn
        E(T_g) of the same draws, shape (draws,); NaN where a fit has none.
    rng
        Random numbers.

    Returns
    -------
    AtGlass
        The error is half the distance of the 16th and 84th percentile of the draws. The verdict is
        not ok where E(T_g) is unknown, the points do not lie on a line, or its slope is not known to
        better than half.
    """
    spread = covariance(energy_drawn)
    fit = line(counts, energy, count_errors, spread)
    if fit.verdict != OK:
        return AtGlass(NAN, NAN, fit.verdict)
    known = np.flatnonzero(np.isfinite(at_glass_drawn))
    if not np.isfinite(energy_at_glass) or len(known) <= len(at_glass_drawn) / 2:
        return AtGlass(NAN, NAN, NOT_KNOWN)
    if fit.misfit_p_value < MISFIT:
        return AtGlass(NAN, NAN, NO_LINE)
    if not fit.slope > 2 * fit.slope_error:
        return AtGlass(NAN, NAN, NO_SLOPE)
    widen = np.sqrt(max(1.0, fit.chi2 / (fit.states - 2)))
    found = []
    for k in known:
        x = counts + rng.normal(size=counts.shape) * count_errors * widen
        again = line(x, energy + widen * (energy_drawn[k] - energy), count_errors, spread)
        found.append((at_glass_drawn[k] - again.intercept) / again.slope)
    low, high = np.percentile(found, [16, 84])
    return AtGlass((energy_at_glass - fit.intercept) / fit.slope, float(high - low) / 2, OK)


@dataclass(frozen=True)
class _Points:
    """Points with the variance of each x and the covariance of y."""

    x: Array
    y: Array
    x_variance: Array
    y_covariance: Array

    def weight(self, slope: float) -> Array:
        """Inverse covariance of y − a − bx, shape (n, n)."""
        return np.asarray(np.linalg.inv(self.y_covariance + slope**2 * np.diag(self.x_variance)))

    def intercept(self, slope: float) -> float:
        """The best intercept for a slope."""
        weight = self.weight(slope)
        return float((weight @ (self.y - slope * self.x)).sum() / weight.sum())

    def chi2(self, slope: float, through_origin: bool) -> float:
        """χ² of the best line of a slope."""
        weight, residual = self.weight(slope), self.y - slope * self.x
        if not through_origin:
            residual = residual - (weight @ residual).sum() / weight.sum()
        return float(residual @ weight @ residual)

    def covariance(self, slope: float) -> Array:
        """Covariance of (a, b) from the points as adjusted to the line (York et al., Eq. 13d)."""
        weight = self.weight(slope)
        residual = self.y - self.intercept(slope) - slope * self.x
        adjusted = self.x + slope * self.x_variance * (weight @ residual)
        design = np.stack([np.ones_like(self.x), adjusted], axis=1)
        return np.asarray(np.linalg.inv(design.T @ weight @ design))


def _minimum(points: _Points, through_origin: bool) -> tuple[float, float]:
    """Slope and χ² of the best line, searched over the angle of the line in units of the spreads."""
    from scipy.optimize import minimize_scalar

    x, y = points.x, points.y
    scale = np.sqrt(np.mean(y**2) / np.mean(x**2)) if through_origin else np.ptp(y) / np.ptp(x)
    scale = scale or float(np.sqrt(np.diag(points.y_covariance)).mean()) / np.ptp(x)

    def misfit(angle: float) -> float:
        return points.chi2(float(np.tan(angle) * scale), through_origin)

    grid = np.linspace(-np.pi / 2, np.pi / 2, 92)[1:-1]
    best = int(np.argmin([misfit(angle) for angle in grid]))
    step = grid[1] - grid[0]
    around = (max(grid[best] - step, -1.5707), min(grid[best] + step, 1.5707))
    found = minimize_scalar(misfit, bounds=around, method="bounded", options={"xatol": 1e-10})
    return float(np.tan(found.x) * scale), float(found.fun)
