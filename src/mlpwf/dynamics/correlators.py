"""Time correlation functions of the molecules, all from one pass over pairs of frames.

Each molecule i has weights w_i(t) that start at 1 and decay: overlap, F_s at each wavevector
and P_l of each axis. C(t) = (1/N) Σ_i w_i. What is kept of a pass are moments: sums over pairs
of frames, by lag and by window of time origins. Every mean, fluctuation and error comes from them,
so their size does not grow with the run, and runs are joined by joining windows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mlpwf.dynamics.moments import Moments
from mlpwf.dynamics.trajectory import MEGABYTE, Array, FrameFile, Frames32, Index, MolecularTrajectory
from mlpwf.dynamics.uncertainty import (
    BLOCK_TAUS,
    MAX_BLOCKS,
    Estimate,
    block_numbers,
    block_sums,
    independent_windows,
    jackknife,
    memory_time,
)
from mlpwf.errors import DataError

WINDOWS = 240  # of a run: fine enough to cut it into any number of blocks an error needs
BLOCK_MB = 16.0  # frames read from disk at once
JOBS = 8  # pieces of whole windows that a thread is given: few, as each costs the time of some hundred pairs

Work = Callable[[Frames32, int, Frames32, int, tuple[int, int]], None]


def weight_names(wavevectors: Sequence[float], orders: Sequence[int] = (1, 2), axes: int = 2) -> tuple[str, ...]:
    """Names of the weights, in the order of every table."""
    turned = (f"c{order}_axis{axis + 1}" for axis in range(axes) for order in orders)
    return ("overlap", *(f"fs_q{q:g}" for q in wavevectors), *turned)


def pass_moments(
    trajectory: MolecularTrajectory,
    lags: Index,
    wavevectors: Sequence[float],
    overlap_angstrom: float,
    orders: Sequence[int] = (1, 2),
    threads: int = 1,
    memory_mb: float = 1000,
    windows: int = WINDOWS,
) -> Moments:
    """Moments of all weights at the given lags, over every pair of frames.

    MSD = ⟨|Δr|²⟩; overlap Θ(a − |Δr|) (Lačević et al., DOI 10.1063/1.1605094); F_s = ⟨sin(qr)/(qr)⟩, the
    average of exp(iq·Δr) over directions of q; C_l = ⟨P_l(u(0)·u(t))⟩.

    Parameters
    ----------
    trajectory
        Centres and axes.
    lags
        Integer lags in ticks of the trajectory, increasing, shape (L,); see `trajectory.choose_lags`.
    wavevectors
        Moduli q in 1/Å.
    overlap_angstrom
        Length a of the overlap, in Å.
    orders
        Ranks l of the Legendre polynomials, from 1 on.
    threads
        Windows worked on at once; the result does not depend on it.
    memory_mb
        Frames held when they come from a file, in MiB.
    windows
        Windows of time origins.

    Returns
    -------
    Moments

    Raises
    ------
    DataError
        For a lag that no pair of frames has, or is longer than the run, or settings out of range.
    """
    from mlpwf.dynamics import kernels

    names = weight_names(wavevectors, orders, trajectory.axes)
    _check(trajectory, lags, wavevectors, overlap_angstrom, orders, names)
    window, width = origin_windows(trajectory, windows)
    count = int(window.max()) + 1
    kinds = len(trajectory.bounds) - 1
    groups = 1 if kinds == 1 else kinds + 1
    sums = np.zeros((count, len(lags), groups, kernels.MOMENTS + kernels.PER_WEIGHT * len(names)))
    pairs = np.zeros((count, len(lags)), dtype=np.int64)
    q2 = np.asarray(wavevectors, dtype=np.float32) ** 2
    ranks = np.asarray(orders, dtype=np.int64)

    def work(first: Frames32, first_from: int, second: Frames32, second_from: int, origins: tuple[int, int]) -> None:
        kernels.add_moments(
            first, first_from, second, second_from, origins, trajectory.ticks, lags, window, trajectory.bounds,
            q2, np.float32(overlap_angstrom**2), ranks, sums, pairs,
        )  # fmt: skip

    each_pair_of_blocks(trajectory.ticks, trajectory.frames, lags, window, work, threads, memory_mb)
    missing = np.flatnonzero(pairs.sum(axis=0) == 0)
    if len(missing):
        raise DataError(
            f"no two frames are {lags[missing[0]] * trajectory.tick_ps:g} ps apart; expected lags that the frames hold"
        )
    weights = sums[..., kernels.MOMENTS :].reshape(count, len(lags), groups, len(names), kernels.PER_WEIGHT)
    sizes = np.diff(trajectory.bounds)
    return Moments(
        lags_ps=np.asarray(lags * trajectory.tick_ps, dtype=np.float64),
        names=names,
        groups=("all",) if kinds == 1 else ("all", *trajectory.kinds),
        molecules=np.asarray([trajectory.molecules, *(sizes if kinds > 1 else [])], dtype=np.int64),
        pairs=pairs,
        squared=sums[..., 0],
        fourth=sums[..., 1],
        decay=weights[..., 0],
        decay_squared=weights[..., 1],
        single=weights[..., 2],
        window_ps=np.full(count, width),
        run=np.zeros(count, dtype=np.int64),
        runs_ps=np.asarray([trajectory.run_ps]),
    )


def _check(
    trajectory: MolecularTrajectory,
    lags: Index,
    wavevectors: Sequence[float],
    overlap_angstrom: float,
    orders: Sequence[int],
    names: tuple[str, ...],
) -> None:
    run = int(trajectory.ticks[-1] - trajectory.ticks[0])
    if lags.ndim != 1 or len(lags) == 0 or lags[0] <= 0 or np.any(np.diff(lags) <= 0):
        raise DataError(f"lags {lags} ticks; expected increasing positive whole numbers")
    if lags[-1] > run:
        raise DataError(
            f"a lag of {lags[-1] * trajectory.tick_ps:g} ps is longer than the run of {trajectory.run_ps:g} ps; "
            "run longer or ask for shorter lags"
        )
    if len(set(names)) != len(names):
        raise DataError(f"wavevectors {list(wavevectors)} are not distinct to 6 digits; give each once")
    if not all(q > 0 for q in wavevectors) or not overlap_angstrom > 0:
        raise DataError(f"wavevectors {list(wavevectors)} 1/Å and overlap {overlap_angstrom} Å; expected positive ones")
    if any(order < 1 for order in orders):
        raise DataError(f"Legendre orders {list(orders)}; expected 1 or more")


def origin_windows(trajectory: MolecularTrajectory, maximum: int = WINDOWS) -> tuple[Index, float]:
    """Window of time origins that each frame is in, shape (F,), and the length of a window in ps."""
    since = trajectory.ticks - trajectory.ticks[0]
    count = min(maximum, len(since) - 1)
    return np.minimum(since * count // int(since[-1]), count - 1), trajectory.run_ps / count


def each_pair_of_blocks(
    ticks: Index,
    frames: Frames32 | FrameFile,
    lags: Index,
    window: Index,
    work: Work,
    threads: int = 1,
    memory_mb: float = 1000,
) -> None:
    """Call `work` for blocks of frames that together hold all pairs of all lags.

    Frames in memory are one block; those in a file are read in blocks, of which the last used are
    kept within `memory_mb`. Every call has origins of whole windows, so two threads never share one.
    """
    count, bytes_each = len(ticks), 4 * int(frames.shape[1]) * int(frames.shape[2])
    size = count if isinstance(frames, np.ndarray) else _block_frames(bytes_each, count, memory_mb)
    if threads < 1:
        raise DataError(f"{threads} threads; expected 1 or more")
    cache = BlockCache(frames, size, max(2, int(memory_mb * MEGABYTE / (size * bytes_each)) - 1))
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, size):
            stop = min(first + size, count)
            edges = [first, *(first + np.flatnonzero(np.diff(window[first:stop])) + 1)]
            edges = [*edges[:: -(-len(edges) // (JOBS * threads))], stop]
            for second in _partners(ticks, lags, first, stop, size):
                one, two = cache.block(first), cache.block(second)
                jobs = [pool.submit(work, one, first, two, second, (int(a), int(b))) for a, b in pairwise(edges)]
                for job in jobs:
                    job.result()


def _partners(ticks: Index, lags: Index, first: int, stop: int, size: int) -> Iterator[int]:
    """First frames of the blocks that hold a partner of a frame from `first` to `stop`."""
    found: set[int] = set()
    for lag in lags:
        low = int(np.searchsorted(ticks, ticks[first] + lag))
        high = int(np.searchsorted(ticks, ticks[stop - 1] + lag, side="right"))
        found.update(range(low // size, -(-high // size)))
    yield from (size * block for block in sorted(found))


def _block_frames(bytes_each: int, count: int, memory_mb: float) -> int:
    """Frames of a block: at most a fourth of the memory."""
    size = int(min(BLOCK_MB, memory_mb / 4) * MEGABYTE / bytes_each)
    if size < 1:
        raise DataError(f"{memory_mb:g} MiB hold no four frames of {bytes_each} bytes; give more memory")
    return min(size, count)


class BlockCache:
    """Blocks of frames, the last used kept."""

    def __init__(self, frames: Frames32 | FrameFile, size: int, capacity: int) -> None:
        self._frames, self._size, self._capacity = frames, size, capacity
        self._kept: OrderedDict[int, Frames32] = OrderedDict()

    def block(self, first: int) -> Frames32:
        """Frames from `first` on."""
        if first not in self._kept:
            while len(self._kept) >= self._capacity:
                self._kept.popitem(last=False)
            self._kept[first] = np.ascontiguousarray(self._frames[first : first + self._size])
        self._kept.move_to_end(first)
        return self._kept[first]


def join(moments: Sequence[Moments]) -> Moments:
    """Moments of several independent runs of one state, about one global mean.

    Raises
    ------
    DataError
        If lags, weights or molecules differ.
    """
    if not moments:
        raise DataError("no runs to join; expected at least one")
    first = moments[0]
    for other in moments[1:]:
        same = other.names == first.names and other.groups == first.groups
        same = same and np.array_equal(other.molecules, first.molecules)
        if not same or other.lags_ps.shape != first.lags_ps.shape or not np.allclose(other.lags_ps, first.lags_ps):
            raise DataError("runs differ in their lags, correlators or molecules; expected the same for all")
    offsets = np.cumsum([0, *(len(each.runs_ps) for each in moments[:-1])])
    fields = ("pairs", "squared", "fourth", "decay", "decay_squared", "single", "window_ps", "runs_ps")
    joined = {field: np.concatenate([getattr(each, field) for each in moments]) for field in fields}
    runs = np.concatenate([each.run + offset for each, offset in zip(moments, offsets, strict=True)])
    return Moments(first.lags_ps, first.names, first.groups, first.molecules, run=runs, **joined)


def curve(moments: Moments, name: str, group: str = "all") -> Array:
    """C(t) of a weight, shape (lags,)."""
    decay = moments.decay[:, :, moments.group(group), moments.weight(name)]
    return np.asarray(1 - decay.sum(axis=0) / moments.pairs.sum(axis=0))


def memory(moments: Moments, name: str, group: str = "all") -> float:
    """Relaxation time of a weight in ps that blocks must exceed; see `uncertainty.memory_time`."""
    return memory_time(moments.lags_ps, curve(moments, name, group))


def slowest_motion(moments: Moments, group: str = "all") -> float:
    """Relaxation time in ps that blocks of displacements must exceed: they are as slow as the slowest look at them."""
    return max(memory(moments, name, group) for name in moments.names if not name.startswith("c"))


def mean_square(squared: Array, fourth: Array, pairs: Array) -> Array:
    """MSD in Å² of sums over pairs."""
    return squared / pairs


def non_gaussian(squared: Array, fourth: Array, pairs: Array) -> Array:
    """α2 = 3⟨r⁴⟩ / (5⟨r²⟩²) − 1 in three dimensions; 0 for Gaussian displacements, NaN at rest.

    Source: Rahman, Phys. Rev. 136, A405 (1964), DOI 10.1103/PhysRev.136.A405.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return 0.6 * fourth * pairs / squared**2 - 1


