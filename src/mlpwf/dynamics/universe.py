"""Any trajectory MDAnalysis can read, as molecules: which atoms make one, its masses, its axes, its times."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpwf.dynamics import formats
from mlpwf.dynamics.reading import Bodies, Snapshot, assemble
from mlpwf.dynamics.trajectory import Array, Index, MolecularTrajectory
from mlpwf.errors import DataError

if TYPE_CHECKING:
    from MDAnalysis import AtomGroup, Universe

log = logging.getLogger(__name__)

WAYS = "residue, molecule, bonds, atoms, or 'every N'"
EQUAL = "equal"
CLOSE = 1e-5  # relative: how far a time in single precision may be from the step it belongs to


def bodies_of(
    atoms: AtomGroup,
    molecules: str,
    axes: Sequence[tuple[str, str]] = (),
    masses: Mapping[str, float] | str | None = None,
) -> Bodies:
    """How a group of atoms makes molecules.

    Parameters
    ----------
    atoms
        Atoms to keep, in the order of their universe.
    molecules
        `residue`, `molecule` (the molecule number of the format, or the residue where a LAMMPS file
        gives it as that), `bonds` (what is bonded together), `atoms` (each its own), or `every N` atoms.
    axes
        Pairs of atom names, or of numbers of atoms in the molecule counted from 1: an axis points from
        the first to the second. Every molecule must have them.
    masses
        By atom type or name, in amu; `equal` to weigh all atoms alike; unset: those of the topology,
        or else of its elements.

    Raises
    ------
    DataError
        For molecules that cannot be told apart, missing masses, or an axis that some molecule has not.
    """
    if len(atoms) == 0:
        raise DataError("no atoms are selected; expected a selection that matches some")
    number = _molecule_numbers(atoms, molecules)
    weight = _masses(atoms, masses)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    species = _species(atoms, members, weight)
    ends = np.array(
        [[_ends(atoms, group, pair, k) for k, group in enumerate(members)] for pair in axes], dtype=np.int64
    )
    return Bodies(
        molecule=number,
        masses=weight,
        species=species,
        axes=ends.reshape(len(axes), len(members), 2),
        parents=_parents(atoms) if molecules == "bonds" else None,
    )


def read_molecules(
    universe: Universe,
    molecules: str,
    *,
    select: str = "all",
    axes: Sequence[tuple[str, str]] = (),
    masses: Mapping[str, float] | str | None = None,
    timestep_ps: float | None = None,
    interval_ps: float | None = None,
    start: int = 0,
    constant_box: bool = True,
    memory_mb: float = 1000,
    scratch: Path | None = None,
) -> MolecularTrajectory:
    """Molecules of a universe in time; `molecules`, `axes` and `masses` as for `bodies_of`.

    Parameters
    ----------
    select
        What to keep, in MDAnalysis' selection language.
    timestep_ps
        Time step of the run, where the format holds step numbers and not times (LAMMPS dumps).
    interval_ps
        Time between frames, where the format holds neither, or what it holds is wrong; goes before both.
    start
        First frame to take.
    constant_box
        Whether the box is expected to stay as it is (NVE, NVT) or to vary (NPT).
    memory_mb, scratch
        As for `reading.assemble`.

    Raises
    ------
    DataError
        As `reading.assemble` and `bodies_of`; and where times are missing, or atoms change their order.
    """
    try:
        atoms = universe.select_atoms(select)
    except Exception as error:
        raise DataError(
            f"selection {select!r}: {' '.join(str(error).split())}; expected MDAnalysis' selection language"
        ) from None
    bodies = bodies_of(atoms, molecules, axes, masses)
    filename = getattr(universe.trajectory, "filename", None)
    name = Path(str(filename)).name if filename else "trajectory"
    kept = None if len(atoms) == len(universe.atoms) else atoms.indices
    shots = snapshots(universe, name, kept, timestep_ps, interval_ps, start)
    return assemble(shots, bodies, constant_box=constant_box, memory_mb=memory_mb, scratch=scratch, name=name)


def snapshots(
    universe: Universe,
    name: str,
    atoms: Index | None = None,
    timestep_ps: float | None = None,
    interval_ps: float | None = None,
    start: int = 0,
) -> Iterator[Snapshot]:
    """Frames of a universe, one held at a time, with progress logged every tenth of the way.

    The time of a frame is what the file holds, or follows from what the user says: `interval_ps`, before all
    else, or `timestep_ps` for formats of steps. Frames without positions (TRR) are left out.

    Raises
    ------
    DataError
        Where no time is held and none given, statements contradict each other, or a frame cannot be read.
    """
    readers = getattr(universe.trajectory, "readers", [universe.trajectory])
    frames = sum(reader.n_frames for reader in readers)
    if start >= frames:
        raise DataError(f"{name}: frame {start} is asked for; there are {frames}")
    ids = getattr(universe.trajectory, "ids", None)
    tenth = max((frames - start) // 10, 1)
    number, without, last = 0, 0, None
    for reader in readers:
        clock = _Clock(reader, _name(reader, name), timestep_ps, interval_ps)
        for index in range(reader.n_frames):
            if number >= start:
                step = _frame(reader, index, clock.name)
                if index == 0 and interval_ps is not None and _repeats(step, last):
                    log.info("%s: its first frame is the last of the piece before; left out", clock.name)
                    continue
                if step.has_positions:
                    last = step.positions.copy() if len(readers) > 1 and index == reader.n_frames - 1 else None
                    ids = _same_ids(step, ids, clock.name)
                    yield _snapshot(step, clock.time(step, number), atoms)
                else:
                    without += 1
                if (number - start) % tenth == 0 and number > start:
                    log.info("%s: read %d of %d frames", name, number, frames)
            number += 1
    if without:
        log.info("%s: %d of %d frames hold no positions (velocities or forces alone); left out", name, without, frames)


class _Clock:
    """The time of the frames of one file."""

    def __init__(self, reader: Any, name: str, timestep_ps: float | None, interval_ps: float | None) -> None:
        self.name, self.timestep_ps, self.interval_ps = name, timestep_ps, interval_ps
        self.held = formats.held(reader)
        self.unit_ps = getattr(reader, "time_ps", None)
        if interval_ps is not None or self.held.time or (self.held.step and timestep_ps is not None):
            return
        if self.held.step:
            raise DataError(f"{name}: holds step numbers and no times; give the time step of the run: --timestep-fs")
        kind = formats.name_of(reader)
        wrong = "holds times in the unit of its writer, which it does not say" if kind == "DCD" else "holds no times"
        if timestep_ps is not None:
            wrong += ", and no step numbers for --timestep-fs"
        raise DataError(f"{name}: {kind} {wrong}; give the time between frames: --interval-ps")

    def time(self, step: Any, number: int) -> float:
        """Time in ps of a frame, whose number counts from the first of all files."""
        if self.interval_ps is not None:
            return number * self.interval_ps
        by_step = None if self.timestep_ps is None or not self.held.step else step.data["step"] * self.timestep_ps
        if not self.held.time:
            if by_step is None:
                raise DataError(f"{self.name}: frame {number} holds no step number; give --interval-ps")
            return float(by_step)
        own = step.data.get("lammps_time")
        time = float(step.time) if self.unit_ps is None else float("nan" if own is None else own) * self.unit_ps
        if not np.isfinite(time):
            raise DataError(f"{self.name}: frame {number} is at {time} ps; give the time between frames: --interval-ps")
        if by_step is not None and abs(by_step - time) > max(self.timestep_ps or 0.0, CLOSE * abs(time)):
            raise DataError(
                f"{self.name}: frame {number} is at {time:g} ps, and its step {step.data['step']} by --timestep-fs at "
                f"{by_step:g} ps; leave --timestep-fs out to take the file's times, or give --interval-ps"
            )
        return time


def _repeats(step: Any, last: Any) -> bool:
    """Whether the first frame of a piece is the last of the one before."""
    return last is not None and step.has_positions and np.array_equal(step.positions, last)


def _name(reader: Any, name: str) -> str:
    filename = getattr(reader, "filename", None)
    return Path(str(filename)).name if isinstance(filename, str | Path) else name


def _frame(reader: Any, index: int, name: str) -> Any:
    step, failure = formats.attempt(lambda: reader[index])
    if failure:
        raise DataError(
            f"{name}: frame {index} of {reader.n_frames} cannot be read ({failure}); the file is cut short or damaged"
        )
    return step


def _same_ids(step: Any, ids: Any, name: str) -> Any:
    """The numbers of a dump's atoms; DataError where they are not those of the topology, or of the frames before."""
    found = step.data.get("id")
    if found is None:
        return ids
    if ids is None:
        return found.copy()
    if len(odd := np.flatnonzero(found != ids)):
        raise DataError(
            f"{name}: atom id {int(found[odd[0]])} where {int(ids[odd[0]])} is in the topology, or in the frames "
            "before; expected the same atoms throughout"
        )
    return ids


