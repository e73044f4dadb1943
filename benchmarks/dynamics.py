"""What the correlators cost: mlpwf against freud, MDAnalysis, dynasor, atooms-pp, PyMatterSim, fastatomstruct, NumPy.

    pip install -e ".[bench]" && python benchmarks/dynamics.py

writes benchmarks/dynamics.csv and, from it, the table in docs/dynamics.md (`--table-only`: the table alone).
All in one run on the same arrays, each on one thread unless a row says otherwise, compiled code warm, the
fastest of several repetitions. Every result is compared with ours, and the run fails where they differ.
Ratios are of CPU time, which other work on the machine distorts less than wall time does. The committed
table was made on a quiet machine, its rows of χ4(t) and S4 later on a busy one (`--four-point-only`).

Peers that offer every lag give every lag (freud and MDAnalysis by FFT, dynasor by its window, PyMatterSim and
fastatomstruct pair by pair); mlpwf and atooms-pp give the same log-spaced lags. All average over all time
origins. dynasor averages F_s over the directions of the given wavevectors, mlpwf over all of them,
sin(qr)/(qr); the rows give the number of wavevectors. dynasor reads a file, DCD; the time of reading it alone
is taken off. χ4 and S4 of peers: dynamics_peers.py.
"""

from __future__ import annotations

import os

for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON"):
    os.environ[f"{name}_NUM_THREADS"] = "1"

# ruff: noqa: E402
import argparse
import csv
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dynamics_peers as peers
import numpy as np

from mlpwf.dynamics.correlators import averages, curve, pass_moments
from mlpwf.dynamics.structure import coherent, four_point_structure, qpoints_near
from mlpwf.dynamics.trajectory import FrameFile, MolecularTrajectory, choose_lags

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "dynamics.md"
HEADER = "| quantity | program | frames | lags |"
EDGE = 45.0  # Å: 512 toluenes
WAVEVECTOR, OVERLAP = 1.3, 1.0