def averages(moments: Moments, group: str = "all", blocks: int = MAX_BLOCKS) -> dict[str, Array]:
    """Columns of MSD, α2 and each C(t), with jackknife errors over blocks of at least 2.5 τ and the lag.

    Parameters
    ----------
    moments
        Of one or more runs.
    group
        `all` or a species.
    blocks
        Maximum number of blocks for an error bar; where fewer than three fit, the error is NaN.

    Returns
    -------
    dict
        `time_ps`, `origins` (pairs of frames), `msd_angstrom2`, `msd_error`, `alpha2`, `alpha2_error` and for
        each weight `NAME`, `NAME_error` and `windows_NAME` (n_eff); shape (lags,).
    """
    g = moments.group(group)
    taus = {name: memory(moments, name, group) for name in moments.names}
    slowest = slowest_motion(moments, group)
    rows: list[dict[str, float]] = []
    for lag, time in enumerate(moments.lags_ps):
        numbers = block_numbers(moments, lag, BLOCK_TAUS * slowest, blocks)
        pairs = block_sums(moments.pairs[:, lag], numbers)
        sums = [block_sums(values[:, lag, g], numbers) for values in (moments.squared, moments.fourth)]
        row: dict[str, float] = {"time_ps": float(time), "origins": float(moments.pairs[:, lag].sum())}
        for column, error, statistic in (
            ("msd_angstrom2", "msd_error", mean_square),
            ("alpha2", "alpha2_error", non_gaussian),
        ):
            found = jackknife(statistic, [*sums, pairs], pairs)
            row |= {column: found.value, error: found.error * _unseen(moments, lag, numbers)}
        for k, name in enumerate(moments.names):
            found = _mean_weight(moments, lag, g, k, BLOCK_TAUS * taus[name], blocks)
            row |= {name: found.value, f"{name}_error": found.error}
            row[f"windows_{name}"] = independent_windows(moments, lag, taus[name])
        rows.append(row)
    return {column: np.array([row[column] for row in rows]) for column in rows[0]}


