"""How many molecules move together: χ4 and the counts derived from it, each named in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.correlators import LagSample, independent_blocks, jackknife
from mlpwf.dynamics.trajectory import Array
from mlpwf.errors import DataError

SMALLEST_VARIANCE = 1e-12  # of a weight: below it, its ratio is rounding noise


@dataclass(frozen=True)
class Peak:
    """The largest value of a function of time, with its error and its time in ps."""

    value: float
    error: float
    time_ps: float
    verdict: str


def chi4(mean: Array, molecules: int) -> float:
    """χ4 = N [⟨C²⟩ − ⟨C⟩²] over time origins, about the mean over all of them.

    Its relative bias is about −1/n for n independent origins. Source: Toninelli et
    al., DOI 10.1103/PhysRevE.71.041505; Lačević et al., DOI 10.1063/1.1605094.

    Parameters
    ----------
    mean
        C of each origin, (1/N) Σ w_i, shape (origins,).
    molecules
        Number of molecules N.
    """
    return molecules * float(mean.var())


def normalised_count(mean: Array, variance: Array, molecules: int) -> float:
    """N*_norm = χ4 / [⟨w²⟩ − ⟨w⟩²] = 1 + Σ_{j≠i} correlation of w_i and w_j.

    1 for independent molecules, k for molecules that move in independent blobs of k.
    For the overlap the denominator is Q(1 − Q). NaN where the weights do not vary.

    Parameters
    ----------
    mean
        C of each origin, shape (origins,).
    variance
        Variance of w_i over molecules at each origin, shape (origins,).
    molecules
        Number of molecules N.
    """
    single = float(variance.mean() + mean.var())
    return chi4(mean, molecules) / single if single > SMALLEST_VARIANCE else float("nan")


def four_point(samples: Sequence[LagSample], molecules: int, run_ps: float, blocks: int) -> dict[str, Array]:
    """Columns of χ4(t) and N*_norm(t) of each weight, with jackknife errors.

    NaN at lags above a third of the run: fewer than three independent windows
    have no variance worth a number.

    Parameters
    ----------
    samples
        One entry a lag.
    molecules
        Number of molecules N.
    run_ps
        Length of the run in ps.
    blocks
        Most blocks for an error bar.

    Returns
    -------
    dict
        For each weight `chi4_NAME`, `n_star_NAME_normalised` and both with `_error`; shape (lags,).
    """
    if not samples:
        raise DataError("no lags to analyse; the run must hold at least two linear intervals")
    columns: dict[str, list[float]] = {}
    for sample in samples:
        count = independent_blocks(sample.time_ps, run_ps, sample.origins, blocks)
        for name, mean in sample.mean.items():
            series = (mean, sample.variance[name])
            values = [float("nan")] * 4
            if count:
                values = [
                    chi4(mean, molecules),
                    jackknife(lambda c: chi4(c, molecules), series[:1], count),
                    normalised_count(*series, molecules),
                    jackknife(lambda c, v: normalised_count(c, v, molecules), series, count),
                ]
            stems = (f"chi4_{name}", f"n_star_{name}_normalised")
            labels = [label for stem in stems for label in (stem, f"{stem}_error")]
            for label, value in zip(labels, values, strict=True):
                columns.setdefault(label, []).append(value)
    return {label: np.array(values) for label, values in columns.items()}


def peak(times_ps: Array, values: Array, errors: Array) -> Peak:
    """The largest finite value of a column over its lags, each of shape (lags,).

    Verdicts: `ok`; `at the longest lag`, where the maximum may lie beyond the run;
    `no values`. The largest of many noisy values lies above the true maximum by
    about an error bar.
    """
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) == 0:
        return Peak(float("nan"), float("nan"), float("nan"), "no values")
    top = int(finite[np.argmax(values[finite])])
    verdict = "at the longest lag" if top == finite[-1] else "ok"
    return Peak(float(values[top]), float(errors[top]), float(times_ps[top]), verdict)


def value_at(times_ps: Array, values: Array, errors: Array, time_ps: float) -> tuple[float, float]:
    """Value and error of a column at a time, linear in ln t; NaN outside the finite lags."""
    finite = np.isfinite(values)
    if not np.isfinite(time_ps) or not finite.any():
        return float("nan"), float("nan")
    known = times_ps[finite]
    if not known[0] <= time_ps <= known[-1]:
        return float("nan"), float("nan")
    at, grid = np.log(time_ps), np.log(known)
    return float(np.interp(at, grid, values[finite])), float(np.interp(at, grid, errors[finite]))


def three_point_count(
    temperature_kelvin: Array, response_per_kelvin: Array, heat_capacity_per_boltzmann: float
) -> Array:
    """Three-point estimate N_corr,T = (k_B/c) T² max_t χ_T², with χ_T = ∂C/∂T at fixed t.

    Source: Berthier et al., Science 310, 1797 (2005), DOI 10.1126/science.1120714.

    Parameters
    ----------
    temperature_kelvin
        T in K, any shape.
    response_per_kelvin
        Largest |χ_T| over time, in 1/K, same shape.
    heat_capacity_per_boltzmann
        c per molecule in units of k_B (c_V for NVT runs; the configurational excess Δc_P near T_g).
    """
    if not heat_capacity_per_boltzmann > 0:
        raise DataError(f"heat capacity {heat_capacity_per_boltzmann} k_B per molecule; expected a positive number")
    return np.asarray(temperature_kelvin**2 * response_per_kelvin**2 / heat_capacity_per_boltzmann)