def _snapshot(step: Any, time_ps: float, atoms: Index | None) -> Snapshot:
    cell = np.zeros((3, 3)) if step.dimensions is None else np.asarray(step.triclinic_dimensions, dtype=np.float64)
    return Snapshot(time_ps, step.positions if atoms is None else step.positions[atoms], cell)


def _molecule_numbers(atoms: AtomGroup, way: str) -> Index:
    """Molecule of each atom, from 0 without gaps, in the order of their first atoms."""
    every = re.fullmatch(r"every\s+(\d+)", way)
    if way == "atoms":
        raw = np.arange(len(atoms))
    elif every:
        size = int(every.group(1))
        if size == 0 or len(atoms) % size:
            raise DataError(
                f"{len(atoms)} atoms are no multiple of {way.split()[-1]}; expected whole molecules of that size"
            )
        raw = np.arange(len(atoms)) // size
    elif way == "residue":
        raw = atoms.resindices
    elif way == "molecule":
        raw = atoms.molnums if hasattr(atoms, "molnums") else atoms.resindices
    elif way == "bonds":
        if not hasattr(atoms, "bonds") or len(atoms.universe.bonds) == 0:
            raise DataError(
                "the topology has no bonds; give a topology with bonds, or molecules by residue or 'every N'"
            )
        raw = atoms.fragindices
    else:
        raise DataError(f"molecules by {way!r}; expected {WAYS}")
    values, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(values))
    if len(values) == 1 and len(atoms) > 1 and way in ("residue", "molecule"):
        raise DataError(
            f"all {len(atoms)} atoms are in one {way}; the topology does not tell molecules apart: "
            "give them by bonds or 'every N'"
        )
    return np.asarray(rank[inverse], dtype=np.int64)


