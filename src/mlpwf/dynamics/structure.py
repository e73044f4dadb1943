"""What depends on where molecules are to each other: F(q,t), S4(q,t), its length ξ4, and sub-boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlpwf.dynamics.correlators import WINDOWS, each_pair_of_blocks, origin_windows
from mlpwf.dynamics.trajectory import MEGABYTE, Array, FrameFile, Frames32, Index, MolecularTrajectory
from mlpwf.dynamics.uncertainty import MAX_BLOCKS, Estimate, block_sums, jackknife, split_windows
from mlpwf.dynamics.verdicts import OK
from mlpwf.errors import DataError

NAN = float("nan")
SHELL = 0.01  # relative width in which wavevectors count as of one length
ROUNDING = 1e-9  # relative: lengths closer than this are the same number
ZERNIKE_LIMIT = 1.5  # of qξ: beyond it, Ornstein and Zernike's form is not that of S4
MIN_SHELLS = 4  # for two parameters and something left to judge them by
MARGINAL = 1.0  # of q_min ξ: above it, the plateau of the fit lies outside the data
BLOCK_FRAMES = 256  # frames whose densities are worked out at once

TOO_FEW_POINTS = "too few points"
MARGINAL_FIT = "marginal: the smallest wavevector is above 1/xi"
NO_LENGTH = "no length: S4 does not rise towards small q"
NO_FIT = "fit failed"


@dataclass(frozen=True)
class QPoints:
    """Q-points: wavevectors 2π n·H⁻¹ that fit a box, in shells of one length.

    Attributes
    ----------
    integers
        n, one of each ±n, shape (Q, 3).
    shell
        Shell of each, shape (Q,).
    lengths
        Mean |q| of each shell in 1/Å, increasing, shape (shells,).
    """

    integers: Index
    shell: Index
    lengths: Array


def qpoints_below(cell: Array, longest: float, maximum: int = 400) -> QPoints:
    """All q-points of a box up to a length, in whole shells: the shortest, at most `maximum` of them.

    Parameters
    ----------
    cell
        Lattice vectors as rows in Å, shape (3, 3).
    longest
        Largest |q| in 1/Å.
    """
    return _qpoints(cell, 0.0, longest, maximum, keep="shortest")


def qpoints_near(cell: Array, wavevector: float, width: float, maximum: int = 60) -> QPoints:
    """Q-points of a box within `width` of a length, all 1/Å, as one shell; at most `maximum`, evenly picked."""
    found = _qpoints(cell, wavevector - width, wavevector + width, maximum, keep="spread")
    lengths = np.linalg.norm(2 * np.pi * found.integers @ np.linalg.inv(cell).T, axis=1)
    return QPoints(found.integers, np.zeros(len(found.integers), dtype=np.int64), np.array([lengths.mean()]))


def _qpoints(cell: Array, shortest: float, longest: float, maximum: int, keep: str) -> QPoints:
    if not np.linalg.det(cell) > 0:
        raise DataError("wavevectors need a box; expected lattice vectors, found none")
    # n_d = q·a_d/2π, so |n_d| ≤ |q||a_d|/2π; rounding must not lose the last integer
    reach = np.floor(longest * np.linalg.norm(cell, axis=1) / (2 * np.pi) * (1 + ROUNDING)).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    # one of each pair ±n: the first integer that is not 0 is positive
    signs = np.sign(grid)
    leading = np.where(signs[:, 0] != 0, signs[:, 0], np.where(signs[:, 1] != 0, signs[:, 1], signs[:, 2]))
    grid = grid[leading > 0]
    lengths = np.linalg.norm(2 * np.pi * grid @ np.linalg.inv(cell).T, axis=1)
    inside = (lengths <= longest * (1 + ROUNDING)) & (lengths >= shortest * (1 - ROUNDING))
    grid, lengths = grid[inside], lengths[inside]
    if len(grid) == 0:
        smallest = 2 * np.pi / np.linalg.norm(cell, axis=1).max()
        raise DataError(
            f"no wavevector between {max(shortest, 0):.3g} and {longest:.3g} 1/Å fits the box, whose smallest is about "
            f"{smallest:.3g} 1/Å; ask for others"
        )
    order = np.lexsort((*grid.T, np.round(lengths, 9)))
    shell = _shells(lengths[order])
    if len(order) > maximum:
        if keep == "shortest":
            whole = int(np.searchsorted(shell, shell[maximum]))  # a shell in part is no mean over its directions
            order = order[: whole or maximum]
        else:
            order = order[np.linspace(0, len(order) - 1, maximum).astype(int)]
    grid, lengths = grid[order], lengths[order]
    shell = _shells(lengths)
    means = np.bincount(shell, weights=lengths) / np.bincount(shell)
    return QPoints(grid.astype(np.int64), shell, np.asarray(means))


def _shells(lengths: Array) -> Index:
    """Shell of each of increasing lengths: those within `SHELL` of the shortest of their shell are one."""
    shell = np.empty(len(lengths), dtype=np.int64)
    first = number = 0
    while first < len(lengths):
        stop = int(np.searchsorted(lengths, lengths[first] * (1 + SHELL) * (1 + ROUNDING), side="right"))
        shell[first:stop] = number
        first, number = stop, number + 1
    return shell


@dataclass(frozen=True)
class Coherent:
    """F(q,t) of couples of species over lags, lag 0 (the static structure factor) first.

    `values` and `errors` have shape (lags, couples); `couples` names them, `all` first.
    """

    lags_ps: Array
    wavevector: float
    vectors: int
    couples: tuple[str, ...]
    values: Array
    errors: Array


def coherent(
    trajectory: MolecularTrajectory,
    lags: Index,
    wavevector: float,
    width: float | None = None,
    tau_ps: float = 0.0,
    threads: int = 1,
    memory_mb: float = 1000,
    max_qpoints: int = 60,
) -> Coherent:
    """Intermediate scattering function F_ab(q,t) = ⟨ρ_a(q,t) ρ_b*(q,0)⟩ / √(N_a N_b) of the centres.

    Parameters
    ----------
    trajectory
        In a constant box.
    lags
        Integer lags in ticks, shape (L,); lag 0 is added.
    wavevector, width
        |q| and how far a vector that fits the box may be from it, in 1/Å; one smallest wavevector by default.
    tau_ps
        Relaxation time that blocks must exceed 2.5 times.
    threads, memory_mb
        As for `correlators.pass_moments`.
    most_vectors
        Wavevectors averaged over.

    Returns
    -------
    Coherent

    Raises
    ------
    DataError
        Without a constant box, or where no wavevector fits.
    """
    from mlpwf.dynamics import qpoints as loops

    _constant(trajectory)
    smallest = 2 * np.pi / float(np.linalg.norm(trajectory.cell, axis=1).max())
    qpoints = qpoints_near(trajectory.cell, wavevector, smallest / 2 if width is None else width, max_qpoints)
    kinds = len(trajectory.kinds)
    rho = FrameFile(2 * kinds, len(qpoints.integers))
    inverse = np.linalg.inv(trajectory.cell)
    for _, frames in trajectory.blocks(BLOCK_FRAMES):
        found = np.empty((len(frames), 2 * kinds, len(qpoints.integers)))
        loops.densities(
            np.ascontiguousarray(frames), trajectory.start.T.copy(), inverse, qpoints.integers, trajectory.bounds, found
        )
        for frame in found:
            rho.append(frame)
    fits = 4 * np.prod(rho.shape, dtype=float) <= memory_mb * MEGABYTE
    frames32 = rho[0 : rho.shape[0]] if fits else rho
    names = [(a, b) for a in range(kinds) for b in range(kinds)]
    every = np.concatenate([[0], lags]).astype(np.int64)
    window, width_ps = origin_windows(trajectory, WINDOWS)
    count = int(window.max()) + 1
    sums, pairs = np.zeros((count, len(every), len(names))), np.zeros((count, len(every)), dtype=np.int64)

    def work(first: Frames32, first_from: int, second: Frames32, second_from: int, origins: tuple[int, int]) -> None:
        loops.add_coherent(
            first, first_from, second, second_from, origins, trajectory.ticks, every, window,
            np.asarray(names, dtype=np.int64), sums, pairs,
        )  # fmt: skip

    each_pair_of_blocks(trajectory.ticks, frames32, every, window, work, threads, memory_mb)
    sizes = np.diff(trajectory.bounds).astype(float)
    scale = np.array([1 / np.sqrt(sizes[a] * sizes[b]) for a, b in names]) / len(qpoints.integers)
    whole = sums.sum(axis=2, keepdims=True) / (len(qpoints.integers) * sizes.sum())
    both = (sums * scale).reshape(*sums.shape[:2], kinds, kinds)
    both = (both + np.swapaxes(both, 2, 3)) / 2  # a–b and b–a are the same in equilibrium
    upper = np.triu_indices(kinds)
    columns = whole if kinds == 1 else np.concatenate([whole, both[:, :, upper[0], upper[1]]], axis=2)
    estimates = [
        [_ratio(columns[:, lag, c], pairs[:, lag], width_ps, every[lag] * trajectory.tick_ps, tau_ps) for c in
         range(columns.shape[2])]
        for lag in range(len(every))
    ]  # fmt: skip
    labels = [f"{trajectory.kinds[a]}-{trajectory.kinds[b]}" for a, b in zip(*upper, strict=True)] if kinds > 1 else []
    return Coherent(
        lags_ps=np.asarray(every * trajectory.tick_ps, dtype=np.float64),
        wavevector=float(qpoints.lengths[0]),
        vectors=len(qpoints.integers),
        couples=("all", *labels),
        values=np.array([[one.value for one in row] for row in estimates]),
        errors=np.array([[one.error for one in row] for row in estimates]),
    )


def _constant(trajectory: MolecularTrajectory) -> None:
    if not trajectory.constant_box:
        raise DataError("the box varies, and wavevectors with it; expected a run at constant volume")
    if not np.linalg.det(trajectory.cell) > 0:
        raise DataError("the trajectory has no box; expected one that wavevectors fit")


def _ratio(sums: Array, pairs: Index, window_ps: float, lag_ps: float, tau_ps: float) -> Estimate:
    """Mean over pairs of sums (W,), with its error."""
    numbers = split_windows(pairs > 0, window_ps, max(lag_ps, 2.5 * tau_ps), MAX_BLOCKS)
    counts = block_sums(pairs, numbers)
    return jackknife(lambda s, n: s / n, [block_sums(sums, numbers), counts], counts)


@dataclass(frozen=True)
class FourPoint:
    """S4(q,t) and the fluctuations of sub-boxes, by lag.

    Attributes
    ----------
    lags_ps
        Shape (L,).
    wavevectors
        |q| of each shell in 1/Å, shape (S,).
    s4, s4_error
        ⟨|Σ w exp(iq·r(0))|²⟩/N, shape (L, S). Its mean part vanishes for q ≠ 0.
    s4_fluctuation, s4_fluctuation_error
        The same of w − ⟨w⟩, without the fluctuations of the density alone, shape (L, S).
    edges
        Cube root of the volume of the sub-boxes in Å, largest first, shape (D,).
    chi4, chi4_error
        ⟨(Σ_{i in sub-box} (w_i − ⟨w⟩))²⟩/⟨n⟩, shape (L, D); the whole box gives χ4.
    """

    lags_ps: Array
    wavevectors: Array
    s4: Array
    s4_error: Array
    s4_fluctuation: Array
    s4_fluctuation_error: Array
    edges: Array
    chi4: Array
    chi4_error: Array


def four_point_structure(
    trajectory: MolecularTrajectory,
    lags: Index,
    overlap_angstrom: float | None = None,
    scattering_wavevector: float | None = None,
    longest: float | None = None,
    divisions: Sequence[int] = (1, 2, 3, 4, 5, 6),
    group: str = "all",
    tau_ps: float = 0.0,
    threads: int = 1,
    memory_mb: float = 1000,
) -> FourPoint:
    """S4(q,t) of the overlap or of sin(qr)/(qr), and the same fluctuations in sub-boxes.

    S4 after Lačević et al., DOI 10.1063/1.1605094, with the *global* mean; sub-boxes after
    Chakrabarty et al., Phys. Rev. Lett. 119, 205502 (2017), DOI 10.1103/PhysRevLett.119.205502.
    A box of N molecules does not sample q = 0.

    Parameters
    ----------
    trajectory
        In a constant box.
    lags
        Integer lags in ticks: those near the peak of χ4, not all; shape (L,).
    overlap_angstrom, scattering_wavevector
        Length a or wavevector; one of the two.
    longest
        Largest |q| in 1/Å; five smallest wavevectors by default.
    divisions
        Sub-boxes along each edge, 1 for the whole box.
    group
        `all` or a species.
    tau_ps
        Relaxation time that blocks must exceed 2.5 times.
    threads, memory_mb
        As for `correlators.pass_moments`.
    """
    from mlpwf.dynamics import qpoints as loops

    _constant(trajectory)
    if (overlap_angstrom is None) == (scattering_wavevector is None):
        raise DataError("S4 needs an overlap length or a wavevector; expected one of the two")
    smallest = 2 * np.pi / float(np.linalg.norm(trajectory.cell, axis=1).max())
    qpoints = qpoints_below(trajectory.cell, 5 * smallest if longest is None else longest)
    low, high = 0, trajectory.molecules
    if group != "all":
        if group not in trajectory.kinds:
            raise DataError(f"no species {group!r}; there are {', '.join(trajectory.kinds)}")
        number = trajectory.kinds.index(group)
        low, high = int(trajectory.bounds[number]), int(trajectory.bounds[number + 1])
    window, width_ps = origin_windows(trajectory, WINDOWS)
    count = int(window.max()) + 1
    found = np.zeros((count, len(lags), len(qpoints.lengths), 3))
    boxes = np.zeros((count, len(lags), len(divisions), 3))
    decays, pairs = np.zeros((count, len(lags))), np.zeros((count, len(lags)), dtype=np.int64)
    start, inverse = trajectory.start.T.copy(), np.linalg.inv(trajectory.cell)
    overlap2 = np.float32((overlap_angstrom or 0.0) ** 2)
    q2 = np.float32((scattering_wavevector or 0.0) ** 2)
    parts = np.asarray(divisions, dtype=np.int64)

    def work(first: Frames32, first_from: int, second: Frames32, second_from: int, origins: tuple[int, int]) -> None:
        loops.add_four_point(
            first, first_from, second, second_from, origins, trajectory.ticks, lags, window, start, inverse,
            np.asarray([low, high]), overlap2, q2, qpoints.integers, qpoints.shell, parts, found, boxes, decays, pairs,
        )  # fmt: skip

    each_pair_of_blocks(trajectory.ticks, trajectory.frames, lags, window, work, threads, memory_mb)
    members = np.bincount(qpoints.shell)
    shape = (len(lags), len(qpoints.lengths))
    s4, fluctuation = np.empty((*shape, 2)), np.empty((*shape, 2))
    sub = np.empty((len(lags), len(divisions), 2))
    size = float(high - low)
    for lag in range(len(lags)):
        if not pairs[:, lag].any():
            raise DataError(f"no two frames are {lags[lag] * trajectory.tick_ps:g} ps apart; expected lags they hold")
        shortest = max(float(lags[lag] * trajectory.tick_ps), 2.5 * tau_ps)
        numbers = split_windows(pairs[:, lag] > 0, width_ps, shortest, MAX_BLOCKS)
        counts, mean = block_sums(pairs[:, lag], numbers), block_sums(decays[:, lag], numbers)
        for shell, vectors in enumerate(members):
            sums = block_sums(found[:, lag, shell], numbers)
            for target, statistic in ((s4, _plain), (fluctuation, _about_mean)):
                one = jackknife(lambda s, d, n, f=statistic: f(s, d, n), [sums, mean, counts], counts)
                target[lag, shell] = np.array([one.value, one.error]) / (size * vectors)
        for number in range(len(divisions)):
            sums = block_sums(boxes[:, lag, number], numbers)
            one = jackknife(_about_mean, [sums, mean, counts], counts)
            sub[lag, number] = np.array([one.value, one.error]) / size
    volume = float(np.linalg.det(trajectory.cell))
    return FourPoint(
        lags_ps=np.asarray(lags * trajectory.tick_ps, dtype=np.float64),
        wavevectors=qpoints.lengths,
        s4=s4[..., 0],
        s4_error=s4[..., 1],
        s4_fluctuation=fluctuation[..., 0],
        s4_fluctuation_error=fluctuation[..., 1],
        edges=np.cbrt(volume) / np.asarray(divisions, dtype=np.float64),
        chi4=sub[..., 0],
        chi4_error=sub[..., 1],
    )


def _about_mean(sums: Array, decay: Array, pairs: Array) -> Array:
    """⟨|Σ (h − ⟨h⟩) e|²⟩ from sums of |H|², Re H ρ* and |ρ|² in the last axis; h = 1 − w."""
    mean = decay / pairs
    return np.asarray((sums[..., 0] - 2 * mean * sums[..., 1] + mean**2 * sums[..., 2]) / pairs)


def _plain(sums: Array, decay: Array, pairs: Array) -> Array:
    """⟨|Σ w e|²⟩ from the same."""
    return np.asarray((sums[..., 0] - 2 * sums[..., 1] + sums[..., 2]) / pairs)


@dataclass(frozen=True)
class Length:
    """ξ4 in Å and χ4(q → 0) of an Ornstein–Zernike fit, with errors, the points used and a verdict."""

    xi: float
    xi_error: float
    chi0: float
    chi0_error: float
    points: int
    verdict: str


def ornstein_zernike(wavevectors: Array, s4: Array, errors: Array) -> Length:
    """Fit S4 = χ0/(1 + (qξ)²) to the shells with qξ ≤ 1.5, found by repeating the fit from the smallest q on.

    Verdicts: `too few points` (fewer than four shells below 1.5/ξ); `marginal` where even the smallest
    wavevector is above 1/ξ, so that χ0 is an extrapolation; `no length` where S4 does not rise towards
    small q. Source: Flenner and Szamel, DOI 10.1103/PhysRevLett.105.217801.

    Parameters
    ----------
    wavevectors
        |q| in 1/Å, increasing, shape (S,).
    s4, errors
        Shape (S,); every point counts alike where an error is unknown.
    """
    if not wavevectors.shape == s4.shape == errors.shape or wavevectors.ndim != 1:
        raise DataError(f"shapes {wavevectors.shape}, {s4.shape}, {errors.shape}; expected one shape (shells,)")
    from scipy.optimize import curve_fit

    used = np.isfinite(s4) & (s4 > 0)
    q, y, sigma = wavevectors[used], s4[used], errors[used]
    if len(q) < MIN_SHELLS:
        return Length(NAN, NAN, NAN, NAN, len(q), TOO_FEW_POINTS)
    weighted = bool(np.all(np.isfinite(sigma) & (sigma > 0)))
    points, seen = MIN_SHELLS, set[int]()
    while True:
        seen.add(points)
        try:
            (chi0, xi2), covariance = curve_fit(
                lambda x, c, s: c / (1 + s * x**2), q[:points], y[:points], (y[0], 1 / q[points // 2] ** 2),
                sigma=sigma[:points] if weighted else None, absolute_sigma=weighted, maxfev=5000,
            )  # fmt: skip
        except RuntimeError:
            return Length(NAN, NAN, NAN, NAN, points, NO_FIT)
        if xi2 <= 0 or not np.isfinite(covariance).all():
            if points == len(q):
                return Length(NAN, NAN, NAN, NAN, points, NO_LENGTH)
            points += 1  # noise among the first few
            continue
        xi = float(np.sqrt(xi2))
        below = int(np.count_nonzero(q * xi <= ZERNIKE_LIMIT))
        if below < MIN_SHELLS:
            return Length(NAN, NAN, NAN, NAN, below, TOO_FEW_POINTS)
        if below in seen:
            break
        points = below
    errors_of = np.sqrt(np.diag(covariance))
    xi_error = float(errors_of[1] / (2 * xi))
    verdict = NO_LENGTH if xi_error > xi else MARGINAL_FIT if q[0] * xi > MARGINAL else OK
    return Length(xi, xi_error, float(chi0), float(errors_of[0]), points, verdict)
