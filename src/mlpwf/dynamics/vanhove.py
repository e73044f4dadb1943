"""The self part of van Hove's function: how far molecules have gone after a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.correlators import WINDOWS, each_pair_of_blocks, origin_windows
from mlpwf.dynamics.trajectory import Array, Frames32, Index, MolecularTrajectory
from mlpwf.dynamics.uncertainty import MOST_BLOCKS, block_sums, jackknife, split_windows
from mlpwf.errors import DataError

COARSE_WINDOWS = 60  # enough for blocks, and histograms are large


@dataclass(frozen=True)
class VanHove:
    """4πr² G_s(r,t), the density of distances, by lag and group of molecules.

    Attributes
    ----------
    lags_ps
        Shape (L,).
    distances
        Middles of the bins in Å, shape (bins,).
    groups
        `all`, followed by the species where there are several; G of them.
    density, error
        In 1/Å, shape (L, G, bins); each integrates to 1 with `beyond`.
    beyond
        Part of the molecules that went farther than the last bin, shape (L, G).
    """

    lags_ps: Array
    distances: Array
    groups: tuple[str, ...]
    density: Array
    error: Array
    beyond: Array


def van_hove(
    trajectory: MolecularTrajectory,
    lags: Index,
    bin_angstrom: float = 0.05,
    farthest_angstrom: float = 10.0,
    tau_ps: float = 0.0,
    threads: int = 1,
    memory_mb: float = 1000,
) -> VanHove:
    """G_s(r,t) = ⟨δ(r − |Δr_i(t)|)⟩/(4πr²), times 4πr². Source: van Hove, DOI 10.1103/PhysRev.95.249.

    Parameters
    ----------
    trajectory
        Centres.
    lags
        Integer lags in ticks; a few, since each holds a histogram by window; shape (L,).
    bin_angstrom, farthest_angstrom
        Width of a bin and end of the last, in Å.
    tau_ps
        Relaxation time that blocks must exceed 2.5 times.
    threads, memory_mb
        As for `correlators.pass_moments`.
    """
    from mlpwf.dynamics import kernels

    bins = round(farthest_angstrom / bin_angstrom) if bin_angstrom > 0 else 0
    if bins < 1:
        raise DataError(f"bins of {bin_angstrom} Å up to {farthest_angstrom} Å; expected at least one")
    window, width_ps = origin_windows(trajectory, min(WINDOWS, COARSE_WINDOWS))
    kinds = len(trajectory.kinds)
    counts = np.zeros((int(window.max()) + 1, len(lags), kinds, bins + 1), dtype=np.int64)

    def work(first: Frames32, first_from: int, second: Frames32, second_from: int, origins: tuple[int, int]) -> None:
        kernels.add_histogram(
            first, first_from, second, second_from, origins, trajectory.ticks, lags, window, trajectory.bounds,
            bin_angstrom, counts,
        )  # fmt: skip

    each_pair_of_blocks(trajectory.ticks, trajectory.frames, lags, window, work, threads, memory_mb)
    grouped = counts if kinds == 1 else np.concatenate([counts.sum(axis=2, keepdims=True), counts], axis=2)
    density = np.empty((len(lags), grouped.shape[2], bins + 1))
    error = np.empty_like(density)
    for lag in range(len(lags)):
        total = grouped[:, lag].sum(axis=-1)
        if not total.any():
            raise DataError(f"no two frames are {lags[lag] * trajectory.tick_ps:g} ps apart; expected lags they hold")
        shortest = max(float(lags[lag] * trajectory.tick_ps), 2.5 * tau_ps)
        numbers = split_windows(total[:, 0] > 0, width_ps, shortest, MOST_BLOCKS)
        for group in range(grouped.shape[2]):
            sums, sizes = block_sums(grouped[:, lag, group], numbers), block_sums(total[:, group], numbers)
            for bin_ in range(bins + 1):
                one = jackknife(lambda c, n: c / n, [sums[:, bin_], sizes], sizes)
                density[lag, group, bin_], error[lag, group, bin_] = one.value, one.error
    return VanHove(
        lags_ps=np.asarray(lags * trajectory.tick_ps, dtype=np.float64),
        distances=np.asarray((np.arange(bins) + 0.5) * bin_angstrom, dtype=np.float64),
        groups=("all",) if kinds == 1 else ("all", *trajectory.kinds),
        density=density[..., :-1] / bin_angstrom,
        error=error[..., :-1] / bin_angstrom,
        beyond=density[..., -1],
    )
