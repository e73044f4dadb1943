"""How many molecules move together: χ4 and the counts derived from it, each named in full."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.correlators import memory
from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.trajectory import Array
from mlpwf.dynamics.uncertainty import BLOCK_TAUS, MAX_BLOCKS, MIN_BLOCKS, block_numbers, block_sums, jackknife
from mlpwf.dynamics.verdicts import OK

SMALLEST_VARIANCE = 1e-9  # of ⟨(1 − w)²⟩: below it, the variance of a weight is rounding noise
TINY = 1e-300


@dataclass(frozen=True)
class Peak:
    """The largest value of a function of time, with its error and its time in ps."""

    value: float
    error: float
    time_ps: float
    verdict: str


def chi4(decay: Array, squared: Array, pairs: Array, molecules: float) -> Array:
    """χ4 = N [⟨C²⟩ − ⟨C⟩²] over time origins, about the mean over all of them.

    Its relative bias is about −1/n for n independent origins. Source: Toninelli et
    al., DOI 10.1103/PhysRevE.71.041505; Lačević et al., DOI 10.1063/1.1605094.

    Parameters
    ----------
    decay, squared, pairs
        Sums over pairs of frames of 1 − C and (1 − C)², and their number; any one shape.
    molecules
        Number of molecules N.
    """
    return molecules * (squared / pairs - (decay / pairs) ** 2)


def normalised_count(decay: Array, squared: Array, single: Array, pairs: Array, molecules: float) -> Array:
    """N*_norm = χ4 / [⟨w²⟩ − ⟨w⟩²] = 1 + Σ_{j≠i} correlation of w_i and w_j.

    1 for independent molecules, k for molecules that move in independent blobs of k.
    For the overlap the denominator is Q(1 − Q). NaN where the weights do not vary.

    Parameters
    ----------
    decay, squared, pairs
        As for `chi4`.
    single
        Sum over pairs of the mean over molecules of (1 − w)².
    molecules
        Number of molecules N.
    """
    variance = single / pairs - (decay / pairs) ** 2
    varies = variance > SMALLEST_VARIANCE * np.maximum(single / pairs, TINY)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies, chi4(decay, squared, pairs, molecules) / variance, np.nan)


def four_point(moments: Moments, group: str = "all", blocks: int = MAX_BLOCKS) -> dict[str, Array]:
    """Columns of χ4(t) and N*_norm(t) of each weight, with jackknife errors.

    Blocks are no shorter than 2.5 relaxation times of the weight, nor than the lag; where fewer than three
    fit, the error is NaN, and where the lag alone allows fewer than three, so is the value.

    Parameters
    ----------
    moments
        Of one or more runs; fluctuations are about the mean over all of them.
    group
        `all` or a species.
    blocks
        Maximum number of blocks for an error bar.

    Returns
    -------
    dict
        For each weight `chi4_NAME`, `n_star_NAME_normalised` and both with `_error`; shape (lags,).
    """
    g = moments.group(group)
    molecules = float(moments.molecules[g])
    columns: dict[str, list[float]] = {}
    for k, name in enumerate(moments.names):
        shortest = BLOCK_TAUS * memory(moments, name, group)
        for lag in range(len(moments.lags_ps)):
            sums, pairs = weight_sums(moments, lag, g, k, shortest, blocks)
            found = {
                f"chi4_{name}": jackknife(lambda d, s, v, n: chi4(d, s, n, molecules), [*sums, pairs], pairs),
                f"n_star_{name}_normalised": jackknife(
                    lambda d, s, v, n: normalised_count(d, s, v, n, molecules), [*sums, pairs], pairs
                ),
            }
            meaning = found[f"chi4_{name}"].blocks >= MIN_BLOCKS or lag_allows(moments, lag)
            for label, estimate in found.items():
                columns.setdefault(label, []).append(estimate.value if meaning else np.nan)
                columns.setdefault(f"{label}_error", []).append(estimate.error)
    return {label: np.array(values) for label, values in columns.items()}


def weight_sums(
    moments: Moments, lag: int, group: int, weight: int, shortest_ps: float, blocks: int = MAX_BLOCKS
) -> tuple[list[Array], Array]:
    """Sums of 1 − C, (1 − C)² and of the mean of (1 − w)² over each block, and its pairs; shape (blocks,) each."""
    numbers = block_numbers(moments, lag, shortest_ps, blocks)
    fields = (moments.decay, moments.decay_squared, moments.single)
    sums = [block_sums(values[:, lag, group, weight], numbers) for values in fields]
    return sums, block_sums(moments.pairs[:, lag], numbers)


def lag_allows(moments: Moments, lag: int) -> bool:
    """Whether three stretches as long as the lag fit into its time origins."""
    return bool(block_numbers(moments, lag, 0.0).max() + 1 >= MIN_BLOCKS)


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
    verdict = "at the longest lag" if top == finite[-1] else OK
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