def _masses(atoms: AtomGroup, given: Mapping[str, float] | str | None) -> Array:
    if given == EQUAL:
        return np.ones(len(atoms))
    if isinstance(given, str):
        raise DataError(f"masses {given!r}; expected 'equal', or masses by atom type or name")
    if given is not None:
        labels = [getattr(atoms, kind) for kind in ("types", "names") if hasattr(atoms, kind)]
        found = np.full(len(atoms), np.nan)
        for column in labels:
            for label, mass in given.items():
                same = np.asarray(column).astype(str) == label
                if np.any(known := same & np.isfinite(found) & (found != mass)):
                    raise DataError(
                        f"masses {found[known][0]:g} and {mass:g} are given for one atom, by its type and its name; "
                        "expected one"
                    )
                found[same] = mass
        if np.isnan(found).any():
            missing = sorted({str(column[int(np.flatnonzero(np.isnan(found))[0])]) for column in labels})
            raise DataError(f"no mass is given for atoms of type or name {' / '.join(missing)}; give one for each type")
        weight = found
    elif hasattr(atoms, "masses"):
        weight = np.asarray(atoms.masses, dtype=np.float64)
    elif hasattr(atoms, "elements") and all(str(symbol) for symbol in atoms.elements):
        weight = _element_masses([str(symbol) for symbol in atoms.elements])
        log.info("masses are those of the elements")
    else:
        bare = [str(symbol) for symbol in getattr(atoms, "elements", [])].count("")
        held = f"no masses, and an element of {len(atoms) - bare} of {len(atoms)} atoms" if bare else ""
        raise DataError(
            f"the topology holds {held or 'neither masses nor elements'}; give masses by type or name: "
            "--masses 1=12.011,2=1.008, or --masses equal"
        )
    if not np.all(np.isfinite(weight)) or np.any(weight < 0):
        raise DataError("masses hold NaN or negative numbers; expected masses in amu")
    return weight


