"""Estimators of the validation runs: structure, energy conservation, block errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpwf.errors import DataError

Array = NDArray[np.float64]
BLOCKS = 5
SHORTEST = 17  # frames that give a diffusion coefficient


def radial_distribution(centres: Array, cells: Array, width: float = 0.1) -> tuple[Array, Array]:
    """Radial distribution function g(r) of one kind of particle under periodic boundaries.

    g(r) = 2 n(r) / (N (N-1)/V · v(r)) averaged over frames, with n(r) the pairs
    in the shell of volume v(r), up to half the smallest perpendicular width of the cell. The
    factor N (N-1) makes g = 1 exactly for an ideal gas of N particles.

    Parameters
    ----------
    centres
        Positions in Å, shape (n_frames, n, 3).
    cells
        Cell vectors as rows in Å, shape (n_frames, 3, 3).
    width
        Width of a shell in Å.

    Returns
    -------
    r, g
        Shell centres in Å and g(r), shape (n_shells,).
    """
    if centres.ndim != 3 or centres.shape[2] != 3 or cells.shape != (len(centres), 3, 3):
        raise DataError(
            f"centres {centres.shape} and cells {cells.shape}; expected (n_frames, n, 3) and (n_frames, 3, 3)"
        )
    if len(centres) == 0 or centres.shape[1] < 2:
        raise DataError(f"{len(centres)} frames of {centres.shape[1]} particles; expected at least one frame of two")
    reciprocal = np.linalg.inv(cells)
    shells = int(0.5 / np.linalg.norm(reciprocal, axis=1).max() / width)
    edges = width * np.arange(shells + 1)
    first, second = np.triu_indices(centres.shape[1], 1)
    g = np.zeros(shells)
    for frame, cell, inverse in zip(centres, cells, reciprocal, strict=True):
        fractional = (frame[second] - frame[first]) @ inverse
        distances = np.linalg.norm((fractional - np.round(fractional)) @ cell, axis=1)
        g += np.histogram(distances, edges)[0] * abs(np.linalg.det(cell))
    volumes = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    return (edges[1:] + edges[:-1]) / 2, g / (len(centres) * len(first) * volumes)


def diffusion(centres: Array, interval_ps: float) -> tuple[Array, tuple[float, float]]:
    """Apparent diffusion coefficient of each molecule of a short run.

    D_i = (⟨|Δr_i(t2)|²⟩ − ⟨|Δr_i(t1)|²⟩) / 6 (t2 − t1), averaged over all time origins, with t1
    an eighth and t2 a quarter of the run: early enough for a run of a few ps, and so not
    the coefficient of long times where motion is not diffusive yet.

    Parameters
    ----------
    centres
        Unwrapped positions in Å, shape (n_frames, n, 3), `SHORTEST` frames or more.
    interval_ps
        Time between frames in ps.

    Returns
    -------
    coefficients, lags
        In Å²/ps, shape (n,); and t1, t2 in ps.
    """
    if centres.ndim != 3 or centres.shape[2] != 3 or len(centres) < SHORTEST:
        raise DataError(f"centres {centres.shape}; expected (n_frames, n, 3), {SHORTEST} frames or more")
    lags = [(len(centres) - 1) // part for part in (8, 4)]
    early, late = (((centres[lag:] - centres[:-lag]) ** 2).sum(axis=2).mean(axis=0) for lag in lags)
    first, second = (lag * interval_ps for lag in lags)
    return (late - early) / (6 * (second - first)), (first, second)


def drift(times: Array, energies: Array) -> tuple[float, float]:
    """Slope of total energy against time by least squares, and its standard error.

    Parameters
    ----------
    times
        Times, shape (n,), n ≥ 3.
    energies
        Energies, shape (n,).

    Returns
    -------
    slope, error
        In units of energy per time. Residuals of an MD run are correlated, so
        the error is that of independent points times sqrt((1 + c) / (1 - c)),
        c ≥ 0 being their correlation from one point to the next.
    """
    if times.shape != energies.shape or times.ndim != 1 or len(times) < 3:
        raise DataError(f"{times.shape} times and {energies.shape} energies; expected as many of each, at least three")
    t = times - times.mean()
    slope = float(t @ energies / (t @ t))
    residual = energies - energies.mean() - slope * t
    variance = float(residual @ residual)
    if variance == 0.0:
        return slope, 0.0
    correlation = min(max(float(residual[1:] @ residual[:-1]) / variance, 0.0), 0.99)
    error = np.sqrt(variance / (len(t) - 2) / (t @ t) * (1 + correlation) / (1 - correlation))
    return slope, float(error)


def block_mean(values: Array, blocks: int = BLOCKS) -> tuple[float, float]:
    """Mean of a correlated series, and its standard error from the means of contiguous blocks."""
    return float(values.mean()), float(block_means(values, blocks).std(ddof=1) / np.sqrt(blocks))


def block_means(values: Array, blocks: int = BLOCKS) -> Array:
    """Means of contiguous blocks of a series, shape (blocks,)."""
    if values.ndim != 1 or len(values) < blocks or blocks < 2:
        raise DataError(
            f"{values.shape} values in {blocks} blocks; expected one series with a value in each of two blocks or more"
        )
    return np.array([part.mean() for part in np.array_split(values, blocks)])