@dataclass
class Table:
    """Rows of the benchmark; ratios are to the row of mlpwf of the same quantity."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, quantity: str, program: str, frames: int, lags: int, cost: tuple[float, float], pairs: float = 0.0,
        difference: float | None = None, allowed: float = 0.0, note: str = "",
    ) -> None:  # fmt: skip
        cpu, wall = cost
        ours = [row["cpu_s"] for row in self.rows if row["quantity"] == quantity and row["program"] == "mlpwf"]
        row = {
            "quantity": quantity, "program": program, "frames": frames, "lags": lags, "cpu_s": cpu, "wall_s": wall,
            "ns_per_pair": cpu / pairs * 1e9 if pairs else float("nan"),
            "times_mlpwf": cpu / ours[0] if ours else 1.0,
            "largest_difference": float("nan") if difference is None else difference, "note": note,
        }  # fmt: skip
        self.rows.append(row)
        shown = "".join(f"{row[key]:>12.4g}" for key in ("cpu_s", "wall_s", "ns_per_pair", "times_mlpwf"))
        told = "" if difference is None else f"   differs by {difference:.1e}"
        print(f"{quantity:<28}{program:<14}{frames:>7}{lags:>6}{shown}{told}   {note}", flush=True)
        if difference is not None and not difference <= allowed:
            raise SystemExit(
                f"{quantity}: {program} differs from mlpwf by {difference:.3g}; expected at most {allowed:g}"
            )


def timed(call: Callable[[], Any], repeats: int = 3) -> tuple[tuple[float, float], Any]:
    """CPU and wall seconds of the repetition that took least CPU, and the result."""
    best, result = (np.inf, np.inf), None
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = call()
        spent = time.process_time() - cpu, time.perf_counter() - wall
        best = min(best, spent)
    return best, result


def liquid(frames: int, molecules: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of molecules that rattle in cages which diffuse, and one axis each."""
    rng = np.random.default_rng(1)
    cage = np.cumsum(rng.normal(scale=0.03, size=(frames, molecules, 3)), axis=0)
    cage += rng.uniform(0, EDGE, (molecules, 3))
    axes = np.cumsum(rng.normal(scale=0.05, size=(frames, molecules, 3)), axis=0) + rng.normal(size=(molecules, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    return cage + rng.normal(scale=0.1, size=cage.shape), axes[:, :, None]


def pairs_of(frames: int, molecules: int, lags: np.ndarray) -> float:
    return float(np.sum(frames - lags)) * molecules


def full_pass(table: Table, trajectory: MolecularTrajectory, threads: list[int]) -> None:
    """MSD, α2, F_s, Q and χ4 in one go; then with more threads, wavevectors and axes."""
    frames, lags = len(trajectory.ticks), choose_lags(trajectory.ticks)
    pairs = pairs_of(frames, trajectory.molecules, lags)
    centres = without_axes(trajectory)
    for count in threads:
        cost, _ = timed(lambda n=count: pass_moments(centres, lags, [WAVEVECTOR], OVERLAP, threads=n))
        note = f"{count} thread{'s' * (count > 1)}"
        table.add("MSD+alpha2+F_s+Q+chi4", "mlpwf", frames, len(lags), cost, pairs, note=note)
    for count in (frames // 4, 4 * frames):
        part = of_length(centres, count)
        some = choose_lags(part.ticks)
        cost, _ = timed(lambda t=part, s=some: pass_moments(t, s, [WAVEVECTOR], OVERLAP))
        pairs_here = pairs_of(count, trajectory.molecules, some)
        table.add("MSD+alpha2+F_s+Q+chi4", "mlpwf", count, len(some), cost, pairs_here, note="frames × log(frames)")
    disk = in_file(centres)
    cost, _ = timed(lambda: pass_moments(disk, lags, [WAVEVECTOR], OVERLAP, memory_mb=16))
    table.add("MSD+alpha2+F_s+Q+chi4", "mlpwf", frames, len(lags), cost, pairs, note="from a file, in 16 MiB")
    cost, moments = timed(lambda: pass_moments(centres, lags, [0.3, 0.7, 1.0, 1.3], OVERLAP))
    table.add("the same, four q", "mlpwf", frames, len(lags), cost, pairs)
    cost, _ = timed(lambda: pass_moments(trajectory, lags, [WAVEVECTOR], OVERLAP))
    table.add("the same, and C_1, C_2", "mlpwf", frames, len(lags), cost, pairs)
    cost, _ = timed(lambda: averages(moments))
    table.add("averages with errors", "mlpwf", frames, len(lags), cost)


def without_axes(trajectory: MolecularTrajectory) -> MolecularTrajectory:
    return replace(trajectory, frames=np.ascontiguousarray(trajectory.frames[0 : len(trajectory.ticks), :3]))


def of_length(trajectory: MolecularTrajectory, frames: int) -> MolecularTrajectory:
    """The first frames, or all of them over and over: what moves does not matter to the time it takes."""
    again = -(-frames // len(trajectory.ticks))
    kept = np.concatenate([trajectory.frames[0 : len(trajectory.ticks)]] * again)[:frames]
    return replace(trajectory, ticks=np.arange(frames), frames=kept)


def in_file(trajectory: MolecularTrajectory) -> MolecularTrajectory:
    kept = FrameFile(*trajectory.frames.shape[1:])
    for start in range(len(trajectory.ticks)):
        kept.append(trajectory.frames[start : start + 1][0])
    return replace(trajectory, frames=kept)


def displacement(table: Table, centres: np.ndarray) -> None:
    """The MSD alone; ours includes bringing the arrays into its layout."""
    import freud
    import MDAnalysis
    from MDAnalysis.analysis.msd import EinsteinMSD

    frames, molecules = centres.shape[:2]
    times = np.arange(float(frames))
    lags = choose_lags(np.arange(frames))
    pairs = pairs_of(frames, molecules, lags)

    def ours() -> np.ndarray:
        moments = pass_moments(MolecularTrajectory.from_arrays(times, centres), lags, (), OVERLAP)
        return moments.squared[:, :, 0].sum(axis=0) / moments.pairs.sum(axis=0)

    cost, msd = timed(ours)
    table.add("MSD", "mlpwf", frames, len(lags), cost, pairs, note="arrays brought into layout")
    ready = MolecularTrajectory.from_arrays(times, centres)
    cost, _ = timed(lambda: pass_moments(ready, lags, (), OVERLAP))
    table.add("MSD", "mlpwf, layout", frames, len(lags), cost, pairs, note="arrays in layout already")
    freud.parallel.set_num_threads(1)
    centred = centres - centres.mean(axis=0)  # freud loses digits far from the origin
    cost, found = timed(lambda: freud.msd.MSD(mode="window").compute(centred).msd, 2)
    table.add("MSD", "freud", frames, frames, cost, difference=relative(found[lags], msd), allowed=0.02, note="FFT")
    universe = MDAnalysis.Universe.empty(molecules, trajectory=True)
    universe.load_new(centred.astype(np.float32))
    cost, found = timed(lambda: EinsteinMSD(universe, fft=True).run().results.timeseries, 1)
    table.add(
        "MSD", "MDAnalysis", frames, frames, cost, difference=relative(found[lags], msd), allowed=1e-3, note="FFT"
    )
    cost, found = timed(
        lambda: np.array([np.mean(np.sum((centres[lag:] - centres[:-lag]) ** 2, axis=-1)) for lag in lags]), 1
    )
    table.add("MSD", "NumPy", frames, len(lags), cost, difference=relative(found, msd), allowed=1e-5)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found / expected - 1)))


def scattering(table: Table, centres: np.ndarray) -> None:
    """F_s, and F(q, t), against dynasor and NumPy."""
    frames, molecules = centres.shape[:2]
    trajectory = MolecularTrajectory.from_arrays(np.arange(float(frames)), centres, cell=np.full(3, EDGE))
    lags = choose_lags(trajectory.ticks)
    pairs = pairs_of(frames, molecules, lags)
    waves = qpoints_near(trajectory.cell, WAVEVECTOR, 0.07, 30)
    vectors = 2 * np.pi * waves.integers / EDGE
    q = float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))
    cost, moments = timed(lambda: pass_moments(trajectory, lags, [q], OVERLAP))
    single = curve(moments, moments.names[1])
    table.add("F_s(q,t)", "mlpwf", frames, len(lags), cost, pairs, note="all directions; with MSD, Q and chi4")
    collective_cost, collective = timed(lambda: coherent(trajectory, lags, WAVEVECTOR, 0.07, max_qpoints=30))
    with tempfile.TemporaryDirectory() as folder:
        reading, together, alone, sample = dynasor(Path(folder) / "run.dcd", centres, vectors, frames // 2)
    own = tuple(a - b for a, b in zip(together, alone, strict=True))
    found = np.mean(sample.Fqt_incoh, axis=0)[lags]
    table.add(
        "F_s(q,t)", "dynasor", frames, frames // 2, own, difference=float(np.max(np.abs(found - single))), allowed=0.02,
        note=f"{len(vectors)} wavevectors; without the coherent part",
    )  # fmt: skip
    cost, found = timed(
        lambda: np.array(
            [np.mean(np.sinc(q / np.pi * np.linalg.norm(centres[lag:] - centres[:-lag], axis=-1))) for lag in lags]
        ),
        1,
    )
    difference = float(np.max(np.abs(found - single)))
    table.add("F_s(q,t)", "NumPy", frames, len(lags), cost, difference=difference, allowed=1e-5)
    table.add("F(q,t)", "mlpwf", frames, len(lags), collective_cost, note=f"{len(vectors)} wavevectors")
    own = tuple(a - b for a, b in zip(alone, reading, strict=True))
    found = np.mean(sample.Fqt_coh, axis=0)[lags]
    difference = float(np.max(np.abs(found - collective.values[1:, 0])))
    note = f"{len(vectors)} wavevectors"
    table.add("F(q,t)", "dynasor", frames, frames // 2, own, difference=difference, allowed=1e-3, note=note)


def dynasor(path: Path, centres: np.ndarray, vectors: np.ndarray, window: int) -> tuple[Any, Any, Any, Any]:
    """Costs of reading, of both parts with reading, of the coherent part with reading; and the sample."""
    import MDAnalysis
    from dynasor import Trajectory, compute_dynamic_structure_factors

    universe = MDAnalysis.Universe.empty(centres.shape[1], trajectory=True)
    universe.dimensions = [EDGE] * 3 + [90.0] * 3
    with MDAnalysis.Writer(str(path), n_atoms=centres.shape[1], dt=1.0) as writer:
        for frame in centres:
            universe.atoms.positions = frame
            writer.write(universe.atoms)

    def run(incoherent: bool, size: int) -> Any:
        trajectory = Trajectory(str(path), trajectory_format="dcd")
        return compute_dynamic_structure_factors(
            trajectory, vectors, dt=1000.0, window_size=size, window_step=1, calculate_incoherent=incoherent,
            logging_interval=0,
        )  # fmt: skip

    run(True, 4)
    reading, _ = timed(lambda: list(Trajectory(str(path), trajectory_format="dcd")), 1)
    alone, _ = timed(lambda: run(False, window), 1)
    together, sample = timed(lambda: run(True, window), 1)
    return reading, together, alone, sample


def fluctuations(table: Table, centres: np.ndarray, axes: np.ndarray) -> None:
    """χ4 with C_l, against NumPy."""
    frames, molecules = centres.shape[:2]
    trajectory = MolecularTrajectory.from_arrays(np.arange(float(frames)), centres, axes, np.full(3, EDGE))
    lags = choose_lags(trajectory.ticks)
    pairs = pairs_of(frames, molecules, lags)
    cost, moments = timed(lambda: pass_moments(trajectory, lags, [WAVEVECTOR], OVERLAP))
    table.add("chi4 and C_1, C_2", "mlpwf", frames, len(lags), cost, pairs, note="all of the pass")

    def plain() -> tuple[np.ndarray, np.ndarray]:
        chi4, c2 = [], []
        for lag in lags:
            stayed = np.sum((centres[lag:] - centres[:-lag]) ** 2, axis=-1) < OVERLAP**2
            chi4.append(molecules * stayed.mean(axis=1).var())
            c2.append(1.5 * np.mean(np.einsum("fnak,fnak->fna", axes[lag:], axes[:-lag]) ** 2) - 0.5)
        return np.array(chi4), np.array(c2)

    cost, (chi4, c2) = timed(plain, 1)
    difference = max(
        float(np.max(np.abs(chi4_of(moments, molecules) - chi4))),
        float(np.max(np.abs(curve(moments, "c2_axis1") - c2))),
    )
    table.add("chi4 and C_1, C_2", "NumPy", frames, len(lags), cost, difference=difference, allowed=1e-4,
              note="chi4 of Q, and C_2")  # fmt: skip


def chi4_of(moments: Any, molecules: int) -> np.ndarray:
    """χ4 of the overlap over all windows of origins."""
    n = moments.pairs.sum(axis=0)
    squared, decay = (field[:, :, 0, 0].sum(axis=0) / n for field in (moments.decay_squared, moments.decay))
    return molecules * (squared - decay**2)


def susceptibility(table: Table, centres: np.ndarray, atooms: Any, matter: Any) -> None:
    """χ4 of the overlap alone, against the packages that have it."""
    frames, molecules = centres.shape[:2]
    trajectory = MolecularTrajectory.from_arrays(np.arange(float(frames)), centres, cell=np.full(3, EDGE))
    lags, every = choose_lags(trajectory.ticks), np.arange(1, frames)
    pairs, all_pairs = pairs_of(frames, molecules, lags), pairs_of(frames, molecules, every)
    cost, moments = timed(lambda: pass_moments(trajectory, lags, (), OVERLAP))
    ours = chi4_of(moments, molecules)
    table.add("chi4(t)", "mlpwf", frames, len(lags), cost, pairs, note="with MSD and alpha2")

    def add(program: str, number: int, found: tuple[Any, np.ndarray], pairs: float, note: str = "") -> None:
        difference = float(np.max(np.abs(found[1] - ours)))
        table.add("chi4(t)", program, frames, number, found[0], pairs, difference, 1e-4, note)

    for fortran in (True, False):
        found = peers.atooms_chi4(atooms, lags, OVERLAP, fortran, timed)
        add("atooms-pp", len(lags), found, pairs, "its Fortran" if fortran else "its NumPy")
    cost, found = peers.fastatomstruct_chi4(centres, EDGE, OVERLAP, timed)
    add("fastatomstruct", len(every), (cost, found[lags - 1]), all_pairs, "Rust; less V/(k_B T N)")
    found = peers.pymattersim_chi4(matter, lags, timed)
    add("PyMatterSim", len(every), found, all_pairs, "with F_s, MSD and alpha2")


def four_point(table: Table, centres: np.ndarray, atooms: Any, matter: Any) -> None:
    """S4 at one lag, against the packages that have it and NumPy; each by its own definition."""
    frames, molecules = centres.shape[:2]
    trajectory = MolecularTrajectory.from_arrays(np.arange(float(frames)), centres, cell=np.full(3, EDGE))
    lags = choose_lags(trajectory.ticks)
    chosen = lags[[len(lags) // 2]]
    quantity, longest = "S4(q,t), one lag", 0.5
    options: dict[str, Any] = {"overlap_angstrom": OVERLAP, "longest": longest, "divisions": (1,)}
    cost, found = timed(lambda: four_point_structure(trajectory, chosen, **options))
    lengths = np.arange(-3, 4)
    grid = np.stack(np.meshgrid(lengths, lengths, lengths, indexing="ij"), axis=-1).reshape(-1, 3)[172:]
    vectors = grid[np.linalg.norm(grid, axis=1) <= longest * EDGE / (2 * np.pi)] * 2 * np.pi / EDGE
    shortest = np.linalg.norm(vectors, axis=1) < 2 * np.pi / EDGE * 1.01
    lag = int(chosen[0])
    table.add(quantity, "mlpwf", frames, 1, cost, note=f"{len(vectors)} wavevectors")

    def waves() -> tuple[np.ndarray, ...]:
        """⟨|W|²⟩/N; that less |⟨W⟩|²/N; ⟨|W|²/Σw⟩."""
        squared, mean, each = np.zeros(len(vectors)), np.zeros(len(vectors), dtype=complex), np.zeros(len(vectors))
        for before, after in zip(centres[:-lag], centres[lag:], strict=True):
            stayed = np.sum((after - before) ** 2, axis=-1) < OVERLAP**2
            wave = stayed @ np.exp(1j * before @ vectors.T)
            squared += np.abs(wave) ** 2
            each += np.abs(wave) ** 2 / stayed.sum()
            mean += wave
        n = frames - lag
        return squared / n / molecules, (squared / n - np.abs(mean / n) ** 2) / molecules, each / n

    cost, (s4, less_mean, by_stayed) = timed(waves, 1)
    difference = abs(float(s4[shortest].mean()) / found.s4[0, 0] - 1)
    table.add(quantity, "NumPy", frames, 1, cost, difference=difference, allowed=1e-4)
    cost, values = peers.atooms_s4(atooms, lag, OVERLAP, vectors, timed)
    difference = relative(values, less_mean)
    table.add(quantity, "atooms-pp", frames, 1, cost, difference=difference, allowed=1e-4, note="less the mean part")
    cost, value = peers.pymattersim_s4(matter, lag, longest, timed)
    difference = abs(value / float(by_stayed[shortest].mean()) - 1)
    table.add(quantity, "PyMatterSim", frames, 1, cost, difference=difference, allowed=1e-4,
              note="fewer wavevectors; by the number that stayed, not N")  # fmt: skip


def write_docs(table: Path) -> None:
    """Put the rows of dynamics.csv where the table of docs/dynamics.md is."""
    with table.open(newline="") as source:
        rows = list(csv.DictReader(source))
    columns = ("cpu_s", "wall_s", "ns_per_pair", "times_mlpwf", "largest_difference")
    lines = [f"{HEADER} CPU-s | wall s | ns a pair | times mlpwf | largest difference | |", "| --- " * 10 + "|"]
    for row in rows:
        numbers = ["" if row[name] == "nan" else f"{float(row[name]):.3g}" for name in columns]
        if row["program"] == "mlpwf":
            numbers[3] = ""
        lines.append(
            "| "
            + " | ".join([row["quantity"], row["program"], row["frames"], row["lags"], *numbers, row["note"]])
            + " |"
        )
    kept = DOCS.read_text().splitlines()
    first = next(k for k, line in enumerate(kept) if line.startswith(HEADER))
    last = next(k for k in range(first, len(kept)) if not kept[k].startswith("|"))
    DOCS.write_text("\n".join([*kept[:first], *lines, *kept[last:]]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=512)
    parser.add_argument("--frames", type=int, default=10_000, help="of the pass and the MSD")
    parser.add_argument("--fewer", type=int, default=1000, help="frames of what peers and NumPy take long for")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "dynamics.csv")
    parser.add_argument("--four-point-only", action="store_true", help="only chi4(t) and S4; other rows stay")
    parser.add_argument("--table-only", action="store_true")
    options = parser.parse_args()
    if options.table_only:
        write_docs(options.out)
        return
    import MDAnalysis  # noqa: F401 - it sets filters of its own when it is imported

    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    centres, axes = liquid(options.frames, options.molecules)
    table = Table()
    trajectory = MolecularTrajectory.from_arrays(np.arange(float(options.frames)), centres, axes, np.full(3, EDGE))
    few = MolecularTrajectory.from_arrays(np.arange(20.0), centres[:20], axes[:20], np.full(3, EDGE))
    for warm in (few, without_axes(few)):
        pass_moments(warm, np.array([1]), [WAVEVECTOR], OVERLAP)
    coherent(few, np.array([1]), WAVEVECTOR, 0.07)
    four_point_structure(few, np.array([1]), overlap_angstrom=OVERLAP, longest=0.5)
    few_centres = centres[: options.fewer]
    if not options.four_point_only:
        full_pass(table, trajectory, options.threads)
        displacement(table, centres)
        scattering(table, few_centres)
        fluctuations(table, few_centres, axes[: options.fewer])
    matter, atooms = peers.pymattersim(few_centres, EDGE, OVERLAP), peers.atooms_trajectory(few_centres, EDGE)
    susceptibility(table, few_centres, atooms, matter)
    four_point(table, few_centres, atooms, matter)
    written = [
        {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in table.rows
    ]
    if options.four_point_only:
        measured = {row["quantity"] for row in written}
        with options.out.open(newline="") as source:
            written = [row for row in csv.DictReader(source) if row["quantity"] not in measured] + written
    with options.out.open("w", newline="") as sink:
        writer = csv.DictWriter(sink, fieldnames=list(table.rows[0]))
        writer.writeheader()
        writer.writerows(written)
    write_docs(options.out)


if __name__ == "__main__":
    main()