def _unseen(moments: Moments, lag: int, numbers: Index) -> float:
    """Factor on an error over a lag L from blocks of origins of length B: 1/√(1 − L/4B).

    Displacements from two origins s < L apart share a path, and their squares correlate as (1 − s/L)² for a
    random walk. Of the variance of a long run, (2/3) L/T, blocks that share paths see 1 − L/4B. Weights that
    decay within the lag forget the path sooner: for them the factor is a little wide.
    """
    used = numbers >= 0
    blocks = int(numbers.max()) + 1
    length = float(moments.window_ps[used].sum()) / max(blocks, 1)
    return float(1 / np.sqrt(1 - min(float(moments.lags_ps[lag]) / length, 1.0) / 4)) if length > 0 else 1.0


def _mean_weight(moments: Moments, lag: int, g: int, k: int, shortest_ps: float, blocks: int) -> Estimate:
    """C of one weight at one lag."""
    numbers = block_numbers(moments, lag, shortest_ps, blocks)
    pairs = block_sums(moments.pairs[:, lag], numbers)
    decay = block_sums(moments.decay[:, lag, g, k], numbers)
    found = jackknife(lambda d, n: 1 - d / n, [decay, pairs], pairs)
    return replace(found, error=found.error * _unseen(moments, lag, numbers))
