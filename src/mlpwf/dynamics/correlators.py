"""Single-molecule time correlation functions, averaged over molecules and time origins.

Each molecule i has a weight w_i(t) that starts at 1 and decays: overlap, F_s
and the two Legendre orders of each axis. C(t) = (1/N) Σ_i w_i(t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.trajectory import Array, Lag, MolecularTrajectory
from mlpwf.errors import DataError

CHUNK_PAIRS = 200_000  # molecules times origins held at once: about 100 MB of temporaries
FEWEST_BLOCKS = 3  # fewer give no error bar


@dataclass(frozen=True)
class LagSample:
    """Averages over molecules at one lag, for every time origin.

    Attributes
    ----------
    time_ps
        The lag in ps.
    squared, fourth
        Mean over molecules of |Δr|² in Å² and |Δr|⁴ in Å⁴, shape (origins,).
    mean
        C of each weight by name, (1/N) Σ w_i, shape (origins,).
    variance
        Variance of w_i over the molecules, (1/N) Σ w_i² − C², shape (origins,).
    """

    time_ps: float
    squared: Array
    fourth: Array
    mean: dict[str, Array]
    variance: dict[str, Array]

    @property
    def origins(self) -> int:
        """Number of time origins."""
        return len(self.squared)


def overlap(distance: Array, length: float) -> Array:
    """Overlap Θ(a − |Δr|): 1 for molecules that moved less than `length` (Å), else 0; same shape.

    Source: Lačević et al., DOI 10.1063/1.1605094.
    """
    return np.asarray(distance < length, dtype=np.float64)


def self_scattering(distance: Array, wavevector: float) -> Array:
    """sin(qr)/(qr), the average of cos(q·Δr) over directions of q (1/Å), for distances in Å; same shape."""
    return np.sinc(wavevector * distance / np.pi)


def legendre(order: int, first: Array, second: Array) -> Array:
    """P_l(u·v) for l = 1 or 2 of unit vectors of shape (..., 3); shape (...)."""
    if first.shape != second.shape or first.shape[-1:] != (3,):
        raise DataError(
            f"unit vectors have shapes {first.shape} and {second.shape}; expected two equal shapes (..., 3)"
        )
    cosine = np.einsum("...k,...k->...", first, second)
    if order == 1:
        return np.asarray(cosine)
    if order == 2:
        return np.asarray(1.5 * cosine**2 - 0.5)
    raise DataError(f"Legendre order {order}; expected 1 or 2")


def weight_names(wavevectors: Sequence[float]) -> tuple[str, ...]:
    """Names of the weights, in the order of every table."""
    orientational = ("c1_axis1", "c2_axis1", "c1_axis2", "c2_axis2")
    return ("overlap", *(f"fs_q{q:g}" for q in wavevectors), *orientational)


def weights(
    displacement: Array, axes: Array, axes_later: Array, wavevectors: Sequence[float], overlap_angstrom: float
) -> dict[str, Array]:
    """All weights w_i by name.

    Parameters
    ----------
    displacement
        Δr in Å, shape (..., 3).
    axes, axes_later
        Unit vectors at both times, shape (..., 2, 3).
    wavevectors
        Moduli q in 1/Å.
    overlap_angstrom
        Length a of the overlap, in Å.

    Returns
    -------
    dict
        Arrays of shape (...), in the order of `weight_names`.
    """
    if displacement.shape[-1:] != (3,) or axes.shape != (*displacement.shape[:-1], 2, 3):
        raise DataError(f"displacements {displacement.shape} and axes {axes.shape}; expected (..., 3) and (..., 2, 3)")
    distance = np.linalg.norm(displacement, axis=-1)
    found = {"overlap": overlap(distance, overlap_angstrom)}
    for q in wavevectors:
        found[f"fs_q{q:g}"] = self_scattering(distance, q)
    for axis in (0, 1):
        for order in (1, 2):
            found[f"c{order}_axis{axis + 1}"] = legendre(order, axes[..., axis, :], axes_later[..., axis, :])
    return found


def sample_lag(
    trajectory: MolecularTrajectory,
    lag: Lag,
    wavevectors: Sequence[float],
    overlap_angstrom: float,
    chunk_pairs: int = CHUNK_PAIRS,
) -> LagSample:
    """Average displacements and weights over the molecules for each time origin of a lag.

    Parameters
    ----------
    trajectory
        Centres and axes.
    lag
        Pairs of frames.
    wavevectors
        Moduli q in 1/Å.
    overlap_angstrom
        Length a of the overlap, in Å.
    chunk_pairs
        Molecules times origins worked on at once, which bounds the memory.
    """
    if len(set(weight_names(wavevectors))) != len(wavevectors) + 5:
        raise DataError(f"wavevectors {list(wavevectors)} are not distinct to 6 digits; give each once")
    origins = len(lag.first)
    squared, fourth = np.empty(origins), np.empty(origins)
    mean = {name: np.empty(origins) for name in weight_names(wavevectors)}
    variance = {name: np.empty(origins) for name in mean}
    step = max(1, chunk_pairs // trajectory.molecules)
    for start in range(0, origins, step):
        part = slice(start, start + step)
        first, second = lag.first[part], lag.second[part]
        displacement = trajectory.centres[second] - trajectory.centres[first]
        distance2 = np.einsum("omk,omk->om", displacement, displacement)
        squared[part] = distance2.mean(axis=1)
        fourth[part] = (distance2**2).mean(axis=1)
        values = weights(displacement, trajectory.axes[first], trajectory.axes[second], wavevectors, overlap_angstrom)
        for name, value in values.items():
            mean[name][part] = value.mean(axis=1)
            variance[name][part] = value.var(axis=1)
    return LagSample(lag.time_ps, squared, fourth, mean, variance)


def independent_blocks(lag_ps: float, run_ps: float, origins: int, blocks: int) -> int:
    """How many blocks an error may use: at most `blocks`, none shorter than the lag; 0 if fewer than 3."""
    usable = min(blocks, origins, int(run_ps / lag_ps * (1 + 1e-9)))
    return usable if usable >= FEWEST_BLOCKS else 0


def jackknife(statistic: Callable[..., float], series: Sequence[Array], blocks: int) -> float:
    """Standard error of `statistic(*series)` by leaving out contiguous blocks of origins.

    √[(k − 1)/k Σ_b (θ_b − θ̄)²], which for a mean is the standard error of the block
    means. Source: Efron, Ann. Stat. 7, 1 (1979), DOI 10.1214/aos/1176344552.

    Parameters
    ----------
    statistic
        Function of the series.
    series
        Arrays of the same length (origins,).
    blocks
        Number of blocks k; below 3 the answer is NaN.
    """
    if blocks < FEWEST_BLOCKS or len(series[0]) < blocks:
        return float("nan")
    numbers = np.arange(len(series[0]))
    kept = [np.setdiff1d(numbers, block, assume_unique=True) for block in np.array_split(numbers, blocks)]
    values = np.array([statistic(*(one[some] for one in series)) for some in kept])
    return float(np.sqrt((blocks - 1) / blocks * np.sum((values - values.mean()) ** 2)))


def mean_of(values: Array) -> float:
    """Mean over origins."""
    return float(values.mean())


def non_gaussian(squared: Array, fourth: Array) -> float:
    """α2 = 3⟨r⁴⟩ / (5⟨r²⟩²) − 1 in three dimensions; 0 for Gaussian displacements, NaN at rest.

    Source: Rahman, Phys. Rev. 136, A405 (1964), DOI 10.1103/PhysRev.136.A405.
    """
    msd = float(squared.mean())
    return 0.6 * float(fourth.mean()) / msd**2 - 1 if msd > 0 else float("nan")


def averages(samples: Sequence[LagSample], run_ps: float, blocks: int) -> dict[str, Array]:
    """Columns of MSD, α2 and each C(t), with errors.

    Parameters
    ----------
    samples
        One entry a lag.
    run_ps
        Length of the run in ps; a lag above a third of it has no error (NaN).
    blocks
        Most blocks for an error bar.

    Returns
    -------
    dict
        `time_ps`, `origins`, `msd_angstrom2`, `msd_error`, `alpha2`, `alpha2_error` and for each
        weight `NAME` and `NAME_error`; shape (lags,).
    """
    rows: list[dict[str, float]] = []
    for sample in samples:
        count = independent_blocks(sample.time_ps, run_ps, sample.origins, blocks)
        moments = (sample.squared, sample.fourth)
        row = {
            "time_ps": sample.time_ps,
            "origins": sample.origins,
            "msd_angstrom2": mean_of(sample.squared),
            "msd_error": jackknife(mean_of, moments[:1], count),
            "alpha2": non_gaussian(*moments),
            "alpha2_error": jackknife(non_gaussian, moments, count),
        }
        for name, values in sample.mean.items():
            row[name] = mean_of(values)
            row[f"{name}_error"] = jackknife(mean_of, [values], count)
        rows.append(row)
    if not rows:
        raise DataError("no lags to average over; the run must hold at least two linear intervals")
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}
