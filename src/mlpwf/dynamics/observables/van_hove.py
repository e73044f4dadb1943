"""The self part of van Hove's function: how far molecules have gone after a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mlpwf.dynamics.columns import Reader
from mlpwf.dynamics.correlators import WINDOWS, each_pair_of_blocks, origin_windows
from mlpwf.dynamics.observable import Column, Figure, Molecules, Observable, Table, TimeSinceOrigin, error
from mlpwf.dynamics.observables.relaxation import relaxed
from mlpwf.dynamics.state import ALL, Runs, Settings, State
from mlpwf.dynamics.trajectory import Array, Frames32, Index, MolecularTrajectory
from mlpwf.dynamics.uncertainty import MAX_BLOCKS, block_sums, jackknife, split_windows
from mlpwf.errors import DataError
from mlpwf.figures import PALETTE, Curve, Panel

COARSE_WINDOWS = 60  # enough for blocks, and histograms are large
BINS = 200
BINS_IN_OVERLAP = 20  # of the length a of the overlap, which is about the size of a cage


@dataclass(frozen=True)
class Distance:
    """One bin of the distances gone in one time."""

    molecules: Molecules
    time_ps: TimeSinceOrigin
    distance_angstrom: Annotated[float, Column("Å", "middle of the bin")]
    density_per_angstrom: Annotated[
        float,
        Column(
            "1/Å",
            "4πr² G_s(r,t), the density of distances r, at a tenth of τ, at τ and at 3 τ of the overlap",
            source="10.1103/PhysRev.95.249",
        ),
    ]
    density_error_per_angstrom: Annotated[float, error("1/Å")]


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
        In 1/Å, shape (L, G, bins); each integrates to the part of the molecules that the bins hold.
    """

    lags_ps: Array
    distances: Array
    groups: tuple[str, ...]
    density: Array
    error: Array


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
    density = np.empty((len(lags), grouped.shape[2], bins))
    spread = np.empty_like(density)
    for lag in range(len(lags)):
        total = grouped[:, lag].sum(axis=-1)
        if not total.any():
            raise DataError(f"no two frames are {lags[lag] * trajectory.tick_ps:g} ps apart; expected lags they hold")
        shortest = max(float(lags[lag] * trajectory.tick_ps), 2.5 * tau_ps)
        numbers = split_windows(total[:, 0] > 0, width_ps, shortest, MAX_BLOCKS)
        for group in range(grouped.shape[2]):
            sums, sizes = block_sums(grouped[:, lag, group], numbers), block_sums(total[:, group], numbers)
            for number in range(bins):
                one = jackknife(lambda c, n: c / n, [sums[:, number], sizes], sizes)
                density[lag, group, number], spread[lag, group, number] = one.value, one.error
    return VanHove(
        lags_ps=np.asarray(lags * trajectory.tick_ps, dtype=np.float64),
        distances=np.asarray((np.arange(bins) + 0.5) * bin_angstrom, dtype=np.float64),
        groups=("all",) if kinds == 1 else ("all", *trajectory.kinds),
        density=density / bin_angstrom,
        error=spread / bin_angstrom,
    )


def measure(state: State, runs: Runs, settings: Settings) -> None:
    """The distances gone in the last run of a state at constant volume."""
    if not runs.trajectory.has_constant_box:
        return
    tau = relaxed(state, ALL, "overlap").tau_ps
    width = settings.overlap_angstrom / BINS_IN_OVERLAP
    found = van_hove(
        runs.trajectory, _lags_near(runs.trajectory, runs.lags, tau), width, BINS * width,
        tau_ps=tau if np.isfinite(tau) else 0.0, threads=settings.threads, memory_mb=settings.memory_mb,
    )  # fmt: skip
    for k, time in enumerate(found.lags_ps):
        for g, group in enumerate(found.groups):
            for distance, density, spread in zip(found.distances, found.density[k, g], found.error[k, g], strict=True):
                state.add(Distance(group, time, distance, density, spread))


def _lags_near(trajectory: MolecularTrajectory, lags: Index, tau_ps: float) -> Index:
    """Lags nearest to a tenth of τ, to τ and to three τ; the middle and the last lag where τ is not known."""
    if not np.isfinite(tau_ps):
        return np.unique(lags[[len(lags) // 2, -1]])
    return np.unique([trajectory.nearest_lag(lags, part * tau_ps) for part in (0.1, 1.0, 3.0)])


def panels(reader: Reader) -> list[Panel]:
    """4πr² G_s(r,t) of all molecules, a panel for each temperature, a curve for each time."""
    table, found = "van_hove", []
    if not reader.has(table):
        return []
    kelvin, time, distance, density = (
        reader.get(table, name)
        for name in ("temperature_kelvin", "time_ps", "distance_angstrom", "density_per_angstrom")
    )
    for temperature in np.unique(kelvin):
        mine = reader.rows(table, molecules=ALL) & (kelvin == temperature)
        if not density[mine].any():
            continue
        reached = mine & (distance <= distance[mine & (density > 0)].max())
        curves = [
            Curve(
                reader.label(f"t = {one:.3g}", "ps").replace(",", ""), distance[reached & (time == one)],
                density[reached & (time == one)], colour=PALETTE[k],
            )
            for k, one in enumerate(np.unique(time[mine]))
        ]  # fmt: skip
        y_label = reader.label("4πr² Gₛ(r,t)", "1/Å")
        found.append(Panel(reader.kelvin(temperature), reader.label("r", "Å"), y_label, curves))
    return found


OBSERVABLE = Observable(
    title="van Hove's function, self part",
    tables=[
        Table(
            "van_hove", Distance, each="group of molecules, time and distance, of the last run of a state",
            needs=("temperature_kelvin", "molecules", "time_ps", "distance_angstrom", "density_per_angstrom"),
        )
    ],
    measure=measure,
    figures=[
        Figure(
            "van_hove",
            "Van Hove's function, self part: the density of the distances r that molecules have gone, at a tenth of "
            "τ, at τ and at 3 τ of the overlap (at the middle and the last lag where τ is not known), in the last run "
            "of a state.",
            panels,
        )
    ],
)  # fmt: skip