def _element_masses(symbols: Sequence[str]) -> Array:
    from ase.data import atomic_masses, atomic_numbers

    unknown = sorted({symbol for symbol in symbols if not atomic_numbers.get(symbol)})
    if unknown:
        raise DataError(f"{unknown[0]!r} is no element; give masses by type or name, as --masses 1=12.011,2=1.008")
    return np.array([atomic_masses[atomic_numbers[symbol]] for symbol in symbols])


def _labels(atoms: AtomGroup) -> list[str]:
    for kind in ("names", "elements", "types"):
        if hasattr(atoms, kind):
            return [str(label) for label in getattr(atoms, kind)]
    return ["X"] * len(atoms)


def _species(atoms: AtomGroup, members: Sequence[Index], masses: Array) -> tuple[str, ...]:
    """A name for each molecule: residue name, else atoms in order; numbered where one name has two make-ups.

    Molecules are of one species if their atoms have the same names, masses and residue names, in order.
    """
    labels = _labels(atoms)
    resnames = [str(name) for name in atoms.resnames] if hasattr(atoms, "resnames") else [""] * len(atoms)
    makeup = [tuple((resnames[atom], labels[atom], float(masses[atom])) for atom in group) for group in members]
    kinds = list(dict.fromkeys(makeup))
    names = []
    for number, kind in enumerate(kinds):
        residue, label, _ = kind[0]
        names.append(residue or (label if len({one for _, one, _ in kind}) == 1 else f"kind{number + 1}"))
    full = [f"{name}.{number + 1}" if names.count(name) > 1 else name for number, name in enumerate(names)]
    by_kind = dict(zip(kinds, full, strict=True))
    return tuple(by_kind[kind] for kind in makeup)


def _ends(atoms: AtomGroup, group: Index, pair: tuple[str, str], molecule: int) -> tuple[int, int]:
    """The two atoms of an axis in one molecule."""
    labels = _labels(atoms)
    found = []
    for end in pair:
        if end.isdigit():
            match = [int(end) - 1] if 1 <= int(end) <= len(group) else []
        else:
            match = [k for k, atom in enumerate(group) if labels[atom] == end]
        if len(match) != 1:
            raise DataError(
                f"axis {pair[0]}–{pair[1]}: molecule {molecule + 1} has {len(match)} atoms {end!r}; expected exactly "
                f"one (its atoms: {' '.join(labels[atom] for atom in group[:12])})"
            )
        found.append(int(group[match[0]]))
    if found[0] == found[1]:
        raise DataError(f"axis {pair[0]}–{pair[1]} names one atom twice; expected two")
    return found[0], found[1]


def _parents(atoms: AtomGroup) -> Index:
    """For each atom, a bonded atom nearer to the first of its molecule, found along the bonds."""
    place = {int(index): k for k, index in enumerate(atoms.indices)}
    near: list[list[int]] = [[] for _ in range(len(atoms))]
    for one, two in atoms.universe.bonds.indices:
        if int(one) in place and int(two) in place:
            near[place[int(one)]].append(place[int(two)])
            near[place[int(two)]].append(place[int(one)])
    parents = np.full(len(atoms), -1, dtype=np.int64)
    for seed in range(len(atoms)):
        if parents[seed] >= 0:
            continue
        parents[seed] = seed
        front = [seed]
        while front:
            fresh = []
            for atom in front:
                for other in near[atom]:
                    if parents[other] < 0:
                        parents[other] = atom
                        fresh.append(other)
            front = fresh
    return parents
