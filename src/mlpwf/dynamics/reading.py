"""From files to molecules: made whole, unwrapped, without drift, one frame in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpwf.dynamics.trajectory import (
    AXIS_TOLERANCE,
    MEGABYTE,
    Array,
    FrameFile,
    Index,
    MolecularTrajectory,
    linear_interval,
    ticks_of,
)
from mlpwf.errors import DataError

BEADS = 3  # centre of mass, centre + first axis, centre + second axis
BOX_TOLERANCE = 1e-4  # relative: single precision of one and the same box
LARGEST_STEP = 0.4  # of the box: a longer way between two frames may have been the other way round
SAME = 0.05  # Å: how far the rounding of a format may put the atoms of one frame that is written twice
ANGSTROM_PER_NM = 10.0


@dataclass(frozen=True)
class Bodies:
    """How atoms make molecules, and molecules axes.

    Attributes
    ----------
    molecule
        Molecule of each atom, numbered from 0 without gaps, shape (n_atoms,).
    masses
        Mass of each atom in amu, shape (n_atoms,); zero for a marker, which moves no centre.
    species
        Species of each molecule, shape (N,).
    axes
        Pairs of atoms, from the first to the second, that make the axes of each molecule, shape (A, N, 2).
    parents
        For each atom, the atom it is laid beside when a molecule is made whole, itself for the first
        of a molecule, shape (n_atoms,); the first atom of the molecule by default.
    """

    molecule: Index
    masses: Array
    species: tuple[str, ...]
    axes: Index
    parents: Index | None = None

    def __post_init__(self) -> None:
        atoms, molecules = len(self.molecule), len(self.species)
        if self.masses.shape != (atoms,):
            raise DataError(f"masses has shape {self.masses.shape}; expected ({atoms},)")
        if not np.array_equal(np.unique(self.molecule), np.arange(molecules)):
            raise DataError(f"molecules are not numbered 0 to {molecules - 1}; expected each of them to hold an atom")
        if self.axes.ndim != 3 or self.axes.shape[1:] != (molecules, 2):
            raise DataError(f"axes has shape {self.axes.shape}; expected (axes, {molecules}, 2)")
        if np.any(np.bincount(self.molecule, weights=self.masses) <= 0):
            raise DataError("a molecule has no mass; expected masses in amu")

    @classmethod
    def of_beads(cls, molecules: int) -> Bodies:
        """Molecules of three beads: centre of mass and the tips of two unit axes."""
        first = BEADS * np.arange(molecules)
        return cls(
            molecule=np.repeat(np.arange(molecules), BEADS),
            masses=np.tile([1.0, 0.0, 0.0], molecules),
            species=("molecule",) * molecules,
            axes=np.stack([np.stack([first, first + tip], axis=1) for tip in (1, 2)]),
        )


@dataclass(frozen=True)
class Snapshot:
    """Positions (n_atoms, 3) and lattice vectors (3, 3) in Å at a time in ps; a cell of zeros is no box."""

    time_ps: float
    positions: NDArray[np.floating]
    cell: Array


class Assembler:
    """Turns snapshots into unwrapped centres and unit axes, one after the other.

    Unwrapping adds up the shortest ways between wrapped places in successive frames, with the box of
    the later one (the toroidal-view-preserving scheme): image flags times the box edge, the usual way,
    grow without bound where the box fluctuates. Source: Bullerjahn et al., J. Chem. Theory Comput. 19,
    3406 (2023), DOI 10.1021/acs.jctc.3c00308.
    """

    def __init__(self, bodies: Bodies, unwrap: bool, constant_box: bool, remove_drift: bool, name: str) -> None:
        self.bodies, self.unwrap, self.constant_box, self.remove_drift = bodies, unwrap, constant_box, remove_drift
        self.name = name
        self.order = np.argsort(np.asarray(bodies.species), kind="stable")
        self._atoms = np.argsort(bodies.molecule, kind="stable")
        self._first = np.searchsorted(bodies.molecule[self._atoms], np.arange(len(bodies.species)))
        parents = self._atoms[self._first][bodies.molecule] if bodies.parents is None else bodies.parents
        self._generations = _generations(parents)
        self._parents = parents
        self.masses: Array = np.asarray(np.bincount(bodies.molecule, weights=bodies.masses), dtype=np.float64)
        self.start: Array | None = None
        self._place: Array = np.zeros(0)
        self._way: Array = np.zeros(0)
        self._cells = np.zeros((3, 3))
        self._first_cell = np.zeros((3, 3))
        self._last: NDArray[np.floating] = np.zeros((0, 3))
        self.count = 0

    @property
    def cell(self) -> Array:
        """Mean lattice vectors so far."""
        return self._cells / max(self.count, 1)

    def frame(self, shot: Snapshot) -> Array:
        """Displacement from the first frame, then unit axes: shape (3 + 3 axes, N), species in order."""
        if shot.positions.shape != (len(self.bodies.molecule), 3):
            raise DataError(
                f"{self.name}: positions of {len(shot.positions)} atoms at {shot.time_ps:g} ps; "
                f"the topology has {len(self.bodies.molecule)}"
            )
        if not np.isfinite(shot.positions).all():
            raise DataError(f"{self.name}: NaN positions at {shot.time_ps:g} ps; simulate this state again")
        boxed = bool(np.any(shot.cell))
        if self.unwrap and not boxed:
            raise DataError(
                f"{self.name}: no box at {shot.time_ps:g} ps; expected one to unwrap with, so a format that holds it"
            )
        self._check_cell(shot)
        inverse: Array = np.linalg.inv(shot.cell).astype(np.float64) if boxed else np.zeros((3, 3))
        positions = self._whole(shot, inverse) if boxed else shot.positions.astype(np.float64)
        weighted = (positions * self.bodies.masses[:, None])[self._atoms]
        centres = np.add.reduceat(weighted, self._first, axis=0) / self.masses[:, None]
        axes = self._axes(positions, shot.time_ps)
        moved = self._displacement(centres, shot, inverse)
        if self.remove_drift:
            moved = moved - np.average(moved, axis=0, weights=self.masses)
        self._cells = self._cells + shot.cell
        self._last = shot.positions.copy()
        self.count += 1
        return np.concatenate([moved.T, axes])[:, self.order]

    def check_repeat(self, shot: Snapshot, before_ps: float) -> None:
        """Raise unless a snapshot no later than the one before is that one once more, as where pieces meet."""
        if shot.time_ps < before_ps:
            raise DataError(
                f"{self.name}: times do not increase ({before_ps:g} ps is followed by {shot.time_ps:g} ps); expected "
                "the pieces in order and without overlap, or, if frames are evenly spaced, --interval-ps"
            )
        moved = shot.positions.astype(np.float64) - self._last
        if np.any(shot.cell):
            parts = moved @ np.linalg.inv(shot.cell)
            moved = (parts - np.rint(parts)) @ shot.cell
        if not np.abs(moved).max() <= SAME:
            raise DataError(
                f"{self.name}: two frames at {before_ps:g} ps, atoms {np.abs(moved).max():.3g} Å apart: times do not "
                "increase; give the time between frames: --interval-ps"
            )

    def _check_cell(self, shot: Snapshot) -> None:
        if not np.isfinite(shot.cell).all() or (np.any(shot.cell) and np.linalg.det(shot.cell) <= 0):
            raise DataError(
                f"{self.name}: cell {shot.cell.tolist()} Å at {shot.time_ps:g} ps; expected a right-handed box"
            )
        if self.count == 0:
            self._first_cell = shot.cell.copy()
        change = np.abs(shot.cell - self._first_cell).max()
        if self.constant_box and change > BOX_TOLERANCE * max(np.abs(self._first_cell).max(), 1e-9):
            raise DataError(
                f"{self.name}: the box varies by {change:.3g} Å until {shot.time_ps:g} ps; expected a constant box "
                "(NVT), or to be told that it varies (NPT)"
            )

    def _whole(self, shot: Snapshot, inverse: Array) -> Array:
        """Positions with every atom at the image nearest to its parent."""
        positions = shot.positions.astype(np.float64)
        for atoms in self._generations:
            bond = positions[atoms] - positions[self._parents[atoms]]
            parts = bond @ inverse
            near = parts - np.rint(parts)
            if len(near) and np.abs(near).max() > LARGEST_STEP:
                broken = int(self.bodies.molecule[atoms[np.abs(near).max(axis=1).argmax()]])
                raise DataError(
                    f"{self.name}: molecule {broken} at {shot.time_ps:g} ps reaches over {np.abs(near).max():.2f} "
                    f"of the box; expected below {LARGEST_STEP}: it broke, or its bonds must be given to make it whole"
                )
            positions[atoms] = positions[self._parents[atoms]] + near @ shot.cell
        return positions

    def _axes(self, positions: Array, time_ps: float) -> Array:
        """Unit vectors, shape (3 A, N)."""
        tails, tips = positions[self.bodies.axes[..., 0]], positions[self.bodies.axes[..., 1]]
        vectors = tips - tails
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        if lengths.size and lengths.min() <= 0:
            raise DataError(f"{self.name}: an axis has length 0 at {time_ps:g} ps; expected two separate atoms")
        return np.asarray(np.swapaxes(vectors / lengths, 1, 2).reshape(-1, len(self.masses)))

    def _displacement(self, centres: Array, shot: Snapshot, inverse: Array) -> Array:
        place = centres
        if self.unwrap:
            parts = centres @ inverse
            place = (parts - np.floor(parts)) @ shot.cell
        if self.start is None:
            self.start, self._place, self._way = place.copy(), place, np.zeros_like(place)
            return self._way
        if not self.unwrap:
            return np.asarray(place - self.start)
        parts = (place - self._place) @ inverse
        step = parts - np.rint(parts)
        if np.abs(step).max() > LARGEST_STEP:
            raise DataError(
                f"{self.name}: a molecule moved {np.abs(step).max():.2f} of the box within one interval before "
                f"{shot.time_ps:g} ps; expected below {LARGEST_STEP}: write frames more often, or unwrapped"
            )
        self._way = self._way + step @ shot.cell
        self._place = place
        return self._way


def _generations(parents: Index) -> list[Index]:
    """Atoms by their distance from the first of their molecule, which is left out."""
    known = parents == np.arange(len(parents))
    if not known.any():
        raise DataError("no atom is its own parent; expected the first atom of each molecule to be")
    found = []
    while not known.all():
        fresh = np.flatnonzero(~known & known[parents])
        if len(fresh) == 0:
            raise DataError("an atom is bonded to no other of its molecule; expected bonds that join each molecule")
        found.append(fresh)
        known[fresh] = True
    return found


def assemble(
    shots: Iterable[Snapshot],
    bodies: Bodies,
    *,
    unwrap: bool = True,
    constant_box: bool = True,
    remove_drift: bool = True,
    memory_mb: float = 1000,
    scratch: Path | None = None,
    name: str = "trajectory",
) -> MolecularTrajectory:
    """Molecules of a stream of snapshots, of which one is held at a time.

    Centres and axes go to an unnamed file as they come; what fits in `memory_mb` is read back
    whole, the rest stays there and is worked on in pieces.

    Parameters
    ----------
    shots
        Snapshots with increasing times; one that repeats time and positions of the one before is dropped.
    bodies
        How atoms make molecules.
    unwrap
        Add up the shortest ways between frames; else positions are taken as unwrapped already.
    constant_box
        Expect the box of the first frame throughout.
    remove_drift
        Subtract the displacement of the centre of mass of everything.
    memory_mb
        Memory for frames, in MiB.
    scratch
        Folder of the file; the system's temporary one by default.
    name
        What the trajectory is called in errors.

    Raises
    ------
    DataError
        For NaN, too few frames, times that do not increase, a box that varies untold, broken molecules, steps
        too long to unwrap.
    """
    assembler = Assembler(bodies, unwrap, constant_box, remove_drift, name)
    kept = FrameFile(3 + 3 * len(bodies.axes), len(bodies.species), scratch)
    times: list[float] = []
    for shot in shots:
        if times and shot.time_ps <= times[-1]:
            assembler.check_repeat(shot, times[-1])
            continue
        kept.append(assembler.frame(shot))
        times.append(shot.time_ps)
    if len(times) < 2 or assembler.start is None:
        raise DataError(f"{name}: {len(times)} frames; at least 2 are needed: run longer or more segments")
    ticks, tick_ps = ticks_of(np.asarray(times))
    fits = 4 * np.prod(kept.shape, dtype=float) <= memory_mb * MEGABYTE
    return MolecularTrajectory(
        ticks=ticks,
        tick_ps=tick_ps,
        frames=kept[0 : len(times)] if fits else kept,
        start=assembler.start[assembler.order],
        cell=assembler.cell,
        masses=assembler.masses[assembler.order],
        species=tuple(bodies.species[molecule] for molecule in assembler.order),
        constant_box=constant_box,
    )


def read_trajectory(
    topology: Path,
    trajectories: Sequence[Path],
    timestep_fs: float,
    remove_drift: bool = True,
    masses: Array | None = None,
    species: Sequence[str] | None = None,
    memory_mb: float = 1000,
    scratch: Path | None = None,
) -> MolecularTrajectory:
    """Read the segments of one state of a campaign.

    Frames are read in order by MDAnalysis' TRR library; its Universe would
    leave an index file beside every segment. TRR stores times in single
    precision, so they are taken from the step number where the two agree.

    Parameters
    ----------
    topology
        PDB file with three beads a molecule: the centre of mass and the tips
        of two orthonormal axes of 1 Å; unwrapped.
    trajectories
        TRR files; a time found twice is kept once.
    timestep_fs
        Time step of the run in fs.
    remove_drift
        Subtract the displacement of the centre of mass.
    masses, species
        Mass in amu and species of each molecule; all alike by default.
    memory_mb, scratch
        As for `assemble`.

    Raises
    ------
    DataError
        For missing or truncated files, NaN, too few frames, axes that are not
        unit vectors, a box that varies, or a missing segment.
    """
    beads = _count_beads(topology)
    bodies = Bodies.of_beads(beads // BEADS)
    if species is not None or masses is not None:
        weights = bodies.masses if masses is None else np.repeat(masses, BEADS) * bodies.masses
        bodies = Bodies(bodies.molecule, weights, tuple(species or bodies.species), bodies.axes)
    ordered = sorted(trajectories, key=lambda path: _first_tick(path, timestep_fs / 1000))
    found = assemble(
        _segments(topology.parent, ordered, beads, timestep_fs / 1000), bodies, unwrap=False,
        remove_drift=remove_drift, memory_mb=memory_mb, scratch=scratch, name=str(topology.parent),
    )  # fmt: skip
    linear_interval(found.ticks)
    return found


def _count_beads(topology: Path) -> int:
    try:
        with topology.open() as lines:
            beads = sum(line.startswith(("ATOM  ", "HETATM")) for line in lines)
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DataError(f"{topology}: no topology can be read ({error}); simulate this state again") from None
    if beads == 0 or beads % BEADS:
        raise DataError(f"{topology}: {beads} atoms; expected {BEADS} beads for each molecule")
    return beads


def _first_tick(path: Path, timestep_ps: float) -> int:
    """Step of the first frame of a TRR file."""
    return next((step for step, _ in _frames(path, timestep_ps)), 0)


def _segments(state: Path, paths: Sequence[Path], beads: int, timestep_ps: float) -> Iterator[Snapshot]:
    """Frames of TRR files in order, with the axes checked."""
    for path in paths:
        for step, frame in _frames(path, timestep_ps):
            if not frame.hasx or frame.x.shape != (beads, 3):
                raise DataError(f"{path}: positions of {len(frame.x)} beads; topology.pdb has {beads}")
            if not np.isfinite(frame.x).all():
                raise DataError(f"{path}: NaN positions at {frame.time:g} ps; simulate this state again")
            positions = frame.x.astype(np.float64) * ANGSTROM_PER_NM
            tips = positions.reshape(-1, BEADS, 3)
            lengths = np.linalg.norm(tips[:, 1:] - tips[:, :1], axis=-1)
            if np.abs(lengths - 1).max() > AXIS_TOLERANCE:
                raise DataError(
                    f"{state}: an axis is {lengths.flat[np.abs(lengths - 1).argmax()]:.3f} Å long; expected 1 Å: "
                    "the beads of a molecule must be its centre of mass and the tips of two unit vectors"
                )
            yield Snapshot(step * timestep_ps, positions, frame.box.astype(np.float64) * ANGSTROM_PER_NM)


def _frames(path: Path, timestep_ps: float) -> Iterator[tuple[int, Any]]:
    """Frames of one TRR file and their times in steps."""
    from MDAnalysis.lib.formats.libmdaxdr import TRRFile

    if not path.is_file():
        raise DataError(f"{path}: no such file; simulate this state again")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: empty; delete its segment and simulate it again")
    try:
        with TRRFile(str(path)) as frames:
            for frame in frames:
                precision = max(timestep_ps / 2, 4 * float(np.spacing(np.float32(frame.time))))
                agrees = frame.step and abs(frame.step * timestep_ps - frame.time) <= precision
                yield frame.step if agrees else round(frame.time / timestep_ps), frame
    except OSError as error:
        raise DataError(f"{path}: truncated or not TRR ({error}); delete its segment and simulate it again") from None
